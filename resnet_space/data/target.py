"""The target of a domain adaptation: the images of a second dataset, whose labels nothing reads but its test."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.common.errors import UserError
from resnet_space.config import TrainConfig
from resnet_space.data.columns import Columns, count_rows, labels_of, readable
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
            _require(training, count_rows(dataset.files["train"]))


class Target:
    """The images of a training's target, each decoded once, when it is asked for.

    If the dataset has one split only, about a fifth of it is tested on, drawn without a look at the labels. What is
    asked for raises UserError for a dataset that cannot be read.

    Args:
        training: names the dataset.
        size: height and width in pixels, before the centre crop.
        folder: for images that memory has no room for.
    """

    def __init__(self, training: TrainConfig, size: int, folder: Path | None = None) -> None:
        self.training, self.size, self.folder = training, size, folder

    @cached_property
    def images(self) -> "ImageSet":
        """Those to learn from, of the training split. All labels are -1, whatever the files say.

        Raises UserError for fewer than two.
        """
        from resnet_space.data.splits import UnlabelledError

        try:
            data = self._divided[0] if self._tested == "train" else self._decoded("train")
        except UnlabelledError:
            _require(self.training, 0)
            raise
        _require(self.training, len(data))
        return data

    def test(self, classes: tuple[str, ...]) -> "tuple[ImageSet, str] | None":
        """Those to test on, labelled in the source's classes, which are matched by their names, and their split; None
        if none has such a label.
        """
        import torch

        from resnet_space.data.splits import UnlabelledError

        files, split = self._dataset.files, self._tested
        try:
            data = self._divided[1] if split == "train" else self._decoded(split)
        except UnlabelledError:
            return None
        assert data.source is not None
        with readable(f"The target {self.training.target!r}"):
            labels = torch.from_numpy(labels_of(files[split], _renamed(self._dataset.columns, classes)))[data.source]
        known = (labels >= 0).nonzero().flatten()
        return (replace(data, labels=labels).subset(known), split) if len(known) else None

    @cached_property
    def _dataset(self) -> Dataset:
        return open_dataset(DatasetRef.parse(self.training.target))

    @property
    def _tested(self) -> str:
        """The split to test on."""
        return next((split for split in ("test", "validation") if split in self._dataset.files), "train")

    @cached_property
    def _divided(self) -> "tuple[ImageSet, ImageSet]":
        """(the images to learn from, those to test on) of a dataset that has no others to test on."""
        import torch

        from resnet_space.data.splits import divide_unlabelled

        training = self.training
        if training.grouped_split:
            return divide_unlabelled(DatasetRef.parse(training.target), self.size, self.folder)
        data = self._decoded("train")
        assert data.source is not None
        rows = count_rows(self._dataset.files["train"])
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(training.seed))
        tests = torch.isin(data.source, order[: round(rows * TEST_SHARE)])
        return data.subset((~tests).nonzero().flatten()), data.subset(tests.nonzero().flatten())

    def _decoded(self, split: str) -> "ImageSet":
        from resnet_space.data.splits import load_split

        files, columns = self._dataset.files[split], self._dataset.columns
        return load_split(files, self.size, columns, split=split, folder=self.folder, labelled=False)


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
