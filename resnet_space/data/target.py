"""The target of a domain adaptation: the images of a second dataset, whose labels nothing reads but its test."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from resnet_space.common.errors import UserError
from resnet_space.config import TrainConfig
from resnet_space.data.columns import Columns, readable
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import Dataset, open_dataset
from resnet_space.data.summary import TEST_SHARE

if TYPE_CHECKING:  # a form checks a target without torch, which takes seconds to import
    from resnet_space.data.splits import ImageSet

LEAST = 2  # images: a distance between distributions needs two of each


def check_target(training: TrainConfig) -> None:
    """Refuse a target that cannot be used, without reading its images. Raises UserError."""
    if training.target:
        source, target = DatasetRef.of(training), DatasetRef.parse(training.target)
        if (source.name, source.config, source.image) == (target.name, target.config, target.image):
            raise UserError(f"The target {target.words} is the dataset with the labels itself: choose another target.")
        dataset = open_dataset(target)
        with readable(f"The target {training.target!r}"):
            _require(training, sum(pq.read_metadata(file).num_rows for file in dataset.files["train"]))


def target_images(training: TrainConfig, size: int, folder: Path | None = None) -> "ImageSet":
    """The images to learn from, decoded to `size` pixels. All labels are -1, whatever the files say.

    They are those of the training split; if the dataset has no other, without about a fifth of them, which do not
    depend on the labels.

    Args:
        training: names the dataset.
        size: height and width in pixels, before the centre crop.
        folder: for images that memory has no room for.

    Raises:
        UserError: for a dataset that cannot be read or has fewer than two images.
    """
    from resnet_space.data.splits import UnlabelledError, divide_unlabelled, load_split

    dataset, split = _opened(training)
    try:
        if split == "train" and training.grouped_split:
            data, _ = divide_unlabelled(DatasetRef.parse(training.target), size, folder)
        else:
            wanted = _drawn(training, dataset) if split == "train" else None
            data = load_split(
                dataset.files["train"], size, dataset.columns, folder=folder, wanted=wanted, labelled=False
            )
    except UnlabelledError:
        _require(training, 0)
        raise
    _require(training, len(data))
    return data


def target_test(
    training: TrainConfig, size: int, classes: tuple[str, ...], folder: Path | None = None
) -> "tuple[ImageSet, str] | None":
    """The images to test on, labelled in the source's classes, and their split; None if none has such a label.

    Classes are matched by their names. Raises as `target_images`.
    """
    from resnet_space.data.splits import UnlabelledError, divide_unlabelled, load_split

    dataset, split = _opened(training)
    wanted = None
    try:
        if split == "train":
            wanted = ~_drawn(training, dataset)
            if training.grouped_split:
                _, tests = divide_unlabelled(DatasetRef.parse(training.target), size, folder)
                assert tests.source is not None
                wanted[:] = False
                wanted[tests.source.numpy()] = True
        data = load_split(
            dataset.files[split], size, _renamed(dataset.columns, classes), split=split, folder=folder, wanted=wanted
        )
    except UnlabelledError:
        return None
    return data, split


def _opened(training: TrainConfig) -> tuple[Dataset, str]:
    """The dataset, and the split to test on."""
    dataset = open_dataset(DatasetRef.parse(training.target))
    return dataset, next((split for split in ("test", "validation") if split in dataset.files), "train")


def _drawn(training: TrainConfig, dataset: Dataset) -> np.ndarray:
    """Which rows of the training split are learned from if a fifth of them, drawn by the seed, is tested on."""
    import torch

    with readable(f"The target {training.target!r}"):
        rows = sum(pq.read_metadata(file).num_rows for file in dataset.files["train"])
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(training.seed)).numpy()
    wanted = np.ones(rows, dtype=np.bool_)
    wanted[order[: round(rows * TEST_SHARE)]] = False
    return wanted


def _renamed(columns: Columns, classes: tuple[str, ...]) -> Columns:
    """The columns with the source's classes, in their order."""
    if columns.values is None:
        return replace(columns, classes=classes)
    own = dict(zip(columns.classes, columns.values, strict=True))
    return replace(columns, classes=classes, values=tuple(own.get(name, f"\0{name}") for name in classes))


def _require(training: TrainConfig, images: int) -> None:
    if images < LEAST:
        found = "no image" if not images else "only one image"
        raise UserError(f"The target {training.target!r} has {found} to learn from: at least {LEAST} are needed.")
