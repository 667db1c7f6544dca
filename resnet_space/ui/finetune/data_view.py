"""A dataset as one looks at it before a training: its classes, a few images, and how the model will see them."""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from html import escape

import numpy as np
from PIL import Image

from resnet_space.common.text import percent
from resnet_space.config import RunConfig, TrainConfig
from resnet_space.data.decisions import Row
from resnet_space.data.images import to_model_size
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import open_dataset
from resnet_space.data.summary import DatasetSummary, Sample
from resnet_space.ui.html import note_html
from resnet_space.ui.pictures import data_url

FIRST = 6  # samples in sight
MOST_CLASSES = 30  # with a bar each
SPLITS = {"train": "training"}  # what the page calls them
TILE = 128  # pixels of a picture on the page


def data_html(summary: DatasetSummary, config: RunConfig | None) -> str:
    """Counts and samples; folded, the classes' sizes, the splits, and where there is a configuration the samples after
    augmentation.
    """
    samples = [(sample.image, sample.label) for sample in summary.samples]
    more = tiles_html("", samples[FIRST:]) if samples[FIRST:] else ""
    more += _augmented_html(summary.samples, config) if config else ""
    return (
        f'<div class="data">{_counts_html(summary)}{tiles_html("", samples[:FIRST])}<div class="folds">'
        f"{_fold('More pictures, and as the model sees them', more) if more else ''}"
        f"{_fold('Images per class, splits', _splits_html(summary, config) + _bars_html(summary))}</div></div>"
    )


def _fold(title: str, html: str) -> str:
    return f"<details><summary>{title}</summary>{html}</details>"


def _counts_html(summary: DatasetSummary) -> str:
    counts = {split: sum(numbers) for split, numbers in summary.counts.items()}
    words = " + ".join(f"{count:,} {SPLITS.get(split, split)}" for split, count in counts.items())
    return f"<p><b>{escape(summary.ref.name)}</b>: {len(summary.classes):,} classes, {escape(words)} images</p>"


def _splits_html(summary: DatasetSummary, config: RunConfig | None) -> str:
    """Which images choose the epoch, and which judge it."""
    training = config.training if config else TrainConfig(dataset="-")
    sentences = [f"The images have {summary.side} pixels on their short side (median)."]
    if "test" not in summary.counts and "validation" not in summary.counts:
        sentences.append(
            "About a fifth of the training images is held out for testing, chosen by their content: they stay the same "
            "when you add images."
            if training.grouped_split
            else "A fifth of the training images is held out for testing."
        )
    if not ("test" in summary.counts and "validation" in summary.counts):
        sentences.append(
            f"{percent(training.validation_fraction, 0)} of the training images are held out for validation, "
            "stratified by class: they choose the best epoch."
        )
        sentences += ["Near-duplicates are kept on one side of each split."] if training.grouped_split else []
    tested = "validation" if "validation" in summary.counts and "test" not in summary.counts else "test"
    sentences.append(f"The {tested} images are evaluated once, after the last epoch.")
    return f"<p>{' '.join(sentences)}</p>"


def _bars_html(summary: DatasetSummary) -> str:
    train = summary.counts["train"]
    most = max(train)
    order = sorted(range(len(train)), key=lambda i: -train[i]) if len(set(train)) > 1 else list(range(len(train)))
    shown = order if len(order) <= MOST_CLASSES else [*order[: MOST_CLASSES // 2], *order[-MOST_CLASSES // 2 :]]
    rows = "".join(
        f'<div class="name">{escape(summary.classes[i])}</div><div class="bar"><div style="width: '
        f'{100 * train[i] / max(most, 1):.1f}%"></div></div><div class="count">{train[i]:,}</div>'
        for i in shown
    )
    rest = len(order) - len(shown)
    more = note_html(f"The largest and the smallest classes; the {rest} in between are not shown.") if rest else ""
    return f'<div class="bars">{rows}</div>{more}'


def _augmented_html(samples: Sequence[Sample], config: RunConfig) -> str:
    """The samples as one batch of the training would have them."""
    import torch

    from resnet_space.data.batches import Part, augmented

    pictures = []
    for i, sample in enumerate(samples):  # one after the other: all of them at 1,024 pixels would take 1 GB
        stored = torch.from_numpy(np.array(to_model_size(sample.image, config.model.stored_size)))[None]
        generator = torch.Generator().manual_seed(config.training.seed)
        part = Part(len(samples), torch.tensor([i]))
        seen = augmented(stored, config.model, config.training, generator, part)[0]
        pictures.append(tile(Image.fromarray(seen.round().clamp(0, 255).to(torch.uint8).numpy())))
    size = config.model.image_size
    cropped = ["cropped"] if config.training.crop == "resized" or config.training.crop_padding else []
    drawn = " and ".join([*cropped, *(["flipped"] if config.training.flip else [])])
    title = f"As the model sees them in training, at {size} x {size} pixels{f', randomly {drawn}' if drawn else ''}"
    return tiles_html(title, [(picture, sample.label) for picture, sample in zip(pictures, samples, strict=True)])


def images_at(
    ref: DatasetRef, rows: Iterable[Row], made: Callable[[Image.Image], Image.Image]
) -> dict[Row, Image.Image]:
    """Pictures of a dataset by their split and row, each as it is `made`; without those that cannot be decoded, or are
    not there. Raises UserError, OSError.
    """
    dataset, wanted = open_dataset(ref), set(rows)
    found: dict[Row, Image.Image] = {}
    for split, files in dataset.files.items():
        own = sorted(row for where, row in wanted if where == split)
        with suppress(IndexError):
            images = read_images(files, own, dataset.columns.image, made) if own else []
            found |= {(split, row): image for row, image in zip(own, images, strict=True) if image is not None}
    return found


def tiles_html(title: str, pictures: Sequence[tuple[Image.Image, str]]) -> str:
    """Small pictures in a grid, each with a caption."""
    tiles = "".join(
        f'<figure><img src="{_data_url(picture)}" alt=""><figcaption>{escape(label)}</figcaption></figure>'
        for picture, label in pictures
    )
    titled = note_html(f"{escape(title)}:") if title else ""
    return f'{titled}<div class="tiles">{tiles}</div>'


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    tile(picture).convert("RGB").save(buffer, "PNG")
    return data_url(buffer.getvalue(), "image/png")


def tile(picture: Image.Image) -> Image.Image:
    """At most a tile; without a copy of a large one."""
    from resnet_space.data.checks.tiles import contained

    return contained(picture, TILE)
