"""The sub-tab of one picture in one block: x, F(x) and their sum as feature maps, in one colour scale around zero."""

import io
import math
from dataclasses import dataclass
from html import escape, unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.events import LATEST, QUIET, Update
from resnet_space.ui.explore.images import image_set
from resnet_space.ui.explore.measuring import Findings, findings_of
from resnet_space.ui.explore.memory import Handle
from resnet_space.ui.explore.networks import config_of, load_network
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.wording import RESIDUAL, percent
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.html import finding_html, place_html
from resnet_space.ui.pictures import data_url

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_space.plots.export import Size
    from resnet_space.residuals import BlockPictures

ABOUT = (
    "The feature maps of one block for one image: **x**, **F(x)**, and their sum before the last ReLU, in one colour "
    "scale around zero. Where F(x) is white, x passes unchanged."
)
SIZE = 224  # pixels of the image on the page
THUMBNAIL = 40  # pixels
MOST_THUMBNAILS = 120
COLUMNS = 20  # of thumbnails in the one picture that has them all


@dataclass(frozen=True, eq=False)
class BlockView:
    """A block's pictures of one of the measured images, with the image as the network sees it."""

    findings: Findings
    index: int
    image: Image.Image
    pictures: "BlockPictures"

    @classmethod
    def of(
        cls, context: AppContext, findings: Findings, block: object, index: object, channel: object = None
    ) -> "BlockView":
        """Raises UserError for an unknown block, image or channel."""
        import torch

        from resnet_space.data.batches import centre_crop, normalise
        from resnet_space.residuals import block_pictures

        blocks = findings.measured.norms.blocks
        if block not in blocks:
            raise UserError(f"There is no block {str(block)!r}: choose one from {blocks[0]} to {blocks[-1]}.")
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
    def maps(self) -> list[tuple[str, NDArray[np.float32]]]:
        """(title, map) of those in one scale. At an identity shortcut, x is shortcut(x)."""
        p, shortcut = self.pictures, "x" if self.findings.measured.norms.identity[self.block] else "shortcut(x)"
        return [(shortcut, p.shortcut), ("F(x)", p.residual), (f"{shortcut} + F(x)", p.sum)]

    @property
    def channel_words(self) -> str:
        channel = self.pictures.channel
        return "mean over channels" if channel is None else f"channel {channel} of {self.pictures.channels}"

    @property
    def words(self) -> str:
        """How large F(x) is, and how concentrated."""
        squares = np.sort((self.pictures.residual.astype(np.float64) ** 2).ravel())[::-1]
        tenth = squares[: max(len(squares) // 10, 1)].sum() / max(squares.sum(), 1e-12)
        ratio = float(self.findings.measured.norms.ratio[self.block, self.index])
        length = f"‖F(x)‖ is {percent(ratio, 0)} of ‖x‖; " if math.isfinite(ratio) else ""
        return (
            f"In {self.pictures.block}, for {self.name}: {length}{percent(tenth, 0)} of the energy of F(x) is in a "
            "tenth of the positions."
        )

    @property
    def most(self) -> float:
        """The largest absolute value: the colour scale goes from minus this to this."""
        return max(abs(self.pictures.low), abs(self.pictures.high))

    @property
    def html(self) -> str:
        """The words, the scale, the image and the maps."""
        from resnet_space.plots.pictures import SIGNED, map_png

        buffer = io.BytesIO()
        self.image.resize((SIZE, SIZE), 0).save(buffer, "PNG")
        cards = [_card(buffer.getvalue(), self.name, "as the network sees it", self.name)]
        for title, values in self.maps:
            size = f"{values.shape[1]} x {values.shape[0]} positions, {values.min():.2f} to {values.max():.2f}"
            cards.append(_card(map_png(values, -self.most, self.most, colours=SIGNED), title, size, f"{title}: {size}"))
        return (
            f'{finding_html(self.words)}<div class="scale"><span>{self.channel_words}</span>'
            f'<span>{-self.most:.2f}</span><span class="ramp signed"></span><span>{self.most:.2f}</span></div>'
            f'<div class="maps">{"".join(cards)}</div>'
        )

    @property
    def caption(self) -> str:
        return (
            f"{self.findings.network.label}, {self.pictures.block}, {self.name}, one of "
            f"{self.findings.images.words(self.findings.measured.images)}; {self.channel_words}, one colour scale. "
            f"{RESIDUAL} Sum before the last ReLU."
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

        return pictures_figure(self.image, self.maps, self.most, self.caption, size)

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


def thumbnails_html(context: AppContext, findings: Findings, chosen: int) -> str:
    """The measured images as buttons, the first of very many, the chosen one marked; all in one picture."""
    data = image_set(findings.images, config_of(context, findings.network), public=context.public)
    count = min(findings.measured.images, MOST_THUMBNAILS)
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * THUMBNAIL, rows * THUMBNAIL))
    for i in range(count):
        small = Image.fromarray(data.images[i].numpy()).resize((THUMBNAIL, THUMBNAIL))
        sheet.paste(small, (i % COLUMNS * THUMBNAIL, i // COLUMNS * THUMBNAIL))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)

    def button(i: int, name: str) -> str:
        x, y = (-THUMBNAIL * place for place in (i % COLUMNS, i // COLUMNS))
        told = f'data-index="{i}" aria-label="{name}" title="{name}" aria-pressed="{str(i == chosen).lower()}"'
        return f'<button type="button" {told} style="background-position: {x}px {y}px"></button>'

    buttons = "".join(map(button, range(count), findings.names))
    sheet_url = data_url(buffer.getvalue(), "image/jpeg")
    return f'<div class="thumbnails" style="--sheet: url({sheet_url})">{buttons}</div>'


class PicturesTab:
    """The sub-tab, placed and wired; `findings` is the handle of what was measured."""

    def __init__(self, context: AppContext, findings: gr.State) -> None:
        self.context = context
        with gr.Tab("One picture", id="pictures") as self.tab:
            gr.Markdown(ABOUT, elem_classes="about")
            self.thumbnails = place_html("", "explore.thumbnails(element, trigger)", elem_id="pictures-thumbnails")
            with gr.Row():
                self.block = gr.Dropdown([], label="Block", min_width=120)
                self.image = gr.Number(0, label="Image", precision=0, minimum=0, min_width=120)
                self.channel = gr.Textbox("", label="Channel", placeholder="mean over all", max_lines=1, min_width=120)
            self.shown = place_html(elem_id="pictures-shown")
            self.address = gr.Textbox("", visible="hidden")
            chosen = [findings, *self.chosen]
            place_exports(chosen, lambda handle, *values: BlockView.of(context, findings_of(handle), *values).export)

        @costly
        def on_change(handle: Handle[Findings] | None, *values: Any) -> Any:
            return self.draw(findings_of(handle), *values) if isinstance(handle, Handle) else {self.shown: gr.skip()}

        @costly
        def on_thumbnail(
            handle: Handle[Findings] | None, block: str, image: object, channel: str, event: gr.EventData
        ) -> Update:
            index = getattr(event, "index", None)
            return {self.image: index} | self.draw(findings_of(handle), block, index, channel)

        outputs = [self.shown, self.thumbnails, self.address]
        changes = [self.block.input, self.image.input, self.channel.submit, self.channel.blur]
        gr.on(changes, on_change, chosen, outputs, **LATEST)
        self.thumbnails.select(on_thumbnail, chosen, [self.image, *outputs], trigger_mode="multiple", **QUIET)
        js = "(text) => resnetSpace.explore.shows('pictures', text)"
        self.address.change(None, self.address, None, js=js, **QUIET)

    @property
    def chosen(self) -> list[Any]:
        """What says which picture."""
        return [self.block, self.image, self.channel]

    @property
    def outputs(self) -> list[Any]:
        return [*self.chosen, self.thumbnails, self.shown, self.address]

    def choices(self, findings: Findings, block: object, image: object) -> Update:
        """For what was just measured: what was chosen, where there is such a block and image, else the first."""
        blocks, last = findings.measured.norms.blocks, findings.measured.images - 1
        index = image if isinstance(image, int | float) and 0 <= image <= last else 0
        return {
            self.block: gr.update(choices=blocks, value=block if block in blocks else blocks[0]),
            self.image: gr.update(value=int(index), maximum=last, info=f"0 to {last:,}"),
        }

    def draw(self, findings: Findings, block: object, image: object, channel: object) -> Update:
        """The maps, the thumbnails and the address. Raises UserError."""
        view = BlockView.of(self.context, findings, block, image, channel)
        channel = "" if view.pictures.channel is None else view.pictures.channel
        return {
            self.shown: view.html,
            self.thumbnails: thumbnails_html(self.context, findings, view.index),
            self.address: urlencode({"picture": view.index, "block": view.pictures.block, "channel": channel}),
        }
