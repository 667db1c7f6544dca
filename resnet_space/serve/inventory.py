"""Inventory of visitors' data on disk: kind, size, last use, and how to delete it.

Only runs and datasets created by visitors of a public app are listed: they are marked when they are created. Data
created while the app was private is never touched, even if the app is shared later. Runs that are training or queued
stay, with their data.
"""

import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_space.common.background import tell_once
from resnet_space.common.errors import UserError
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATASET_OWNER
from resnet_space.runs import DECODED, FIGURES, OWNER, RESUME, Run
from resnet_space.serve import temporary
from resnet_space.serve.limits import Limits
from resnet_space.serve.works import OWNER as WORK_OWNER
from resnet_space.training.feature_store import FOLDER

if TYPE_CHECKING:
    from resnet_space.serve.context import AppContext
    from resnet_space.serve.works import Works

EXPIRES = "expires"  # marks visitors' items, next to the owners file
DAY = 24 * 3600.0
HOUR = 3600.0
LEFT_BEHIND = HOUR  # without a change, after which ownerless files count as left by a killed process
UNUSED_UPLOAD = HOUR  # after which uploads and exports are deleted; on a private app after a day
IN_USE = 600.0  # seconds since the last use in which an upload or export is not deleted to make room
LEAST_FILE = 64_000  # minimum bytes counted per upload or export, because many small files are slow too
SECRET_NAME = re.compile(r"-[0-9a-f]{10}$")  # as `free_name` ends it on a public app
# Temporary names: before a rename into place, before a deletion, and those of `replaced_atomically`.
HIDDEN = re.compile(r"\.(deleted|import|pull|shipped)-.*|\..+\.tmp")


@dataclass(frozen=True)
class StoredItem:
    """An item that is counted and can be deleted.

    Attributes:
        name: of it.
        used: time of the last change or use (seconds since 1970).
        bytes: its size.
        delete: deletes it.
        kind: "runs", "comparisons", "studies", "checks", "maps", "reviews", "datasets", "temporary", "left" or "hub".
        lasts: seconds without use after which it is deleted; None: as the limits say.
        stays: whether it is in use; then it is not deleted.
        whose: the address that uploaded or exported it, if known.
    """

    name: str
    used: float
    bytes: int
    delete: Callable[[], None]
    kind: str = "runs"
    lasts: float | None = None
    stays: bool = False
    whose: str = ""


def to_delete(items: list[StoredItem], limits: Limits, now: float) -> list[StoredItem]:
    """The items to delete: expired ones, then the longest unused until the rest fits."""
    room = None if limits.gigabytes is None else limits.gigabytes * 1e9
    left = sum(thing.bytes for thing in items)
    gone = []
    for thing in oldest_first(items):
        lasts = thing.lasts if thing.lasts is not None or limits.days is None else limits.days * DAY
        expired = lasts is not None and now - thing.used > lasts
        if expired or (room is not None and left > room):
            gone.append(thing)
            left -= thing.bytes
    return gone


def oldest_first(items: Iterable[StoredItem]) -> list[StoredItem]:
    return sorted((thing for thing in items if not thing.stays), key=lambda thing: thing.used)


