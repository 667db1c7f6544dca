"""Teaching by showing: a visitor's pictures, class by class, and the model that is trained again after each change.

A change is saved before anything is computed, so neither a crash nor a reload loses a picture. Then only new pictures
need a forward pass, and a moment later the head is solved, a run is written, and any picture can be classified.
`Teaching.change` is a generator of the steps, so that its caller can report progress.

The features of recently used sets are in memory, all others on disk (`training.feature_store`). The pictures themselves
are never in memory, except 64 at a time.

Files: `network` (the frozen network), `memory` (the cached state of each set), `cards` (the runs' model cards).
"""

import itertools
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL.Image import Image

from resnet_space.common.errors import UserError
from resnet_space.common.files import discard
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATASET_OWNER
from resnet_space.data.taught import (
    ABOUT,
    FILE,
    NewPicture,
    TaughtSet,
    is_taught,
    read_pictures,
    write_about,
    write_set,
)
from resnet_space.runs import OWNER, WEIGHTS, Run, free_name
from resnet_space.serve import visitors
from resnet_space.serve.taught.cards import Cards
from resnet_space.serve.taught.memory import Memories, Memory
from resnet_space.serve.taught.network import Network

if TYPE_CHECKING:
    from resnet_space.serve.context import AppContext
    from resnet_space.training.taught import Lesson, Look

KIND = "taught"  # prefix of the names of sets and runs
FIRST_CLASSES = ("Class 1", "Class 2")
LEAST = 2  # pictures per class, and classes with that many
MOST_CLASSES, MOST_PICTURES = 100, 2_000  # of one set
PUBLIC_CLASSES, PUBLIC_PICTURES = 20, 500  # on a public app
MOST_BYTES = 200_000_000  # of one set; its file is rewritten at each change
AT_ONCE = 64  # pictures decoded per batch

Change = Callable[[TaughtSet], TaughtSet]


@dataclass(frozen=True)
class Step:
    """The progress of a change.

    Attributes:
        taught: the current set.
        phase: "loading" the network, computing "features", "solving", "keeping" the run, or "done".
        done: number of the `total` pictures with features.
        total: see above.
        lesson: the result for exactly this set; None if it is not known yet, or too little was shown.
        seconds: since the change arrived.
    """

    taught: TaughtSet
    phase: Literal["loading", "features", "solving", "keeping", "done"]
    done: int = 0
    total: int = 0
    lesson: "Lesson | None" = None
    seconds: float = 0.0


