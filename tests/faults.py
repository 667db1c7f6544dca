"""Faults of the machine, injected where Python meets the system, and gone again when their `with` ends.

    with fault("ENOSPC", below=folder, at=3, lasts=1) as seen:   # the third time that something there is written
        ...
    seen.count                                                   # how many there were that could have failed

A short write gives half of the bytes to the system and says so; the write after it finds the disk full. The same in a
process of its own: `python -m tests.faults KIND AT LASTS FOLDER resnet_space.train RUN ...`; with "STOP" or "KILL" it
halts or kills itself there instead.
"""

import builtins
import errno
import io
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

KINDS = ("SHORT", "ENOSPC", "EROFS", "EMFILE", "ENOMEM")
FOR_EVER = 1_000_000


@dataclass
class Seen:
    """How many operations there were that a fault of this kind could meet, and how many it met."""

    count: int = 0
    failed: int = 0


@contextmanager
def fault(kind: str, *, below: Path, at: int = 1, lasts: int = 1) -> Generator[Seen]:
    """Have the operations `at` to `at + lasts - 1` on files below a folder fail; processes are below every folder.

    Args:
        kind: "SHORT" and "ENOSPC" meet what writes, "EROFS" what changes anything, "EMFILE" what opens anything,
            "ENOMEM" what starts a process or opens a file; "STOP" and "KILL" end this process at a write.
        below: the folder.
        at: the first one that fails; 0: none does.
        lasts: how many do.
    """
    seen, full = Seen(), [False]
    root = os.path.realpath(below)

    def is_below(what: Any) -> bool:
        try:
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
            path = os.fsdecode(path)
        except (OSError, TypeError):
            return False
        return os.path.abspath(path).startswith(root)

    def due() -> bool:
        seen.count += 1
        met = 0 < at <= seen.count < at + lasts
        seen.failed += met
        return met

    def fail(what: Any = None) -> None:
        if kind in ("STOP", "KILL"):
            os.kill(os.getpid(), getattr(signal, f"SIG{kind}"))
            return
        number = errno.ENOSPC if kind == "SHORT" else getattr(errno, kind)
        named = () if what is None else (str(what),)  # as the system does
        raise OSError(number, os.strerror(number), *named)

    def failing(original: Callable[..., Any], concerns: Callable[..., bool]) -> Callable[..., Any]:
        def called(*args: Any, **named: Any) -> Any:
            if concerns(*args, **named) and due():
                fail(args[0] if args and isinstance(args[0], str | Path) else None)
            return original(*args, **named)

        return called

    def opens(file: Any, mode: Any = "r", *_: Any, **__: Any) -> bool:
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(mode & 0o1103)
        return is_below(file) and (writes or kind in ("EMFILE", "ENOMEM"))

    def write(file: int, data: Any) -> int:
        if not is_below(file):
            return real_write(file, data)
        if full[0]:
            full[0] = False
            fail()
        if due():
            if kind != "SHORT":
                fail()
            full[0] = True
            return real_write(file, bytes(data)[: len(data) // 2])
        return real_write(file, data)

    real_write = os.write
    here = lambda path, *_, **__: is_below(path)  # noqa: E731
    with ExitStack() as patches:

        def put(where: Any, name: str, concerns: Callable[..., bool]) -> None:
            if where is subprocess:  # a class that others inherit from: only its start fails
                original = subprocess.Popen.__init__
                patches.enter_context(patch.object(subprocess.Popen, "__init__", failing(original, concerns)))
            else:
                patches.enter_context(patch.object(where, name, failing(getattr(where, name), concerns)))

        if kind in ("SHORT", "STOP", "KILL", "ENOSPC", "EROFS"):
            patches.enter_context(patch.object(os, "write", write))
        if kind != "SHORT":
            put(builtins, "open", opens)
            put(io, "open", opens)
            put(os, "open", opens)
        if kind in ("ENOSPC", "EROFS", "STOP", "KILL"):
            for name in ("mkdir", "fsync"):
                put(os, name, here)
        if kind in ("EROFS", "STOP", "KILL"):  # to replace a file takes no room
            for name in ("replace", "rename"):
                put(os, name, here)
        if kind == "EROFS":
            for name in ("unlink", "rmdir", "truncate", "utime"):
                put(os, name, here)
        if kind == "EMFILE":
            for name in ("scandir", "listdir"):
                put(os, name, here)
        if kind in ("EMFILE", "ENOMEM"):
            put(subprocess, "Popen", lambda *_, **__: True)
        yield seen


@contextmanager
def clock(seconds: float) -> Generator[None]:
    """The wall clock, set forward or back."""
    real = time.time
    with patch.object(time, "time", lambda: real() + seconds):
        yield


def main() -> None:
    kind, at, lasts, folder, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    with fault(kind, below=Path(folder), at=int(at), lasts=int(lasts)):
        runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
