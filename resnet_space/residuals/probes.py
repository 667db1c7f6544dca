"""Which images are measured: some of a data set's, each class in turn."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch import Tensor

from resnet_space.config import ModelConfig
from resnet_space.data.splits import ImageSet

T = TypeVar("T")


def balanced(data: ImageSet, count: int) -> ImageSet:
    """`count` images (or all, where there are fewer), the classes in turn: any first few have each class too."""
    raise NotImplementedError


def probe(dataset: str, split: str, count: int, config: ModelConfig) -> ImageSet:
    """`balanced` images of a data set's split ("train", "validation", "test"), decoded for this model.

    Raises:
        DataError: where there is no such data set or split.
    """
    raise NotImplementedError


def labels_for(data: ImageSet, classes: Sequence[str]) -> Tensor | None:
    """The images' labels as this model's classes number them: int64 [N]; None unless the model knows every class."""
    raise NotImplementedError


def probe_batches(data: ImageSet, config: ModelConfig, batch_size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised as the model expects them: images float32 [n, 3, H, W], labels int64 [n]."""
    raise NotImplementedError


def last(results: Iterator[T]) -> T:
    """Run a measurement to its end and give its last, complete result."""
    result = next(results)
    for result in results:  # noqa: B007
        pass
    return result
