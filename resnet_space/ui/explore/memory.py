"""What was measured stays with the page that asked for it, as long as there is room beside what others' pages have.

Gradio keeps the state of hundreds of pages, and what 10,000 images give in a deep network takes 30 MB. So a page's
state is a handle, which is empty once others needed the room.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar
from weakref import ref

from resnet_space.common.errors import UserError

MOST_BYTES = 300_000_000  # of all pages together

T = TypeVar("T")


class Handle(Generic[T]):
    """`value` is None once it had to go."""

    def __init__(self, value: T) -> None:
        self.value: T | None = value

    def __deepcopy__(self, _memory: object) -> "Handle[T]":
        return self


def value_of(handle: Handle[T] | None, nothing: str) -> T:
    """What a page's state has. Raises UserError with `nothing` where there was none yet, or with what became of it."""
    if not isinstance(handle, Handle):
        raise UserError(nothing)
    value = handle.value
    if value is None:
        raise UserError("What was measured here is not kept any longer, as others have measured since: measure again.")
    return value


class Memory:
    """The handles of all pages. Its methods may be called from any thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._handles: OrderedDict[int, tuple[ref[Handle[Any]], int]] = OrderedDict()  # the last used is last
        self._lock = threading.Lock()

    def count(self, handle: Handle[T]) -> Handle[T]:
        """A new handle, or one whose value has grown; where it is too much, the oldest are emptied."""
        size = nbytes(handle.value)
        with self._lock:
            self._handles[id(handle)] = ref(handle), size
            self._handles.move_to_end(id(handle))
            living = {key: entry for key, entry in self._handles.items() if entry[0]() is not None}
            self._handles = OrderedDict(living)
            for key, (other, _) in living.items():
                if self.nbytes <= self.most_bytes or key == id(handle):
                    break
                old = other()
                if old is not None:
                    old.value = None
                del self._handles[key]
        return handle

    @property
    def nbytes(self) -> int:
        """Of all values, about."""
        return sum(size for _, size in self._handles.values())


def nbytes(value: object) -> int:
    """About the bytes of what is made of dataclasses, tensors, arrays, lists, mappings and texts."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, str | bytes):
        return 50 + len(value)
    if isinstance(value, Mapping):
        return sum(nbytes(key) + nbytes(content) for key, content in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(nbytes, value))
    if is_dataclass(value):
        return sum(nbytes(getattr(value, field.name)) for field in fields(value))
    return 30


MEMORY = Memory()
