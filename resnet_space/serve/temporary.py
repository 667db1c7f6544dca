"""The folder for temporary files of visitors: uploads, exports, tables, gradio's own copies.

Each app has one, below the system's temporary folder or the folder named by GRADIO_TEMP_DIR, and holds a lock in it as
long as it runs: so the next app to start recognises and removes the leftovers of a dead one.
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
UNFINISHED = "unfinished"  # the folder of uploads in progress
NEW = 60.0  # seconds in which another app that starts may not hold its lock yet

storage: "Storage | None" = None  # of the app in this process, which counts what is put there
_locks: list[FileLock] = []  # held until the process ends


def take_folder() -> Path:
    """Create the app's folder, and make gradio and Python's `tempfile` use it. Call it before gradio is imported.

    If the parent is not writable, the program ends with one sentence.
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
    """The temporary folder: the app's own, or the shared one in a process without its own."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(tempfile.gettempdir()) / "gradio")


def is_own() -> bool:
    """Whether the folder is used only by this app, so that its content may be deleted."""
    return (folder() / LOCK).exists()


def new_folder(prefix: str) -> Path:
    """A new subfolder with an unguessable name, so that files of different visitors cannot collide."""
    folder().mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=folder()))


def used(file: Path, seconds_ago: float = 0.0) -> None:
    """Record the use of an upload: items in use are not deleted."""
    with suppress(OSError):
        os.utime(file, (time.time() - seconds_ago,) * 2)
