"""Batches of images as the model sees them: shuffled, augmented and normalised as tensors on the training device."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.splits import ImageSet

EVALUATION_BATCH, EVALUATION_PIXELS = 500, 1_000 * 32**2  # at most; 500 photographs take resnet50 6 GB


def normalise(images: Tensor, model: ModelConfig) -> Tensor:
    """[N, H, W, 3] in 0..255 -> float32 [N, 3, H, W] in channels_last, with the model's mean and standard deviation."""
    mean = torch.tensor(model.mean, device=images.device) * 255
    scale = 1 / (torch.tensor(model.std, device=images.device) * 255)
    return ((images - mean) * scale).permute(0, 3, 1, 2)


class Part(NamedTuple):
    """A part of a batch, augmented exactly as in the whole batch."""

    batch: int  # images of the whole one
    rows: Tensor | None = None  # the positions in it; None is all

    def of(self, drawn: Tensor) -> Tensor:
        """What was drawn for the whole batch [batch, ...] -> these images' share of it [n, ...]."""
        return drawn if self.rows is None else drawn[self.rows]


def centre_crop(images: Tensor, size: int) -> Tensor:
    """[N, H, W, 3] -> the middle [N, size, size, 3]; half a pixel is rounded to an even one, as torchvision does."""
    top, left = round((images.shape[1] - size) / 2), round((images.shape[2] - size) / 2)
    return images[:, top : top + size, left : left + size]


def random_resized_crop_flip(
    images: Tensor,
    size: int,
    min_area: float,
    flip: bool,
    generator: torch.Generator,
    part: Part | None = None,
) -> Tensor:
    """A random part of each image, resized, as torchvision's RandomResizedCrop draws it, and mirrored.

    uint8 [N, H, W, 3] -> float32 [N, size, size, 3] in 0..255, bilinear. The part has `min_area` to all of the image's
    area and an aspect ratio of 3/4 to 4/3, cut to what the image has (Szegedy et al. 2015, section 6).
    """
    n, height, width, _ = images.shape
    part = part or Part(n)
    area = part.of(torch.empty(part.batch).uniform_(min_area, 1, generator=generator))
    log_aspect = torch.empty(part.batch).uniform_(math.log(3 / 4), math.log(4 / 3), generator=generator)
    aspect = part.of(log_aspect).exp()
    # As shares of the image's width and height.
    wide = (area * aspect * height / width).sqrt().clamp(max=1)
    high = (area / aspect * width / height).sqrt().clamp(max=1)
    x, y, mirrored = (part.of(torch.rand(part.batch, generator=generator)) for _ in range(3))
    x, y = (1 - wide) * (2 * x - 1), (1 - high) * (2 * y - 1)
    mirror = 1 - 2 * (mirrored < (0.5 if flip else 0.0)).float()
    zero = torch.zeros(n)
    theta = torch.stack([torch.stack([wide * mirror, zero, x], 1), torch.stack([zero, high, y], 1)], 1)
    grid = F.affine_grid(theta.to(images.device), [n, 3, size, size], align_corners=False)
    pixels = images.permute(0, 3, 1, 2).float()
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)


def random_crop_flip(
    images: Tensor, padding: int, flip: bool, generator: torch.Generator, part: Part | None = None
) -> Tensor:
    """Zero-pad, crop back to size and mirror, each image with its own draw: uint8 [N, H, W, 3] -> the same shape.

    torchvision's v2 transforms draw once for a whole batch, so that all of its images move together. The draws are made
    on the CPU, so that every device sees the same ones.
    """
    n, height, width, _ = images.shape
    device = images.device
    part = part or Part(n)
    top = part.of(torch.randint(2 * padding + 1, (part.batch, 1), generator=generator))
    left = part.of(torch.randint(2 * padding + 1, (part.batch, 1), generator=generator))
    mirrored = part.of(torch.rand(part.batch, 1, generator=generator)) < (0.5 if flip else 0.0)
    rows = (top + torch.arange(height)).to(device)
    columns = left + torch.where(mirrored, torch.arange(width - 1, -1, -1), torch.arange(width))
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    image = torch.arange(n, device=device)[:, None, None] * (height + 2 * padding)
    where = (image + rows[:, :, None]) * (width + 2 * padding) + columns.to(device)[:, None, :]
    # index_select of whole pixels takes half the time of indexing with three tensors.
    return padded.view(-1, images.shape[-1]).index_select(0, where.flatten()).view(images.shape)


