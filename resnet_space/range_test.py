"""The learning rate range test (Smith 2017, arXiv:1506.01186, section 3.3): which rates a network can learn at."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_space.config import RunConfig
from resnet_space.data.batches import training_batches
from resnet_space.data.splits import ImageSet
from resnet_space.optim import create_optimizer, freeze_all_but, set_training_mode
from resnet_space.strategies import HEAD, plan
from resnet_space.training import autocast_dtype, choose_device, model_with, require_enough

STEPS = 80
LOWEST, HIGHEST = {"sgd": 1e-4, "adamw": 1e-6}, {"sgd": 3.0, "adamw": 0.3}  # of the head's rate
SMOOTHING = 0.9  # of the exponential moving average over the steps
MAX_RATE = 10.0  # that a configuration allows
LEARNING_SPAN = 15  # times, from the least rate that may be suggested to that of nearly the lowest loss
DIVERGED = 3  # times the lowest loss: what comes after shows nothing


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
    config: RunConfig, weights: dict[str, Tensor] | None, data: ImageSet
) -> Generator[Point, None, list[Point]]:
    """Train for some `STEPS` steps while all learning rates rise together; yields each step's point, returns all.

    What trains is what the strategy's last phase trains, in the proportion of its rates. Nothing is kept.

    Raises:
        RunError: for data that is too little.
    """
    require_enough(config, len(data))
    device = choose_device()
    dtype = autocast_dtype(config.training, device)
    model, new_cbam = model_with(config, weights)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    phase = plan(config.training, config.model, new_cbam=new_cbam)[-1]
    freeze_all_but(model, phase.rates)
    set_training_mode(model)
    optimizer = create_optimizer(model, phase, config.training)
    shares = [group["lr"] / phase.rates[HEAD] for group in optimizer.param_groups]
    low, high = LOWEST[config.training.optimizer], HIGHEST[config.training.optimizer]
    points: list[Point] = []
    average = 0.0
    epoch = 0
    while True:
        for images, labels in training_batches(data, config.model, config.training, epoch, device=device):
            step = len(points)
            rate = low * (high / low) ** (step / (STEPS - 1))
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = F.cross_entropy(model(images), labels, label_smoothing=config.training.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            average = SMOOTHING * average + (1 - SMOOTHING) * loss.item()
            point = Point(rate, average / (1 - SMOOTHING ** (step + 1)))
            if not math.isfinite(point.loss):
                return points
            points.append(point)
            yield point
            if len(points) == STEPS or point.loss > DIVERGED * min(p.loss for p in points):
                return points
        epoch += 1


def suggested_rate(points: Sequence[Point]) -> float | None:
    """The rate at which the loss falls fastest, on its logarithmic axis; None where it never falls.

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
    """What to set the rates to, to two digits, so that the last phase has the suggested one at the head."""
    rate = suggested_rate(points)
    if rate is None:
        return None
    training = config.training
    scale = rate / plan(training, config.model)[-1].rates[HEAD]
    backbone, head = (min(float(f"{lr * scale:.2g}"), MAX_RATE) for lr in (training.backbone_lr, training.head_lr))
    return Suggestion(backbone, head, rate)
