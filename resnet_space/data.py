"""Data sets in the Hub's parquet layout, their splits, preprocessing, and batched augmentation.

Images are decoded once, to uint8 in memory; batches are cropped, flipped and normalised as tensors, each image with a
draw of its own.
"""

import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.images import to_model_size

BUNDLED = Path(__file__).parent / "datasets"
DATA_FOLDER_VARIABLE = "RESNET_SPACE_DATA"
MAX_VALIDATION_IMAGES = 5_000  # enough for a standard error of 0.7 points; He et al. 2015 hold out as many of CIFAR-10


class DataError(ValueError):
    """A data set that cannot be read; the message says which and why, in one sentence."""


@dataclass(frozen=True)
class ImageSet:
    """Decoded images of one split: `images` uint8 [N, H, W, 3], `labels` int64 [N] into `classes`."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "ImageSet":
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def to(self, device: torch.device) -> "ImageSet":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """A training learns from `train`, chooses its best epoch by `validation`, and is judged by `test`, once."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    test_name: str  # "valid" where the data set has no test split and its own validation split takes that part


def dataset_folder(name: str) -> Path:
    """The folder of a data set: a bundled one, or one below the folder that `RESNET_SPACE_DATA` names."""
    roots = [BUNDLED]
    if os.environ.get(DATA_FOLDER_VARIABLE):
        roots.append(Path(os.environ[DATA_FOLDER_VARIABLE]))
    found: dict[str, Path] = {}
    for folder in (folder for root in roots if root.is_dir() for folder in root.iterdir()):
        if any(folder.rglob("*.parquet")):
            found.setdefault(folder.name, folder)
    if name not in found:
        raise DataError(f"There is no data set named {name!r}: choose one of {', '.join(sorted(found))}.")
    return found[name]


def _table(name: str, split: str) -> pa.Table | None:
    files = sorted(dataset_folder(name).rglob(f"{split}-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]) if files else None


def _features(table: pa.Table) -> tuple[str, str, tuple[str, ...]]:
    """(image column, label column, class names), found by the types in the Hub's metadata."""
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    kinds = {column: feature.get("_type") for column, feature in features.items() if isinstance(feature, dict)}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    if not images or not labels:
        raise DataError("The data set is not one for image classification: it needs an image and a class label column.")
    return images[0], labels[0], tuple(features[labels[0]]["names"])


def dataset_classes(name: str) -> tuple[str, ...]:
    """The class names of a data set, without reading its images."""
    files = sorted(dataset_folder(name).rglob("train-*.parquet"))
    if not files:
        raise DataError(f"The data set {name!r} has no training images.")
    return _features(pq.read_schema(files[0]).empty_table())[2]


def load_split(name: str, split: str, image_size: int) -> ImageSet | None:
    """Decode one split of a data set ("train", "valid" or "test") at `image_size`; None where there is no such split.

    Raises:
        DataError: for an unknown data set or one that is not for image classification.
    """
    table = _table(name, split)
    if table is None:
        return None
    image_column, label_column, classes = _features(table)
    encoded = [value["bytes"] for value in table[image_column].to_pylist()]
    images = np.empty((len(encoded), image_size, image_size, 3), dtype=np.uint8)

    def decode(i: int) -> None:
        with Image.open(io.BytesIO(encoded[i])) as image:
            images[i] = np.asarray(to_model_size(image.convert("RGB"), image_size))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the interpreter's lock while it decodes
        list(pool.map(decode, range(len(encoded)), chunksize=256))
    labels = torch.from_numpy(table[label_column].to_numpy().astype(np.int64))
    return ImageSet(torch.from_numpy(images), labels, classes)


def stratified_indices(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions 0..N-1 into `count` and N - count, each class in its share (to within one), shuffled by `seed`.

    Returns:
        The positions that were taken and the rest, both sorted.
    """
    generator = torch.Generator().manual_seed(seed)
    # Give every image its quantile within its class: the `count` lowest are then spread evenly over the classes.
    quantile = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        quantile[members[order]] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    ranked = quantile.argsort(stable=True)
    return ranked[:count].sort().values, ranked[count:].sort().values


def load_splits(training: TrainConfig, image_size: int) -> Splits:
    """The splits of the configured data set.

    Validation images are drawn from the training images (stratified, seeded), never from the test images. Where there
    is no test split, as in Tiny-ImageNet, whose test labels are secret, the published validation split is the test.

    Raises:
        DataError: where the data set has no training images or nothing to test with.
    """
    train = load_split(training.dataset, "train", image_size)
    if train is None:
        raise DataError(f"The data set {training.dataset!r} has no training images.")
    for test_name in ("test", "valid"):
        test = load_split(training.dataset, test_name, image_size)
        if test is not None:
            break
    else:
        raise DataError(f"The data set {training.dataset!r} has neither test nor validation images.")
    count = min(round(len(train) * training.validation_fraction), MAX_VALIDATION_IMAGES)
    held_out, rest = stratified_indices(train.labels, max(count, 1), training.seed)
    return Splits(train.subset(rest), train.subset(held_out), test, test_name)


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
