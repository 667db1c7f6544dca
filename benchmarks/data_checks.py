"""Faults that are planted, and how many a check finds: `python benchmarks/data_checks.py HYMENOPTERA_ZIP [--save]`.

Five seeds each: 5 % of the training labels of ants and bees, and of `cifar10-mini`, flipped to another class at random:
how many of them are among as many first in the queue, and how many wrong labels are expected, beside what confident
learning says (cleanlab 2.9.0, which is no dependency: install it first) from the same probabilities; the same without
any flipped. Then 50 copies (recompressed, resized, mirrored, cropped) of training pictures in the other split: recall
and precision, where what is found without any planted counts as right. Then, in 20 trials, whether the accuracy with
twice as many pictures lies in the interval that was predicted. `--pictures FOLDER` times the check of a folder of
parquet files, such as CIFAR-10's test images.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import psutil
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.machine import save
from resnet_space.check import check_data
from resnet_space.data import import_archive
from resnet_space.data.sources import BUNDLED, DATA_FOLDER_VARIABLE
from resnet_space.training import checking
from resnet_space.training.cross_validation import Examples, solved_out_of_fold
from resnet_space.training.data_report import DataReport
from resnet_space.training.enough import learning_curve

SEEDS = range(5)
SHARE, COPIES, TRIALS = 0.05, 50, 20
FEW = {"hymenoptera": 120, "cifar10-mini": 500}  # pictures from which twice as many are predicted
BACKBONES = {
    "hymenoptera": ("efficientnet-lite0-imagenet",),
    "cifar10-mini": ("resnet20-cbam-imagenet32", "resnet20-cbam-cifar10"),
}
Rows = dict[str, list[dict[str, Any]]]  # of each split


def rows_of(folder: Path) -> tuple[Rows, str]:
    """The rows of each split's first file, and the column of the images."""
    files = {path.name.split("-")[0]: path for path in sorted(folder.rglob("*.parquet"))}
    tables = {split: pq.read_table(path) for split, path in files.items()}
    column = next(name for name in next(iter(tables.values())).column_names if name in ("img", "image"))
    return {split: table.to_pylist() for split, table in tables.items()}, column


def written(target: Path, source: Path, change: Callable[[Rows, str], None]) -> None:
    """A copy of a dataset whose rows are changed."""
    rows, column = rows_of(source)
    change(rows, column)
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*.parquet")):
        schema = pq.read_schema(path)
        table = pq.read_table(path).from_pylist(rows[path.name.split("-")[0]], schema=schema)
        pq.write_table(table, target / path.name)


def flipped(source: Path, target: Path, seed: int, share: float) -> set[int]:
    """Flip a share of the training labels. Returns the rows."""
    generator = np.random.default_rng(seed)
    chosen: set[int] = set()

    def change(rows: Rows, _: str) -> None:
        train = rows["train"]
        classes = 1 + max(row["label"] for row in train)
        for i in generator.choice(len(train), round(share * len(train)), replace=False).tolist():
            train[i]["label"] = int((train[i]["label"] + 1 + generator.integers(classes - 1)) % classes)
            chosen.add(i)

    written(target, source, change)
    return chosen


