"""Work that a process of its own does in a folder, such as a comparison; one file says how it stands."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Generic, Literal, Self, TypeVar

from filelock import FileLock, Timeout

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence
from resnet_space.common.records import read_record, write_record

LOCK, STOP, LOG = "lock", "stop", "log"  # files beside the work's own
LEAST_SHARE = 0.03  # of the work, before which nothing is said of what is left
WRITE_SECONDS = 0.4  # between two notes of the progress

State = Literal["running", "finished", "stopped", "failed"]


class Stopped(Exception):  # noqa: N818  # it is no error
    """The work is to end; the argument says why, "" where somebody asked for it."""


@dataclass(frozen=True)
class LeftOut:
    """A part that is not done, and why, in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Doing:
    """What is under way: a phase of a part, and how many of its images or heads are done.

    `share` is how much of the whole work is done, from 0 to 1.
    """

    name: str = ""
    phase: str = ""
    done: int = 0
    total: int = 0
    share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all kinds have in common.

    Attributes:
        dataset: its reference.
        minutes: after which it ends; None is no limit.
        busy: whether a training ran beside it at its start, which slows both.
        machine: that measured.
        created: when, in seconds since 1970.
        state, reason: how it stands, and why where it failed or stopped.
        seconds: that it has taken.
        doing: what is under way.
    """

    NOUN: ClassVar[str]  # "comparison"
    FILE: ClassVar[str]  # in its folder
    FOLDER: ClassVar[str]  # of all of its kind, below the folder of the runs; hidden, so that it is none of them
    MODULE: ClassVar[str]  # whose command does it, with `--folder`
    AT_ONCE: ClassVar[int]  # on a machine, including those that wait

    dataset: str
    minutes: int | None = None
    busy: bool = False
    machine: str = ""
    created: float = 0.0
    state: State = "running"
    reason: str = ""
    seconds: float = 0.0
    doing: Doing = Doing()

    @property
    def datasets(self) -> tuple[str, ...]:
        """The references of those in use."""
        return (self.dataset,)

    @property
    def results(self) -> int:
        """How many results there are."""
        raise NotImplementedError

    @property
    def seconds_left(self) -> float | None:
        share = self.doing.share
        return self.seconds * (1 - share) / share if share > LEAST_SHARE else None

    def write(self, folder: Path) -> None:
        write_record(self, folder / self.FILE)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises UserError if there is none, or it is damaged."""
        with in_a_sentence(f"The {cls.NOUN} cannot be read"):
            try:
                return read_record(cls, folder / cls.FILE)
            except FileNotFoundError:
                raise UserError(f"There is no such {cls.NOUN}, or it was deleted: start a new one.") from None
            except ValueError:
                raise UserError(f"This {cls.NOUN} is damaged: start a new one.") from None


W = TypeVar("W", bound=Work)
Tell = Callable[[W], None]
Stop = Callable[[], str | None]


class Underway(Generic[W]):
    """Work that is to be done, or to go on; a subclass says how.

    Args:
        asked: what is asked, and what was found so far.

    Attributes:
        now: what there is so far.
    """

    def __init__(self, asked: W) -> None:
        self.now = asked

    def work(self) -> None:
        """Do it: keep in `now` what is found, and tell what is under way. Raises UserError."""
        raise NotImplementedError

    def done(self, tell: Tell[W] = lambda _: None, stop: Stop = lambda: None) -> W:
        """Do it, to its end or until it is stopped.

        Args:
            tell: called with what there is so far, with every batch.
            stop: gives the reason to end ("" for none to tell), or None to go on; asked as often.

        Returns:
            All that was found; `state` says whether it was stopped. Raises UserError.
        """
        self._tell, self._stop = tell, stop
        self._began = time.monotonic() - self.now.seconds
        state: State = "finished"
        reason = ""
        try:
            self.work()
        except Stopped as stopped:
            state, reason = "stopped", str(stopped)
        doing = Doing(share=self.now.doing.share)
        self.now = replace(self.now, state=state, reason=reason, doing=doing, seconds=self._seconds())
        return self.now

    def told(self, doing: Doing) -> None:
        """Tell what is under way. Raises Stopped."""
        self.now = replace(self.now, doing=doing, seconds=self._seconds())
        self._tell(self.now)
        reason = self._stop()
        if reason is not None:
            raise Stopped(reason)

    def teller(self, phase: str, low: float = 0.0, high: float = 1.0, name: str = "") -> Callable[[int, int], None]:
        """Tells (done, total) of a phase in which the share of the whole goes from `low` to `high`, never back."""

        def tell(done: int, total: int) -> None:
            share = low + (high - low) * min(done / max(total, 1), 1.0)
            self.told(Doing(name, phase, done, total, round(max(share, self.now.doing.share), 4)))

        return tell

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 1)


def finish(folder: Path, asked: W, make: Callable[[], Underway[W]], also: Tell[W] = lambda _: None) -> int:
    """Do what is asked in a folder, and write there how it stands. Returns the process's exit status.

    Args:
        folder: of the work.
        asked: what is asked.
        make: gives what does it; a UserError of it fails the work.
        also: called with what there is so far, with every batch.
    """
    from resnet_space.training.host import failure  # late: torch

    deadline = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes - asked.seconds
    written, results = 0.0, -1

    def tell(now: W) -> None:
        nonlocal written, results
        also(now)
        if now.results > results or time.monotonic() - written > WRITE_SECONDS:
            now.write(folder)
            written, results = time.monotonic(), now.results

    def stop() -> str | None:
        if (folder / STOP).exists():
            return ""
        if deadline is not None and time.monotonic() > deadline:
            return f"It reached this app's limit of {asked.minutes} minutes."
        return None

    try:
        with FileLock(folder / LOCK, timeout=1, thread_local=False):
            try:
                done = make().done(tell, stop)
            except Exception as error:
                done = replace(asked.read(folder), state="failed", reason=str(failure(error)["reason"]))
            done.write(folder)
    except Timeout:
        print(f"This {asked.NOUN} is already under way.", file=sys.stderr)
        return 1
    return int(done.state == "failed")


def parser_of(kind: type[Work], description: str) -> argparse.ArgumentParser:
    """The parser of a command that does such work, with the options that all have."""
    parser = argparse.ArgumentParser(prog=f"python -m {kind.MODULE}", description=description)
    parser.add_argument("--runs", type=Path, default=Path("checkpoints"), help="folder of runs (default: %(default)s)")
    first = f"the first argument is the folder of a {kind.NOUN} that was asked for: do it, or go on with it"
    parser.add_argument("--folder", action="store_true", help=first)
    return parser
