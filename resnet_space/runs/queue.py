"""Start, queue, stop and watch trainer processes: one trains at a time, the others wait their turn."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resnet_space.hardware import nvidia_gpus, training_environment
from resnet_space.runs import LOG, QUEUED, RESUME, Library, Metric, Run, replaced_atomically
from resnet_space.tokens import masked

State = Literal["new", "queued", "starting", "training", "stopping", "finished", "stopped", "failed"]

LAPSE_SECONDS = 1_800.0  # after which a run is not waited for by a page that was to host it: it was closed
LOG_LINES = 20  # of a failed training, for the page

# Fewer images of a batch are not worth a GPU more; Goyal et al. 2017 (arXiv:1706.02677) have 32 on each, too.
IMAGES_OF_A_GPU = 32

# What torchrun says when one of its processes fails: its first line, and last of all how the first one ended.
_TORCHRUN_FAILED = re.compile(r"^[EW]\d{4} .*/torch/distributed/elastic/")
_TORCHRUN_EXIT = re.compile(r"^ *exitcode *: (-?\d+) \(pid: \d+\)$")


class BusyError(Exception):
    """A run cannot be started or queued; the message says why."""


@dataclass(frozen=True)
class Status:
    """How a run's training stands.

    Attributes:
        reason: one sentence, for one that failed, or that was stopped by a limit.
        cause: what a failed one's new try should change: "memory", "loss"; "job" for one that may still train
            elsewhere, but is not followed here; or nothing.
        place: in the queue, 1 is the next; 0 for one that does not wait.
    """

    state: State
    reason: str = ""
    cause: str = ""
    place: int = 0

    @property
    def is_active(self) -> bool:
        return self.state in ("starting", "training", "stopping")


def status_of(
    metrics: list[Metric], *, alive: bool, stopping: bool, exit_code: int | None, last_log_line: str, place: int = 0
) -> Status:
    """How a training stands, from what it wrote and from its process.

    Args:
        metrics: all that the run has written so far.
        alive: whether its process runs.
        stopping: whether it was asked to stop.
        exit_code: of its process, where that was a child of ours and has ended; -9 is "killed by signal 9".
        last_log_line: what its process said last.
        place: in the queue.
    """
    if alive:
        if stopping:
            return Status("stopping")
        return Status("training" if any(metric["event"] == "step" for metric in metrics) else "starting")
    if place:
        return Status("queued", place=place)
    if metrics and metrics[-1]["event"] == "end":
        end = metrics[-1]
        return Status(end["status"], end.get("reason", ""), end.get("cause", ""))
    kept = "; its best weights are kept" if any(metric["event"] == "epoch" for metric in metrics) else ""
    if exit_code is not None and exit_code < 0:
        named = {number.value: number.name for number in signal.Signals}
        name = named.get(-exit_code, f"signal {-exit_code}")  # real-time signals have no names
        hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return Status("failed", f"The trainer was ended from outside by {name}{hint}{kept}.")
    if exit_code is not None:
        return Status("failed", f"The trainer ended with exit status {exit_code}: {last_log_line or 'it said nothing'}")
    if metrics:
        return Status("failed", f"The trainer was ended from outside{kept}.")
    return Status("new")


class Trainer:
    """The trainer processes of a library of runs, whoever started them, and the queue before them.

    What waits is written in the runs' folders, so that a restarted app goes on with the same queue.

    Args:
        library: whose runs are trained.
        longest_queue: how many runs may wait; None is any number.
        spawns: whether it makes processes; else what is started waits until another host takes it, see `take`.
    """

    def __init__(self, library: Library, *, longest_queue: int | None = None, spawns: bool = True) -> None:
        self.library = library
        self.longest_queue = longest_queue
        self.spawns = spawns
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def start(self, run: Run, *, resume: bool = False, more_epochs: int = 0) -> None:
        """Train a run in a process that outlives this one: now, or when those that wait already have trained.

        Args:
            run: what to train.
            resume: go on where an earlier training of it ended.
            more_epochs: than its configuration has; they are added to it.

        Raises:
            BusyError: if it trains or waits already, or too many wait.
        """
        with self._lock:
            if self._is_alive(run) or run.is_queued:
                raise BusyError(f"{run.name} is training or waiting already.")
            self._check_room()
            if more_epochs:
                run = run.with_more_epochs(more_epochs)
            self._start_or_enqueue(run, resume)

    def start_new(self, create: Callable[[], Run]) -> Run:
        """Create a run and start it, as one step: a refused start leaves no run behind. Raises as `start`, `create`."""
        with self._lock:
            self._check_room()
            run = create()
            self._start_or_enqueue(run, resume=False)
            return run

    def queue(self) -> list[Run]:
        """The runs that wait, the next one first."""
        return [run for _, run in sorted(self._tickets(), key=lambda entry: (entry[0]["time"], entry[1].name))]

    def advance(self) -> None:
        """Start the run that has waited longest, unless one trains."""
        with self._lock:
            self._advance()

    def keep_advancing(self, seconds: float = 0.5) -> None:
        """`advance` now and then, for ever: a thread's work."""
        while True:
            time.sleep(seconds)
            self.advance()

    def take(self, run: Run) -> bool | None:
        """Take a run from the queue to host it elsewhere: whether it resumes; None if it does not wait (any more)."""
        with self._lock:
            resumes = next(
                (bool(ticket["resume"]) for ticket, other in self._tickets() if other.path == run.path), None
            )
            (run.path / QUEUED).unlink(missing_ok=True)
            return resumes

    def stop(self, run: Run) -> None:
        """Take a run from the queue, or ask its trainer to stop at its next step; its best weights are kept."""
        with self._lock:
            (run.path / QUEUED).unlink(missing_ok=True)
        if self.status(run).is_active:
            run.request_stop()

    def active(self) -> str | None:
        """The name of the run that trains on this machine now, if any."""
        return next((run.name for run in self.library.runs() if not run.is_job and self._is_alive(run)), None)

    def status(self, run: Run) -> Status:
        """How a run's training stands."""
        # In this order: a trainer that ends in between has then written how.
        place = next((i for i, other in enumerate(self.queue(), 1) if other.path == run.path), 0)
        alive = self._is_alive(run)
        child = self._children.get(run.name)
        exit_code = child.poll() if child else None
        if exit_code:
            exit_code = _first_exit_code(run) or exit_code
        metrics = self.library.metrics(run)
        if run.is_job and not alive and not (metrics and metrics[-1]["event"] == "end"):
            return Status("failed", "It trains as a job of the Hub, which is not followed here any more.", "job")
        return status_of(
            metrics,
            alive=alive,
            stopping=run.stop_requested(),
            exit_code=exit_code,
            last_log_line="" if exit_code is None else "".join(last_log_lines(run, 1)),
            place=place,
        )

    def _check_room(self) -> None:
        waiting = len(self._tickets())
        if self.longest_queue is not None and waiting >= self.longest_queue and self.active() is not None:
            raise BusyError(f"{waiting} trainings wait already, which is as many as may: try again later.")

    def _tickets(self) -> list[tuple[dict[str, float], Run]]:
        tickets = []
        for run in self.library.runs():
            try:
                ticket = json.loads((run.path / QUEUED).read_text("utf-8"))
                if not self.spawns and time.time() - ticket["time"] > LAPSE_SECONDS:
                    (run.path / QUEUED).unlink()
                    continue
                tickets.append((ticket, run))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return tickets

    def _start_or_enqueue(self, run: Run, resume: bool) -> None:
        run.withdraw_stop()
        if self.spawns and self.active() is None and not self._tickets():
            self._spawn(run, resume)
            return
        with replaced_atomically(run.path / QUEUED) as file:
            file.write_text(json.dumps({"time": time.time(), "resume": resume}), encoding="utf-8")

    def _advance(self) -> None:
        tickets = self._tickets() if self.spawns else []
        if not tickets or self.active() is not None:
            return
        ticket, run = min(tickets, key=lambda entry: (entry[0]["time"], entry[1].name))
        self._spawn(run, bool(ticket["resume"]))
        (run.path / QUEUED).unlink(missing_ok=True)

    def _spawn(self, run: Run, resume: bool) -> None:
        (run.path / RESUME).mkdir(exist_ok=True)
        command = training_command(run, resume=resume, processes=gpus_for(run.config.training.batch_size))
        package_folder = str(Path(__file__).parent.parent.parent)
        environment = training_environment() | {
            "PYTHONPATH": os.pathsep.join(filter(None, [package_folder, os.environ.get("PYTHONPATH")]))
        }
        with (run.path / LOG).open("wb") as log:
            self._children[run.name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # the shell's Ctrl-C ends the app, not the training
            )

    def _is_alive(self, run: Run) -> bool:
        child = self._children.get(run.name)
        return (child is not None and child.poll() is None) or run.is_training


