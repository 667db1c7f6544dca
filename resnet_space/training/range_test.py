"""The learning rate range test (Smith 2017, arXiv:1506.01186, section 3.3).

`python -m resnet_space.training.range_test [RUN_DIR] --steps N` tests the configuration that it reads as JSON, from
the weights of that run or from random ones, and prints a JSON object a line: the points, or at last why there are no
more.
"""

import argparse
import itertools
import json
import math
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, NamedTuple

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import sleep_while_waiting, training_environment

if __name__ == "__main__":
    sleep_while_waiting()  # a training may run beside it

import torch
from torch import Tensor

from resnet_space.config import RunConfig
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.models.registry import HEAD
from resnet_space.runs import Run, without_head
from resnet_space.training.batches import first_stream, second_stream
from resnet_space.training.device import autocast_dtype, choose_device
from resnet_space.training.features import CutModel
from resnet_space.training.host import failure
from resnet_space.training.objectives import Batch, objective_of
from resnet_space.training.optim import create_optimizer, freeze_all_but, set_training_mode
from resnet_space.training.state import model_with, require_enough
from resnet_space.training.strategies import plan

STEPS = 80
LOWEST, HIGHEST = {"sgd": 1e-4, "adamw": 1e-6}, {"sgd": 3.0, "adamw": 0.3}  # of the head's rate
SMOOTHING = 0.9  # of the exponential moving average over the steps
MAX_RATE = 10.0  # maximum in a configuration
LEARNING_SPAN = 15  # ratio between the rate of nearly the lowest loss and the lowest rate that may be suggested
DIVERGED = 3  # times the lowest loss: later points are meaningless
POLL_SECONDS = 0.5  # between checks whether the caller is still waiting


class Point(NamedTuple):
    """The head's learning rate of a step, and the smoothed training loss in nats."""

    rate: float
    loss: float


@dataclass(frozen=True)
class Suggestion:
    """Settings in the proportion of the configured ones; `tested` is the head's rate with them in the last phase."""

    backbone_lr: float
    head_lr: float
    tested: float


