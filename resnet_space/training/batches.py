"""The batches that an objective learns from: this process's part of each, mixed, and of a second stream beside it."""

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
    """One epoch of the dataset's training images, from a step on: (images, targets) as `Batch` has them."""
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
    """Endless batches of the objective's second set, from this step of the whole training on; of None without one.

    Its epochs are its own, however long those of the first stream are. A batch depends on its step alone, so that a
    training that goes on sees those that it would have seen.
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
