"""Trains a run in slices of ZeroGPU time; each slice saves its state, and the next one continues from it.

The main process has no GPU: it prepares everything that needs none, requests slices, and records how the run ended. A
slice runs in a forked process, which may serve several: state set there is lost, signals cannot be handled, DataLoader
workers cannot start, and yielded values are pickled. The two processes share only the run's folder.
"""

import math
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import is_zero_gpu
from resnet_space.runs import DECODED, Metric, Run
from resnet_space.serve.zero.quota import (
    LEAST_SECONDS,
    LEAVING_SECONDS,
    MOST_SECONDS,
    SETUP_SECONDS,
    expected_steps_per_second,
    needed_seconds,
    refusal,
    seconds_to_ask,
    steps_per_second,
)

TELL_EVERY = 0.5  # seconds

ABORTED = (
    "The process on the GPU was killed, possibly because memory or time ran out: "
    "Resume continues from the last complete epoch."
)
LEFT = "The page that started the training was closed."

S = TypeVar("S", bound=Callable[..., object])


@dataclass(frozen=True)
class Report:
    """A report of a slice.

    Attributes:
        step: in the whole training.
        setup: seconds until its first step.
        end: how the training ended, as the "end" metric has it; None while it goes on, perhaps in another slice.
    """

    step: int
    setup: float
    end: Metric | None = None


@dataclass(frozen=True)
class SliceProgress:
    """The progress of a training in slices: the slice's `number`, its `asked` seconds, and the current `step`."""

    number: int
    asked: int
    step: int


def _seconds_of(run_path: str, resume: bool, seconds: float) -> int:
    return math.ceil(seconds)


def _on_gpu(function: S) -> S:
    if not is_zero_gpu():
        return function
    import spaces

    decorated: S = spaces.GPU(duration=_seconds_of)(function)
    return decorated


@_on_gpu
def train_slice(run_path: str, resume: bool, seconds: float) -> Generator[Report, None, None]:
    """Train a prepared run for the given seconds or to its end; at least until it has reported a step.

    It leaves off only where the run's metrics are complete, so that slices write the same ones as a training in one go.
    A stop request is obeyed at once. The last report is yielded when everything is saved; an error is in its `end`.
    """
    from resnet_space.training.host import failure  # brings torch, which the main process has loaded before

    begun = time.monotonic()
    try:
        yield from _slice(Run.open(run_path), resume, begun, seconds)
    except Exception as error:
        yield Report(0, time.monotonic() - begun, failure(error))


def _slice(run: Run, resume: bool, begun: float, seconds: float) -> Iterator[Report]:
    import torch

    from resnet_space.data.decoded import load_decoded
    from resnet_space.serve.limits import Limits
    from resnet_space.training.host import how_to_stop
    from resnet_space.training.loop import train

    minutes = Limits.from_environment(public=False).minutes
    # Not `choose_device`, which keeps the rest of a ZeroGPU Space from it.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step, setup, longest, end = 0, 0.0, 0.0, None
    reported = told_at = begun
    with closing(train(run, resume=resume, device=device, splits=load_decoded(run.path / DECODED))) as metrics:
        for metric in metrics:
            now = time.monotonic()
            step = metric.get("step", step)
            if not setup:
                setup, reported = now - begun, now
            if end := how_to_stop(run, metric, minutes):
                break
            if now - told_at > TELL_EVERY:
                told_at = now
                yield Report(step, setup)
            if metric["event"] in ("step", "epoch"):
                longest, reported = max(longest, now - reported), now
                # As long as the longest pause, a validation for instance, may come again.
                if now + longest + LEAVING_SECONDS > begun + seconds:
                    break
        else:
            end = {"status": "finished"}
    yield Report(step, setup, end)


def train_in_slices(
    run: Run, *, resume: bool = False, most: int = MOST_SECONDS
) -> Generator[SliceProgress, None, None]:
    """Train a run slice by slice until it has finished or is stopped by a request, a limit or the quota.

    Each slice requests the seconds that it is expected to need, from the run's pace so far. Like any host, it holds the
    run's lock and writes how it ended. Closing the generator saves the state, and the run is stopped.

    Args:
        run: what to train.
        resume: continue an interrupted training.
        most: maximum seconds of a slice.

    Raises:
        UserError: if the run is already being trained.
    """
    from resnet_space.hub.card import write_card
    from resnet_space.training.host import hosting

    with hosting(run, write_card) as end:
        try:
            steps, test_steps = _prepare(run, resume)
            yield SliceProgress(0, 0, 0)
            yield from _slices(run, resume, steps, test_steps, most, end)
        except GeneratorExit:  # what is below here was closed first, and has saved its state
            end |= {"status": "stopped", "reason": LEFT}
        finally:
            shutil.rmtree(run.path / DECODED, ignore_errors=True)


def _prepare(run: Run, resume: bool) -> tuple[int, float]:
    """Do everything that needs no GPU, and detect errors, before a GPU is requested.

    Returns:
        The steps of the whole training, and as how many of them its test counts, which has no backward pass.
    """
    import torch

    from resnet_space.data.batches import steps_per_epoch
    from resnet_space.data.decoded import save_decoded
    from resnet_space.training.run_images import check_untrained, splits_of
    from resnet_space.training.state import Training

    training = run.config.training
    check_untrained(run, resume)
    splits = splits_of(run, record=True)
    # Refuses weights that do not fit; and what it imports the forked process has then (2 s on two cores).
    Training(run, torch.device("cpu"), len(splits.train))
    if training.mixup or training.cutmix:
        import torchvision.transforms.v2  # noqa: F401  # as `mixed` does
    save_decoded(splits, run.path / DECODED)
    steps = training.total_epochs * steps_per_epoch(len(splits.train), training.batch_size)
    return steps, len(splits.test) / training.batch_size / 3


def _slices(
    run: Run, resume: bool, steps: int, test_steps: float, most: int, end: Metric
) -> Generator[SliceProgress, None, None]:
    number, setup = 0, SETUP_SECONDS
    done = (metric["step"] for metric in run.metrics() if resume and metric["event"] in ("step", "epoch"))
    step = max(done, default=0)
    told_left: int | None = None
    while not run.stop_requested():
        pace = steps_per_second(run.metrics()) if resume else None
        needed = needed_seconds(steps - step + test_steps, pace or expected_steps_per_second(run.config), setup)
        asked = told_left or seconds_to_ask(needed, measured=pace is not None, most=most)
        report = None
        try:
            with closing(train_slice(str(run.path), resume, asked)) as reports:
                for report in reports:
                    if report.end is None:
                        yield SliceProgress(number + 1, asked, report.step)
        except Exception as error:
            refused = refusal(error)
            if refused is None and str(getattr(error, "title", "")) == "ZeroGPU worker error":
                raise UserError(ABORTED) from None
            if refused is None:
                raise
            if refused.left is None or not LEAST_SECONDS <= refused.left < asked:
                end |= {"status": "stopped", "reason": refused.reason}
                return
            told_left = refused.left
            continue
        assert report is not None  # a slice ends with one
        if report.end is not None:
            end |= report.end
            return
        number, step, setup, resume, told_left = number + 1, report.step, report.setup, True, None
    end["status"] = "stopped"
