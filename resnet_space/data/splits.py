"""From a data set's files to the decoded images that a training learns from, chooses by and is judged by."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnet_space.config import TrainConfig
from resnet_space.data.sources import DataError, image_features, read_table
from resnet_space.images import to_model_size

MAX_VALIDATION_IMAGES = 5_000  # enough for a standard error of 0.7 points; He et al. 2015 hold out as many of CIFAR-10


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


def load_split(name: str, split: str, image_size: int) -> ImageSet | None:
    """Decode one split of a data set ("train", "valid" or "test") at `image_size`; None where there is no such split.

    Raises:
        DataError: for an unknown data set or one that is not for image classification.
    """
    table = read_table(name, split)
    if table is None:
        return None
    image_column, label_column, classes = image_features(table)
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