class Inventory:
    """Lists all items. Unreadable ones are reported and skipped.

    Args:
        context: whose.
    """

    def __init__(self, context: "AppContext") -> None:
        self.context = context

    def everything(self, whose: Mapping[str, str]) -> Iterator[StoredItem]:
        """All items; `whose` has the addresses of uploads and exports by name."""
        sources: list[Callable[[], Iterator[StoredItem]]] = [lambda: self._temporary(whose)]
        if not self.context.readonly:  # where nothing is made, and nothing deleted
            busy_data: set[str] = set()
            sources += [self._left, lambda: self._runs(busy_data)]
            context = self.context
            kinds = (context.comparisons, context.studies, context.checks, context.maps, context.reviews)
            sources += [partial(self._works, works, busy_data) for works in kinds]
            sources.append(lambda: self._datasets(busy_data))
            if "SPACE_ID" in os.environ:
                sources.append(lambda: _cached(busy_data))
        for source in sources:
            try:
                yield from source()
            except Exception as error:
                tell_once(f"Not measured: {error!r}")
                if source in sources[2:]:  # the following items may be in use by the unchecked runs
                    return

    def _each(self, folders: Iterable[Path], look: Callable[[Path], Iterator[StoredItem]]) -> Iterator[StoredItem]:
        for folder in folders:
            try:
                yield from look(folder)
            except (OSError, UserError) as error:  # deleted in the meantime, or broken: continue with the rest
                tell_once(f"Not measured: {folder.name!r} ({error!r})")

    def _runs(self, busy_data: set[str]) -> Iterator[StoredItem]:
        def look(path: Path) -> Iterator[StoredItem]:
            run = known.get(path)
            busy = run is not None and self._is_busy(run)
            if run is not None and busy:
                busy_data.update((run.config.training.dataset, DatasetRef.parse(run.config.training.target).name))
            else:
                yield from _left_in(path)
            delete = None if run is None else partial(self.context.library.delete, run)
            yield from _owned_item(path, path / OWNER, "runs", busy, delete)

        known = {run.path: run for run in self.context.library.runs()}
        yield from self._each(_shown_folders(self.context.library.root), look)

    def _is_busy(self, run: Run) -> bool:
        try:
            return run.is_training or run.is_queued
        except OSError as error:  # nobody knows
            tell_once(f"Not checked: {run.name!r} ({error!r})")
            return True

    def _works(self, works: "Works[Any]", busy_data: set[str]) -> Iterator[StoredItem]:
        """Comparisons, studies, checks, maps, or reviews with their decisions."""

        def look(path: Path) -> Iterator[StoredItem]:
            busy = works.is_alive(path.name)
            if busy:
                busy_data.update(DatasetRef.parse(one).name for one in works.open(path.name).datasets)
            yield from _owned_item(path, path / WORK_OWNER, works.folder.name[1:], busy)

        yield from self._each(_shown_folders(works.folder), look)

    def _datasets(self, busy_data: set[str]) -> Iterator[StoredItem]:
        def look(path: Path) -> Iterator[StoredItem]:
            yield from _owned_item(path, path / DATASET_OWNER, "datasets", path.name in busy_data)

        yield from self._each(_shown_folders(self.context.datasets.folder), look)

    def _left(self) -> Iterator[StoredItem]:
        """Leftovers of killed processes beside runs and datasets."""

        def look(path: Path) -> Iterator[StoredItem]:
            if HIDDEN.fullmatch(path.name):
                yield _leftover(path)

        for root in (self.context.library.root, self.context.datasets.folder):
            yield from self._each(root.iterdir() if root.is_dir() else (), look)
        features = self.context.library.root / FOLDER
        if features.is_dir():  # within a bound of its own; what is deleted is computed again
            yield replace(_leftover(features), lasts=math.inf)

    def _temporary(self, known: Mapping[str, str]) -> Iterator[StoredItem]:
        now, lasts = time.time(), UNUSED_UPLOAD if self.context.public else DAY

        def look(path: Path) -> Iterator[StoredItem]:
            used, size = tree(path, LEAST_FILE)
            whose, busy = known.get(path.name, ""), now - used < IN_USE
            yield StoredItem(path.name, used, size, partial(_remove, path), "temporary", lasts, busy, whose)

        if temporary.is_own():
            others = (temporary.LOCK, temporary.UNFINISHED)
            yield from self._each((path for path in temporary.folder().iterdir() if path.name not in others), look)


def _cached(busy_data: set[str]) -> Iterator[StoredItem]:
    """The repositories in the Hub client's cache, and interrupted downloads."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return
    for repository in cache.repos:
        commits = [revision.commit_hash for revision in repository.revisions]
        name, used, size = repository.repo_id, repository.last_accessed, repository.size_on_disk
        yield StoredItem(name, used, size, cache.delete_revisions(*commits).execute, "hub", stays=name in busy_data)
    for path in Path(constants.HF_HUB_CACHE).glob("*/blobs/*.incomplete"):
        yield _leftover(path)


def _owned_item(
    path: Path, owners: Path, kind: str, stays: bool, delete: Callable[[], None] | None = None
) -> Iterator[StoredItem]:
    """A folder with its owners' file, if it is a visitor's of a public app."""
    owned = _owned(owners)
    if owned is not None:
        lasts = None if owned else LEFT_BEHIND
        yield StoredItem(path.name, *tree(path), delete or partial(_delete_whole, path), kind, lasts, stays)


def _leftover(path: Path) -> StoredItem:
    return StoredItem(path.name, *tree(path), partial(_remove, path), "left", LEFT_BEHIND)


def _left_in(run: Path) -> Iterator[StoredItem]:
    """Leftovers within a run that is not training; their bytes count for the run."""
    folders = (run, run / RESUME, run / FIGURES)
    for path in (*(path for folder in folders for path in folder.glob(".*.tmp")), run / DECODED):
        if path.exists():
            yield replace(_leftover(path), bytes=0)


def _owned(owners: Path) -> bool | None:
    """Whether what this file is beside has an owner; None where it is not a visitor's of a public app.

    Where a visitor's mark is, or a name that a public app gave, an owner's file that names nobody is what a start or an
    import left that failed halfway.
    """
    try:
        named: bool | None = owners.stat().st_size > 0
    except FileNotFoundError:
        named = None
    if owners.with_name(EXPIRES).exists():
        return bool(named)
    folder = owners.parent.parent if owners.parent.name == RESUME else owners.parent
    return False if named is False and SECRET_NAME.search(folder.name) else None


def _shown_folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _delete_whole(folder: Path) -> None:
    """Delete a folder atomically, so that nobody sees half of it."""
    gone = folder.with_name(f".deleted-{uuid.uuid4().hex}")
    folder.rename(gone)
    shutil.rmtree(gone)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def tree(path: Path, least: int = 0) -> tuple[float, int]:
    """When a file, or the newest in a folder, was changed (the folder itself, if it has none), and the bytes of all.

    Args:
        path: of either.
        least: bytes that each file counts.
    """
    details = path.lstat()
    if not path.is_dir() or path.is_symlink():
        return details.st_mtime, max(details.st_size, least)
    used, size = 0.0, 0
    folders = [str(path)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                            continue
                        about = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # it went meanwhile
                        continue
                    used = max(used, about.st_mtime)
                    size += max(about.st_size, least)
        except FileNotFoundError:
            continue
    return used or details.st_mtime, size
