"""What each strategy reaches: `python benchmarks/strategies.py [--strategies NAME ...] [--seeds N] [--save NAME]`.

Fine-tunes a shipped run on cifar10-mini with every strategy's own settings, each with several seeds; "scratch" is the
same model from random initialisation. Reports the test accuracy of the best validation epoch's weights, and the seconds
of each run's process from start to end.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import RunConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.runs import Run
from resnet_space.training.strategies import STRATEGIES, recipe

DATASET = "cifar10-mini"
START = ROOT / "checkpoints" / "resnet20-cbam-imagenet32"


class Result(NamedTuple):
    """How one training ended."""

    accuracy: float  # on the test images, 0..1
    seconds: float


def train(path: Path, start: Run, strategy: str, seed: int, epochs: int) -> Result:
    """Train a new run with the strategy's settings, in a process of its own as the app does."""
    source = None if STRATEGIES[strategy].start == "none" else start
    model = replace(start.config.model, classes=dataset_classes(DATASET))
    training = recipe(strategy, DATASET, start=source.name if source else None, epochs=epochs, seed=seed)
    run = Run.create(path, RunConfig(model, training), start=source)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "resnet_space.train", str(path)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - started
    accuracy = next(metric["accuracy"] for metric in run.metrics() if metric["event"] == "test")
    return Result(accuracy, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, default=START, help="the run to fine-tune")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on; at least 2")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("a standard deviation needs at least 2 seeds")

    start = Run.open(arguments.start)
    print(f"{start.name} on {DATASET}, {arguments.epochs} epochs, {arguments.seeds} seeds, {os.cpu_count()} cores\n")
    summary = {}
    with tempfile.TemporaryDirectory() as folder:
        for strategy in arguments.strategies:
            results = [
                train(Path(folder) / f"{strategy}-{seed}", start, strategy, seed, arguments.epochs)
                for seed in range(arguments.seeds)
            ]
            mean = statistics.mean(result.accuracy for result in results)
            deviation = statistics.stdev(result.accuracy for result in results)
            seconds = statistics.median(result.seconds for result in results)
            print(f"{strategy:<16} {mean:.1%} ± {deviation:.1%} (mean ± sd over seeds), {seconds:.0f} s", flush=True)
            summary[strategy] = {
                "mean_accuracy": round(mean, 4),
                "standard_deviation": round(deviation, 4),
                "median_seconds": round(seconds, 1),
                "accuracies": [result.accuracy for result in results],
            }
    if arguments.save:
        conditions = {"dataset": DATASET, "start": start.name, "epochs": arguments.epochs, "seeds": arguments.seeds}
        save(arguments.save, {**conditions, **summary})


if __name__ == "__main__":
    main()
