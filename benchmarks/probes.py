"""What the form's proposals rest on: `python benchmarks/probes.py [HYMENOPTERA_ZIP] [--seeds N] [--save]`.

The test accuracy of a head that is solved on the features of each shipped backbone, at several image sizes: of
`cifar10-mini`, and of an archive of photographs; of these also with few of each class. With `--seeds` also what
fine-tuning adds: the strategy probe-then-fine-tune, for 5 and 10 epochs on `cifar10-mini`, and for 6 on the
photographs.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor

from benchmarks.machine import save
from resnet_space.config import RunConfig, TrainConfig
from resnet_space.data.archives import import_archive
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import load_splits
from resnet_space.data.summary import summarise
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE, Run, last_metric
from resnet_space.training.extraction import Extractor
from resnet_space.training.loop import train
from resnet_space.training.proposal import settings_for
from resnet_space.training.solver import best_head, solve

FEW, DRAWS = (5, 10, 20, 40, 80), 5
SIZES = {BACKBONE: (32, 64, 96), PHOTO_BACKBONE: (64, 96, 128, 160, 224)}
FINE_TUNED = {"cifar10-mini": (BACKBONE, (5, 10)), "photographs": (PHOTO_BACKBONE, (6,))}


def probe(dataset: str, name: str, size: int) -> dict[str, Any]:
    """Of a solved head on one backbone's features, pictures resized to `size`."""
    run = Run.open(ROOT / "checkpoints" / name)
    resize = run.config.model.resize if size == run.config.model.image_size else None
    config = replace(run.config.model, image_size=size, resize=resize)
    splits = load_splits(TrainConfig(dataset=dataset), config.stored_size)
    extractor = Extractor(run.load_model(), config)
    began = time.monotonic()
    train_set, validation, test = (
        extractor(data.images[:]).features for data in (splits.train, splits.validation, splits.test)
    )
    seconds = time.monotonic() - began

    def accuracy(rows: Tensor) -> float:
        heads = list(solve(train_set[rows], splits.train.labels[rows], len(splits.train.classes)))
        best = best_head(heads, validation, splits.validation.labels)
        return float((best.logits(test).argmax(1) == splits.test.labels).float().mean())

    def draw(count: int, seed: int) -> Tensor:
        """Positions of so many of each class."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(train_set), generator=generator)
        labels = splits.train.labels[order]
        return torch.cat([order[labels == label][:count] for label in range(len(splits.train.classes))])

    rate = (len(train_set) + len(validation) + len(test)) / seconds
    found: dict[str, Any] = {"accuracy": round(accuracy(torch.arange(len(train_set))), 4), "images/s": round(rate, 1)}
    for count in FEW if size == 224 and dataset == "photographs" else ():
        drawn = [accuracy(draw(count, seed)) for seed in range(DRAWS)]
        found[f"{count} of each class"] = (round(statistics.mean(drawn), 4), round(statistics.stdev(drawn), 4))
    return {"backbone": name, "size": size, **found}


def fine_tuned(dataset: str, name: str, epochs: int, seed: int, folder: Path) -> dict[str, float]:
    """Test accuracies of the solved head, and of what fine-tuning made of it."""
    backbone = Run.open(ROOT / "checkpoints" / name)
    summary = summarise(DatasetRef(dataset))
    settings = settings_for(summary, backbone.config.model, "probe-then-fine-tune") | {"epochs": epochs, "seed": seed}
    settings.pop("image_size")
    training = TrainConfig(dataset, start=name, strategy="probe-then-fine-tune", **settings)
    model = replace(backbone.config.model, classes=summary.classes)
    run = Run.create(folder / f"{dataset}-{epochs}-{seed}", RunConfig(model, training), start=backbone)
    metrics = list(train(run))
    solved = next(metric["test_accuracy"] for metric in metrics if "test_accuracy" in metric)
    test = last_metric(metrics, "test")
    assert test is not None
    return {"solved": solved, "fine-tuned": test["accuracy"], "seconds": test["seconds"]}


def rows(datasets: list[str], seeds: int, folder: Path) -> Iterator[dict[str, Any]]:
    for dataset in datasets:
        for name, sizes in SIZES.items():
            for size in sizes:
                yield {"data": dataset, **probe(dataset, name, size)}
        name, lengths = FINE_TUNED[dataset]
        for epochs in lengths if seeds else ():
            found = [fine_tuned(dataset, name, epochs, seed, folder) for seed in range(seeds)]
            values = {key: round(statistics.mean(each[key] for each in found), 4) for key in found[0]}
            spread = statistics.stdev(each["fine-tuned"] for each in found) if seeds > 1 else 0.0
            yield {"data": dataset, "backbone": name, "epochs": epochs, **values, "deviation": round(spread, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracies of solved heads, and of fine-tuning after them.")
    parser.add_argument("archive", type=Path, nargs="?", help="photographs, such as hymenoptera.zip")
    parser.add_argument("--seeds", type=int, default=0, help="of trainings that fine-tune (default: none)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/probes.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ[DATA_FOLDER_VARIABLE] = str(Path(temporary) / "data")
        datasets = ["cifar10-mini"]
        if arguments.archive:
            import_archive(arguments.archive, Path(temporary) / "data" / "photographs")
            datasets.append("photographs")
        results = []
        for row in rows(datasets, arguments.seeds, Path(temporary)):
            print(row, flush=True)
            results.append(row)
    if arguments.save:
        save("probes", {"seeds": arguments.seeds, "rows": results})


if __name__ == "__main__":
    main()
