"""Does CBAM help on photographs? `python benchmarks/cbam_photos.py HYMENOPTERA_ZIP [--place PLACE] [--seeds N]
[--save]`.

Fine-tunes the photograph backbone on hymenoptera's ants and bees, each seed twice with the same settings: the head
alone, and the head with a new CBAM (strategy `attention`). Everything else is frozen, and the photographs are not
augmented, so that what comes before the first CBAM runs once a training. The archive is imported and split as a
visitor's would be. Reports the accuracy on the 153 photographs of its folder `val`, of the best epoch by held-out
training photographs, and the seconds of each training.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import RunConfig
from resnet_space.data import import_archive
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_classes
from resnet_space.runs import PHOTO_BACKBONE, Run, last_metric
from resnet_space.training.loop import train
from resnet_space.training.strategies import recipe

DATASET = "hymenoptera"


def settings(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What both have in common."""
    return {
        "start": PHOTO_BACKBONE,
        "optimizer": "adamw",
        "epochs": arguments.epochs,
        "head_lr": arguments.head_lr,
        "batch_size": 16,
        "validation_fraction": 0.2,
        "seed": seed,
    }


def trained(path: Path, strategy: str, place: str | None, own: dict[str, Any]) -> dict[str, Any]:
    """Of one training: the accuracy on the test photographs, and seconds."""
    start = Run.open(ROOT / "checkpoints" / PHOTO_BACKBONE)
    model = replace(start.config.model, classes=dataset_classes(DATASET)).with_options(cbam=place)
    run = Run.create(path, RunConfig(model, recipe(strategy, DATASET, **own)), start=start)
    started = time.perf_counter()
    for _ in train(run):
        pass
    test = last_metric(run.metrics(), "test")
    assert test is not None
    return {"accuracy": test["accuracy"], "loss": test["loss"], "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="hymenoptera.zip")
    parser.add_argument("--place", choices=("stage", "last"), default="last", help="of the CBAM")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on; at least 2")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--head-lr", type=float, default=0.01)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/cbam_photos.json")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("a standard deviation needs at least 2 seeds")
    summary: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ[DATA_FOLDER_VARIABLE] = f"{folder}/data"
        import_archive(arguments.archive, Path(folder) / "data" / DATASET)
        for name, strategy, place in (("head", "linear-probe", None), ("cbam", "attention", arguments.place)):
            found = []
            for seed in range(arguments.seeds):
                path = Path(folder) / "runs" / f"{name}-{seed}"
                found.append(trained(path, strategy, place, settings(arguments, seed)))
                print(name, seed, found[-1], flush=True)
            accuracies = [one["accuracy"] for one in found]
            summary[name] = {
                "mean_accuracy": round(statistics.mean(accuracies), 4),
                "standard_deviation": round(statistics.stdev(accuracies), 4),
                "trainings": found,
            }
            print(f"{name}: {statistics.mean(accuracies):.1%} ± {statistics.stdev(accuracies):.1%}", flush=True)
    if arguments.save:
        conditions = {name: value for name, value in vars(arguments).items() if name not in ("archive", "save")}
        save("cbam_photos", {**conditions, **summary})


if __name__ == "__main__":
    main()
