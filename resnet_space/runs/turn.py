"""Coordination of trainings through small files that any process can read: lock, queue ticket, stop request."""

import math
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from filelock import FileLock, Timeout

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence, is_locked, remove, unless_passing
from resnet_space.common.records import read_record, write_record
from resnet_space.runs.files import DOING, JOB, LOCK, QUEUED, RESUME, STOP, TRAINER, RunFolder


@dataclass(frozen=True, order=True)
class Ticket:
    """A run's place in the queue, in their order.

    Attributes:
        number: one more than the highest of those that waited; 0 in tickets of earlier versions. Not a time: clocks are
            set back.
        time: when it began to wait, in seconds since 1970.
        resume: whether it continues an interrupted training.
    """

    number: int = 0
    time: float = 0.0
    resume: bool = False


@dataclass(frozen=True)
class Doing:
    """The current activity of a run's trainer.

    Attributes:
        phase: "decoding", "features", "solving", "training", "testing", "calibrating" or "checking"; "" is unknown.
        done, total: images of the phase; 0 of 0 where they are not counted.
        seconds_left: of the phase, if known.
    """

    phase: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


class Turn(RunFolder):
    """The part of a run about its training; its lock, ticket and stop request are files."""

    @contextmanager
    def training_lock(self) -> Generator[None]:
        """Lock held by the process that trains this run. The system frees it however that process ends.

        Raises:
            UserError: if another process trains this run, or the lock cannot be written.
        """
        # Not of one thread: a generator that holds it may be closed by another than the one that began it.
        lock = FileLock(self.path / LOCK, thread_local=False)
        with in_a_sentence(f"{self.name} cannot be trained"):
            (self.path / RESUME).mkdir(exist_ok=True)
            try:
                # Not at once: `is_training` holds the lock for a moment when it looks.
                lock.acquire(timeout=1, poll_interval=0.02)
            except Timeout:
                raise UserError(f"{self.name} is already being trained by another process.") from None
        try:
            with suppress(OSError):  # else it trains all the same
                self.note_trainer(os.getpid())
            yield
        finally:
            with suppress(OSError):
                (self.path / TRAINER).unlink(missing_ok=True)
            lock.release()

    @property
    def is_training(self) -> bool:
        """Whether any process is training this run. Raises UserError if that cannot be determined at the moment."""
        with unless_passing(f"The training state of {self.name} cannot be read"):
            if is_locked(self.path / LOCK):
                return True
        return False

    def note_trainer(self, pid: int) -> None:
        """Record the process that trains it, so that it can be killed if necessary."""
        (self.path / TRAINER).write_text(f"{pid}\n", encoding="ascii")

    def note_doing(self, doing: Doing) -> None:
        """Record the trainer's current activity, for display while it runs."""
        with suppress(OSError):  # else nobody knows
            write_record(doing, self.path / DOING)

    def doing(self) -> Doing:
        """The trainer's last recorded activity; empty if there is none."""
        try:
            return read_record(Doing, self.path / DOING)
        except (OSError, ValueError):
            return Doing()

    @property
    def is_job(self) -> bool:
        """Whether it is or was trained as a Hugging Face job on another machine."""
        return (self.path / JOB).exists()

    def ticket(self) -> Ticket | None:
        """What was noted when it began to wait for its turn; None for a run that does not wait, or with a note that
        nobody can read.

        Raises:
            UserError: if it cannot be read at the moment.
        """
        with unless_passing(f"The queue state of {self.name} cannot be read"), suppress(ValueError):
            found = read_record(Ticket, self.path / QUEUED)
            return found if math.isfinite(found.time) else None
        return None

    def write_ticket(self, ticket: Ticket) -> None:
        if (self.path / QUEUED).is_dir():
            self.withdraw_ticket()
        write_record(ticket, self.path / QUEUED)

    def withdraw_ticket(self) -> None:
        remove(self.path / QUEUED)

    @property
    def is_queued(self) -> bool:
        return self.ticket() is not None

    def request_stop(self) -> None:
        """Ask the trainer to stop at its next step. A file, because that reaches any process on any machine."""
        (self.path / STOP).touch()

    def stop_requested(self) -> bool:
        return (self.path / STOP).exists()

    def withdraw_stop(self) -> None:
        remove(self.path / STOP)
