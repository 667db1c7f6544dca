"""What visitors' things may take of a shared machine, and for how long they are kept.

All that visitors cause on the disk is counted here, has one limit, and is tidied here: runs with what training them
takes, data sets, uploads and exports (`temporary`), what killed processes have left, and on a Space, whose disk is the
app's, the Hub client's cache, from which all can be had again.

Of runs and data sets only what a visitor of a public app made or brought is ever deleted: it is marked when it is made.
What was made while the app was its owner's alone is never touched, also when the app is shared later. What trains or
waits stays, and its data.
"""

import math
import os
import re
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.config import RunConfig
from resnet_space.data.archives import Limits as ImportLimits
from resnet_space.data.sources import DATASET_OWNER, DatasetRef
from resnet_space.runs import DECODED, FIGURES, OWNER, RESUME, Run, RunError
from resnet_space.serve import temporary
from resnet_space.serve.limits import Limits
from resnet_space.serve.zero import is_zero_gpu

if TYPE_CHECKING:
    from resnet_space.ui.workshop import Workshop

EXPIRES = "expires"  # a file beside the owner's of what a visitor made or brought
DAY = 24 * 3600.0
HOUR = 3600.0
TIDY_SECONDS = 600.0  # between two looks
MEASURED_SECONDS = 10.0  # for which what was measured is believed
LEFT_BEHIND = HOUR  # without a change, after which what is nobody's is that of a killed process, and goes
UNUSED_UPLOAD = HOUR  # after which uploads and exports go; on one's own machine after a day
IN_USE = 600.0  # seconds since it was used last, in which an upload or export is not deleted to make room
TEMPORARY_SHARE = 0.25  # of the limit that uploads and exports may take together; never less than the largest upload
ADDRESS_SHARE = 0.5  # of this what one address may, on the same condition
LEAST_FILE = 64_000  # bytes that each upload or export counts at least: many small files are slow, too
SPARE = 50_000_000  # bytes that are left free on the disk, for what is small: metrics, settings, logs
SECRET_NAME = re.compile(r"-[0-9a-f]{10}$")  # as `Library.free_name` ends it on a public app
# What is renamed when it is whole, or before it is deleted; and what `replaced_atomically` writes to.
HIDDEN = re.compile(r"\.(deleted|import|pull|shipped)-.*|\..+\.tmp")


@dataclass(frozen=True)
class Kept:
    """Something that is counted, and may go.

    Attributes:
        name: of it.
        used: when it was changed or used last (seconds since 1970).
        bytes: that it takes.
        delete: does it.
        kind: "runs", "datasets", "temporary", "left" or "hub".
        lasts: seconds after which it goes where it was not used; None: as the limits say.
        stays: whether it is in use now; then it does not go.
        whose: the address that uploaded or exported it, where that is known.
    """

    name: str
    used: float
    bytes: int
    delete: Callable[[], None]
    kind: str = "runs"
    lasts: float | None = None
    stays: bool = False
    whose: str = ""


def to_delete(kept: list[Kept], limits: Limits, now: float) -> list[Kept]:
    """What has not been used for too long, and of the rest the longest unused, until it all fits."""
    room = None if limits.gigabytes is None else limits.gigabytes * 1e9
    left = sum(thing.bytes for thing in kept)
    gone = []
    for thing in _oldest_first(kept):
        lasts = thing.lasts if thing.lasts is not None or limits.days is None else limits.days * DAY
        expired = lasts is not None and now - thing.used > lasts
        if expired or (room is not None and left > room):
            gone.append(thing)
            left -= thing.bytes
    return gone


def _is_temporary(thing: Kept, whose: str | None) -> bool:
    return thing.kind == "temporary" and whose in (None, thing.whose)


def _oldest_first(kept: Iterable[Kept]) -> list[Kept]:
    return sorted((thing for thing in kept if not thing.stays), key=lambda thing: thing.used)


