"""What it costs to be watched: `python benchmarks/viewers.py [--viewers N] [--save NAME]`.

Starts the app and lets N pages' event streams show one run. First a run that only writes, four points a second, with
the time in each, tells how long a point is under way and what the app's process costs. Then a real training runs, with
and without viewers in turns, all on this machine. Last, 10,000 points tell whether the app's memory grows.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import RunConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.runs import Run
from resnet_space.training.strategies import recipe

DATASET = "cifar10-mini"
PORT = 7877
POINT_SECONDS = 0.25
TURNS = 8  # short and many, as the machine's own speed changes meanwhile
TURN_SECONDS = 6
POINTS = 10_000
BACKBONE = ROOT / "checkpoints" / "resnet20-cbam-imagenet32"


@dataclass
class Viewers:
    """What the pages of a run got: seconds from written to read of every point that was the newest of a message."""

    delays: list[float] = field(default_factory=list)
    messages: int = 0
    refused: int = 0
    served: int = 0


async def view(run: str, written: dict[int, float] | None, viewers: Viewers) -> None:
    """One page's stream, until it is cancelled. What it shows is looked at only to compare it with what was written."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT, limit=2**24)
    try:
        writer.write(f"GET /live?runs={run} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        await writer.drain()
        if b" 200 " not in await reader.readline():
            viewers.refused += 1
            return
        served, newest = False, 0
        while True:
            line = await reader.readline()
            if not line:
                viewers.refused += not served
                return
            if not line.startswith(b"data: "):
                continue
            now = time.time()
            viewers.messages += 1
            viewers.served += not served
            served = True
            if written is None:
                continue
            traces = json.loads(line[6:])["figures"]["loss"]["data"]
            step = max(traces[0]["x"], default=0) if traces else 0
            if newest and step > newest and step in written:
                viewers.delays.append(now - written[step])
            newest = step
    finally:
        writer.close()


async def watch(count: int, run: str, seconds: float, written: dict[int, float] | None = None) -> Viewers:
    """So many pages for so long."""
    viewers = Viewers()
    tasks = [asyncio.create_task(view(run, written, viewers)) for _ in range(count)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return viewers


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def a_run(path: Path, epochs: int) -> Run:
    start = Run.open(BACKBONE)
    training = replace(recipe("full", DATASET, start=start.name), epochs=epochs)
    model = replace(start.config.model, classes=dataset_classes(DATASET))
    return Run.create(path, RunConfig(model, training), start=start)


def write_point(run: Run, step: int) -> None:
    parts = ("stem", "layer1", "layer2", "layer3", "channel attention", "spatial attention", "head")
    run.append_metric(
        {"event": "step", "step": step, "loss": round(2.3 / step**0.2, 5), "rates": dict.fromkeys(parts, 0.01)}
        | {"images_per_second": 500.0, "memory": 900_000_000, "seconds": step / 4}
    )


async def writing(run: Run, seconds: float, written: dict[int, float]) -> None:
    """A run that writes a point now and then, as a training does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step = len(written) + 1
        write_point(run, step)
        written[step] = time.time()
        await asyncio.sleep(POINT_SECONDS)


@contextmanager
def an_app(folder: Path) -> Generator[psutil.Process]:
    """`python app.py` on the folder, up and answering."""
    command = [sys.executable, "app.py", f"--port={PORT}", f"--checkpoints={folder}", f"--data={folder / 'data'}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as app:
        try:
            while True:
                with suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}").read()
                    break
                time.sleep(0.2)
            time.sleep(8)  # until the model for the first visitor is loaded
            yield psutil.Process(app.pid)
        finally:
            app.terminate()


async def delays(folder: Path, app: psutil.Process, count: int, seconds: float = 30) -> dict[str, float]:
    """How long a point is under way, and what the app's process costs meanwhile."""
    run = a_run(folder / "watched", epochs=10)
    written: dict[int, float] = {}
    run.append_metric({"event": "start", "device": "cpu", "epochs": 10, "steps_per_epoch": 28, "seconds": 0.0})
    with run.training_lock():
        before = cpu_seconds(app)
        viewers, _ = await asyncio.gather(watch(count, run.name, seconds, written), writing(run, seconds, written))
        cores = (cpu_seconds(app) - before) / seconds
    assert viewers.delays, "no viewer saw a point"
    quantiles = statistics.quantiles(viewers.delays, n=20)
    return {
        "served": viewers.served,
        "refused": viewers.refused,
        "median_seconds": round(statistics.median(viewers.delays), 3),
        "p95_seconds": round(quantiles[18], 3),
        "app_cores": round(cores, 3),
    }


def images_done(run: Run) -> int:
    return max((m["step"] for m in run.metrics() if m["event"] == "step"), default=0) * run.config.training.batch_size


async def slow_down(folder: Path, app: psutil.Process, count: int) -> dict[str, object]:
    """A real training's images/s with viewers and without, in turns."""
    run = a_run(folder / "trained", epochs=35)  # so that every step is written
    command = [sys.executable, "-m", "resnet_space.train", str(run.path)]
    trainer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    rates: dict[int, list[float]] = {0: [], count: []}
    cores = []
    try:
        while images_done(run) < 3_000:
            await asyncio.sleep(0.5)
        for turn in range(2 * TURNS):
            viewers = (0, count)[turn % 2]
            before, started, cpu = images_done(run), time.monotonic(), cpu_seconds(app)
            await watch(viewers, run.name, TURN_SECONDS)
            seconds = time.monotonic() - started
            rates[viewers].append((images_done(run) - before) / seconds)
            if viewers:
                cores.append((cpu_seconds(app) - cpu) / seconds)
    finally:
        trainer.kill()
        trainer.wait()
    ratios = [watched / alone for alone, watched in zip(rates[0], rates[count], strict=True)]
    return {
        "images_per_second_alone": round(statistics.median(rates[0]), 1),
        "images_per_second_watched": round(statistics.median(rates[count]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(ratio, 3) for ratio in statistics.quantiles(ratios, n=4)[::2]],
        "app_cores": round(statistics.median(cores), 3),
    }


async def growth(folder: Path, app: psutil.Process, count: int) -> dict[str, float]:
    """The app's memory while a watched run writes 10,000 points."""
    run = a_run(folder / "long", epochs=400)
    run.append_metric({"event": "start", "device": "cpu", "epochs": 400, "steps_per_epoch": 28, "seconds": 0.0})
    sizes = []

    async def write() -> None:
        for step in range(1, POINTS + 1):
            write_point(run, step)
            if step % (POINTS // 10) == 0:
                await asyncio.sleep(1.2)
                sizes.append(app.memory_info().rss / 1e6)

    with run.training_lock():
        write_point(run, 1)
        await watch(count, run.name, 3)
        sizes.append(app.memory_info().rss / 1e6)
        await asyncio.gather(watch(count, run.name, 16), write())
    return {"megabytes_before": round(sizes[0], 1), "megabytes_after": round(sizes[-1], 1), "points": POINTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    print(f"{arguments.viewers} viewers, {os.cpu_count()} cores\n")
    results: dict[str, object] = {"viewers": arguments.viewers}
    with tempfile.TemporaryDirectory() as folder, an_app(Path(folder)) as app:
        for measure in (delays, slow_down, growth):
            results[measure.__name__] = asyncio.run(measure(Path(folder), app, arguments.viewers))
            print(measure.__name__, results[measure.__name__], flush=True)
    if arguments.save:
        save(arguments.save, results)


if __name__ == "__main__":
    main()
