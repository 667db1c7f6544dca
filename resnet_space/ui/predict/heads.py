"""The attention heads of a run: what the class token or a patch takes from each patch in one layer, and the rollout.

The layer and the query are the page's, for all runs that are shown; a run with fewer layers shows its last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Self

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costs
from resnet_space.ui.events import LATEST, QUIET, Payload, Update
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.html import place_html
from resnet_space.ui.predict.answer import percent
from resnet_space.ui.predict.figure import picture_path
from resnet_space.ui.predict.looks import Look, looked_at
from resnet_space.ui.predict.maps import ask_html, map_card, scale_html, side_html, where
from resnet_space.ui.predict.wanted import Shown, Wanted, told_by_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_space.explain.attention import HeadMaps
    from resnet_space.plots.export import Size

INTRO = (
    "<p>In every layer, each head gives each token a weighted mean of all tokens: softmax(QKᵀ/√d) V. The maps show the "
    "weights of one query token. Rollout multiplies the layers up to this one, shortcuts included (Abnar &amp; Zuidema "
    "2020). The weights are from the forward pass that gave the answer.</p>"
)
COLUMNS = ("run", "layer", "query", "map", "row", "column", "share")
PYTHON = """\
from PIL import Image
from resnet_space.explain.attention import head_maps
from resnet_space.inference import Classifier
from resnet_space.runs import Run

classifier = Classifier(Run.open("checkpoints/{run}"))
prediction = classifier.predict(Image.open({picture!r}).convert("RGB"))
maps = head_maps(classifier.model, prediction.attention, layer={layer}, query={query})
print(maps.heads.shape, maps.rollout)  # [heads, rows, columns] and [rows, columns]
"""


@dataclass(frozen=True)
class Attended:
    """Which layer is shown, from 1, or None for the last; and for which query: a patch by its row and column from 0, or
    None for the class token.
    """

    layer: int | None = None
    query: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: object) -> Self:
        """As the page's script writes it, "layer" and "query" from 1; whatever else it says is left out."""
        told = told_by_page(text)
        layer, query = told.get("layer"), told.get("query")
        layer = layer if type(layer) is int and layer > 0 else None
        if not (isinstance(query, list) and len(query) == 2 and all(type(at) is int and at > 0 for at in query)):
            return cls(layer)
        return cls(layer, (query[0] - 1, query[1] - 1))

    @property
    def words(self) -> str:
        """Of the query."""
        return "class token" if self.query is None else f"patch in row {self.query[0] + 1}, column {self.query[1] + 1}"

    def at(self, look: Look) -> Self:
        """The same for a run's layers and patches: the nearest that it has."""
        count = len(look.prediction.attention.heads)
        layer = count if self.layer is None else min(self.layer, count)
        if self.query is None:
            return type(self)(layer)
        rows, columns = _grid(look)
        return type(self)(layer, (min(self.query[0], rows - 1), min(self.query[1], columns - 1)))

    def maps(self, look: Look) -> "HeadMaps":
        """Of a run with heads."""
        from resnet_space.explain.attention import head_maps

        nearest = self.at(look)
        assert nearest.layer is not None
        return head_maps(look.classifier.model, look.prediction.attention, nearest.layer - 1, nearest.query)


def _grid(look: Look) -> tuple[int, int]:
    """Rows and columns of patches."""
    rows, columns = Attended(1).maps(look).rollout.shape
    return rows, columns


def named_maps(maps: "HeadMaps") -> dict[str, NDArray[np.float32]]:
    """Title -> map [h, w]."""
    heads = {f"Head {i}": values for i, values in enumerate(maps.heads, 1)}
    return {"Rollout": maps.rollout, "Mean of the heads": maps.mean, **heads}


def judged_maps(look: Look, attended: Attended) -> dict[str, NDArray[np.float32]]:
    """The maps to test for their faithfulness, by their titles. Raises UserError for a run without heads."""
    if not look.prediction.attention.heads:
        raise UserError(f"{look.name} has no attention heads to test.")
    nearest = attended.at(look)
    where_from = f"layer {nearest.layer}, query {nearest.words}"
    return {f"{title}, {where_from}": values for title, values in named_maps(attended.maps(look)).items()}


def heads_html(predicted: Sequence[Look], attended: Attended) -> str:
    """A fold with the choice of the layer and the query, and for each run its maps; empty where no run has heads."""
    having = [look for look in predicted if look.prediction.attention.heads]
    if not having:
        return ""
    nearest = attended.at(having[0])
    layers = max(len(look.prediction.attention.heads) for look in having)
    controls = (
        f'<div class="attended"><label>Layer <input type="range" min="1" max="{layers}" value="{nearest.layer}" '
        f'aria-valuetext="{nearest.layer} of {layers}"><output>{nearest.layer} of {layers}</output></label>'
        f'<button type="button" class="ask" data-query aria-pressed="{str(nearest.query is None).lower()}">Class token'
        f'</button><span class="note" aria-live="polite">Query: {nearest.words}. Click a patch of the picture '
        "to choose another.</span></div>"
    )
    scale = scale_html("share, each map on its own scale", "lowest", "highest")
    sides = "".join(_side(look, side, attended) for side, look in enumerate(predicted))
    return (
        f'<details class="fold" open><summary><h3>Attention heads</h3></summary>{INTRO}{controls}{scale}'
        f'<div class="sides">{sides}</div></details>'
    )


