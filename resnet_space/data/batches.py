"""Batches of images as the model sees them: shuffled, augmented and normalised as tensors on the training device."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.splits import ImageSet


def normalise(images: Tensor, model: ModelConfig) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in channels_last, with the model's mean and standard deviation."""
    mean = torch.tensor(model.mean, device=images.device) * 255
    scale = 1 / (torch.tensor(model.std, device=images.device) * 255)
    return ((images - mean) * scale).permute(0, 3, 1, 2)


def random_crop_flip(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Zero-pad, crop back to size and mirror, each image with its own draw: uint8 [N, H, W, 3] -> the same shape.

    torchvision's v2 transforms draw once for a whole batch, so that all of its images move together. The draws are made
    on the CPU, so that every device sees the same ones.
    """
    n, height, width, _ = images.shape
    device = images.device
    top = torch.randint(2 * padding + 1, (n, 1), generator=generator)
    left = torch.randint(2 * padding + 1, (n, 1), generator=generator)
    mirrored = torch.rand(n, 1, generator=generator) < (0.5 if flip else 0.0)
    rows = (top + torch.arange(height)).to(device)
    columns = left + torch.where(mirrored, torch.arange(width - 1, -1, -1), torch.arange(width))
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    image = torch.arange(n, device=device)[:, None, None] * (height + 2 * padding)
    where = (image + rows[:, :, None]) * (width + 2 * padding) + columns.to(device)[:, None, :]
    # index_select of whole pixels takes half the time of indexing with three tensors.
    return padded.view(-1, images.shape[-1]).index_select(0, where.flatten()).view(images.shape)


def training_batches(
    data: ImageSet, model: ModelConfig, training: TrainConfig, epoch: int, first_step: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch from `first_step` on: (images float32 [n, 3, H, W], labels int64 [n]).

    The order depends on (seed, epoch) and the augmentation on (seed, epoch, step) alone, so that a training that
    was interrupted continues with exactly the batches it would have seen. An incomplete last batch is left out, as one
    with very few images upsets BatchNorm; the next epoch shuffles anew.
    """
    order = torch.randperm(len(data), generator=_generator(training.seed, epoch))
    size = min(training.batch_size, len(data))
    for step in range(first_step, steps_per_epoch(len(data), training.batch_size)):
        chosen = order[step * size : (step + 1) * size].to(data.images.device)
        images = data.images[chosen]
        if training.crop_padding or training.flip:
            generator = _generator(training.seed, epoch, step)
            images = random_crop_flip(images, training.crop_padding, training.flip, generator)
        yield normalise(images, model), data.labels[chosen]


def evaluation_batches(data: ImageSet, model: ModelConfig, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, without augmentation: (images float32 [n, 3, H, W], labels int64 [n])."""
    for images, labels in zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True):
        yield normalise(images, model), labels


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in an epoch, at least one."""
    return max(images // batch_size, 1)


def _generator(*key: int) -> torch.Generator:
    """A generator of its own for every key; numpy's SeedSequence mixes it, so that neighbours do not correlate."""
    mixed = np.random.SeedSequence((len(key), *key))  # with its length, as (1, 2) and (1, 2, 0) are one to numpy
    return torch.Generator().manual_seed(int(mixed.generate_state(1, np.uint64)[0]) >> 1)
