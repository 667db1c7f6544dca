"""Networks from random weights under one budget: `python benchmarks/homework.py FOLDER [--epochs N] [--save NAME]`.

Each learns cifar10-mini at 32 pixels, as its entry suits small images, by one recipe (AdamW) for the same epochs, in a
process of its own as the app does. Reports the test accuracy of the best validation epoch's weights over seeds, and
the seconds of the process. Stopped in between, it goes on where it was if called with the same folder.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.models.registry import entry_of
from resnet_space.runs import Run
from resnet_space.training.strategies import recipe

DATASET = "cifar10-mini"
NETWORKS = ("resnet18", "alexnet", "vgg16", "mobilenetv2_100")
# One recipe for all: a transformer does not learn with SGD at the rate of a ResNet, nor VGG without norm layers.
RECIPE = {"optimizer": "adamw", "backbone_lr": 5e-4, "head_lr": 5e-4, "weight_decay": 0.01}


def trained(path: Path, name: str, epochs: int, seed: int) -> Run:
    """The run at this path, trained to its end; one that is there already is only continued."""
    try:
        run, more = Run.open(path), ["--resume"]
    except UserError:
        model = ModelConfig(name, dataset_classes(DATASET), entry_of(name).small_images, image_size=32)
        training = recipe("scratch", DATASET, epochs=epochs, seed=seed, **RECIPE)
        run, more = Run.create(path, RunConfig(model, training)), list[str]()
    if test_of(run) is None:
        command = [sys.executable, "-m", "resnet_space.train", str(path), *more]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return run


def test_of(run: Run) -> float | None:
    return next((metric["accuracy"] for metric in run.metrics() if metric["event"] == "test"), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the runs")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on; at least 2")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("a standard deviation needs at least 2 seeds")

    found: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.networks}
    for seed in range(arguments.seeds):
        for name in arguments.networks:
            started = time.perf_counter()
            run = trained(arguments.folder / f"{name}-{seed}", name, arguments.epochs, seed)
            accuracy = test_of(run)
            assert accuracy is not None
            seconds = max(metric.get("seconds", 0.0) for metric in run.metrics())
            found[name].append((accuracy, seconds))
            print(f"{name} {seed}: {accuracy:.1%}, {time.perf_counter() - started:.0f} s", flush=True)
    summary = {}
    for name, results in found.items():
        accuracies = [accuracy for accuracy, _ in results]
        mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies)
        seconds = statistics.median(seconds for _, seconds in results)
        print(f"{name:<20} {mean:.1%} ± {deviation:.1%}, {seconds:.0f} s", flush=True)
        summary[name] = {
            "mean_accuracy": round(mean, 4),
            "standard_deviation": round(deviation, 4),
            "median_seconds": round(seconds, 1),
            "accuracies": accuracies,
        }
    if arguments.save:
        save(arguments.save, {"dataset": DATASET, "epochs": arguments.epochs, "seeds": arguments.seeds} | summary)


if __name__ == "__main__":
    main()
