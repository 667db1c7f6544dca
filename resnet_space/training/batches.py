"""The batches for an objective: this process's part of each, mixed, and those of a second stream."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from resnet_space.data.batches import steps_per_epoch, training_batches
from resnet_space.data.splits import ImageSet
from resnet_space.training import distributed
from resnet_space.training.objectives import Batch, Objective


def first_stream(
    objective: Objective, data: ImageSet, epoch: int, first_step: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of the training images, from a step on: (images, targets) as in `Batch`."""
    model, training = objective.config.model, objective.config.training
    rows = distributed.own_rows(min(training.batch_size, len(data)), with_neighbour=objective.mixes)
    batches = training_batches(data, model, training, epoch, first_step, device, rows)
    for step, (images, labels) in enumerate(batches, first_step):
        images, targets = objective.mix(images, labels, epoch, step)
        neighbour = rows is not None and objective.mixes
        yield images[neighbour:], targets[neighbour:]


def second_stream(
    objective: Objective, data: ImageSet | None, first_step: int, device: torch.device
) -> Iterator[Batch | None]:
    """Endless batches of the objective's second set, from this step of the whole training on; None without one.

    Its epochs are independent of those of the first stream. A batch depends only on its step, so that a resumed
    training sees the same batches.
    """
    while data is None:
        yield None
    model, training = objective.config.model, objective.config.training
    training = replace(training, seed=(training.seed + 1) % 2**31)  # other draws than the first stream's
    rows = distributed.own_rows(min(training.batch_size, len(data)), with_neighbour=False)
    epoch, step = divmod(first_step, steps_per_epoch(len(data), training.batch_size))
    while True:
        for images, labels in training_batches(data, model, training, epoch, step, device, rows):
            yield Batch(images, labels)
        epoch, step = epoch + 1, 0