def training_command(run: Run, *, resume: bool = False, processes: int = 1) -> list[str]:
    """The arguments that train a run, in so many processes."""
    module = ["-m", "resnet_space.train", str(run.path), *(["--resume"] if resume else [])]
    if processes == 1:
        return [sys.executable, *module]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *torchrun, *module]


def gpus_for(batch_size: int) -> int:
    """How many of this machine's CUDA GPUs to train on with batches of this size; 1 also where there is none."""
    most = batch_size // IMAGES_OF_A_GPU
    if most < 2 or (sys.platform == "linux" and nvidia_gpus() < 2):
        return 1
    import torch

    return max(min(torch.cuda.device_count(), most), 1)


def last_log_lines(run: Run, most: int = LOG_LINES) -> list[str]:
    """The end of what a run's trainer said, without anything that looks like a token, or torchrun's own part."""
    lines = _log_lines(run)
    end = next((i for i, line in enumerate(lines) if _TORCHRUN_FAILED.match(line)), len(lines))
    return [masked(line) for line in lines[:end][-most:]]


def _log_lines(run: Run) -> list[str]:
    try:
        return (run.path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return []


def _first_exit_code(run: Run) -> int | None:
    """How the first of several processes ended, where torchrun says that one failed."""
    found = [match for line in _log_lines(run) if (match := _TORCHRUN_EXIT.match(line))]
    return int(found[-1].group(1)) if found else None
