"""Disk space and retention of visitors' data on a shared machine.

All visitors' data on disk is counted here, has one limit, and is cleaned up here: runs with their training files,
datasets, uploads and exports (`temporary`), leftovers of killed processes, and on a Space, whose disk belongs to the
app, the Hub client's cache, which can be downloaded again. `inventory` lists it.
"""

import math
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.common.background import in_background, tell_once
from resnet_space.common.errors import UserError
from resnet_space.common.hardware import is_zero_gpu
from resnet_space.config import RunConfig
from resnet_space.data.archives import ImportLimits
from resnet_space.data.reference import DatasetRef
from resnet_space.serve import temporary
from resnet_space.serve.inventory import IN_USE, LEAST_FILE, Inventory, StoredItem, oldest_first, to_delete, tree
from resnet_space.serve.limits import Limits

if TYPE_CHECKING:
    from resnet_space.serve.context import AppContext

TIDY_SECONDS = 600.0  # between two clean-ups
MEASURED_SECONDS = 10.0  # for which a measurement is cached
TEMPORARY_SHARE = 0.25  # of the limit, for all uploads and exports together; at least the largest upload
ADDRESS_SHARE = 0.5  # of this share, for one address; at least the largest upload
SPARE = 50_000_000  # bytes kept free on the disk for small files: metrics, settings, logs


def _is_temporary(thing: StoredItem, whose: str | None) -> bool:
    return thing.kind == "temporary" and whose in (None, thing.whose)


