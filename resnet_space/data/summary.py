"""Summarise a dataset before training: the number of images per class, their size, and a few samples."""

import io
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import STRATEGIES, ModelConfig, TrainConfig
from resnet_space.data.columns import Columns, image_bytes, misfits, read_column, readable
from resnet_space.data.images import ImageError, Picture
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset

SAMPLES = 12
SAMPLE_SIDE = 320  # maximum short side of a sample in pixels: usual models see no more
LARGE_BATCH = 16  # of photographs
MOST_ACTIVATIONS = 375_000_000  # in a proposed batch: training keeps 16 bytes of each, so 6 GB
SMALL_IMAGE = 64  # pixels of the short side up to which images keep their size and have the CIFAR stem
TEST_SHARE = 0.2  # of the training images, if a dataset has no other test images
STORED = 256 / 224  # short side before the crop relative to the crop, as in torchvision's evaluation of ResNets
MIN_IMAGES_PER_CLASS = 10
MAX_IMBALANCE = 10


@dataclass(frozen=True)
class Sample:
    """A reduced image of the training split, and its class."""

    image: Image.Image
    label: str
    side: int = 0  # the short one in the file, in pixels
    seconds: float = 0.0  # of a core, to decode it


@dataclass(frozen=True)
class DatasetSummary:
    """`counts` has the images of every class by split; `side` is the samples' median short side in pixels, as in the
    files. All that is kept takes at most 10 MB.

    `warnings` say what of the splits does not fit the training images' classes. `decoding` is the seconds that it takes
    all cores to decode an image.
    """

    ref: DatasetRef
    classes: tuple[str, ...]
    counts: dict[str, list[int]]
    side: int
    samples: list[Sample]
    warnings: tuple[str, ...] = ()
    decoding: float = 0.0


def summarise(ref: DatasetRef) -> DatasetSummary:
    """Read the labels of a dataset, and a few images that are spread over its training split.

    Raises:
        UserError: for a dataset that cannot be read or contains no decodable image.
    """
    with readable(f"The dataset {ref.name!r}"):
        dataset = open_dataset(ref)
        files, columns = dataset.files, dataset.columns
        counts: dict[str, list[int]] = {}
        warnings: list[str] = []
        for split, paths in files.items():
            schema = pq.read_schema(paths[0])
            if columns.label not in schema.names:  # a test of a competition
                continue
            found, unknown = Counter[int](), Counter[str]()
            for path in paths:
                numbers, strange = columns.match(read_column([path], columns.label), pq.read_schema(path))
                found.update(numbers.tolist())
                unknown += strange
            warnings += misfits(split, columns, schema, unknown)
            if split == "train" or any(found[i] for i in range(len(columns.classes))):  # not without labels
                counts[split] = [found[i] for i in range(len(columns.classes))]
        samples = _samples(files["train"], columns)
    if not samples:
        raise UserError(f"None of the first images in {ref.name!r} can be decoded.")
    side = round(median(sample.side for sample in samples))
    decoding = median(sample.seconds for sample in samples) / (os.cpu_count() or 1)
    return DatasetSummary(ref, columns.classes, counts, side, samples, tuple(warnings), decoding)


def _samples(files: Sequence[Path], columns: Columns) -> list[Sample]:
    """Images of as many classes as there are, from row groups that are spread over the split."""
    groups = [(file, i) for file in files for i in range(pq.read_metadata(file).num_row_groups)]
    chosen = [groups[round(i)] for i in np.linspace(0, len(groups) - 1, min(len(groups), SAMPLES))]
    by_class: dict[int, list[bytes]] = {}
    generator = np.random.default_rng(0)
    for file, group in chosen:
        with pq.ParquetFile(file) as parquet:
            rows = parquet.read_row_group(group, columns=[columns.image, columns.label])
        labels, _ = columns.match(rows[columns.label], rows.schema)
        for i in generator.permutation(len(rows))[: 20 * SAMPLES]:
            encoded = image_bytes(rows[columns.image][int(i)].as_py())
            if labels[i] >= 0 and encoded:
                by_class.setdefault(int(labels[i]), []).append(encoded)
    samples: list[Sample] = []
    while by_class and len(samples) < SAMPLES:
        for label in sorted(by_class):
            try:
                samples.append(_sample(by_class[label].pop(0), columns.classes[label]))
            except ImageError:
                continue
            finally:
                if not by_class[label]:
                    del by_class[label]
    return samples[:SAMPLES]


