"""A data set as one looks at it before a training: its classes, a few images, and how the model will see them."""

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from resnet_space.config import RunConfig
from resnet_space.data.images import to_model_size
from resnet_space.data.summary import DatasetSummary, Sample
from resnet_space.ui.pictures import data_url

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_CLASSES = 30  # with a bar each
TILE = 128  # pixels of a picture on the page


def data_html(summary: DatasetSummary, config: RunConfig | None) -> str:
    """Bars for the classes' sizes, samples, the same samples after augmentation (where there is a configuration)."""
    return (
        f'<div class="data">{_counts_html(summary, config)}{_bars_html(summary)}'
        f"{tiles_html('Some of them', [(sample.image, sample.label) for sample in summary.samples])}"
        f"{_augmented_html(summary.samples, config) if config else ''}</div>"
    )


def cautions_html(sentences: Sequence[str]) -> str:
    return "".join(f'<p class="caution">{escape(sentence)}</p>' for sentence in sentences)


def _counts_html(summary: DatasetSummary, config: RunConfig | None) -> str:
    counts = {split: sum(numbers) for split, numbers in summary.counts.items()}
    words = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    share = config.training.validation_fraction if config else 0.1
    split = []
    if "test" not in counts and "validation" not in counts:
        split.append("a fifth of the training images is held out to test with")
    if not ("test" in counts and "validation" in counts):
        split.append(f"{share:.0%} of the training images choose the best epoch (stratified, by the seed)")
    tested = "validation" if "validation" in counts and "test" not in counts else "test"
    split.append(f"the {tested} images judge the result, once, at the end")
    return (
        f"<p><b>{escape(summary.ref.name)}</b>: {len(summary.classes)} classes; {words} images, about {summary.side} "
        f"pixels on their short side. {'; '.join(split).capitalize()}.</p>"
    )


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
    more = (
        f'<p class="note">The largest and the smallest classes; {rest} between them are not shown.</p>' if rest else ""
    )
    return f'<div class="bars">{rows}</div>{more}'


def _augmented_html(samples: Sequence[Sample], config: RunConfig) -> str:
    """The samples as one batch of the training would have them."""
    import numpy as np
    import torch
    from PIL import Image

    from resnet_space.data.batches import Part, augmented

    pictures = []
    for i, sample in enumerate(samples):  # one after the other: all of them at 1,024 pixels would take 1 GB
        stored = torch.from_numpy(np.array(to_model_size(sample.image, config.model.stored_size)))[None]
        generator = torch.Generator().manual_seed(config.training.seed)
        part = Part(len(samples), torch.tensor([i]))
        seen = augmented(stored, config.model, config.training, generator, part)[0]
        pictures.append(tile(Image.fromarray(seen.round().clamp(0, 255).to(torch.uint8).numpy())))
    size = config.model.image_size
    title = f"As the model sees them in training, at {size} x {size} pixels, cut and mirrored by chance"
    return tiles_html(title, [(picture, sample.label) for picture, sample in zip(pictures, samples, strict=True)])


def tiles_html(title: str, pictures: "Sequence[tuple[Image, str]]") -> str:
    """Small pictures in a grid, each with a caption."""
    tiles = "".join(
        f'<figure><img src="{_data_url(picture)}" alt=""><figcaption>{escape(label)}</figcaption></figure>'
        for picture, label in pictures
    )
    return f'<p class="note">{escape(title)}:</p><div class="tiles">{tiles}</div>'


def _data_url(picture: "Image") -> str:
    buffer = io.BytesIO()
    tile(picture).convert("RGB").save(buffer, "PNG")
    return data_url(buffer.getvalue(), "image/png")


def tile(picture: "Image") -> "Image":
    """At most a tile; without a copy of a large one."""
    from PIL import ImageOps

    return picture if max(picture.size) <= TILE else ImageOps.contain(picture, (TILE, TILE))
