"""The cached state of recently used sets: file contents, features of the pictures, and lessons."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.data.taught import ABOUT, FILE, TaughtSet, open_set

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.training.taught import Lesson

MOST_ROWS = 4_000  # pictures whose features are kept: 12 KB each, and 5 KB more of what was learned from them
MOST_SETS = 1_000


@dataclass
class Memory:
    """The cached state of one set."""

    taught: TaughtSet | None = None
    stamp: tuple[int, ...] = ()  # of the files that it was read from
    known: "dict[str, tuple[Tensor, Tensor]]" = field(default_factory=dict)  # by picture: features [D], means [M]
    lesson: "Lesson | None" = None
    learned: str = ""  # the version of the set that the lesson is of

    def now_has(self, changed: TaughtSet) -> None:
        """Record the state of the files that were just written."""
        self.taught, self.stamp = changed, _stamp(changed.folder)

    def forget_all_but(self, ids: set[str]) -> None:
        """Drop the features of all other pictures."""
        for gone in [id_ for id_ in self.known if id_ not in ids]:
            del self.known[gone]

    def learn(self, now: TaughtSet) -> "Lesson":
        """Compute the lesson from the features, which must be complete."""
        import torch

        from resnet_space.training.extraction import Extracted
        from resnet_space.training.taught import learn

        features, means = zip(*(self.known[picture.id] for picture in now.pictures), strict=True)
        recordings = [picture.recording for picture in now.pictures]
        known = Extracted(torch.stack(features), torch.stack(means))
        return learn(known, now.labels(), recordings, [own.name for own in now.used_classes])


class Memories:
    """One per app. Its methods may be called from any thread."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self.most_rows = most_rows
        self._all: OrderedDict[Path, Memory] = OrderedDict()  # the last used is last
        self._lock = threading.Lock()

    def of(self, folder: Path) -> Memory:
        """The memory of a set; the least recently used ones are dropped if they take too much."""
        with self._lock:
            memory = self._all.setdefault(folder, Memory())
            self._all.move_to_end(folder)
            rows = sum(len(other.known) for other in self._all.values())
            for old in list(self._all)[:-1]:
                if rows > self.most_rows or len(self._all) > MOST_SETS:
                    rows -= len(self._all.pop(old).known)
            return memory

    def opened(self, folder: Path) -> TaughtSet:
        """The content of a set's files, read again if they changed. Raises UserError."""
        memory = self.of(folder)
        if memory.taught is None or memory.stamp != _stamp(folder):
            memory.now_has(open_set(folder))
        assert memory.taught is not None
        return memory.taught

    def forget(self, folder: Path) -> None:
        with self._lock:
            self._all.pop(folder, None)


def _stamp(folder: Path) -> tuple[int, ...]:
    """A stamp that changes when a set's files are rewritten."""
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in (folder / ABOUT, folder / FILE))
