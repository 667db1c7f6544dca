"""Start, stop and watch one trainer process at a time."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resnet_space.runs import LOG, RESUME, Library, Metric, Run

State = Literal["new", "starting", "training", "stopping", "finished", "stopped", "failed"]


class BusyError(Exception):
    """Another training runs; the message says which."""


@dataclass(frozen=True)
class Status:
    """How a run's training stands; `reason` is one sentence for a failed one."""

    state: State
    reason: str = ""

    @property
    def is_active(self) -> bool:
        return self.state in ("starting", "training", "stopping")


def status_of(
    metrics: list[Metric], *, alive: bool, stopping: bool, exit_code: int | None, last_log_line: str
) -> Status:
    """How a training stands, from what it wrote and from its process.

    Args:
        metrics: all that the run has written so far.
        alive: whether its process runs.
        stopping: whether it was asked to stop.
        exit_code: of its process, where that was a child of ours and has ended; -9 is "killed by signal 9".
        last_log_line: what its process said last.
    """
    if alive:
        if stopping:
            return Status("stopping")
        return Status("training" if any(metric["event"] == "step" for metric in metrics) else "starting")
    if metrics and metrics[-1]["event"] == "end":
        return Status(metrics[-1]["status"], metrics[-1].get("reason", ""))
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
    """The trainer processes of a library of runs: at most one at a time, whoever started it."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def start(self, run: Run, *, resume: bool = False) -> None:
        """Start training a run in a process that outlives this one.

        Raises:
            BusyError: while another run trains.
        """
        with self._lock:
            self._check_free()
            self._spawn(run, resume)

    def start_new(self, create: Callable[[], Run]) -> Run:
        """Create a run and start it, as one step: a refused start leaves no run behind. Raises as `start`, `create`."""
        with self._lock:
            self._check_free()
            run = create()
            self._spawn(run, resume=False)
            return run

    def _spawn(self, run: Run, resume: bool) -> None:
        run.withdraw_stop()
        (run.path / RESUME).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "resnet_space.train", str(run.path), *(["--resume"] if resume else [])]
        package_folder = str(Path(__file__).parent.parent)
        environment = os.environ | {
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

    def _check_free(self) -> None:
        active = self.active()
        if active is not None:
            raise BusyError(f"{active} is training now: wait for its end, or stop it first.")

    def stop(self, run: Run) -> None:
        """Ask a run's trainer, if it has one, to stop at its next step; its best weights are kept."""
        if self.status(run).is_active:
            run.request_stop()

    def active(self) -> str | None:
        """The name of the run that trains now, if any."""
        for run in self.library.runs():
            if self._is_alive(run):
                return run.name
        return None

    def status(self, run: Run) -> Status:
        """How a run's training stands."""
        # In this order: a trainer that ends in between has then written how.
        alive = self._is_alive(run)
        child = self._children.get(run.name)
        exit_code = child.poll() if child else None
        return status_of(
            self.library.metrics(run),
            alive=alive,
            stopping=run.stop_requested(),
            exit_code=exit_code,
            last_log_line="" if exit_code is None else _last_line(run.path / LOG),
        )

    def _is_alive(self, run: Run) -> bool:
        child = self._children.get(run.name)
        return (child is not None and child.poll() is None) or run.is_training


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1] if lines else ""
