"""The progress of a training, its current activity, and the means over its last steps."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_space.runs import Doing, Run
from resnet_space.training import distributed
from resnet_space.training.objectives import Losses

TELL_SECONDS = 0.5  # between two words on how much of a phase is done
WORTH_SECONDS = 4.0  # of a phase, after which its pace tells when it ends


@dataclass
class Progress:
    """The progress of a training; saved and restored with the weights."""

    epoch: int = 0  # complete epochs
    step: int = 0  # complete steps of the current epoch
    best_accuracy: float = -1.0  # on the validation images
    best_loss: float = math.inf  # of that epoch, there
    epochs_since_best: int = 0  # in the last phase
    loss_sum: float = 0.0  # over this epoch's training images so far
    correct: int = 0
    images: int = 0
    part_sums: dict[str, float] = field(default_factory=dict)  # of the loss's parts, where it has several
    measure_sums: dict[str, float] = field(default_factory=dict)  # of what the objective measures besides
    seconds: float = 0.0  # of training in all sessions


class Means(NamedTuple):
    """Means over the steps since the last report."""

    loss: float
    parts: dict[str, float]  # of the loss, where it has several
    measures: dict[str, float]  # besides
    images_per_second: float


class Window:
    """Sums over the steps since the last report, on the device so that not every step waits for it."""

    def __init__(self, device: torch.device, parts: tuple[str, ...], measures: tuple[str, ...] = ()) -> None:
        self.parts, self.measures = parts if len(parts) > 1 else (), measures
        self.sums = torch.zeros(
            3 + len(self.parts) + len(measures), dtype=torch.float64, device="cpu" if device.type == "mps" else device
        )
        self.started = time.monotonic()

    def add(self, loss: Tensor, losses: Losses, targets: Tensor) -> None:
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        correct = (losses.logits.argmax(1) == labels).sum()
        values = [loss, *(losses.parts[name] for name in self.parts)]
        values += [losses.measures[name] for name in self.measures]
        first, *parts = (value.detach() * len(labels) for value in values)
        self.sums += torch.stack([first, correct, correct.new_tensor(len(labels)), *parts]).to(self.sums)

    def flush_into(self, progress: Progress) -> Means:
        """Add the sums to those of the epoch, and reset them."""
        loss_sum, correct, images, *sums = distributed.summed(self.sums).tolist()
        parts = dict(zip(self.parts, sums, strict=False))
        measures = dict(zip(self.measures, sums[len(parts) :], strict=True))
        progress.loss_sum += loss_sum
        progress.correct += round(correct)
        progress.images += round(images)
        for kept, added in ((progress.part_sums, parts), (progress.measure_sums, measures)):
            kept |= {name: kept.get(name, 0.0) + value for name, value in added.items()}
        now = time.monotonic()
        rate = images / max(now - self.started, 1e-9)
        self.sums.zero_()
        self.started = now
        images = max(images, 1)
        parts, measures = (means(sums, images) for sums in (parts, measures))
        return Means(loss_sum / images, parts, measures, rate)


def means(sums: dict[str, float], images: float) -> dict[str, float]:
    """As they are logged."""
    return {name: round(value / images, 5) for name, value in sums.items()}


class Teller:
    """Publishes the current activity of a run's trainer and its progress."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.writes = distributed.is_first()

    def tell(self, phase: str) -> Callable[[int, int], None]:
        """Begin a new phase; call the returned function with (done, total) from time to time."""
        if self.writes:
            self.run.note_doing(Doing(phase))
        begun: tuple[float, int] | None = None  # when the first was told, and how many were done by then
        told_at = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal begun, told_at
            now = time.monotonic()
            begun = begun or (now, done)
            if not self.writes or now - told_at < TELL_SECONDS:
                return
            told_at, (since, before) = now, begun
            worth_it = done > before and now - since > WORTH_SECONDS
            left = round((now - since) / (done - before) * (total - done), 1) if worth_it else None
            self.run.note_doing(Doing(phase, done, total, left))

        return progress
