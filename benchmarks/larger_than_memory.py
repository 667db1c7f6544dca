"""A dataset larger than the memory for it: `python benchmarks/larger_than_memory.py [--images N] [--save NAME]`.

Two processes train the same model on the same synthetic dataset, in interleaved rounds: one holds the decoded images in
memory, the other may hold `--limit` megabytes of them (RESNET_SPACE_IMAGE_MEMORY_MB) and reads them from a file. The
system refuses the latter any memory beyond what it had after its start and `--cap` megabytes (RLIMIT_DATA; mapped files
do not count). A third process, which tries to hold them in memory under that cap, shows that it holds.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.machine import save
from benchmarks.synthetic import CLASSES, write_dataset
from resnet_space.common.hardware import IMAGE_MEMORY_VARIABLE
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import training_batches
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import load_splits
from resnet_space.runs import Run
from resnet_space.training.device import autocast_dtype, choose_device
from resnet_space.training.loop import train
from resnet_space.training.state import evaluate

STORED, SEEN = 96, 32  # pixels: much to hold, little to compute
MEGABYTE = 1_000_000


def memory(name: str) -> int:
    """One of Linux's counts of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"There is no {name}.")


def serve(batch_size: int, steps: int, cap: int) -> None:
    """Train, `steps` steps for every line that comes, and print their images/s; at the end, the memory.

    Args:
        batch_size: images a step.
        steps: of a round.
        cap: megabytes that may come on top of what there is after a first step; 0 is any number.
    """
    model = ModelConfig("resnet20", CLASSES, image_size=SEEN, resize=STORED)
    config = TrainConfig(dataset="large", batch_size=batch_size, epochs=1_000)
    before = warm_up(model, config)
    if cap:
        most = memory("VmData") + cap * MEGABYTE
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        splits = load_splits(config, model.stored_size)
    except (MemoryError, RuntimeError) as error:  # numpy's, torch's
        print(f"refused: {error}".splitlines()[0], flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        metrics = train(Run.create(Path(folder) / "run", RunConfig(model, config)), splits=splits)
        on_disk = splits.train.rows is not None
        print("on disk" if on_disk else "in memory", flush=True)
        for _ in sys.stdin:
            done, started = 0, time.perf_counter()
            while done < steps:
                done += next(metrics)["event"] in ("step", "tick")
            print(steps * batch_size / (time.perf_counter() - started), flush=True)
        metrics.close()
    print(max(memory("RssAnon") - before, 0) / MEGABYTE, flush=True)


def warm_up(model: ModelConfig, config: TrainConfig) -> int:
    """Train two steps of the bundled images and validate, so that what torch itself takes is there: anonymous bytes."""
    from resnet_space.training.objectives import Batch
    from resnet_space.training.state import Training

    bundled = TrainConfig(dataset="cifar10-mini", batch_size=config.batch_size)
    data = load_splits(bundled, model.stored_size)
    device = choose_device()
    dtype = autocast_dtype(config, device)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Run.create(Path(folder) / "run", RunConfig(model, bundled)), device, len(data.train))
        for (images, labels), _ in zip(training_batches(data.train, model, bundled, 0), range(2), strict=False):
            training.step(Batch(images, labels), dtype)
        evaluate(training.evaluated_model, data.validation, model, dtype)
    return memory("RssAnon")


def start(arguments: argparse.Namespace, data: Path, *, limited: bool, capped: bool) -> "subprocess.Popen[str]":
    """A process of its own that serves, and has its data."""
    command = [sys.executable, __file__, "--serve", "--batch-size", str(arguments.batch_size)]
    command += ["--steps", str(arguments.steps), "--cap", str(arguments.cap if capped else 0)]
    megabytes = arguments.limit if limited else 1_000_000
    environment = os.environ | {DATA_FOLDER_VARIABLE: str(data), IMAGE_MEMORY_VARIABLE: str(megabytes)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def answer(process: "subprocess.Popen[str]", *, ask: bool = True) -> str:
    assert process.stdin
    assert process.stdout
    if ask:
        print(file=process.stdin, flush=True)
    return process.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--limit", type=int, default=100, help="megabytes of decoded images in memory")
    parser.add_argument("--cap", type=int, default=250, help="megabytes on top of what the process has after its start")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="of each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    parser.add_argument("--serve", action="store_true", help="train for this program, in a process of its own")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.batch_size, arguments.steps, arguments.cap)
        return

    megabytes = arguments.images * STORED**2 * 3 / MEGABYTE
    print(f"{arguments.images:,} images of {STORED} px: {megabytes:,.0f} MB decoded, of which {arguments.limit} MB may")
    print(f"be in memory; the process may take {arguments.cap} MB", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_dataset(data / "large", arguments.images, STORED)
        refused = start(arguments, data, limited=False, capped=True)
        in_memory_under_cap = answer(refused, ask=False)
        refused.communicate()
        processes = {
            "in memory": start(arguments, data, limited=False, capped=False),
            "on disk": start(arguments, data, limited=True, capped=True),
        }
        for where, process in processes.items():
            found = answer(process, ask=False)
            assert found == where, f"{where}: {found}"
        rates: dict[str, list[float]] = {where: [] for where in processes}
        for number in range(arguments.rounds + 1):
            for where, process in processes.items():
                rate = float(answer(process))
                if number:  # the first round warms up
                    rates[where].append(rate)
        taken = {where: float(process.communicate()[0]) for where, process in processes.items()}
    ratio = statistics.median(disk / memory for memory, disk in zip(*rates.values(), strict=True))
    for where, values in rates.items():
        print(f"{where:<10} {statistics.median(values):6.0f} images/s, {taken[where]:5.0f} MB taken at the end")
    print(f"on disk / in memory: {ratio:.2f} (median of the rounds); in memory under the cap: {in_memory_under_cap}")
    if arguments.save:
        save(
            arguments.save,
            {
                "images": arguments.images,
                "decoded_megabytes": round(megabytes),
                "limit_megabytes": arguments.limit,
                "cap_megabytes": arguments.cap,
                "in_memory_under_the_cap": in_memory_under_cap,
                "images_per_second": {where: round(statistics.median(values), 1) for where, values in rates.items()},
                "ratio": round(ratio, 3),
                "megabytes_taken": {where: round(value) for where, value in taken.items()},
            },
        )


if __name__ == "__main__":
    main()
