"""The folder for what is written on behalf of visitors and not kept: uploads, exports, tables, gradio's own copies.

Each app has one, below the system's folder for temporary files or the folder that GRADIO_TEMP_DIR names, and holds a
lock in it for as long as it lives: so the next one to start knows what a dead one has left, and removes it.
"""

import atexit
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from resnet_space.serve.storage import Storage

FOLDER_VARIABLE = "GRADIO_TEMP_DIR"  # gradio's: of the parent before `take_folder`, of the folder afterwards
PREFIX = "resnet_space-app-"
LOCK = "lock"
UNFINISHED = "unfinished"  # the folder of uploads that are on their way
NEW = 60.0  # seconds in which another app that starts may not hold its lock yet

storage: "Storage | None" = None  # of the app in this process, which counts what is put there
_locks: list[FileLock] = []  # held until the process ends


def take_folder() -> Path:
    """Make the app's own folder, and have gradio and Python's `tempfile` use it. Call it before gradio is imported.

    A parent that cannot be written to ends the program with a sentence.
    """
    parent = Path(os.environ.get(FOLDER_VARIABLE) or tempfile.gettempdir()).absolute()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_left(parent)
        taken = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
        lock = FileLock(taken / LOCK)
        lock.acquire(timeout=0)
    except OSError as error:
        sys.exit(
            f"The app cannot write to {parent} ({error.strerror or error}): free space there, or set another folder "
            f"in {FOLDER_VARIABLE}."
        )
    _locks.append(lock)
    os.environ[FOLDER_VARIABLE] = tempfile.tempdir = str(taken)
    atexit.register(shutil.rmtree, taken, ignore_errors=True)
    return taken


def remove_left(parent: Path) -> None:
    """Remove the folders of apps of this user that have ended without removing them."""
    own = parent.stat().st_uid if not hasattr(os, "getuid") else os.getuid()
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            found = path.lstat()
            if path.is_symlink() or found.st_uid != own or time.time() - found.st_mtime < NEW:
                continue
            with FileLock(path / LOCK, timeout=0):
                pass
            shutil.rmtree(path)


def folder() -> Path:
    """As gradio has it: the app's own, or in a process that has not taken one, one for all."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(tempfile.gettempdir()) / "gradio")


def is_own() -> bool:
    """Whether nobody else uses the folder, so that what lies there may be deleted."""
    return (folder() / LOCK).exists()


def new_folder(prefix: str) -> Path:
    """A new one within, for a file that nobody else's has to be told from. Nobody can guess its name."""
    folder().mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=folder()))


def used(file: Path, seconds_ago: float = 0.0) -> None:
    """Say when an upload was used: what is in use is not deleted."""
    with suppress(OSError):
        os.utime(file, (time.time() - seconds_ago,) * 2)
