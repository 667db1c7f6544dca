"""Start, queue, stop and watch trainer processes: one trains at a time, the others wait."""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from resnet_space.common.background import keep_doing, tell_once
from resnet_space.common.errors import UserError
from resnet_space.common.forking import Child
from resnet_space.runs import QUEUED, TRAINER, Doing, Library, Metric, Run, Ticket, discard, in_a_sentence
from resnet_space.runs.process import first_exit_code, last_log_lines, send_signal, start_process, trainer_process

State = Literal["new", "queued", "starting", "training", "stopping", "finished", "stopped", "failed"]

LAPSE_SECONDS = 1_800.0  # after which a queued run is dropped because the page that would host it was closed
TURN_SECONDS = 10.0  # to wait for another app that uses the same folder

# After Stop was pressed. A trainer stops at its next step, so one that does not was halted or hangs.
WAKE_SECONDS = 30.0  # until it is sent SIGCONT and SIGTERM
KILL_SECONDS = 300.0  # until it is killed; a long validation on a slow machine may take minutes


class BusyError(UserError):
    """A run cannot be started or queued; the message says why, in one sentence."""


@dataclass(frozen=True)
class Status:
    """The state of a run's training.

    Attributes:
        reason: one sentence, for a training that failed or was stopped by a limit.
        cause: what a retry should change: "memory", "loss"; "job" for a training that may continue elsewhere but is not
            followed here; or empty.
        place: in the queue, 1 is the next; 0 if it is not queued.
        note: unreadable parts of the run's files; mostly empty.
        doing: the current activity of an active training.
    """

    state: State
    reason: str = ""
    cause: str = ""
    place: int = 0
    note: str = ""
    doing: Doing = field(default_factory=Doing, compare=False)

    @property
    def is_active(self) -> bool:
        return self.state in ("starting", "training", "stopping")


def status_of(
    metrics: list[Metric], *, alive: bool, stopping: bool, exit_code: int | None, last_log_line: str, place: int = 0
) -> Status:
    """Derive the state of a training from its metrics and its process.

    Args:
        metrics: of the run so far.
        alive: whether its process runs.
        stopping: whether it was asked to stop.
        exit_code: of its process, if it was our child and has ended; -9 is "killed by signal 9".
        last_log_line: of its process.
        place: in the queue.
    """
    if alive:
        if stopping:
            return Status("stopping")
        return Status("training" if any(metric["event"] == "step" for metric in metrics) else "starting")
    if place:
        return Status("queued", place=place)
    if metrics and metrics[-1]["event"] == "end" and "status" in metrics[-1]:
        end = metrics[-1]
        return Status(end["status"], end.get("reason", ""), end.get("cause", ""))
    kept = "; its best weights are kept" if any(metric["event"] == "epoch" for metric in metrics) else ""
    if exit_code is not None and exit_code < 0:
        named = {number.value: number.name for number in signal.Signals}
        name = named.get(-exit_code, f"signal {-exit_code}")  # real-time signals have no names
        hint = ", possibly because memory ran out" if name == "SIGKILL" else ""
        return Status("failed", f"The training process was killed by {name}{hint}{kept}.")
    if exit_code is not None:
        return Status(
            "failed", f"The training process failed with exit status {exit_code}: {last_log_line or 'no message'}"
        )
    if metrics:
        return Status("failed", f"The training process was killed{kept}.")
    return Status("new")