def _side(look: Look, side: int, attended: Attended) -> str:
    if not look.prediction.attention.heads:
        return side_html(look, side, look.name, f"<p>{escape(no_heads(look))}</p>")
    nearest, maps = attended.at(look), attended.maps(look)
    cards = [_picture(look, nearest)]
    for title, values in named_maps(maps).items():
        rest = max(1 - float(values.sum()), 0)  # of a row of weights
        words = f"<b>{title}</b><br>up to {percent(float(values.max()))}<br>class token {percent(rest)}"
        alt = f"{title}, layer {nearest.layer}, query {nearest.words}: {where(values)}"
        name = f"{look.name}-layer-{nearest.layer}-{title}"
        cards.append(map_card(values, float(values.min()), float(values.max()), words, alt, name))
    shown = f'<div class="maps">{"".join(cards)}</div>{ask_html(look, side, "heads")}'
    return side_html(look, side, f"{look.name}, layer {nearest.layer} ({maps.block})", shown)


def no_heads(look: Look) -> str:
    """Why a run has none, in one sentence."""
    return f"{look.name} has no attention over the whole picture, so it has no heads to show."


def _picture(look: Look, nearest: Attended) -> str:
    """The picture with the query's patch marked: a button that chooses another by a click or the arrow keys."""
    rows, columns = _grid(look)
    place = f"; --row: {nearest.query[0]}; --column: {nearest.query[1]}" if nearest.query else ""
    mark = '<span class="mark"></span>' if nearest.query else ""
    return (
        f'<figure><button type="button" class="view patches" style="--rows: {rows}; --columns: {columns}{place}" '
        f'aria-label="Query: {nearest.words}. Arrow keys or a click choose a patch.">{mark}</button>'
        f"<figcaption><b>Query</b><br>{nearest.words}</figcaption></figure>"
    )


def heads_export(predicted: Sequence[Look], shown: Shown, wanted: Wanted, attended: Attended) -> Export:
    """The maps to take away, as a figure and as numbers. Raises UserError where there are none."""
    having = [look for look in predicted if look.prediction.attention.heads]
    if not having:
        raise UserError("There are no attention heads: choose a run of a transformer.")
    found = {look.name: (look, attended.at(look), named_maps(attended.maps(look))) for look in having}
    rows = [
        (name, nearest.layer, nearest.words, title, row, column, float(f"{share:.4g}"))
        for name, (_, nearest, maps) in found.items()
        for title, values in maps.items()
        for row, line in enumerate(values.tolist(), 1)
        for column, share in enumerate(line, 1)
    ]
    first, nearest, _ = next(iter(found.values()))
    caption = (
        f"Attention of {' and '.join(found)} in layer {nearest.layer}, query: {nearest.words}. Each map has its own "
        "scale, from its lowest to its highest share. Rollout is through all layers up to this one."
    )

    def figure(size: "Size") -> "Figure":
        from resnet_space.plots.prediction import heads_figure

        return heads_figure([(name, look.view, maps) for name, (look, _, maps) in found.items()], caption, size)

    assert nearest.layer is not None
    python = PYTHON.format(
        run=first.name, picture=picture_path(wanted, shown), layer=nearest.layer - 1, query=nearest.query
    )
    name = stem(first.name, f"heads-layer-{nearest.layer}")
    return Export(name, (), caption, (COLUMNS, rows), python, figure)


class HeadsPart:
    """The maps and their buttons on the page, placed and wired; another layer or query is another forward pass.

    `wanted`: the picture and the runs, as a `Wanted`; `picture`: the visitor's own.

    Attributes:
        html: of `heads_html`.
        attended: what the page's script writes: an `Attended`.
    """

    def __init__(self, context: AppContext, wanted: gr.Textbox, picture: gr.Image) -> None:
        self.attended = gr.Textbox(visible="hidden")
        self.html = place_html("", "predict.heads(element, trigger, watch)", elem_id="heads")
        inputs = [wanted, picture, self.attended]

        def export(text: str, payload: Payload, told: str) -> Export:
            asked, _, shown, predicted = looked_at(context, text, payload)
            return heads_export(predicted, shown, asked, Attended.parse(told))

        self._exports = place_exports(inputs, export, visible=False).buttons

        @costs(0.2)
        def on_attended(text: str, payload: Payload, told: str) -> Update:
            *_, predicted = looked_at(context, text, payload)
            return self.updates(predicted, told)

        self.html.input(None, None, self.attended, js="() => resnetSpace.predict.attended()", **QUIET)
        self.attended.change(on_attended, inputs, [self.html, self._exports], **LATEST)

    def updates(self, predicted: Sequence[Look], told: object) -> Update:
        """For these runs."""
        html = heads_html(predicted, Attended.parse(told))
        return {self.html: html, self._exports: gr.update(visible=bool(html))}
