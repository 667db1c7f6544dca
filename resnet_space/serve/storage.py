"""What visitors' things may take of a shared machine, and for how long they are kept.

Only what a visitor of a public app made or brought is ever deleted here: it is marked when it is made. What was made
while the app was its owner's alone is never touched, also when the app is shared later. On a Space, whose disk is the
app's, the Hub client's cache goes too, from which all can be had again. What trains or waits stays, and its data.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.data.sources import DATASET_OWNER, dataset_folders
from resnet_space.runs import OWNER, Run, RunError
from resnet_space.serve.limits import Limits

if TYPE_CHECKING:
    from resnet_space.ui.workshop import Workshop

EXPIRES = "expires"  # a file beside the owner's of what a visitor made or brought
DAY = 24 * 3600.0
TIDY_SECONDS = 600.0  # between two looks


@dataclass(frozen=True)
class Kept:
    """Something that may go: what it is, when it was changed or used last (seconds since 1970), and its bytes."""

    name: str
    used: float
    bytes: int
    delete: Callable[[], None]


def to_delete(kept: list[Kept], limits: Limits, now: float) -> list[Kept]:
    """What has not been used for too long, and of the rest the longest unused, until it all fits."""
    oldest_first = sorted(kept, key=lambda thing: thing.used)
    left = sum(thing.bytes for thing in kept)
    gone = []
    for thing in oldest_first:
        expired = limits.days is not None and now - thing.used > limits.days * DAY
        too_much = limits.gigabytes is not None and left > limits.gigabytes * 1e9
        if expired or too_much:
            gone.append(thing)
            left -= thing.bytes
    return gone


def tidy(workshop: "Workshop") -> list[str]:
    """Delete what is to go by the app's limits. Returns the names of what went."""
    gone = to_delete(list(_kept(workshop)), workshop.limits, time.time())
    for thing in gone:
        with suppress(RunError, OSError):  # it began to train meanwhile, or went
            thing.delete()
    return [thing.name for thing in gone]


def kept_words(limits: Limits) -> str:
    """What visitors are told of it, or nothing where everything is kept."""
    if limits.days is None and limits.gigabytes is None:
        return ""
    days = "" if limits.days is None else f" {limits.days} days after their last change"
    room = "" if limits.gigabytes is None else f"the oldest go first where all take more than {limits.gigabytes} GB"
    joined = f"{days}, and {room}" if days and room else days or f" while there is room: {room}"
    return f"Runs are kept here{joined}. Push what you want to keep to the Hub."


def _kept(workshop: "Workshop") -> Iterator[Kept]:
    busy_data = set()
    for run in workshop.library.runs():
        if run.is_training or run.is_queued:
            busy_data.add(run.config.training.dataset)
        elif (run.path / OWNER).with_name(EXPIRES).exists():
            yield Kept(run.name, _used(run.path), _size(run.path), _deletion(workshop, run))
    for name, folder in dataset_folders().items():
        if (folder / DATASET_OWNER).with_name(EXPIRES).exists() and name not in busy_data:
            yield Kept(name, _used(folder), _size(folder), lambda folder=folder: shutil.rmtree(folder))  # type: ignore[misc]
    if "SPACE_ID" in os.environ:
        yield from _cached(busy_data)


def _deletion(workshop: "Workshop", run: Run) -> Callable[[], None]:
    return lambda: workshop.library.delete(run)


def _cached(busy_data: set[str]) -> Iterator[Kept]:
    """The repositories in the Hub client's cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return
    for repository in found.repos:
        if repository.repo_id not in busy_data:
            commits = [revision.commit_hash for revision in repository.revisions]
            deletion = found.delete_revisions(*commits)
            yield Kept(repository.repo_id, repository.last_accessed, repository.size_on_disk, deletion.execute)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _used(folder: Path) -> float:
    return max((path.stat().st_mtime for path in _files(folder)), default=0.0)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))