def _sample(encoded: bytes, label: str) -> Sample:
    """At most 320 x 640 pixels, cut from the centre of a longer image: 0.8 MB."""
    started = time.thread_time()
    with Picture(io.BytesIO(encoded), short_side=SAMPLE_SIDE) as picture:
        image, side = picture.decode().image, min(picture.size)
    short = min(image.size)
    width, height = (min(length, 2 * short) for length in image.size)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box, scale = (left, top, left + width, top + height), min(SAMPLE_SIDE / short, 1)
    if scale < 1 or (width, height) != image.size:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC, box=box)
    return Sample(image, label, side, time.thread_time() - started)


def image_settings(side: int, model: ModelConfig) -> tuple[ModelConfig, dict[str, object]]:
    """The model with a suitable image size for images of this short side, and the matching settings of TrainConfig.

    A network for small images sees small ones at their size, and photographs at its own: at 224 pixels it is slow, and
    its features are poor. A network for photographs sees every image at its own size.
    """
    if model.input_size <= SMALL_IMAGE:
        small: dict[str, object] = {"crop": "padded", "batch_size": 64}
        return sized(model, SMALL_IMAGE if 40 < side <= SMALL_IMAGE else 32), small
    batch = LARGE_BATCH
    while batch > 2 and batch * model.entry.activations > MOST_ACTIVATIONS:
        batch //= 2
    return sized(model, model.input_size), {"crop": "resized", "batch_size": batch}


def suited(size: int, model: ModelConfig) -> ModelConfig:
    """The model with its options for small images, if the images will have at most 64 pixels and it was for larger."""
    small = size <= SMALL_IMAGE < model.image_size and model.entry.small_images
    return model.with_options(**model.entry.small_images) if small else model


def sized(model: ModelConfig, size: int) -> ModelConfig:
    """The model with another image size; large images are cropped from somewhat larger ones."""
    return replace(model, image_size=size, resize=round(size * STORED) if size > SMALL_IMAGE else None)


def learned_images(summary: DatasetSummary, validation_fraction: float) -> int:
    """Number of training images left after validation and test images are held out."""
    left = float(sum(summary.counts["train"]))
    if not {"test", "validation"} & set(summary.counts):
        left *= 1 - TEST_SHARE
    if not {"test", "validation"} <= set(summary.counts):
        left *= 1 - validation_fraction
    return int(left)


def cautions(summary: DatasetSummary, model: ModelConfig, training: TrainConfig) -> list[str]:
    """Problems of this training, each as one sentence that says what to do about it."""
    found = list(summary.warnings)
    train = summary.counts["train"]
    named = zip(summary.classes, train, strict=True)
    few = [f"{name} ({count})" for name, count in named if count < MIN_IMAGES_PER_CLASS]
    if few:
        subject = "One class has" if len(few) == 1 else f"{len(few)} classes have"
        found.append(
            f"{subject} fewer than {MIN_IMAGES_PER_CLASS} training images: {', '.join(few[:5])}"
            f"{' and others' if len(few) > 5 else ''}. Add some, or leave them out."
        )
    elif max(train) > MAX_IMBALANCE * min(train):
        found.append(
            f"The largest class has {max(train) / min(train):.0f} times the images of the smallest: accuracy will say "
            "little about the small ones."
        )
    if learned_images(summary, training.validation_fraction) < training.batch_size:
        found.append(
            f"The batch size {training.batch_size} exceeds the number of training images: choose a smaller one."
        )
    if model.input_size > SMALL_IMAGE and model.image_size <= SMALL_IMAGE:
        left = -(-model.image_size // model.shape.reduction)
        found.append(
            f"{model.architecture} is designed for {model.input_size} px and reduces a {model.image_size} px image to "
            f"{left} x {left} positions: choose {model.input_size} px, or starting weights for small images."
        )
    if model.image_size >= 2 * summary.side:
        found.append(
            f"The images are enlarged from {summary.side} to {model.image_size} px: that takes "
            f"{(model.image_size / summary.side) ** 2:.0f} times the computation and adds no detail"
            + (", but the network may have been trained at this size." if training.start else ".")
        )
    if training.start is None and STRATEGIES[training.strategy].start == "needed":
        found.append(
            f"The strategy {training.strategy} keeps parts of the network frozen or at low rates, and here "
            "these parts are random: "
            "choose trained weights to start from, or the strategy scratch."
        )
    if "test" not in summary.counts and "validation" not in summary.counts:
        found.append("There are no test images: a fifth of the training images is held out for testing.")
    return found
