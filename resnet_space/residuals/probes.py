"""Which images are measured: some of a data set's, each class in turn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data.batches import evaluation_batches
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.data.splits import ImageSet, load_split

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

    The whole split is decoded first; keep what it gives.

    Raises:
        UserError: where there is no such data set or split.
    """
    data = open_dataset(DatasetRef.parse(dataset))
    if split not in data.files:
        raise UserError(f"The data set {dataset} has no {split} images: choose one of {', '.join(data.files)}.")
    return balanced(load_split(data.files[split], config.stored_size, data.columns, split=split), count)


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
    """The batches that have images. Raises ValueError where none has, or a label is -1."""
    any_images = False
    for images, labels in batches:
        if not len(images):
            continue
        if bool((labels < 0).any()):
            raise ValueError("The model does not know the classes of these images: take images of its own classes.")
        any_images = True
        yield images, labels
    if not any_images:
        raise ValueError("There are no images to measure: give at least one.")


def last(results: Iterator[T]) -> T:
    """Run a measurement to its end and give its last, complete result."""
    result = next(results)
    for result in results:  # noqa: B007
        pass
    return result