def training_batches(
    data: ImageSet,
    model: ModelConfig,
    training: TrainConfig,
    epoch: int,
    first_step: int = 0,
    device: torch.device | None = None,
    rows: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch from `first_step` on: (images float32 [n, 3, H, W], labels int64 [n]).

    They are made on `device`, or else where the data is. Where `rows` are given only these of each batch are made, as
    they are in the whole one.

    The order depends on (seed, epoch) and the augmentation on (seed, epoch, step) alone, so that a training that was
    interrupted continues with exactly the batches it would have seen. An incomplete last batch is dropped, because one
    with very few images disturbs BatchNorm; the next epoch is shuffled again.
    """
    for step, batch in enumerate(batch_indices(len(data), training, epoch, first_step), first_step):
        chosen = (batch if rows is None else batch[rows]).to(data.images.device)
        pixels, labels = data.pixels(chosen).to(device), data.labels[chosen].to(device)
        part = Part(len(batch), rows)
        images = augmented(pixels, model, training, _generator(training.seed, epoch, step), part)
        yield normalise(images, model), labels


def batch_indices(images: int, training: TrainConfig, epoch: int, first_step: int = 0) -> Iterator[Tensor]:
    """Indices of the images in each batch of an epoch, from `first_step` on: int64 [n] on the CPU."""
    order = torch.randperm(images, generator=_generator(training.seed, epoch))
    size = min(training.batch_size, images)
    for step in range(first_step, steps_per_epoch(images, training.batch_size)):
        yield order[step * size : (step + 1) * size]


def augmented(
    images: Tensor, model: ModelConfig, training: TrainConfig, generator: torch.Generator, part: Part | None = None
) -> Tensor:
    """Augment stored images [n, S, S, 3] for training, before normalisation: [n, H, W, 3] in 0..255."""
    if training.crop == "resized":
        size, min_area = model.image_size, training.min_crop_area
        return random_resized_crop_flip(images, size, min_area, training.flip, generator, part)
    images = centre_crop(images, model.image_size)
    if training.crop_padding or training.flip:
        images = random_crop_flip(images, training.crop_padding, training.flip, generator, part)
    return images


def is_unaugmented(training: TrainConfig) -> bool:
    """Whether every epoch sees the same images."""
    cropped = training.crop == "resized" or training.crop_padding > 0
    return not (cropped or training.flip or training.mixup or training.cutmix)


def mixed(
    images: Tensor, labels: Tensor, classes: int, training: TrainConfig, epoch: int, step: int
) -> tuple[Tensor, Tensor]:
    """A batch after MixUp or CutMix: (images of the same shape, shares of every class float32 [n, classes])."""
    from torchvision.transforms import v2

    kinds = [
        kind(alpha=alpha, num_classes=classes)
        for kind, alpha in ((v2.MixUp, training.mixup), (v2.CutMix, training.cutmix))
        if alpha
    ]
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(_generator(training.seed, epoch, step, 1).initial_seed())
        images, shares = v2.RandomChoice(kinds)(images, labels)
    return images, shares


def evaluation_batches(
    data: ImageSet, model: ModelConfig, batch_size: int | None = None, device: torch.device | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, their centres, without augmentation: (images float32 [n, 3, H, W], labels int64 [n])."""
    for chosen in torch.arange(len(data), device=data.labels.device).split(batch_size or evaluation_batch(model)):
        pixels = data.pixels(chosen).to(device)
        yield normalise(centre_crop(pixels, model.image_size), model), data.labels[chosen].to(device)


def evaluation_batch(model: ModelConfig) -> int:
    """Batch size for evaluation, small enough that a forward pass takes little memory compared with a training step."""
    return max(min(EVALUATION_BATCH, EVALUATION_PIXELS // model.image_size**2), 1)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in an epoch, at least one."""
    return max(images // batch_size, 1)


def _generator(*key: int) -> torch.Generator:
    """A separate generator for every key; numpy's SeedSequence mixes the key, so that similar keys do not correlate."""
    mixed = np.random.SeedSequence((len(key), *key))  # with its length, as (1, 2) and (1, 2, 0) are one to numpy
    return torch.Generator().manual_seed(int(mixed.generate_state(1, np.uint64)[0]) >> 1)