def spoilt(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A copy: of one of four kinds, and mostly recompressed."""
    width, height = picture.size
    kind = generator.integers(4)
    if kind == 1:
        scale = generator.uniform(0.5, 1.5)
        picture = picture.resize((max(int(width * scale), 8), max(int(height * scale), 8)), Image.Resampling.BICUBIC)
    if kind == 2:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == 3:
        left, top, right, bottom = generator.uniform(0, 0.1, 4)
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        picture = picture.crop(tuple(map(round, box)))
    if kind == 0 or generator.random() < 0.7:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(generator.integers(40, 80)))
        picture = Image.open(file).convert("RGB")
    return picture


def with_copies(source: Path, target: Path, seed: int) -> dict[int, int]:
    """Add copies of training pictures to the other split. Returns the row there of each, and that of the original."""
    generator = np.random.default_rng(seed)
    planted: dict[int, int] = {}

    def change(rows: Rows, column: str) -> None:
        other = next(split for split in rows if split != "train")
        for i in generator.choice(len(rows["train"]), COPIES, replace=False).tolist():
            row = rows["train"][i]
            copy, file = spoilt(Image.open(io.BytesIO(row[column]["bytes"])).convert("RGB"), generator), io.BytesIO()
            copy.save(file, "PNG")
            planted[len(rows[other])] = i
            rows[other].append(row | {column: {"bytes": file.getvalue(), "path": f"copy-{i}.png"}})

    written(target, source, change)
    return planted


def confident_learning(logits: torch.Tensor, labels: torch.Tensor) -> int | None:
    """How many labels cleanlab finds wrong; None where it is not installed."""
    try:
        from cleanlab.count import num_label_issues
    except ImportError:
        return None
    probabilities = logits.double().softmax(1).numpy()
    return int(num_label_issues(labels.numpy(), probabilities / probabilities.sum(1, keepdims=True)))


def label_results(name: str, source: Path, data: Path, runs: Path, backbone: str) -> dict[str, Any]:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    solve = solved_out_of_fold

    def noted(examples: Examples, *others: Any) -> Any:
        found = solve(examples, *others)
        seen.append((found.logits[found.judged], examples.labels[found.judged]))
        return found

    found: dict[str, Any] = {"planted": [], "in the first": [], "expected": [], "interval": [], "cleanlab": []}
    for share in (0.0, SHARE):
        for seed in SEEDS if share else (0,):
            own = f"{name}-{backbone}-{share}-{seed}"
            rows = flipped(source, data / own, seed, share)
            with patch.object(checking, "solved_out_of_fold", noted):  # what cleanlab is given, too
                report = check_data(own, backbone=backbone, runs=runs)
            first = [one.index for one in report.label_issues if one.split == "train"][: len(rows)]
            found["planted"].append(len(rows))
            found["in the first"].append(len(rows & set(first)))
            found["expected"].append(report.expected)
            found["interval"].append(report.interval)
            found["cleanlab"].append(confident_learning(*seen[-1]))
            print(own, {key: values[-1] for key, values in found.items()}, f"{report.seconds} s", flush=True)
    return found


def copy_results(name: str, source: Path, data: Path, runs: Path) -> dict[str, Any]:
    def pairs(report: DataReport) -> set[tuple[str, int]]:
        return {(one.split, one.index) for one in report.near_duplicates}

    own = f"{name}-copies"
    written(data / own, source, lambda *_: None)
    there = pairs(check_data(own, runs=runs))
    found: dict[str, Any] = {"there": len(there), "recall": [], "precision": []}
    for seed in SEEDS:
        planted = with_copies(source, data / f"{own}-{seed}", seed)
        report = check_data(f"{own}-{seed}", runs=runs)
        other = next(split for split in report.counts or {} if split != "train")
        copies = {(one.split, one.index) for one in report.near_duplicates}
        right = {(other, row) for row in planted}
        found["recall"].append(len(copies & right) / len(right))
        found["precision"].append(len(copies & (right | there)) / max(len(copies), 1))
        print(own, seed, found["recall"][-1], round(found["precision"][-1], 3), flush=True)
    return found


def curve_results(name: str, runs: Path, few: int) -> dict[str, Any]:
    """How often the accuracy with twice as many pictures lies in the interval that was predicted from `few`."""
    seen: list[Examples] = []

    def noted(examples: Examples, *_: Any) -> None:
        seen.append(examples)

    with patch.object(checking, "learning_curve", noted):
        check_data(name, runs=runs)
    features, labels, classes = seen[-1].features, seen[-1].labels, seen[-1].classes
    found: dict[str, Any] = {"pictures": few, "predicted": [], "interval": [], "measured": []}
    for seed in range(TRIALS):
        rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[: 2 * few]
        curves = [learning_curve(Examples(features[own], labels[own], classes)) for own in (rows[:few], rows)]
        assert curves[0] is not None
        assert curves[1] is not None
        predicted = curves[0].predicted
        found["predicted"].append(predicted.accuracy)
        found["interval"].append((predicted.low, predicted.high))
        found["measured"].append(curves[1].points[-1].accuracy)
    inside = [low <= m <= high for (low, high), m in zip(found["interval"], found["measured"], strict=True)]
    print(name, few, "learning curves within the interval:", sum(inside), "of", TRIALS, flush=True)
    return found | {"inside": sum(inside)}


def timed(folder: Path, data: Path, runs: Path) -> dict[str, Any]:
    data.mkdir(exist_ok=True)
    (data / "timed").symlink_to(folder.absolute())
    began = time.monotonic()
    report = check_data("timed", runs=runs)
    peak = psutil.Process().memory_info().rss / 1e9
    print(report.words)
    found: list[Any] = [*report.label_issues[:10], *report.near_duplicates[:10]]
    for one in found:
        print(f"{one.split} {one.index} {one.file}: {one.words}")
    return {
        "pictures": sum((report.counts or {}).values()),
        "seconds": round(time.monotonic() - began, 1),
        "gigabytes": round(peak, 2),
        "near-duplicates": len(report.near_duplicates),
        "expected": report.expected,
        "interval": report.interval,
    }


@contextmanager
def made_folder(backbones: Iterable[str]) -> Generator[Path]:
    """A folder for datasets, "data", and one of runs with these shipped ones, "runs"."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "runs").mkdir()
        for name in backbones:
            (Path(folder) / "runs" / name).symlink_to(ROOT / "checkpoints" / name)
        os.environ[DATA_FOLDER_VARIABLE] = str(Path(folder) / "data")
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hymenoptera", type=Path, help="zip of ants and bees")
    parser.add_argument("--pictures", type=Path, help="folder of parquet files to time the check with")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with made_folder(name for names in BACKBONES.values() for name in names) as folder:
        data, runs = folder / "data", folder / "runs"
        sources = {"cifar10-mini": BUNDLED / "cifar10-mini", "hymenoptera": folder / "hymenoptera"}
        import_archive(arguments.hymenoptera, sources["hymenoptera"])
        if arguments.pictures:
            results["timed"] = timed(arguments.pictures, data, runs)
            print(results["timed"])
        for name, source in sources.items():
            results[name] = {"copies": copy_results(name, source, data, runs)}
            if name == "hymenoptera":
                source.rename(data / name)
                source = data / name
            results[name]["curves"] = curve_results(name, runs, FEW[name])
            for backbone in BACKBONES[name]:
                results[name][backbone] = label_results(name, source, data, runs, backbone)
    if arguments.save:
        save("data_checks", results)


if __name__ == "__main__":
    main()
