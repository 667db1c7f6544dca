"""Common duties of every host of a training: hold the run's lock, decide when to stop, record how it ended.

`host(run)` is the one of a process of its own, of the app, a shell or a remote job; slices of GPU time have theirs in
`serve.zero`.
"""

import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from types import FrameType

import torch

from resnet_space.common.errors import UserError
from resnet_space.common.faults import words_of
from resnet_space.runs import Metric, Run
from resnet_space.training import distributed
from resnet_space.training.loop import TrainingError, train

MOST_OF_A_REASON = 1_000  # characters; some libraries tell a page

WriteCard = Callable[[Run], None]  # `hub.card.write_card`, which is above this package


@contextmanager
def hosting(run: Run, write_card: WriteCard) -> Generator[Metric]:
    """Host a training: hold the run's lock; at the end write its card and how it ended.

    Gives the "end" metric, "finished", for the host to note in it where it ends otherwise. An error within the `with`
    makes it "failed", and goes no further.

    Raises:
        UserError: if the run is already being trained.
    """
    end: Metric = {"event": "end", "status": "finished"}
    with run.training_lock():
        try:
            yield end
            if run.has_weights:
                _try_to(write_card, run)
        except Exception as error:
            end |= failure(error)
        with suppress(OSError):  # a full disk: the exit status and the log still tell
            run.append_metric(end | {"time": round(time.time(), 1)})
        # Only now: one that came while this host was starting counts too, and whoever looks sees a stop or the end.
        with suppress(OSError):
            run.withdraw_stop()


def _try_to(write_card: WriteCard, run: Run) -> None:
    """Write the card, but do not fail the training if that is not possible: a push writes its own."""
    try:
        write_card(run)
    except (OSError, MemoryError) as error:
        with suppress(OSError):
            print(f"The model card could not be written: {words_of(error)}", flush=True)


@contextmanager
def _hosting_worker() -> Generator[Metric]:
    """What the hosts of all processes but the first do instead: tell it how they failed."""
    end: Metric = {"status": "finished"}
    try:
        yield end
    except Exception as error:
        if distributed.reason_of_others(error) is None:
            distributed.leave_reason(_reason_of(error))
        end |= failure(error)


def how_to_stop(run: Run, metric: Metric, minutes: int | None) -> Metric | None:
    """The "end" metric's fields if the training must stop at this metric, by request or by time limit; else None.

    Args:
        run: that trains.
        metric: that `train` gave.
        minutes: time limit of the training; None is no limit.
    """
    if metric["event"] in ("calibration", "sanity", "test"):
        return None  # after the last step nothing is left to stop
    if run.stop_requested():
        return {"status": "stopped"}
    if minutes is not None and metric.get("seconds", 0) >= 60 * minutes:
        return {"status": "stopped", "reason": f"It reached this app's limit of {minutes} minutes."}
    return None


def host(
    run: Run,
    write_card: WriteCard,
    *,
    resume: bool = False,
    minutes: int | None = None,
    report: Callable[[Metric], None] | None = None,
) -> int:
    """Train a run to its end in this process, obeying stop requests and signals; write how it ended.

    Args:
        run: what to train.
        write_card: of a run, at the end.
        resume: continue an interrupted training.
        minutes: time limit of the training; None is no limit.
        report: called with each metric that was written; without it all but those of single steps are printed.

    Returns:
        The process's exit status: 0 for finished or stopped, 1 for failed.
    """
    signalled = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal signalled
        signalled = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)

    # The first process writes what there is to write; the others only go along with it.
    first = distributed.is_first()
    with hosting(run, write_card) if first else _hosting_worker() as end, closing(train(run, resume=resume)) as metrics:
        for metric in metrics:
            if metric["event"] != "tick" and first:
                (report or _print)(metric)
            stopped = how_to_stop(run, metric, minutes)
            if signalled and metric["event"] != "test":
                stopped = {"status": "stopped"}
            if distributed.agreed(stopped is not None):
                end |= stopped or {"status": "stopped"}
                break
    if end["status"] == "failed":
        with suppress(OSError):
            print(end["reason"], file=sys.stderr)
    return int(end["status"] == "failed")


def _print(metric: Metric) -> None:
    if metric["event"] == "step":
        return
    with suppress(OSError):  # a log on a full disk is no reason to end
        print(" ".join(f"{name}={value}" for name, value in metric.items() if name != "residuals"), flush=True)


def failure(error: Exception) -> Metric:
    """The "end" metric's fields for a training that failed; an unexpected error is printed in full."""
    if distributed.reason_of_others(error) is None and not isinstance(error, UserError):
        traceback.print_exception(error)
    return {"status": "failed", **_reason_of(error)}


def _reason_of(error: Exception) -> dict[str, str]:
    """Why a training failed, in one sentence, and if it helps, what a retry should change."""
    others = distributed.reason_of_others(error)
    if others is not None:
        return others
    if isinstance(error, TrainingError):
        return {"reason": str(error), "cause": error.cause}
    if isinstance(error, UserError):
        return {"reason": str(error)}
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if out_of_memory or "can't allocate memory" in str(error):  # which is what torch says of the CPU's
        device = "GPU" if isinstance(error, torch.OutOfMemoryError) else "machine"
        return {"reason": f"The {device} ran out of memory: halve the batch size.", "cause": "memory"}
    if isinstance(error, OSError):
        return {"reason": words_of(error)}
    return {"reason": f"An unexpected error occurred: {type(error).__name__}: {error}"[:MOST_OF_A_REASON]}