def range_test(
    config: RunConfig, weights: dict[str, Tensor] | None, data: ImageSet, steps: int | None = None
) -> Generator[Point, None, list[Point]]:
    """Train for some `STEPS` steps, or `steps`, while all learning rates rise together; yields each step's point,
    returns all.

    What trains is what the strategy's last phase trains, in the proportion of its rates. Nothing is stored.

    Raises:
        UserError: for too little data, or if nothing is trained in steps.
    """
    if plan(config.training, config.model)[-1].solved:
        raise UserError(
            "The head is solved, so it has no learning rate: choose another strategy, or an optimizer other "
            "than l-bfgs."
        )
    require_enough(config, len(data))
    steps = steps or STEPS
    device = choose_device()
    dtype = autocast_dtype(config.training, device)
    model, new_cbam = model_with(config, weights)
    model = model.to(device, memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    phase = plan(config.training, config.model, new_cbam=new_cbam)[-1]
    freeze_all_but(model, phase.rates)
    set_training_mode(model)
    objective = objective_of(config)
    objective.check(config)
    objective.attach(model)
    optimizer = create_optimizer(model, phase, config.training, objective.module)
    shares = [group["lr"] / phase.rates[HEAD] for group in optimizer.param_groups]
    low, high = LOWEST[config.training.optimizer], HIGHEST[config.training.optimizer]
    points: list[Point] = []
    average = 0.0
    whole = CutModel(model, 0)
    epochs = (first_stream(objective, data, epoch, 0, device) for epoch in itertools.count())
    second = second_stream(objective, objective.second_set(), 0, device)
    for (images, targets), other in zip(itertools.chain.from_iterable(epochs), second, strict=False):  # both endless
        step = len(points)
        rate = low * (high / low) ** (step / (steps - 1))
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = rate * share
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = objective(whole, Batch(images, targets, other)).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average = SMOOTHING * average + (1 - SMOOTHING) * loss.item()
        point = Point(rate, average / (1 - SMOOTHING ** (step + 1)))
        if not math.isfinite(point.loss):
            break
        points.append(point)
        yield point
        if len(points) == steps or point.loss > DIVERGED * min(p.loss for p in points):
            break
    return points


def suggested_rate(points: Sequence[Point]) -> float | None:
    """The rate at which the loss falls fastest, on a logarithmic axis; None if it never falls.

    Only rates down to 1/15 of where it is nearly lowest count: further below, a random head's first steps fall at any.
    """
    lowest = min(range(len(points)), key=lambda i: points[i].loss, default=0)
    width = max(len(points) // 10, 1)  # slopes over a few steps: a single one is noise
    slopes = {i: points[i + width].loss - points[i - width].loss for i in range(width, lowest - width + 1)}
    if points:
        nearly = points[lowest].loss + 0.05 * (points[0].loss - points[lowest].loss)
        least = next(point.rate for point in points if point.loss <= nearly) / LEARNING_SPAN
        slopes = {i: slope for i, slope in slopes.items() if points[i].rate >= least}
    if not slopes or min(slopes.values()) >= 0:
        return None
    return points[min(slopes, key=slopes.__getitem__)].rate


def suggestion(config: RunConfig, points: Sequence[Point]) -> Suggestion | None:
    """The rates to set, to two digits, so that the last phase uses the suggested rate for the head."""
    rate = suggested_rate(points)
    if rate is None:
        return None
    training = config.training
    scale = rate / plan(training, config.model)[-1].rates[HEAD]
    backbone, head = (min(float(f"{lr * scale:.2g}"), MAX_RATE) for lr in (training.backbone_lr, training.head_lr))
    return Suggestion(backbone, head, rate)


def points_apart(
    config: RunConfig, start: Path | None, *, seconds: float, steps: int | None = None
) -> Generator[Point | None, None, None]:
    """`range_test` in a separate process with its own memory; closing the generator ends that process.

    Args:
        config: what to test.
        start: the folder of the run whose weights to start from; None for random ones.
        seconds: time limit.
        steps: maximum number; by default `STEPS`.

    Yields:
        Each point when it is there, and None at least every `POLL_SECONDS` meanwhile.

    Raises:
        UserError: one sentence on why there are no more: no memory, no time, no data.
    """
    steps = steps or STEPS
    with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+", errors="replace") as errors:
        json.dump(config.to_json(), asked)
        asked.seek(0)
        process = subprocess.Popen(
            _command(start, steps),
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=training_environment(),
        )
        lines: SimpleQueue[str | None] = SimpleQueue()
        assert process.stdout is not None
        threading.Thread(target=_forward_lines, args=(process.stdout, lines), daemon=True).start()
        try:
            yield from _points(lines, steps, time.monotonic() + seconds, seconds)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        if status:
            errors.seek(0)
            raise UserError(_reason(status, errors.read().strip().splitlines()[-1:]))


def _command(start: Path | None, steps: int) -> list[str]:
    from_run = [] if start is None else [str(start)]
    return [sys.executable, "-m", "resnet_space.training.range_test", *from_run, "--steps", str(steps)]


def _forward_lines(output: IO[str], lines: "SimpleQueue[str | None]") -> None:
    """Forward the output lines of a process, then None; the target of a thread, because reading a pipe blocks."""
    with output:
        for line in output:
            lines.put(line)
    lines.put(None)


def _points(
    lines: "SimpleQueue[str | None]", steps: int, deadline: float, seconds: float
) -> Generator[Point | None, None, None]:
    done = 0
    while True:
        if time.monotonic() > deadline:
            raise UserError(
                f"The range test timed out after {seconds:,.0f} s, at step {done} of {steps}: choose a smaller batch "
                "size, image size or network."
            )
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except Empty:
            yield None
            continue
        if line is None:
            return
        with suppress(ValueError, TypeError, KeyError):  # what a library prints
            printed = json.loads(line)
            point = Point(printed["rate"], printed["loss"])
            done += 1
            yield point


def _reason(status: int, last: Sequence[str]) -> str:
    """Why a range test's process failed with this status; `last` is its last output line, if any."""
    if status < 0:
        killed = status == -signal.SIGKILL
        hint = ", possibly because memory ran out: halve the batch size" if killed else ""
        return f"The range test was killed by signal {-status}{hint}."
    return last[0] if last else f"The range test failed with exit status {status}."


def points_here(config: RunConfig, start: Path | None, steps: int) -> Iterator[Point]:
    """As `points_apart`, in this process. Raises UserError."""
    weights = None
    if start is not None:
        run = Run.open(start)
        weights = run.load_weights()
        if run.config.model.classes != config.model.classes:
            weights = without_head(weights, config.model.entry.head)
    data = load_splits(config.training, config.model.stored_size).train
    return range_test(config, weights, data, steps)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resnet_space.training.range_test",
        description="Run a learning-rate range test for the configuration on stdin.",
    )
    parser.add_argument("start", metavar="RUN_DIR", nargs="?", type=Path, help="run whose weights to start from")
    parser.add_argument("--steps", type=int, default=STEPS, help="maximum number of steps (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        config = RunConfig.from_json(json.load(sys.stdin))
        for point in points_here(config, arguments.start, arguments.steps):
            print(json.dumps(point._asdict()), flush=True)
    except BrokenPipeError:  # the reader has gone
        return 1
    except Exception as error:
        print(failure(error)["reason"], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
