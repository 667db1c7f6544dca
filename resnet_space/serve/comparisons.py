"""The comparisons of networks below the folder of the runs, each in a folder of its own: start, stop, look.

Each is judged by a process of its own, `python -m resnet_space.compare`, which outlives the app and the page.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from resnet_space.common.errors import UserError
from resnet_space.common.files import discard, in_a_sentence, is_locked
from resnet_space.common.hardware import training_environment
from resnet_space.data.reference import DatasetRef
from resnet_space.runs.files import NAME_PATTERN
from resnet_space.runs.library import free_name
from resnet_space.serve import visitors
from resnet_space.training.comparison import FILE, LOCK, LOG, STOP, Comparison

FOLDER = ".comparisons"  # below the folder of the runs; hidden, so that it is none of them
OWNER = "owner"
WORD = re.compile(r"[A-Za-z0-9]+")  # of a dataset's name, which begins the comparison's
LONGEST_KIND = 40
MOST_KEPT = 100  # comparisons on one's own machine; of more the oldest are deleted


class Comparisons:
    """One per app. Its methods may be called from any thread.

    Args:
        root: the folder of the runs.
        public: whether anyone except the machine's owner uses the app.
    """

    def __init__(self, root: Path, *, public: bool) -> None:
        self.folder = root / FOLDER
        self.public = public
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def start(self, asked: Comparison, claim: Callable[[Path], None]) -> str:
        """Judge networks in a process that outlives this one; only one comparison runs at a time.

        Args:
            asked: which, and on what.
            claim: given the file of its owners, notes the visitor.

        Returns:
            Its name.

        Raises:
            UserError: with one sentence; then nothing was started.
        """
        with self._lock:
            if any(map(self._is_running, self.names())):
                raise UserError("A comparison is already running on this machine: wait until it has finished.")
            words = "-".join(WORD.findall(DatasetRef.parse(asked.dataset).name))
            kind = words[:LONGEST_KIND].strip("-") or "comparison"
            path = self.folder / free_name(self.folder, kind, secret=self.public)
            with in_a_sentence("The comparison cannot be started"):
                try:
                    path.mkdir(parents=True)
                    asked.write(path)
                    claim(path / OWNER)
                    self._children[path.name] = _process(path)
                except BaseException:
                    discard(path)
                    raise
            for old in [] if self.public else self.names()[MOST_KEPT:]:  # on a public app they expire
                discard(self.folder / old)
        return path.name

    def open(self, name: object) -> Comparison:
        """As far as it is; whoever has its name may look at it. Raises UserError if there is none."""
        comparison = Comparison.read(self._path(name))
        if comparison.state == "running" and not self.is_alive(str(name)):
            comparison = Comparison.read(self._path(name))  # it may have ended meanwhile
            if comparison.state == "running":
                return replace(comparison, state="stopped", reason="It was interrupted.")
        return comparison

    def stop(self, name: object, key: str | None) -> None:
        """Ask a visitor's comparison to end; what was found stays. Raises UserError."""
        path = self._path(name)
        if self.public and not visitors.owns(path / OWNER, key):
            raise UserError("This comparison is not yours: only its owner can stop it.")
        if self.open(name).state != "running":
            raise UserError("This comparison has ended, so there is nothing to stop.")
        with in_a_sentence("The comparison cannot be stopped"):
            (path / STOP).touch()

    def newest(self, key: str | None) -> str | None:
        """The name of the visitor's newest one; None where there is none."""
        shown = (n for n in self.names() if not self.public or visitors.owns(self.folder / n / OWNER, key))
        return next(shown, None)

    def _is_running(self, name: str) -> bool:
        """Not so where all is judged and its process is about to end."""
        with suppress(UserError):
            return self.is_alive(name) and self.open(name).state == "running"
        return False

    def _path(self, name: object) -> Path:
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise UserError("There is no comparison yet: start one first.")
        return self.folder / name

    def names(self) -> list[str]:
        """Of all visitors', the newest first."""
        made = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            with suppress(OSError):
                if NAME_PATTERN.fullmatch(path.name):
                    made[path.name] = (path / FILE).stat().st_mtime
        return sorted(made, key=lambda name: -made[name])

    def is_alive(self, name: str) -> bool:
        """Whether it is under way, so that its folder and its data have to stay."""
        child = self._children.get(name)
        if child is not None and child.poll() is None:
            return True
        with suppress(OSError):
            return is_locked(self.folder / name / LOCK)
        return False


def _process(path: Path) -> "subprocess.Popen[bytes]":
    """It outlives this one."""
    package = str(Path(__file__).parents[2])
    search = {"PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
    with (path / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "resnet_space.compare", "--folder", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=training_environment() | search,
            start_new_session=True,  # the shell's Ctrl-C ends the app, not the comparison
        )
