"""What was measured stays with the page that asked for it, as long as there is room beside what others' pages have.

Gradio keeps the state of hundreds of pages, and what 10,000 images give in a deep network takes 30 MB. So a page's
state has a handle, which is empty once others needed the room.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar
from weakref import ref

from resnet_space.serve.refusals import refusal

HELD_BYTES = 300_000_000  # of all pages together

Thing = TypeVar("Thing")


class Held(Generic[Thing]):
    """A handle; `thing` is None once it had to go."""

    def __init__(self, thing: Thing) -> None:
        self.thing: Thing | None = thing

    def __deepcopy__(self, _memory: object) -> "Held[Thing]":
        return self


def kept(held: object, nothing: str) -> Any:
    """What a page's state has. Raises gr.Error with `nothing` where there was none yet, or with what became of it."""
    if not isinstance(held, Held):
        raise refusal(nothing)
    thing = held.thing
    if thing is None:
        raise refusal("What was measured here is not kept any longer, as others have measured since: measure again.")
    return thing


class Holding:
    """The handles of all pages. Its methods may be called from any thread."""

    def __init__(self, most_bytes: int = HELD_BYTES) -> None:
        self.most_bytes = most_bytes
        self._held: OrderedDict[int, tuple[ref[Held[Any]], int]] = OrderedDict()  # the last used is last
        self._lock = threading.Lock()

    def hold(self, held: Held[Thing]) -> Held[Thing]:
        """Count a new handle, or one whose thing has grown; where it is too much, the oldest are emptied."""
        size = nbytes(held.thing)
        with self._lock:
            self._held[id(held)] = ref(held), size
            self._held.move_to_end(id(held))
            living = {key: entry for key, entry in self._held.items() if entry[0]() is not None}
            self._held = OrderedDict(living)
            for key, (other, _) in living.items():
                if self.nbytes <= self.most_bytes or key == id(held):
                    break
                old = other()
                if old is not None:
                    old.thing = None
                del self._held[key]
        return held

    @property
    def nbytes(self) -> int:
        """Of all that is held, about."""
        return sum(size for _, size in self._held.values())


def nbytes(value: object) -> int:
    """About the bytes of a thing made of dataclasses, tensors, arrays, lists, mappings and texts."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, str | bytes):
        return 50 + len(value)
    if isinstance(value, Mapping):
        return sum(nbytes(key) + nbytes(content) for key, content in value.items())
    if isinstance(value, list | tuple):
        return sum(map(nbytes, value))
    if is_dataclass(value):
        return sum(nbytes(getattr(value, field.name)) for field in fields(value))
    return 30


HOLDING = Holding()