class Storage:
    """The disk usage of all visitors, and reservations of space. Its methods may be called from any thread."""

    def __init__(self, context: "AppContext") -> None:
        self.context = context
        self._lock = threading.RLock()
        self._items: list[StoredItem] = []
        self._measured = -MEASURED_SECONDS  # when, by the monotonic clock
        self._whose: dict[str, str] = {}  # addresses by the names of uploads and exports
        self._reserved: dict[str, tuple[str, int]] = {}  # (address, bytes) of uploads on their way, by their names
        self._inventory = Inventory(context)

    # Usage

    def usage(self) -> dict[str, int]:
        """Bytes by the kind of a `StoredItem`, in total ("total"), and free on the disk."""
        sizes: Counter[str] = Counter()
        for thing in self._measure(0.0):
            sizes[thing.kind] += thing.bytes
        if temporary.is_own() and (temporary.folder() / temporary.UNFINISHED).exists():
            sizes["temporary"] += tree(temporary.folder() / temporary.UNFINISHED)[1]
        names = ("runs", "comparisons", "studies", "checks", "maps", "reviews", "datasets", "temporary", "left", "hub")
        kinds = {kind: sizes[kind] for kind in names}
        return {**kinds, "total": sizes.total(), "free": _free(self.context.library.root)}

    def _measure(self, believed: float = MEASURED_SECONDS) -> list[StoredItem]:
        with self._lock:
            if time.monotonic() - self._measured >= believed:
                self._items = list(self._inventory.everything(self._whose))
                self._measured = time.monotonic()
                names = {thing.name for thing in self._items if thing.kind == "temporary"}
                self._whose = {name: address for name, address in self._whose.items() if name in names}
            return self._items

    # Reservations

    def room_for(self, needed: int, what: str = "This", where: Path | None = None) -> None:
        """Make room for `needed` bytes by deleting the longest unused items that may be deleted.

        Args:
            needed: bytes to be written.
            what: begins the sentence.
            where: the folder whose disk is meant; by default that of the runs.

        Raises:
            UserError: one sentence, if they do not fit beside the items in use. Then nothing was deleted.
        """
        with self._lock:
            left = self._left_of(where or self.context.library.root)
            if needed > left:
                self._make_room(needed - left)
                left = self._left_of(where or self.context.library.root)
        if needed > left:
            raise _no_room(what, needed, left)

    def room_for_upload(self, needed: int, address: str) -> None:
        """As `room_for` for an upload or export, which must also fit into the shares of uploads and of the address."""
        with self._lock:
            share = self._temporary_share()
            for whose, most in ((address, max(share * ADDRESS_SHARE, self._largest_upload())), (None, share)):
                too_much = self._temporary_bytes(whose) + needed - most
                if too_much > 0:
                    self._make_room(too_much, lambda thing, whose=whose: _is_temporary(thing, whose))
                    too_much = self._temporary_bytes(whose) + needed - most
                if too_much > 0:
                    raise UserError(
                        "The space for uploads and downloads is full: try again in "
                        f"{IN_USE / 60:.0f} minutes, or with smaller files."
                    )
            self.room_for(needed, "This file", temporary.folder())

    def reserve(self, name: str, address: str, more: int) -> None:
        """Reserve more bytes for an upload in progress. Raises UserError as `room_for_upload`."""
        with self._lock:
            self.room_for_upload(more, address)
            self._reserved[name] = (address, self._reserved.get(name, ("", 0))[1] + more)

    def release(self, name: str) -> None:
        """Release the reservation of an upload that has ended."""
        with self._lock:
            self._reserved.pop(name, None)

    def keep(self, source: Path, path: Path, address: str) -> None:
        """Move a complete upload into a subfolder of the temporary folder, and count it."""
        with self._lock:  # or the folder might be tidied away at this moment
            path.parent.mkdir(exist_ok=True)
            source.replace(path)
            self.note(path, address)

    def note(self, path: Path, address: str) -> None:
        """Count a new file in the temporary folder for an address."""
        with self._lock:
            name, size = path.parent.name, max(path.stat().st_size, LEAST_FILE)
            self._whose[name] = address
            # Until the next measurement.
            item = StoredItem(name, time.time(), size, lambda: None, "temporary", stays=True, whose=address)
            self._items.append(item)

    def room_for_training(self, config: RunConfig) -> None:
        """Make room for the decoded images of a training, for splits that are too large for memory.

        Raises:
            UserError: as `room_for`.
            UserError: for a dataset that cannot be read.
        """
        if self.context.limits.gigabytes is None:
            return  # the trainer asks the disk itself
        from resnet_space.data.room import decoded_bytes

        training = config.training
        ref = DatasetRef.of(training)
        counts = map(sum, self.context.datasets.summary(ref).counts.values())
        # On ZeroGPU they are handed on in files.
        if needed := decoded_bytes(counts, config.model.stored_size, handed_on=is_zero_gpu()):
            self.room_for(needed, f"The dataset {training.dataset}, decoded at {config.model.stored_size} pixels,")

    def room_for_download(self, ref: DatasetRef, size: int) -> None:
        """Make room in the Hub client's cache for a missing dataset; on a Space this counts towards the limit.

        Raises:
            UserError: as `room_for`.
        """
        from huggingface_hub import constants

        if any(str(ref) == here for _, here in self.context.datasets.choices()):
            return
        cache, what = Path(constants.HF_HUB_CACHE), f"The dataset {ref.name}"
        if "SPACE_ID" in os.environ:
            self.room_for(size, what, cache)
        elif size > _free(cache) - SPARE:
            raise _no_room(what, size, _free(cache) - SPARE)

    def import_limits(self, archive: Path) -> ImportLimits:
        """The limits for importing an archive, which is written twice before the import is done.

        Raises:
            UserError: as `room_for`.
        """
        self.room_for(4 * archive.stat().st_size, "Importing this archive", self.context.datasets.folder)
        left = self._left_of(self.context.datasets.folder) / 2
        return ImportLimits(total_bytes=max(min(ImportLimits().total_bytes, int(min(left, 1e15))), 1))

    def _temporary_bytes(self, whose: str | None) -> int:
        reserved = sum(size for address, size in self._reserved.values() if whose in (None, address))
        return reserved + sum(thing.bytes for thing in self._measure() if _is_temporary(thing, whose))

    def _temporary_share(self) -> float:
        gigabytes = self.context.limits.gigabytes
        return math.inf if gigabytes is None else max(gigabytes * 1e9 * TEMPORARY_SHARE, self._largest_upload())

    def _largest_upload(self) -> float:
        return ((self.context.limits.upload_mb or 0) + 1) * 1e6

    def _left_of(self, folder: Path) -> float:
        """The bytes that may still be written."""
        gigabytes = self.context.limits.gigabytes
        reserved = sum(size for _, size in self._reserved.values())
        free = _free(folder) - SPARE - reserved
        if gigabytes is None:
            return free
        return min(gigabytes * 1e9 - sum(thing.bytes for thing in self._measure()) - reserved, free)

    def _make_room(self, needed: float, among: Callable[[StoredItem], bool] = lambda _thing: True) -> None:
        """Delete the longest unused items, if that is enough."""
        if self.context.limits.gigabytes is None:
            return
        for believed in (MEASURED_SECONDS, 0.0):  # nothing is deleted by an old look
            gone: list[StoredItem] = []
            for thing in oldest_first(filter(among, self._measure(believed))):
                if sum(thing.bytes for thing in gone) >= needed:
                    break
                gone.append(thing)
            if sum(thing.bytes for thing in gone) < needed:
                return
        self._delete(gone)

    # Deletion

    def tidy(self) -> list[str]:
        """Delete expired and excess items. Returns their names."""
        with self._lock:
            if temporary.is_own():  # of apps that ended a moment before this one began
                temporary.remove_left(temporary.folder().parent)
            items = self._measure(0.0)
            return self._delete(to_delete(items, self.context.limits, time.time()))

    def keep_tidy(self) -> None:
        """Start tidying every ten minutes, and counting the exports of the app's handlers."""
        temporary.storage = self
        in_background("Tidying up", self._tidy, TIDY_SECONDS)

    def _tidy(self) -> None:
        self.tidy()

    def _delete(self, things: list[StoredItem]) -> list[str]:
        gone = []
        for thing in things:
            try:
                thing.delete()
                gone.append(thing.name)
            except FileNotFoundError:
                pass  # it was deleted in the meantime
            except (UserError, OSError) as error:  # it started training in the meantime, or cannot be deleted
                tell_once(f"Not deleted: {thing.name!r} ({error!r})")
        self._measured = -MEASURED_SECONDS
        return gone


def retention_words(limits: Limits) -> str:
    """A note for visitors about retention; empty if everything is kept."""
    if limits.days is None and limits.gigabytes is None:
        return ""
    days = "" if limits.days is None else f" {limits.days} days after their last change"
    room = "" if limits.gigabytes is None else f" when the limit of {limits.gigabytes} GB is exceeded, oldest first"
    return (
        f"Runs are deleted{days}{' or earlier' if days and room else ''}{room}. Push what you want to keep to the Hub."
    )


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder, which may not exist yet."""
    for path in (folder.absolute(), *folder.absolute().parents):
        try:
            return shutil.disk_usage(path).free
        except OSError:
            continue
    return 0


def _no_room(what: str, needed: int, left: float) -> UserError:
    return UserError(
        f"{what} needs {_size_words(needed)} of disk space, but only {_size_words(max(left, 0))} are available: "
        "use less data, or try again later."
    )


def _size_words(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
