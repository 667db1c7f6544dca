"""What one block does to one image, as pictures: x, F(x) and their sum, in one colour scale."""

import io
from dataclasses import dataclass
from html import escape, unescape
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_space.serve.refusals import refusal
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings, opened
from resnet_space.ui.explore.images import image_set
from resnet_space.ui.pictures import data_url

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from resnet_space.residuals import BlockPictures

SHOWN = 224  # pixels


@dataclass(frozen=True, eq=False)
class Looked:
    """A block's pictures of one of the measured images, with the image as the network sees it."""

    found: Findings
    index: int
    image: "Image"
    pictures: "BlockPictures"

    @property
    def name(self) -> str:
        """Of the image, as it was measured."""
        return unescape(self.found.names[self.index])

    @property
    def maps(self) -> "list[tuple[str, NDArray[np.float32]]]":
        """(title, map) of those in one scale. At an identity x is what the shortcut carries."""
        p = self.pictures
        same = self.found.measured.norms.identity[self.found.measured.norms.blocks.index(p.block)]
        first = [("x", p.shortcut)] if same else [("shortcut(x)", p.shortcut)]
        return [*first, ("F(x)", p.residual), ("x + F(x)" if same else "shortcut(x) + F(x)", p.sum)]

    @property
    def ratio(self) -> float:
        norms = self.found.measured.norms
        return float(norms.ratio[norms.blocks.index(self.pictures.block), self.index])

    @property
    def channel_words(self) -> str:
        channel = self.pictures.channel
        return "mean over the channels" if channel is None else f"channel {channel} of {self.pictures.channels}"


def look(workshop: Workshop, found: Findings, block: object, index: object, channel: object) -> Looked:
    """Raises gr.Error for what is not there."""
    import torch
    from PIL import Image

    from resnet_space.data.batches import centre_crop, normalise
    from resnet_space.residuals import block_pictures

    blocks = found.measured.norms.blocks
    if block not in blocks:
        raise refusal(f"There is no block {str(block)!r}: choose one of {blocks[0]} to {blocks[-1]}.")
    n = _whole("image", index, found.measured.images)
    c = None if channel is None or not str(channel).strip() else _whole("channel", channel, 1_000_000)
    with workshop.slots.taken("pictures of blocks"):
        subject = opened(workshop, found.subject)
        data = image_set(found.images, subject.config, public=workshop.public)
        pixels = centre_crop(data.pixels(torch.tensor([n])), subject.config.image_size)
        try:
            with subject.lock:
                pictures = block_pictures(subject.model, normalise(pixels, subject.config), str(block), c)
        except ValueError as error:
            raise refusal(error) from None
    return Looked(found, n, Image.fromarray(pixels[0].numpy()), pictures)


def _whole(what: str, value: Any, below: int) -> int:
    """Raises gr.Error for anything but a whole number from 0 up."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number < below:
        raise refusal(f"The {what} is {value}, but must be a whole number from 0 to {below - 1:,}.")
    return number


def looked_html(looked: Looked) -> str:
    """The image and the maps, with the scale."""
    from resnet_space.plots.pictures import map_png

    p = looked.pictures
    buffer = io.BytesIO()
    looked.image.resize((SHOWN, SHOWN), 0).save(buffer, "PNG")
    cards = [_card(buffer.getvalue(), f"<b>{escape(looked.name)}</b><br>as the network sees it", looked.name)]
    for title, values in looked.maps:
        size = f"{values.shape[1]} x {values.shape[0]} places, {values.min():.2f} to {values.max():.2f}"
        cards.append(_card(map_png(values, p.low, p.high), f"<b>{escape(title)}</b><br>{size}", f"{title}: {size}"))
    scale = (
        f'<div class="scale"><span>{looked.channel_words}</span><span>{p.low:.2f}</span><span class="ramp"></span>'
        f"<span>{p.high:.2f}</span></div>"
    )
    return f'{_words_html(looked)}{scale}<div class="maps">{"".join(cards)}</div>'


def _words_html(looked: Looked) -> str:
    return f'<p class="finding">{escape(looked_words(looked))}</p>'


def looked_words(looked: Looked) -> str:
    """What to see in them."""
    squares = np.sort((looked.pictures.residual.astype(np.float64) ** 2).ravel())[::-1]
    top = squares[: max(len(squares) // 10, 1)].sum() / max(squares.sum(), 1e-12)
    return words.picture_words(looked.pictures.block, looked.name, looked.ratio, float(top))


def pictures_caption(looked: Looked) -> str:
    return (
        f"{looked.found.subject}, {looked.pictures.block}, {looked.name}, one of "
        f"{looked.found.images.words(looked.found.measured.images)}; "
        f"{looked.channel_words}, all in one scale. F(x) is what the residual branch gives to the addition; the sum is "
        "before the last ReLU."
    )


def pictures_rows(looked: Looked) -> tuple[list[str], list[list[Any]]]:
    """One row a place."""
    titles = [title for title, _ in looked.maps]
    maps = [values for _, values in looked.maps]
    height, width = maps[0].shape
    return ["row", "column", *titles], [
        [y, x, *(float(values[y, x]) for values in maps)] for y in range(height) for x in range(width)
    ]


def _card(png: bytes, caption: str, alt: str) -> str:
    url = data_url(png, "image/png")
    return f'<figure><img src="{url}" alt="{escape(alt)}"><figcaption>{caption}</figcaption></figure>'