class Teaching:
    """One per app. Its methods may be called from any thread."""

    def __init__(self, context: "AppContext") -> None:
        self.context = context
        self._memories = Memories()
        self._changing = [threading.RLock() for _ in range(64)]  # by set
        self.network = Network(context.library)
        self._cards = Cards()

    # What there is

    @property
    def most_classes(self) -> int:
        return PUBLIC_CLASSES if self.context.public else MOST_CLASSES

    @property
    def most_pictures(self) -> int:
        return PUBLIC_PICTURES if self.context.public else MOST_PICTURES

    def names(self, key: str | None) -> list[str]:
        """The names of the visitor's sets, the last changed first."""
        root = self.context.datasets.folder
        found = [folder for folder in (root.iterdir() if root.is_dir() else ()) if self._is_own(folder, key)]
        return [folder.name for folder in sorted(found, key=lambda folder: -(folder / ABOUT).stat().st_mtime)]

    def open(self, name: str, key: str | None) -> TaughtSet:
        """Open a set. Raises UserError if it is missing or another visitor's; the message is the same for both."""
        folder = self.context.datasets.folder / str(name)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}", str(name)) or not self._is_own(folder, key):
            raise UserError("This set of pictures no longer exists: start a new one.")
        with self._changes_of(folder):
            return self._memories.opened(folder)

    def _is_own(self, folder: Path, key: str | None) -> bool:
        own = not self.context.public or visitors.owns(folder / DATASET_OWNER, key)
        return own and not folder.name.startswith(".") and is_taught(folder)

    def _changes_of(self, folder: Path) -> threading.RLock:
        """Lock for reading or writing a set's files; never held during computations."""
        return self._changing[hash(folder) % len(self._changing)]

    # Changes

    def change(
        self, name: str | None, key: str | None, changes: Sequence[Change], new: Sequence[NewPicture] = ()
    ) -> Generator[Step, None, None]:
        """Change a set, and train on it.

        Args:
            name: of the set; None creates a new one with `FIRST_CLASSES`.
            key: the visitor's.
            changes: one after the other.
            new: the pictures that they add.

        Yields:
            The steps; when the first one is yielded, the change is saved.

        Raises:
            UserError: for an invalid change; then nothing has changed.
        """
        started = time.monotonic()
        changed = self._changed(name, key, changes, new)
        for step in self._teach(changed, key):
            yield replace(step, seconds=time.monotonic() - started)

    def known(self, name: str, key: str | None) -> Step:
        """A set with its lesson, if that is in memory. Raises UserError as `open`."""
        now = self.open(name, key)
        memory = self._memories.of(now.folder)
        return Step(now, "done", lesson=memory.lesson if memory.learned == now.version else None)

    def teach(self, name: str, key: str | None) -> Generator[Step, None, None]:
        """The steps for a set as it is; known results are not computed again."""
        yield from self._teach(self.open(name, key), key)

    def _changed(
        self, name: str | None, key: str | None, changes: Sequence[Change], new: Sequence[NewPicture]
    ) -> TaughtSet:
        context = self.context
        key = context.writer(key)
        if name is None:
            root = context.datasets.folder
            begun = TaughtSet(root / free_name(root, KIND, secret=context.public))
            for first in FIRST_CLASSES:
                begun = begun.with_class(first)
        else:
            begun = self.open(name, key)
        with self._changes_of(begun.folder):
            before = None if name is None else self._memories.opened(begun.folder)
            changed = before or begun
            for change in changes:
                changed = change(changed)
            self._check(changed)
            needed = sum(len(picture.content) for picture in new)
            file = changed.folder / FILE
            size = file.stat().st_size if file.exists() else 0
            if size + needed > MOST_BYTES:
                raise UserError(f"A set can have at most {MOST_BYTES // 10**6} MB of pictures: start a new one.")
            context.storage.room_for(size + 2 * needed, "Saving these pictures", context.datasets.folder)
            write_set(changed, before, new)
            if key:
                context.claim(changed.folder / DATASET_OWNER, key)
            self._memories.of(changed.folder).now_has(changed)
        context.datasets.forget_summary(DatasetRef(changed.name))
        return changed

    def _check(self, changed: TaughtSet) -> None:
        if len(changed.classes) > self.most_classes:
            raise UserError(f"A set can have at most {self.most_classes} classes: remove one first.")
        if len(changed.pictures) > self.most_pictures:
            raise UserError(f"A set can have at most {self.most_pictures:,} pictures: remove some first.")

    def delete(self, name: str, key: str | None) -> None:
        """Delete a set and its run. Raises UserError."""
        self.context.require_writable()
        gone = self.open(name, key)
        if run := self._run_of(gone):
            self.context.delete_run(run.name, key)
        with self._changes_of(gone.folder):
            discard(gone.folder)
            self._memories.forget(gone.folder)
        self.context.datasets.forget_summary(DatasetRef(gone.name))

    # What is learned

    def _teach(self, now: TaughtSet, key: str | None) -> Iterator[Step]:
        memory = self._memories.of(now.folder)
        if missing(now):
            yield Step(now, "done")
            return
        lesson = memory.lesson if memory.learned == now.version else None
        if lesson is None:
            started = time.monotonic()
            with self.context.slots.taken("lessons"):
                if not self.network.is_loaded:
                    yield Step(now, "loading")
                yield from self._look_at_new(now, memory)
                yield Step(now, "solving")
                lesson = memory.learn(now)
            yield Step(now, "keeping", lesson=lesson)
            memory.lesson, memory.learned = lesson, now.version
            kept = self._keep(now, lesson, key, time.monotonic() - started)
            if kept.version != now.version:  # the pictures have changed since the lesson
                yield Step(kept, "done")
                return
            now = kept
        yield Step(now, "done", lesson=lesson)

    def _look_at_new(self, now: TaughtSet, memory: Memory) -> Iterator[Step]:
        memory.forget_all_but({picture.id for picture in now.pictures})
        new = [picture.id for picture in now.pictures if picture.id not in memory.known]
        done = 0
        for batch in _batches(read_pictures(now, new), AT_ONCE):
            for count, extracted in self.network.steps([content for _, content in batch]):
                yield Step(now, "features", done + count, len(new))
                if extracted is not None:
                    rows = zip(extracted.features, extracted.means, strict=True)
                    memory.known.update(zip((id_ for id_, _ in batch), rows, strict=True))
            done += len(batch)

    def look(self, name: str, key: str | None, picture: Image) -> "tuple[TaughtSet, Look]":
        """The prediction of the set's model for a picture, and the set that it was trained on. Raises UserError."""
        now = self.open(name, key)
        memory = self._memories.of(now.folder)
        if reason := missing(now):
            raise UserError(reason)
        if memory.learned != now.version:
            for _ in self._teach(now, key):
                pass
        lesson = memory.lesson
        if lesson is None:
            raise UserError("The model is still learning: try again in a moment.")
        return now, lesson.look(self.network.features(picture))

    # The run

    def _run_of(self, taught: TaughtSet) -> Run | None:
        """The set's run, even if it was renamed."""
        for name in self.context.library.names_now([taught.run] if taught.run else []):
            run = self.context.library.open(name)
            if run.config.training.dataset == taught.name:
                return run
        return None

    def _keep(self, taught: TaughtSet, lesson: "Lesson", key: str | None, seconds: float) -> TaughtSet:
        """Write the run, unless the set has changed since. Returns the set with the run's name."""
        from resnet_space.training.taught_run import config_of, write_taught_run

        with self._changes_of(taught.folder):
            now = self._memories.opened(taught.folder)
            if now.version != taught.version:
                return now  # the next lesson is in progress
            run, (backbone, model) = self._run_of(now), self.network.loaded()
            path = run.path if run else self.context.new_path(KIND)
            size = 3 * (backbone.path / WEIGHTS).stat().st_size
            self.context.storage.room_for(size, "Saving the model")

            def claim(made: Run) -> None:
                if key:
                    self.context.claim(made.path / OWNER, key)

            config = config_of(backbone, now.name, tuple(own.name for own in now.used_classes))
            write_taught_run(path, config, lesson, backbone, model, seconds=seconds, claim=claim)
            if path.name != now.run:
                now = replace(now, run=path.name)
                write_about(now)
                self._memories.of(now.folder).now_has(now)
        self._cards.write_later(path)
        return now


def missing(taught: TaughtSet) -> str:
    """One sentence on the pictures that are still missing for training; empty if there are enough."""
    counts = {own: len(taught.of(own.id)) for own in taught.used_classes}
    enough = [own for own, count in counts.items() if count >= LEAST]
    if len(enough) >= LEAST:
        return ""
    short = [own.name for own, count in counts.items() if count < LEAST]
    if len(enough) + len(short) < LEAST:
        return f"Add at least {LEAST} pictures to each of at least {LEAST} classes; ten per class are a good start."
    return (
        f"Add one more picture to {' and to '.join(short[: LEAST - len(enough)])}: each class needs at least {LEAST}."
    )


def _batches(pictures: Iterator[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    while batch := list(itertools.islice(pictures, size)):
        yield batch