class Trainer:
    """The trainer processes of a library of runs, whoever started them, and their queue.

    The queue is stored in the runs' folders, so that a restarted app continues with it.

    Args:
        library: whose runs are trained.
        longest_queue: how many runs may wait; None is any number.
        spawns: whether it starts processes; otherwise trainings wait until another host takes them, see `take`.
    """

    def __init__(self, library: Library, *, longest_queue: int | None = None, spawns: bool = True) -> None:
        self.library = library
        self.longest_queue = longest_queue
        self.spawns = spawns
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()
        self._stopping: dict[Path, _Stopping] = {}

    def start(self, run: Run, *, resume: bool = False, more_epochs: int = 0) -> None:
        """Train a run in a process that outlives this one: now, or after the queued trainings.

        Args:
            run: what to train.
            resume: continue an interrupted training.
            more_epochs: added to its configuration.

        Raises:
            BusyError: if it is training or queued, the queue is full, or the system refuses; then nothing has changed.
        """
        with self._alone(f"{run.name} cannot be started"):
            if self._is_alive(run) or run.is_queued:
                raise BusyError(f"{run.name} is already training or queued.")
            self._check_room()
            with run.unchanged_if_refused():
                self._start_or_enqueue(run.with_more_epochs(more_epochs) if more_epochs else run, resume)

    def start_new(self, create: Callable[[], Run]) -> Run:
        """Create and start a run in one step: a refused start leaves no run behind. Raises as `start`, `create`."""
        with self._alone("The training cannot be started"):
            self._check_room()
            run = create()
            try:
                self._start_or_enqueue(run, resume=False)
            except BaseException:
                discard(run.path)
                raise
            return run

    def queue(self, runs: Sequence[Run] | None = None) -> list[Run]:
        """The queued runs, the next one first. `runs`: all existing runs, if already known."""
        return [run for _, run in self._tickets(runs)]

    def advance(self) -> None:
        """Start the run that has waited longest, unless one trains; kill a trainer that does not respond to Stop."""
        self._press_stops()
        if self.spawns and self._tickets():
            with self._alone("The next training cannot be started"):
                self._advance()

    def keep_advancing(self, seconds: float = 0.5) -> None:
        """Call `advance` repeatedly, forever, despite errors: the target of a thread."""
        keep_doing("The training queue", self.advance, seconds)

    def take(self, run: Run) -> bool | None:
        """Take a run from the queue to host it elsewhere. Returns whether it resumes; None if it is not queued.

        Raises:
            BusyError: if the system refuses.
        """
        with self._alone(f"{run.name} cannot be removed from the queue"):
            resumes = next((ticket.resume for ticket, other in self._tickets() if other.path == run.path), None)
            run.withdraw_ticket()
            return resumes

    def stop(self, run: Run) -> None:
        """Remove a run from the queue, or ask its trainer to stop at its next step; its best weights are kept.

        `advance` wakes and later kills a trainer that does not respond within `WAKE_SECONDS`, whoever started it.

        Raises:
            BusyError: if the system refuses.
        """
        with self._alone(f"{run.name} cannot be stopped"):
            run.withdraw_ticket()
        if self.status(run).is_active:
            with in_a_sentence(f"{run.name} cannot be stopped", BusyError):
                try:
                    run.request_stop()
                except OSError:  # a full disk, for instance: a signal needs no file
                    if not send_signal(run, signal.SIGTERM):
                        raise

    def active(self, runs: Sequence[Run] | None = None) -> str | None:
        """The name of the run that is training on this machine, if any; `runs` as in `queue`."""
        runs = self.library.runs() if runs is None else runs
        return next((run.name for run in runs if self._is_alive(run) and not run.is_job), None)

    def status(self, run: Run) -> Status:
        """The state of a run's training. Raises UserError if it cannot be determined at the moment."""
        return self.status_in(self.queue(), run)

    def status_in(self, queue: Sequence[Run], run: Run) -> Status:
        """As `status`, with a known queue."""
        # In this order: a trainer that ends in between has recorded how by then.
        place = next((i for i, other in enumerate(queue, 1) if other.path == run.path), 0)
        alive = self._is_alive(run)
        child = self._children.get(run.name)
        exit_code = child.poll() if child else None
        if exit_code:
            exit_code = first_exit_code(run) or exit_code
        stopping = run.stop_requested()
        metrics = self.library.metrics(run)
        note = self.library.unreadable(run)
        if not place and not alive and (run.path / QUEUED).exists() and not run.is_queued:
            note = f"{note} Its queue entry cannot be read: start the training again.".strip()
        if run.is_job and not alive and not (metrics and metrics[-1]["event"] == "end"):
            reason = "It trains as a Hugging Face job that this app no longer follows."
            return Status("failed", reason, "job", note=note)
        status = status_of(
            metrics,
            alive=alive,
            stopping=stopping or _has_stopped(run, metrics),
            exit_code=exit_code,
            last_log_line="" if exit_code is None else "".join(last_log_lines(run, 1)),
            place=place,
        )
        return replace(status, note=note, doing=run.doing() if status.is_active else Doing())

    @contextmanager
    def _alone(self, what: str) -> Generator[None]:
        """In this block, no other thread and no other app with this folder starts, queues or takes a run.

        Raises:
            BusyError: "`what`: ...", for system errors in the block, or if another app does not finish.
        """
        with self._lock, in_a_sentence(what, BusyError):
            self.library.root.mkdir(parents=True, exist_ok=True)
            # The folder itself is locked: that leaves no file behind, and ends however the app does.
            folder = os.open(self.library.root, os.O_RDONLY)
            try:
                until = time.monotonic() + TURN_SECONDS
                while not _has_locked(folder):
                    if time.monotonic() > until:
                        raise BusyError(f"{what} because another app is using this folder: try again in a moment.")
                    time.sleep(0.02)
                yield
            finally:
                with suppress(OSError):
                    fcntl.flock(folder, fcntl.LOCK_UN)  # a process that was forked meanwhile may keep it open
                os.close(folder)

    def _check_room(self) -> None:
        waiting = len(self._tickets())
        if self.longest_queue is not None and waiting >= self.longest_queue and self.active() is not None:
            raise BusyError(f"The queue is full ({waiting} trainings): try again later.")

    def _tickets(self, runs: Sequence[Run] | None = None) -> list[tuple[Ticket, Run]]:
        """The queue, the next one first."""
        tickets = []
        for run in self.library.runs() if runs is None else runs:
            ticket = run.ticket()
            if ticket is None:
                continue
            if not self.spawns and time.time() - ticket.time > LAPSE_SECONDS:
                with suppress(OSError):
                    run.withdraw_ticket()
                continue
            tickets.append((ticket, run))
        return sorted(tickets, key=lambda entry: (entry[0], entry[1].name))

    def _start_or_enqueue(self, run: Run, resume: bool) -> None:
        run.withdraw_stop()
        tickets = self._tickets()
        if self.spawns and self.active() is None and not tickets:
            self._spawn(run, resume)
            return
        number = 1 + max((ticket.number for ticket, _ in tickets), default=0)
        run.write_ticket(Ticket(number, time.time(), resume))

    def _advance(self) -> None:
        waiting = []
        for ticket, run in self._tickets():
            if self._is_alive(run):  # an app was killed after it had started it
                run.withdraw_ticket()
            else:
                waiting.append((ticket, run))
        if not waiting or self.active() is not None:
            return
        for ticket, run in waiting:
            try:
                with in_a_sentence(f"{run.name} cannot be started", BusyError):
                    self._spawn(run, ticket.resume)
            except BusyError as error:
                if error.passing:  # its turn comes when there is room again
                    raise
                tell_once(str(error))  # and the others do not wait for it
                continue
            run.withdraw_ticket()
            return

    def _spawn(self, run: Run, resume: bool) -> None:
        self._children[run.name] = start_process(run, resume=resume)

    def _is_alive(self, run: Run) -> bool:
        child = self._children.get(run.name)
        return (child is not None and child.poll() is None) or run.is_training or trainer_process(run) is not None

    def _press_stops(self) -> None:
        """Wake, and later kill, trainers that do not respond to Stop: a halted one would block the queue forever."""
        for run in self.library.runs():
            if not run.stop_requested() or run.is_job or not self._is_alive(run):
                self._stopping.pop(run.path, None)
                continue
            stopping = self._stopping.setdefault(run.path, _Stopping(time.monotonic()))
            waited = time.monotonic() - stopping.since
            if waited > KILL_SECONDS and send_signal(run, signal.SIGKILL):
                self._note_end(run)
            elif waited > WAKE_SECONDS and not stopping.woken:
                stopping.woken = send_signal(run, signal.SIGTERM)

    def _note_end(self, run: Run) -> None:
        """Record the end in the metrics in place of the killed trainer."""
        child = self._children.get(run.name)
        if child is not None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
        reason = f"It did not respond to Stop within {KILL_SECONDS:.0f} seconds and was killed."
        with run.training_lock():
            run.append_metric({"event": "end", "status": "stopped", "reason": reason, "time": round(time.time(), 1)})
            run.withdraw_stop()


@dataclass
class _Stopping:
    """A trainer that was asked to stop: the time (monotonic clock), and whether it was woken."""

    since: float
    woken: bool = False


def _has_locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, such as some of networks: then one app alone is to use it
        pass
    return True


def _has_stopped(run: Run, metrics: Sequence[Metric]) -> bool:
    """Whether the trainer that was started last has written that it stopped: its process takes a while to end."""
    last = metrics[-1] if metrics else {}
    if last.get("status") != "stopped":
        return False
    try:
        return float(last.get("time", 0)) + 0.1 >= (run.path / TRAINER).stat().st_mtime
    except OSError:  # it has let the run go; the next one is noted as soon as it starts
        return True
