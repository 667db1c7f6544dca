"""A training while somebody explores residuals in the app: `python benchmarks/beside.py [--rounds N] [--save NAME]`.

The real trainer on cifar10-mini, in a process of its own as the app starts it, alone and beside another process that
measures the residual norms of 64 images again and again, as the app does when it is asked to. In turns with PyTorch's
defaults, and as it is here: the app's threads sleep while they wait for one another, and each of the trainer's keeps to
a core (`sleep_while_waiting` and `keep_threads_apart` of `common/hardware.py`). Prints the training's images/s and the
measurements a second.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.common.hardware import sleep_while_waiting
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.runs import SHOWPIECE, Library, Run
from resnet_space.runs.queue import Trainer

DATASET = "cifar10-mini"
WAYS = ("defaults", "here")


def measure_for(seconds: float) -> None:
    """Print a line when everything is loaded, then, after so many seconds, the measurements a second."""
    from resnet_space.residuals import last, measure, probe, probe_batches

    run = Run.open(ROOT / "checkpoints" / SHOWPIECE)
    model, config = run.load_model(), run.config.model
    images = [batch for batch, _ in probe_batches(probe(DATASET, "test", 64, config), config)]
    last(measure(model, images))
    print("ready", flush=True)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        last(measure(model, images))
        done += 1
    print(done / (time.perf_counter() - started), flush=True)


@contextmanager
def training(way: str) -> Generator[Run]:
    """A run that is being trained, past its first steps."""
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(ModelConfig("resnet20", dataset_classes(DATASET)), TrainConfig(dataset=DATASET, epochs=90))
        run = Run.create(Path(folder) / "benchmark", config)
        trainer = Trainer(Library(folder))
        with patch.dict(os.environ, {"OMP_PROC_BIND": "false"} if way == "defaults" else {}):
            trainer.start(run)
        while steps_so_far(run) < 30:
            time.sleep(0.2)
        yield run
        trainer.stop(run)
        while trainer.status(run).is_active:
            time.sleep(0.2)


def steps_so_far(run: Run) -> int:
    return max((metric["step"] for metric in run.metrics() if metric["event"] == "step"), default=0)


def one_round(way: str, seconds: float) -> dict[str, float]:
    with training(way) as run:
        looked = look(run)
        time.sleep(seconds)
        alone = images_per_second(looked, look(run))
        command = [sys.executable, __file__, "--measure-for", str(seconds), *(["--sleep"] if way == "here" else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            looked = look(run)
            measurements = float(process.stdout.readline())
            return {
                "alone": alone,
                "beside": images_per_second(looked, look(run)),
                "measurements": measurements,
            }


def look(run: Run) -> tuple[float, int]:
    """Now, and how many images were trained on so far."""
    return time.perf_counter(), steps_so_far(run) * run.config.training.batch_size


def images_per_second(before: tuple[float, int], after: tuple[float, int]) -> float:
    return (after[1] - before[1]) / (after[0] - before[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each look")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    parser.add_argument("--measure-for", type=float, help="be the other process; for this program itself")
    parser.add_argument("--sleep", action="store_true", help="and sleep while waiting")
    arguments = parser.parse_args()
    if arguments.measure_for is not None:
        if arguments.sleep:
            sleep_while_waiting()
        measure_for(arguments.measure_for)
        return

    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            found[way].append(one_round(way, arguments.seconds))
    for way, rounds in found.items():
        print(way)
        for name, unit in (("alone", "images/s"), ("beside", "images/s"), ("measurements", "a second")):
            values = [each[name] for each in rounds]
            print(f"  {name:<13} {statistics.median(values):6.1f} {unit} ({min(values):.1f} to {max(values):.1f})")
    if arguments.save:
        rounded = {way: [{name: round(v, 2) for name, v in each.items()} for each in found[way]] for way in WAYS}
        save(arguments.save, {"dataset": DATASET, "rounds": rounded})


if __name__ == "__main__":
    main()
