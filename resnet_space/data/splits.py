"""From a data set's files to the decoded images that a training learns from, chooses by and is judged by."""

import errno
import io
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.config import TrainConfig
from resnet_space.data.images import ImageError, open_image, to_model_size
from resnet_space.data.sources import DataError, classification_columns, split_files
from resnet_space.data.summary import TEST_SHARE
from resnet_space.hardware import image_memory_bytes, use_any_core

MAX_VALIDATION_IMAGES = 5_000  # enough for a standard error of 0.7 points; He et al. 2015 hold out as many of CIFAR-10

DECODING = ".images-"  # begins the names of files of decoded images, which end with their process
MEMORY_SHARE = 0.25  # of the memory there is that a split's pixels may take, unless RESNET_SPACE_IMAGE_MEMORY_MB says


class UnlabelledError(DataError):
    """A split without any image that could be learned from or judged by."""


@dataclass(frozen=True)
class ImageSet:
    """Decoded images of one split: `images` uint8 [N, H, W, 3], `labels` int64 [N] into `classes`.

    Images on disk, of which there are more than memory should hold, are never copied as a whole: `rows` then says which
    of `images` belong to this set. `source` has their row numbers in the files they came from, where that is known.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    rows: Tensor | None = None
    source: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, indices: Tensor) -> Tensor:
        """The images at positions of this set: uint8 [n, H, W, 3]."""
        return self.images[indices if self.rows is None else self.rows[indices]]

    def subset(self, indices: Tensor) -> "ImageSet":
        smaller = replace(
            self, labels=self.labels[indices], source=None if self.source is None else self.source[indices]
        )
        if self.rows is None:
            return replace(smaller, images=self.images[indices])
        return replace(smaller, rows=self.rows[indices])

    def to(self, device: torch.device) -> "ImageSet":
        """On the device, but for images on disk, or more than half of a GPU's free memory: they follow by batches."""
        too_many = device.type == "cuda" and self.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2
        if self.rows is not None or too_many:
            return self
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """A training learns from `train`, chooses its best epoch by `validation`, and is judged by `test`, once."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    test_name: str  # which split of the data set that is: "test", "validation" or "train"


def load_split(
    files: Sequence[Path], size: int, *, progress: Callable[[int, int], None] | None = None, folder: Path | None = None
) -> ImageSet:
    """Decode the images of parquet files to squares of `size` pixels, once and for all.

    Where they would take more than a quarter of the memory, or than `RESNET_SPACE_IMAGE_MEMORY_MB`, they go to a file
    that ends with them, or with the process. Images that cannot be decoded, and those without a label, are left out.

    Args:
        files: of one split, at least one.
        size: height and width in pixels: of the model's image before its centre crop.
        progress: is told (decoded, all) now and then.
        folder: for the file; that of the system for temporary files where it is left out.

    Raises:
        DataError: for a data set that is not for image classification, or has no image that can be decoded, or where
            the disk has no room for them.
    """
    columns = classification_columns(pq.read_schema(files[0]))
    count = sum(pq.read_metadata(file).num_rows for file in files)
    images = _room_for((count, size, size, 3), folder)
    labels = np.full(count, -1, dtype=np.int64)

    def decode(i: int, value: dict[str, bytes], label: int | None) -> None:
        try:
            images[i] = np.asarray(to_model_size(open_image(io.BytesIO(value["bytes"])), size))
        except (ImageError, TypeError):  # damaged, or kept outside the file
            return
        labels[i] = -1 if label is None or label >= len(columns.classes) else label

    done = 0
    # Pillow releases the interpreter's lock while it decodes.
    with ThreadPoolExecutor(os.cpu_count(), initializer=use_any_core) as pool:
        for file in files:
            with pq.ParquetFile(file) as parquet:
                for rows in parquet.iter_batches(1_000, columns=[columns.image, columns.label]):
                    values, numbers = rows[columns.image].to_pylist(), rows[columns.label].to_pylist()
                    list(pool.map(decode, range(done, done + len(values)), values, numbers, chunksize=64))
                    done += len(values)
                    if progress:
                        progress(done, count)
    usable = torch.from_numpy(np.flatnonzero(labels >= 0))
    if not len(usable):
        raise UnlabelledError("None of the data set's images can be decoded, or none has a label.")
    on_disk = isinstance(images, np.memmap)
    rows = torch.arange(count)
    data = ImageSet(
        torch.from_numpy(images), torch.from_numpy(labels), columns.classes, rows if on_disk else None, source=rows
    )
    return data if len(usable) == count else data.subset(usable)


def decoded_bytes(counts: Iterable[int], size: int, *, handed_on: bool = False) -> int:
    """What the decoded images of splits take on the disk, with so many images of `size` pixels in each.

    `handed_on` to other processes they are written once more, also those that memory has room for.
    """
    sizes = [count * size * size * 3 for count in counts]
    return sum(taken for taken in sizes if taken > _memory()) + handed_on * sum(sizes)


def _memory() -> int:
    try:
        return image_memory_bytes(MEMORY_SHARE)
    except ValueError as error:
        raise DataError(str(error)) from None


def _room_for(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.uint8]:
    """Memory for so many pixels, or a file that looks like it."""
    size = math.prod(shape)
    if size <= _memory():
        return np.empty(shape, dtype=np.uint8)
    # It has a name, so that whoever measures the folder finds it.
    with tempfile.NamedTemporaryFile(prefix=DECODING, suffix=".tmp", dir=folder, delete=False) as file:
        try:
            _claim_room(file, size)
            images = np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
        except OSError as error:
            os.unlink(file.name)
            raise DataError(
                f"The data set's {shape[0]:,} images take {size / 1e9:,.1f} GB at {shape[1]} x {shape[2]} pixels, and "
                f"the disk has no room for them ({error.strerror or error}): choose a smaller image size or a smaller "
                "data set."
            ) from None
    weakref.finalize(images, Path(file.name).unlink, missing_ok=True)
    return images


def _claim_room(file: IO[bytes], size: int) -> None:
    """Have the disk keep so many bytes for the file: a process that writes to mapped memory is killed where it is full.

    Raises:
        OSError: where it has less.
    """
    free = shutil.disk_usage(file.name).free
    if size > free * 0.9:
        raise OSError(errno.ENOSPC, f"it has {free / 1e9:,.1f} GB")
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", errno.EOPNOTSUPP) not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.truncate(file.fileno(), size)  # of a system that cannot promise it


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


def load_splits(
    training: TrainConfig,
    size: int,
    *,
    progress: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
) -> Splits:
    """The splits of the configured data set, decoded to `size` pixels.

    Validation images are drawn from the training images (stratified, seeded) unless the data set has validation and
    test images of its own. Where it has no test images, its validation images take their part, as in Tiny-ImageNet,
    whose test labels are secret; where it has neither, a fifth of the training images.

    Where memory has no room for them they go to files in `folder`, which nobody else uses, and where a process that
    was killed may have left its own.

    Raises:
        DataError: where the data set cannot be read or has too few images, or the disk has no room for them.
    """
    for left in folder.glob(f"{DECODING}*") if folder is not None else ():
        left.unlink(missing_ok=True)
    files = split_files(training.dataset, training.dataset_config, training.dataset_revision)
    if "train" not in files:
        raise DataError(f"The data set {training.dataset!r} has no training images.")
    sets = {"train": load_split(files["train"], size, progress=progress, folder=folder)}
    for split in ("validation", "test"):
        if split in files:
            with suppress(UnlabelledError):  # as the tests of competitions are
                sets[split] = load_split(files[split], size, progress=progress, folder=folder)
    train = sets["train"]
    test_name = next((split for split in ("test", "validation") if split in sets), "train")
    if test_name == "train":
        test_images, rest = stratified_indices(train.labels, max(round(len(train) * TEST_SHARE), 1), training.seed + 1)
        train, test = train.subset(rest), train.subset(test_images)
    else:
        test = sets[test_name]
    if test_name == "test" and "validation" in sets:
        validation = sets["validation"]
    else:
        count = min(round(len(train) * training.validation_fraction), MAX_VALIDATION_IMAGES)
        held_out, rest = stratified_indices(train.labels, max(count, 1), training.seed)
        train, validation = train.subset(rest), train.subset(held_out)
    if not len(train):
        raise DataError(f"The data set {training.dataset!r} has too few images to learn from and to test with.")
    return Splits(train, validation, test, test_name)
