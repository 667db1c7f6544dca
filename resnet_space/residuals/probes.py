"""Which images are measured: some of a data set's, each class in turn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data.batches import evaluation_batches
from resnet_space.data.columns import read_column
from resnet_space.data.images import to_model_size
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import open_dataset
from resnet_space.data.splits import ImageSet

T = TypeVar("T")


def balanced(data: ImageSet, count: int) -> ImageSet:
    """`count` images (or all, where there are fewer), the classes in turn: any first few have each class too."""
    labels = data.labels.cpu()
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(labels), generator=generator)
    # The first image of every class, then the second of every class, and so on.
    turn = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        turn[members] = torch.arange(len(members))
    order = shuffled[turn[shuffled].argsort(stable=True)]
    return data.subset(order[:count].to(data.labels.device))


def probe(dataset: str, split: str, count: int, config: ModelConfig) -> ImageSet:
    """`balanced` images of a data set's split ("train", "validation", "test"), decoded for this model.

    Only they are decoded, and kept at the size that the model stores. A damaged image's place goes to another.

    Raises:
        UserError: where there is no such data set or split, or none of its images can be used.
    """
    data = open_dataset(DatasetRef.parse(dataset))
    if split not in data.files:
        raise UserError(f"The data set {dataset} has no {split} images: choose one of {', '.join(data.files)}.")
    files, columns = data.files[split], data.columns
    labels = np.concatenate([columns.match(read_column([f], columns.label), pq.read_schema(f))[0] for f in files])
    usable = np.flatnonzero(labels >= 0)

    def chosen() -> ImageSet:
        source, numbers = torch.from_numpy(usable), torch.from_numpy(labels[usable])
        nothing = torch.empty((len(usable), 0), dtype=torch.uint8)
        return balanced(ImageSet(nothing, numbers, columns.classes, source=source), count)

    def decoded(rows: NDArray[np.int64], size: int) -> list[Image | None]:
        return read_images(files, rows.tolist(), columns.image, partial(to_model_size, size=size))

    images = decoded(_rows(chosen()), config.stored_size)
    if any(image is None for image in images):
        usable = usable[[image is not None for image in decoded(usable, 1)]]
        if not len(usable):
            raise UserError("None of the data set's images can be decoded, or none has a label.")
        images = decoded(_rows(chosen()), config.stored_size)
    return replace(chosen(), images=torch.from_numpy(np.stack([np.array(image) for image in images])))


def _rows(data: ImageSet) -> NDArray[np.int64]:
    assert data.source is not None
    rows: NDArray[np.int64] = data.source.numpy()
    return rows


def labels_for(data: ImageSet, classes: Sequence[str]) -> Tensor | None:
    """The images' labels as this model's classes number them: int64 [N]; None unless the model knows every class."""
    number = {name: i for i, name in enumerate(classes)}
    if not set(data.classes) <= set(number):
        return None
    return torch.tensor([number[name] for name in data.classes])[data.labels.cpu()]


def probe_batches(data: ImageSet, config: ModelConfig, batch_size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """As the model expects them: normalised images float32 [n, 3, H, W], labels int64 [n] as it numbers its classes.

    Where the model does not know every class of the data set all labels are -1: then nothing that needs them can be
    measured.
    """
    known = labels_for(data, config.classes)
    labels = torch.full_like(data.labels, -1) if known is None else known
    return evaluation_batches(replace(data, labels=labels), config, batch_size)


def labelled(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches that have images. Raises UserError where none has, or a label is -1."""
    any_images = False
    for images, labels in batches:
        if not len(images):
            continue
        if bool((labels < 0).any()):
            raise UserError("The network does not know the classes of these images: choose images of its classes.")
        any_images = True
        yield images, labels
    if not any_images:
        raise UserError("There are no images to measure: give at least one.")


def last(results: Iterator[T]) -> T:
    """Run a measurement to its end and give its last, complete result."""
    result = next(results)
    for result in results:  # noqa: B007
        pass
    return result