class Storage:
    """What all visitors' things take, and room for more. Its methods may be called from any thread."""

    def __init__(self, workshop: "Workshop") -> None:
        self.workshop = workshop
        self._lock = threading.RLock()
        self._kept: list[Kept] = []
        self._measured = -MEASURED_SECONDS  # when, by the monotonic clock
        self._whose: dict[str, str] = {}  # addresses by the names of uploads and exports
        self._reserved: dict[str, tuple[str, int]] = {}  # (address, bytes) of uploads on their way, by their names
        self._told: set[str] = set()

    # What there is

    def usage(self) -> dict[str, int]:
        """Bytes by kind ("runs", "datasets", "temporary", "left", "hub"), in all ("total"), and free on the disk."""
        found: Counter[str] = Counter()
        for thing in self._measure(0.0):
            found[thing.kind] += thing.bytes
        if temporary.is_own() and (temporary.folder() / temporary.UNFINISHED).exists():
            found["temporary"] += _tree(temporary.folder() / temporary.UNFINISHED)[1]
        kinds = {kind: found[kind] for kind in ("runs", "datasets", "temporary", "left", "hub")}
        return {**kinds, "total": found.total(), "free": _free(self.workshop.library.root)}

    def _measure(self, believed: float = MEASURED_SECONDS) -> list[Kept]:
        with self._lock:
            if time.monotonic() - self._measured >= believed:
                self._kept = list(self._everything())
                self._measured = time.monotonic()
                names = {thing.name for thing in self._kept if thing.kind == "temporary"}
                self._whose = {name: address for name, address in self._whose.items() if name in names}
            return self._kept

    def _everything(self) -> Iterator[Kept]:
        sources: list[Callable[[], Iterator[Kept]]] = [self._temporary]
        if not self.workshop.readonly:  # where nothing is made, and nothing deleted
            busy_data: set[str] = set()
            sources += [self._left, lambda: self._runs(busy_data), lambda: self._datasets(busy_data)]
            if "SPACE_ID" in os.environ:
                sources.append(lambda: _cached(busy_data))
        for source in sources:
            try:
                yield from source()
            except Exception as error:
                self._tell(f"Not measured: {error!r}")
                if source in sources[2:]:  # what comes next may be in use by runs that were not looked at
                    return

    def _each(self, folders: Iterable[Path], look: Callable[[Path], Iterator[Kept]]) -> Iterator[Kept]:
        for folder in folders:
            try:
                yield from look(folder)
            except (OSError, RunError) as error:  # it went meanwhile, or is broken: the rest goes on
                self._tell(f"Not measured: {folder.name!r} ({error!r})")

    def _runs(self, busy_data: set[str]) -> Iterator[Kept]:
        def look(path: Path) -> Iterator[Kept]:
            run = known.get(path)
            busy = run is not None and self._is_busy(run)
            if run is not None and busy:
                busy_data.add(run.config.training.dataset)
            else:
                yield from self._left_in(path)
            owned = _owned(path / OWNER)
            if owned is not None:
                used, size = _tree(path)
                delete = _deletion(path) if run is None else self._run_deletion(run)
                yield Kept(path.name, used, size, delete, lasts=None if owned else LEFT_BEHIND, stays=busy)

        known = {run.path: run for run in self.workshop.library.runs()}
        yield from self._each(_shown_folders(self.workshop.library.root), look)

    def _is_busy(self, run: Run) -> bool:
        try:
            return run.is_training or run.is_queued
        except OSError as error:  # nobody knows
            self._tell(f"Not looked at: {run.name!r} ({error!r})")
            return True

    def _run_deletion(self, run: Run) -> Callable[[], None]:
        return lambda: self.workshop.library.delete(run)

    def _datasets(self, busy_data: set[str]) -> Iterator[Kept]:
        def look(path: Path) -> Iterator[Kept]:
            owned = _owned(path / DATASET_OWNER)
            if owned is not None:
                used, size = _tree(path)
                lasts = None if owned else LEFT_BEHIND
                stays = path.name in busy_data
                yield Kept(path.name, used, size, _deletion(path), "datasets", lasts, stays)

        yield from self._each(_shown_folders(self.workshop.data), look)

    def _left(self) -> Iterator[Kept]:
        """What killed processes left beside runs and data sets."""

        def look(path: Path) -> Iterator[Kept]:
            if HIDDEN.fullmatch(path.name):
                used, size = _tree(path)
                yield Kept(path.name, used, size, lambda: _remove(path), "left", LEFT_BEHIND)

        for root in (self.workshop.library.root, self.workshop.data):
            yield from self._each(root.iterdir() if root.is_dir() else (), look)

    def _left_in(self, run: Path) -> Iterator[Kept]:
        """And within a run that does not train; its bytes are the run's."""
        for folder in (run, run / RESUME, run / FIGURES):
            for path in folder.glob(".*.tmp"):
                yield Kept(path.name, _tree(path)[0], 0, lambda path=path: _remove(path), "left", LEFT_BEHIND)  # type: ignore[misc]
        if (run / DECODED).exists():
            yield Kept(DECODED, _tree(run / DECODED)[0], 0, lambda: _remove(run / DECODED), "left", LEFT_BEHIND)

    def _temporary(self) -> Iterator[Kept]:
        now, lasts = time.time(), UNUSED_UPLOAD if self.workshop.public else DAY

        def look(path: Path) -> Iterator[Kept]:
            used, size = _tree(path, LEAST_FILE)
            whose = self._whose.get(path.name, "")
            yield Kept(path.name, used, size, lambda: _remove(path), "temporary", lasts, now - used < IN_USE, whose)

        if temporary.is_own():
            others = (temporary.LOCK, temporary.UNFINISHED)
            yield from self._each((path for path in temporary.folder().iterdir() if path.name not in others), look)

    # Room for more

    def room_for(self, wanted: int, what: str = "This", where: Path | None = None) -> None:
        """Make room for so many bytes: of what may go, the longest unused goes.

        Args:
            wanted: bytes that are about to be written.
            what: begins the sentence.
            where: the folder on whose disk; that of the runs where it is left out.

        Raises:
            RunError: one sentence, where they would not fit beside what is in use. Then nothing was deleted.
        """
        with self._lock:
            left = self._left_of(where or self.workshop.library.root)
            if wanted > left:
                self._make_room(wanted - left)
                left = self._left_of(where or self.workshop.library.root)
        if wanted > left:
            raise _no_room(what, wanted, left)

    def room_for_upload(self, wanted: int, address: str) -> None:
        """The same for an upload or export, which besides must fit into their share of the limit, and the address's."""
        with self._lock:
            share = self._temporary_share()
            for whose, most in ((address, max(share * ADDRESS_SHARE, self._largest_upload())), (None, share)):
                too_much = self._temporary_bytes(whose) + wanted - most
                if too_much > 0:
                    self._make_room(too_much, lambda thing, whose=whose: _is_temporary(thing, whose))  # type: ignore[misc]
                    too_much = self._temporary_bytes(whose) + wanted - most
                if too_much > 0:
                    raise RunError(
                        "There is no room for more uploads and downloads now: try again in "
                        f"{IN_USE / 60:.0f} minutes, or with less."
                    )
            self.room_for(wanted, "This file", temporary.folder())

    def reserve(self, name: str, address: str, more: int) -> None:
        """Keep room for more bytes of an upload that is on its way. Raises RunError as `room_for_upload`."""
        with self._lock:
            self.room_for_upload(more, address)
            self._reserved[name] = (address, self._reserved.get(name, ("", 0))[1] + more)

    def release(self, name: str) -> None:
        """The upload has ended, one way or the other."""
        with self._lock:
            self._reserved.pop(name, None)

    def keep(self, source: Path, path: Path, address: str) -> None:
        """Move an upload that is complete to its place, in a folder of the temporary one, and count it."""
        with self._lock:  # or the folder might be tidied away at this moment
            path.parent.mkdir(exist_ok=True)
            source.replace(path)
            self.note(path, address)

    def note(self, path: Path, address: str) -> None:
        """Count a new file, in a folder of the temporary one, for an address."""
        with self._lock:
            name, size = path.parent.name, max(path.stat().st_size, LEAST_FILE)
            self._whose[name] = address
            # Until all is measured anew.
            self._kept.append(Kept(name, time.time(), size, lambda: None, "temporary", stays=True, whose=address))

    def room_for_training(self, config: RunConfig) -> None:
        """Room for the decoded images of a training: those of splits that are too large for memory.

        Raises:
            RunError: as `room_for`.
            DataError: for a data set that cannot be read.
        """
        if self.workshop.limits.gigabytes is None:
            return  # the trainer asks the disk itself
        from resnet_space.data.splits import decoded_bytes

        training = config.training
        ref = DatasetRef(training.dataset, training.dataset_config, training.dataset_revision)
        counts = map(sum, self.workshop.summary(ref).counts.values())
        # On ZeroGPU they are handed on in files.
        if wanted := decoded_bytes(counts, config.model.stored_size, handed_on=is_zero_gpu()):
            self.room_for(wanted, f"The data set {training.dataset}, decoded at {config.model.stored_size} pixels,")

    def room_for_download(self, ref: DatasetRef, size: int) -> None:
        """Room in the Hub client's cache for a data set that is not there yet; on a Space under the limit too.

        Raises:
            RunError: as `room_for`.
        """
        from huggingface_hub import constants

        if any(str(ref) == here for _, here in self.workshop.dataset_choices()):
            return
        cache, what = Path(constants.HF_HUB_CACHE), f"The data set {ref.name}"
        if "SPACE_ID" in os.environ:
            self.room_for(size, what, cache)
        elif size > _free(cache) - SPARE:
            raise _no_room(what, size, _free(cache) - SPARE)

    def import_limits(self, archive: Path) -> ImportLimits:
        """What may come out of an archive, which is written twice before the import is done.

        Raises:
            RunError: as `room_for`.
        """
        self.room_for(4 * archive.stat().st_size, "To import this archive", self.workshop.data)
        left = self._left_of(self.workshop.data) / 2
        return ImportLimits(total_bytes=max(min(ImportLimits().total_bytes, int(min(left, 1e15))), 1))

    def _temporary_bytes(self, whose: str | None) -> int:
        reserved = sum(size for address, size in self._reserved.values() if whose in (None, address))
        return reserved + sum(thing.bytes for thing in self._measure() if _is_temporary(thing, whose))

    def _temporary_share(self) -> float:
        gigabytes = self.workshop.limits.gigabytes
        return math.inf if gigabytes is None else max(gigabytes * 1e9 * TEMPORARY_SHARE, self._largest_upload())

    def _largest_upload(self) -> float:
        return ((self.workshop.limits.upload_mb or 0) + 1) * 1e6

    def _left_of(self, folder: Path) -> float:
        """Bytes that may still be written."""
        gigabytes = self.workshop.limits.gigabytes
        reserved = sum(size for _, size in self._reserved.values())
        free = _free(folder) - SPARE - reserved
        if gigabytes is None:
            return free
        return min(gigabytes * 1e9 - sum(thing.bytes for thing in self._measure()) - reserved, free)

    def _make_room(self, wanted: float, among: Callable[[Kept], bool] = lambda _thing: True) -> None:
        """Delete what is longest unused, if that is enough."""
        if self.workshop.limits.gigabytes is None:
            return
        for believed in (MEASURED_SECONDS, 0.0):  # nothing is deleted by an old look
            gone: list[Kept] = []
            for thing in _oldest_first(filter(among, self._measure(believed))):
                if sum(thing.bytes for thing in gone) >= wanted:
                    break
                gone.append(thing)
            if sum(thing.bytes for thing in gone) < wanted:
                return
        self._delete(gone)

    # What goes

    def tidy(self) -> list[str]:
        """Delete what is to go by the app's limits. Returns the names of what went."""
        with self._lock:
            if temporary.is_own():  # of apps that ended a moment before this one began
                temporary.remove_left(temporary.folder().parent)
            found = self._measure(0.0)
            return self._delete(to_delete(found, self.workshop.limits, time.time()))

    def keep_tidy(self) -> None:
        """From now on tidy every ten minutes, and count what the app's handlers export."""
        temporary.storage = self
        threading.Thread(target=self._keep_tidy, daemon=True).start()

    def _keep_tidy(self) -> None:
        while True:
            try:
                self.tidy()
            except Exception as error:  # there is a next time
                self._tell(f"Not tidied: {error!r}")
            time.sleep(TIDY_SECONDS)

    def _delete(self, things: list[Kept]) -> list[str]:
        gone = []
        for thing in things:
            try:
                thing.delete()
                gone.append(thing.name)
            except FileNotFoundError:
                pass  # it went meanwhile
            except (RunError, OSError) as error:  # it began to train meanwhile, or is not to be deleted
                self._tell(f"Not deleted: {thing.name!r} ({error!r})")
        self._measured = -MEASURED_SECONDS
        return gone

    def _tell(self, words: str) -> None:
        """Once."""
        if words not in self._told:
            self._told.add(words)
            print(words, flush=True)


