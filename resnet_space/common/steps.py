"""Generators that report progress and return a result."""

from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Y = TypeVar("Y")
R = TypeVar("R")


class Steps(Generic[Y, R]):
    """Iterate a generator; when it has ended, `result` is what it returned."""

    result: R

    def __init__(self, generator: Generator[Y, None, R]) -> None:
        self._generator = generator

    def __iter__(self) -> Iterator[Y]:
        self.result = yield from self._generator
