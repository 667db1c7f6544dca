"""What pretraining is worth: `python benchmarks/pretrained_vs_scratch.py [--save]`.

Fine-tunes a shipped run on cifar10-mini, and trains the same model from random initialisation with the same budget and
the app's defaults, each with several seeds. Reports the test accuracy of the best validation epoch's weights, and the
seconds of each run's process from start to end.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import RunConfig, TrainConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.runs import Run

DATASET = "cifar10-mini"
START = ROOT / "checkpoints" / "resnet20-cbam-imagenet32"


@dataclass(frozen=True)
class Result:
    """How one training ended."""

    accuracy: float  # on the test images, 0..1
    seconds: float


def train(path: Path, start: Run, seed: int, epochs: int, *, pretrained: bool) -> Result:
    """Train a new run with the defaults, in a process of its own as the app does."""
    model = replace(start.config.model, classes=dataset_classes(DATASET))
    training = TrainConfig(dataset=DATASET, start=start.name if pretrained else None, epochs=epochs, seed=seed)
    run = Run.create(path, RunConfig(model, training), start=start if pretrained else None)
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
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on; at least 2")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/pretrained_vs_scratch.json")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("a standard deviation needs at least 2 seeds")

    start = Run.open(arguments.start)
    results: dict[str, list[Result]] = {"pretrained": [], "scratch": []}
    print(f"{start.name} on {DATASET}, {arguments.epochs} epochs, {os.cpu_count()} cores\n\nseed  pretrained  scratch")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for name, so_far in results.items():
                path = Path(folder) / f"{name}-{seed}"
                so_far.append(train(path, start, seed, arguments.epochs, pretrained=name == "pretrained"))
            print(f"{seed:>4}  {results['pretrained'][-1].accuracy:>10.1%}  {results['scratch'][-1].accuracy:>7.1%}")

    summary = {}
    for name, all_seeds in results.items():
        mean = statistics.mean(result.accuracy for result in all_seeds)
        deviation = statistics.stdev(result.accuracy for result in all_seeds)
        seconds = statistics.median(result.seconds for result in all_seeds)
        print(f"{name:<10}  {mean:.1%} ± {deviation:.1%} (mean ± standard deviation over seeds), {seconds:.1f} s a run")
        summary[name] = {
            "mean_accuracy": round(mean, 4),
            "standard_deviation": round(deviation, 4),
            "median_seconds": round(seconds, 1),
            "accuracies": [result.accuracy for result in all_seeds],
        }
    if arguments.save:
        conditions = {"dataset": DATASET, "start": start.name, "epochs": arguments.epochs, "seeds": arguments.seeds}
        save("pretrained_vs_scratch", {**conditions, **summary})


if __name__ == "__main__":
    main()
