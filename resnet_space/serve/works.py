"""Comparisons and studies below the folder of the runs, each in a folder of its own: start, stop, continue, look.

Each is done by a process of its own, such as `python -m resnet_space.compare`, which outlives the app and the page.
"""

import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from resnet_space.common.errors import UserError
from resnet_space.common.files import discard, in_a_sentence, is_locked
from resnet_space.common.forking import Child, start_detached
from resnet_space.data.reference import DatasetRef
from resnet_space.runs.files import NAME_PATTERN
from resnet_space.runs.library import free_name
from resnet_space.serve import visitors
from resnet_space.training.work import LOCK, LOG, STOP, Work

OWNER = "owner"
WORD = re.compile(r"[A-Za-z0-9]+")  # of a dataset's name, which begins the work's
LONGEST_KIND = 40
MOST_KEPT = 100  # of a kind on one's own machine; of more the oldest are deleted

W = TypeVar("W", bound=Work)


class Works(Generic[W]):
    """One per app and kind of work. Its methods may be called from any thread.

    Args:
        kind: of work.
        root: the folder of the runs.
        public: whether anyone except the machine's owner uses the app.
    """

    def __init__(self, kind: type[W], root: Path, *, public: bool) -> None:
        self.kind = kind
        self.folder = root / kind.FOLDER
        self.public = public
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()

    def start(self, asked: W, claim: Callable[[Path], None]) -> str:
        """Start work in a process that outlives this one; only so many of a kind run or wait at a time.

        `claim`, given the file of its owners, notes the visitor. Returns its name. Raises UserError; then nothing was
        started.
        """
        with self._lock:
            self._check_room()
            words = "-".join(WORD.findall(DatasetRef.parse(asked.dataset).name))
            kind = words[:LONGEST_KIND].strip("-") or asked.NOUN
            path = self.folder / free_name(self.folder, kind, secret=self.public)
            with in_a_sentence(f"The {asked.NOUN} cannot be started"):
                try:
                    path.mkdir(parents=True)
                    asked.write(path)
                    claim(path / OWNER)
                    self._children[path.name] = _process(path, asked.MODULE)
                except BaseException:
                    discard(path)
                    raise
            for old in [] if self.public else self.names()[MOST_KEPT:]:  # on a public app they expire
                discard(self.folder / old)
        return path.name

    def resume(self, name: object, key: str | None) -> None:
        """Go on with a visitor's work that was stopped or interrupted. Raises UserError."""
        with self._lock:
            path = self._own(name, key)
            found = self.open(name)
            if found.state not in ("stopped", "failed"):
                raise UserError(f"This {found.NOUN} is {found.state}, so it cannot be continued.")
            self._check_room()
            with in_a_sentence(f"The {found.NOUN} cannot be continued"):
                (path / STOP).unlink(missing_ok=True)
                replace(found, state="running", reason="").write(path)
                self._children[path.name] = _process(path, found.MODULE)

    def open(self, name: object) -> W:
        """As far as it is; whoever has its name may look at it. Raises UserError if there is none."""
        found = self.kind.read(self._path(name))
        if found.state == "running" and not self.is_alive(str(name)):
            found = self.kind.read(self._path(name))  # it may have ended meanwhile
            if found.state == "running":
                return replace(found, state="stopped", reason="It was interrupted.")
        return found

    def stop(self, name: object, key: str | None) -> None:
        """Ask a visitor's work to end; what was found stays. Raises UserError."""
        path = self._own(name, key)
        if self.open(name).state != "running":
            raise UserError(f"This {self.kind.NOUN} has ended, so there is nothing to stop.")
        with in_a_sentence(f"The {self.kind.NOUN} cannot be stopped"):
            (path / STOP).touch()

    def _own(self, name: object, key: str | None) -> Path:
        path = self._path(name)
        if self.public and not visitors.owns(path / OWNER, key):
            raise UserError(f"This {self.kind.NOUN} is not yours: only its owner can stop or continue it.")
        return path

    def _check_room(self) -> None:
        if sum(map(self._is_running, self.names())) >= self.kind.AT_ONCE:
            one = self.kind.AT_ONCE == 1
            already = f"A {self.kind.NOUN} is" if one else f"{self.kind.AT_ONCE} of them are"
            raise UserError(f"{already} already running on this machine: wait until it has finished.")

    def newest(self, key: str | None) -> str | None:
        """The name of the visitor's newest one; None where there is none."""
        shown = (n for n in self.names() if not self.public or visitors.owns(self.folder / n / OWNER, key))
        return next(shown, None)

    def _is_running(self, name: str) -> bool:
        """Not so where all is done and its process is about to end."""
        with suppress(UserError):
            return self.is_alive(name) and self.open(name).state == "running"
        return False

    def _path(self, name: object) -> Path:
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise UserError(f"There is no {self.kind.NOUN} yet: start one first.")
        return self.folder / name

    def names(self) -> list[str]:
        """Of all visitors', the newest first."""
        made = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            with suppress(OSError):
                if NAME_PATTERN.fullmatch(path.name):
                    made[path.name] = (path / self.kind.FILE).stat().st_mtime
        return sorted(made, key=lambda name: -made[name])

    def is_alive(self, name: str) -> bool:
        """Whether it is under way, so that its folder and its data have to stay."""
        child = self._children.get(name)
        if child is not None and child.poll() is None:
            return True
        with suppress(OSError):
            return is_locked(self.folder / name / LOCK)
        return False


def _process(path: Path, module: str) -> Child:
    """It outlives this one."""
    with (path / LOG).open("wb") as log:
        return start_detached([sys.executable, "-m", module, "--folder", str(path)], log)