def tidy(workshop: "Workshop") -> list[str]:
    """Delete what is to go by the app's limits. Returns the names of what went."""
    return workshop.storage.tidy()


def usage(workshop: "Workshop") -> dict[str, int]:
    """As `Storage.usage`."""
    return workshop.storage.usage()


def kept_words(limits: Limits) -> str:
    """What visitors are told of it, or nothing where everything is kept."""
    if limits.days is None and limits.gigabytes is None:
        return ""
    days = "" if limits.days is None else f" {limits.days} days after their last change"
    room = "" if limits.gigabytes is None else f"the oldest go first where all take more than {limits.gigabytes} GB"
    joined = f"{days}, and {room}" if days and room else days or f" while there is room: {room}"
    return f"Runs are kept here{joined}. Push what you want to keep to the Hub."


def _cached(busy_data: set[str]) -> Iterator[Kept]:
    """The repositories in the Hub client's cache, and downloads that were broken off."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return
    for repository in found.repos:
        commits = [revision.commit_hash for revision in repository.revisions]
        deletion = found.delete_revisions(*commits)
        stays = repository.repo_id in busy_data
        yield Kept(
            repository.repo_id,
            repository.last_accessed,
            repository.size_on_disk,
            deletion.execute,
            kind="hub",
            stays=stays,
        )
    for path in Path(constants.HF_HUB_CACHE).glob("*/blobs/*.incomplete"):
        used, size = _tree(path)
        yield Kept(path.name, used, size, lambda path=path: _remove(path), "left", LEFT_BEHIND)  # type: ignore[misc]


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


def _deletion(path: Path) -> Callable[[], None]:
    return lambda: _delete_whole(path)


def _delete_whole(folder: Path) -> None:
    """At once, so that nobody meets half of it."""
    gone = folder.with_name(f".deleted-{uuid.uuid4().hex}")
    folder.rename(gone)
    shutil.rmtree(gone)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _tree(path: Path, least: int = 0) -> tuple[float, int]:
    """When a file, or the newest in a folder, was changed (the folder itself, if it has none), and the bytes of all.

    Args:
        path: of either.
        least: bytes that each file counts.
    """
    found = path.lstat()
    if not path.is_dir() or path.is_symlink():
        return found.st_mtime, max(found.st_size, least)
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
    return used or found.st_mtime, size


def _free(folder: Path) -> int:
    """Bytes on the disk of a folder, which may not exist yet."""
    for path in (folder.absolute(), *folder.absolute().parents):
        try:
            return shutil.disk_usage(path).free
        except OSError:
            continue
    return 0


def _no_room(what: str, wanted: int, left: float) -> RunError:
    return RunError(
        f"{what} takes {_size_words(wanted)} of the disk, and there is room for {_size_words(max(left, 0))} here: "
        "bring or ask for less, or try again later."
    )


def _size_words(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
