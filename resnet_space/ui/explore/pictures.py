"""The sub-tab of what one block does to one image, as pictures: x, F(x) and their sum, in one colour scale."""

import io
import math
from dataclasses import dataclass
from html import escape, unescape
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.events import LATEST
from resnet_space.ui.explore.images import image_set
from resnet_space.ui.explore.measuring import Findings, findings_of
from resnet_space.ui.explore.memory import Handle
from resnet_space.ui.explore.networks import load_network
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.pictures import data_url

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from PIL.Image import Image

    from resnet_space.plots.export import Size
    from resnet_space.residuals import BlockPictures

ABOUT = (
    "What one block changes in one image: **x** as it comes in, **F(x)**, and their sum before the last ReLU, in one "
    "colour scale; the mean over the channels, or one of them. Where F(x) is at 0 in the scale, x passes unchanged."
)
SIZE = 224  # pixels of the image on the page


@dataclass(frozen=True, eq=False)
class BlockView:
    """A block's pictures of one of the measured images, with the image as the network sees it."""

    findings: Findings
    index: int
    image: "Image"
    pictures: "BlockPictures"

    @classmethod
    def of(
        cls, context: AppContext, findings: Findings, block: object, index: object, channel: object = None
    ) -> "BlockView":
        """Raises UserError for what is not there."""
        import torch
        from PIL import Image

        from resnet_space.data.batches import centre_crop, normalise
        from resnet_space.residuals import block_pictures

        blocks = findings.measured.norms.blocks
        if block not in blocks:
            raise UserError(f"There is no block {str(block)!r}: choose one of {blocks[0]} to {blocks[-1]}.")
        n = _whole("image", index, findings.measured.images)
        c = None if channel is None or not str(channel).strip() else _whole("channel", channel, 1_000_000)
        with context.slots.taken("pictures of blocks"):
            loaded = load_network(context, findings.network)
            data = image_set(findings.images, loaded.config, public=context.public)
            pixels = centre_crop(data.pixels(torch.tensor([n])), loaded.config.image_size)
            with loaded.lock:
                pictures = block_pictures(loaded.model, normalise(pixels, loaded.config), str(block), c)
        return cls(findings, n, Image.fromarray(pixels[0].numpy()), pictures)

    @property
    def block(self) -> int:
        return self.findings.measured.norms.blocks.index(self.pictures.block)

    @property
    def name(self) -> str:
        """Of the image, as it was measured."""
        return unescape(self.findings.names[self.index])

    @property
    def maps(self) -> "list[tuple[str, NDArray[np.float32]]]":
        """(title, map) of those in one scale. At an identity x is what the shortcut carries."""
        p, shortcut = self.pictures, "x" if self.findings.measured.norms.identity[self.block] else "shortcut(x)"
        return [(shortcut, p.shortcut), ("F(x)", p.residual), (f"{shortcut} + F(x)", p.sum)]

    @property
    def channel_words(self) -> str:
        channel = self.pictures.channel
        return "mean over the channels" if channel is None else f"channel {channel} of {self.pictures.channels}"

    @property
    def words(self) -> str:
        """What to see in them."""
        squares = np.sort((self.pictures.residual.astype(np.float64) ** 2).ravel())[::-1]
        tenth = squares[: max(len(squares) // 10, 1)].sum() / max(squares.sum(), 1e-12)
        ratio = float(self.findings.measured.norms.ratio[self.block, self.index])
        length = f"F(x) is {ratio:.0%} as long as x, and " if math.isfinite(ratio) else ""
        return (
            f"In {self.pictures.block}, for {self.name}: {length}{tenth:.0%} of its square lie in a tenth of the "
            "positions."
        )

    @property
    def html(self) -> str:
        """The words, the scale, the image and the maps."""
        from resnet_space.plots.pictures import map_png

        p = self.pictures
        buffer = io.BytesIO()
        self.image.resize((SIZE, SIZE), 0).save(buffer, "PNG")
        cards = [_card(buffer.getvalue(), self.name, "as the network sees it", self.name)]
        for title, values in self.maps:
            size = f"{values.shape[1]} x {values.shape[0]} positions, {values.min():.2f} to {values.max():.2f}"
            cards.append(_card(map_png(values, p.low, p.high), title, size, f"{title}: {size}"))
        return (
            f'<p class="finding">{escape(self.words)}</p>'
            f'<div class="scale"><span>{self.channel_words}</span><span>{p.low:.2f}</span><span class="ramp"></span>'
            f'<span>{p.high:.2f}</span></div><div class="maps">{"".join(cards)}</div>'
        )

    @property
    def caption(self) -> str:
        return (
            f"{self.findings.network.label}, {self.pictures.block}, {self.name}, one of "
            f"{self.findings.images.words(self.findings.measured.images)}; "
            f"{self.channel_words}, all in one scale. F(x) is what the residual branch gives to the addition; the sum "
            "is before the last ReLU."
        )

    @property
    def table(self) -> tuple[list[str], list[list[Any]]]:
        """One row a position."""
        height, width = self.pictures.sum.shape
        return ["row", "column", *(title for title, _ in self.maps)], [
            [y, x, *(float(values[y, x]) for _, values in self.maps)] for y in range(height) for x in range(width)
        ]

    @property
    def python(self) -> Python:
        p = self.pictures
        measured = f"block_pictures(model, torch.cat(images)[{self.index}][None], {p.block!r}, {p.channel})"
        return Python("block_pictures", measured, "found.shortcut, found.residual, found.sum")

    def figure(self, size: "Size") -> "Figure":
        from resnet_space.plots.pictures import pictures_figure

        return pictures_figure(self.image, self.maps, self.pictures.low, self.pictures.high, self.caption, size)

    @property
    def export(self) -> Export:
        name = stem(self.findings.network.label, self.pictures.block, "pictures")
        lines = self.python.lines(self.findings.network, self.findings.images)
        return Export(name, [], self.caption, self.table, lines, self.figure)


def _whole(what: str, value: Any, below: int) -> int:
    """Raises UserError for anything but a whole number from 0 up."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number < below:
        raise UserError(f"The {what} is {value}, but must be a whole number from 0 to {below - 1:,}.")
    return number


def _card(png: bytes, title: str, below: str, alt: str) -> str:
    caption = f"<b>{escape(title)}</b><br>{below}"
    url = data_url(png, "image/png")
    return f'<figure><img src="{url}" alt="{escape(alt)}"><figcaption>{caption}</figcaption></figure>'


@dataclass(frozen=True)
class PicturesTab:
    """What a click on a point sets."""

    block: gr.Dropdown
    image: gr.Number

    @property
    def outputs(self) -> list[Any]:
        return [self.block, self.image]

    def update(self, findings: Findings) -> dict[Any, Any]:
        """For what was just measured."""
        blocks, last = findings.measured.norms.blocks, findings.measured.images - 1
        info = f"0 to {last:,}, in the order they were measured"
        return {
            self.block: gr.update(choices=blocks, value=blocks[0]),
            self.image: gr.update(value=0, maximum=last, info=info),
        }


def build_pictures(context: AppContext, findings: gr.State) -> PicturesTab:
    """Place the sub-tab and wire its events; `findings` is the handle of what was measured."""
    with gr.Tab("Pictures", id="pictures") as tab:
        gr.Markdown(ABOUT, elem_classes="about")
        with gr.Row():
            block = gr.Dropdown([], label="Block", min_width=120)
            image = gr.Number(0, label="Image", precision=0, minimum=0, min_width=120)
            channel = gr.Textbox("", label="Channel", placeholder="the mean over all", max_lines=1, min_width=120)
        shown = gr.HTML('<p class="note">Press Measure first.</p>', apply_default_css=False, elem_id="pictures-shown")
        chosen = [findings, block, image, channel]
        place_exports(chosen, lambda handle, *values: BlockView.of(context, findings_of(handle), *values).export)

    @costly
    def on_change(handle: Handle[Findings] | None, *values: Any) -> Any:
        if not isinstance(handle, Handle):
            return gr.skip()
        return BlockView.of(context, findings_of(handle), *values).html

    gr.on([block.change, image.change, channel.submit, channel.blur, tab.select], on_change, chosen, shown, **LATEST)
    return PicturesTab(block, image)
