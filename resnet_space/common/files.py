"""Files that are written completely or not at all, and system errors as one sentence."""

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from resnet_space.common.errors import UserError
from resnet_space.common.faults import is_passing, words_of


@contextmanager
def in_a_sentence(what: str, kind: type[UserError] = UserError) -> Generator[None]:
    """Convert system errors in the block to a UserError, or to another `kind` of it: "`what`: the disk is full"."""
    try:
        yield
    except (OSError, MemoryError) as error:
        words = words_of(error)
        refusal = kind(f"{what}: {words[0].lower()}{words[1:]}")
        refusal.passing = is_passing(error)
        raise refusal from error


@contextmanager
def unless_passing(what: str) -> Generator[None]:
    """Ignore system errors in the block unless they may pass by themselves: see `in_a_sentence`."""
    try:
        yield
    except OSError as error:
        if is_passing(error):
            with in_a_sentence(what):
                raise


@contextmanager
def replaced_atomically(path: Path) -> Generator[Path]:
    """Give a path to write to; on success it takes the place of `path` at once, on failure nothing changes.

    Raises:
        OSError: if the file cannot be written, even if a library reports this with another exception.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with as_os_error():
            yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def as_os_error() -> Generator[None]:
    """Raise OSError where a library reports with another exception that a file cannot be written."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if isinstance(error, SafetensorError) and number:
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        if "inline_container" in str(error):  # torch.save wrote less than it was to; it does not say why
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock of this file. Raises OSError if there is none, or it cannot be opened."""
    lock = os.open(file, os.O_RDONLY)  # also where nothing can be written
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who look are not in one another's way
    except BlockingIOError:
        return True
    except OSError:  # nothing that can be locked
        return False
    finally:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)  # a process that was forked meanwhile may keep the file open
        os.close(lock)
    return False


def discard(folder: Path) -> None:
    """Remove a folder, or what of it can be removed now. Its name is free at once: the rest is hidden, as what is being
    deleted, and tidied later.
    """
    gone = folder.with_name(f".deleted-{folder.name}-{uuid.uuid4().hex[:8]}")
    with suppress(OSError):
        folder = folder.rename(gone)
    shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file that may be missing, or a folder in its place."""
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):  # what Linux, and what others say of a folder
        if not path.is_dir():
            raise
        shutil.rmtree(path)
