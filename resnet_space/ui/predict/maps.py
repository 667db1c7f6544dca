"""Heatmaps over the picture: the evidence for each class, by each method.

A map is a small picture that the browser lays over the large one, as opaque as the reader wants. All maps of a run by
one method share one scale.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_space.common.text import file_name
from resnet_space.ui.pictures import data_url, npy_url
from resnet_space.ui.predict.answer import percent
from resnet_space.ui.predict.looks import Look

TEST = "Test whether these heatmaps are faithful"


def class_maps_html(looks: Sequence[Look]) -> str:
    """A map of each class by each method; the page shows those of two classes by one method."""
    sides = "".join(_side(look, side) for side, look in enumerate(looks))
    return (
        f'<div class="heading"><h3>Evidence for each class</h3>{_methods_html()}</div>'
        "<p>Bright areas support the class. Choose a class above to compare its heatmap with that of the predicted "
        f'class.</p><div class="sides">{sides}</div>'
    )


def _methods_html() -> str:
    """The choice of the method."""
    from resnet_space.explain.saliency import METHODS

    choices = "".join(
        f'<label><input type="radio" name="method" value="{method}"{"" if i else " checked"}>{escape(label)}</label>'
        for i, (method, label) in enumerate(METHODS.items())
    )
    return f'<div class="methods" role="radiogroup" aria-label="Method of the heatmaps">{choices}</div>'


def _side(look: Look, side: int) -> str:
    from resnet_space.explain.saliency import METHODS

    # Of its own: what speaks for a class is measured in the run's logits, and each network's have another unit.
    highs = {method: float(maps.raw.max()) for method, maps in look.class_maps.items()}
    scales = "".join(
        f'<div data-method="{method}"{_hidden(i > 0)}>{scale_html(METHODS[method], 0, high)}</div>'
        for i, (method, high) in enumerate(highs.items())
    )
    rows = []
    prediction = look.prediction
    for i, (index, name, share) in enumerate(
        zip(prediction.indices, prediction.classes, prediction.probabilities, strict=True)
    ):
        cards = "".join(
            f'<div data-method="{method}"{_hidden(turn > 0)}>'
            + map_card(
                maps.raw[i],
                0,
                highs[method] or 1.0,
                f"<b>{escape(name)}</b> {percent(share)}",
                f"{METHODS[method]} for {name}: {where(maps.raw[i])}",
                f"{look.name}-{name}-{method}",
            )
            + "</div>"
            for turn, (method, maps) in enumerate(look.class_maps.items())
        )
        rows.append(f'<div class="why" data-side="{side}" data-class="{index}"{_hidden(i > 1)}>{cards}</div>')
    ask = f'<button type="button" class="ask" data-evidence="class" data-side="{side}">{TEST}</button>'
    shown = f'{scales}<div class="maps pair">{"".join(rows)}</div>{ask}'
    return side_html(look, side, f"{look.name}, {look.source}", shown)


def _hidden(is_hidden: bool) -> str:
    return " hidden" if is_hidden else ""


# What all maps have in common


def by_magnitude(value: float) -> str:
    """Three digits, wherever the point is: a range of small numbers is not "0.00 to 0.00"."""
    return f"{value:.3g}"


def scale_html(label: str, low: float | str, high: float | str) -> str:
    """The legend of the colours; its ends are numbers, or words where the maps have different ones."""
    ends = [end if isinstance(end, str) else by_magnitude(end) for end in (low, high)]
    return (
        f'<div class="scale"><span>{escape(label)}</span><span>{ends[0]}</span><span class="ramp"></span>'
        f"<span>{ends[1]}</span></div>"
    )


def map_card(values: NDArray[np.float32], low: float, high: float, words: str, alt: str, name: str) -> str:
    """A map over the picture, its caption, and its links: as a picture and as numbers."""
    from resnet_space.plots.pictures import map_png

    heat = data_url(map_png(values, low, high, smooth=True), "image/png")
    plain = file_name(name)
    return (
        f'<figure><div class="view" role="img" aria-label="{escape(alt)}"><img src="{heat}" alt=""></div>'
        f"<figcaption>{words}</figcaption>"
        f'<p class="keep"><a class="png" download="{plain}.png" href="#" aria-label="Download: {escape(alt)}">PNG</a> '
        f'<a download="{plain}.npy" href="{npy_url(values)}" aria-label="Download the values: {escape(alt)}">.npy'
        "</a></p></figure>"
    )


def side_html(look: Look, side: int, title: str, content: str) -> str:
    """A run's part of a fold, with the picture as its model sees it."""
    style = f'style="--view: url({look.view_url})"'
    return f'<section data-side="{side}" {style}><p class="of">{escape(title)}</p>{content}</section>'


def ask_html(look: Look, side: int, evidence: str) -> str:
    """The button that asks whether maps of no class, `evidence`, show where the answer comes from."""
    index, name = look.prediction.indices[0], look.prediction.classes[0]
    return (
        f'<button type="button" class="ask" data-evidence="{evidence}" data-side="{side}" data-class="{index}">Test '
        f"whether these {'gates' if evidence == 'gates' else 'maps'} show the evidence for {escape(name)}</button>"
    )


def where(values: "Any") -> str:
    """Where a map is brightest, for screen readers."""

    if float(values.max()) <= float(values.min()):
        return "the same everywhere"
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    vertical = _third(int(row), values.shape[0], ("top", "middle", "bottom"))
    horizontal = _third(int(column), values.shape[1], ("left", "centre", "right"))
    return f"brightest at the {vertical} {horizontal}"


def _third(position: int, size: int, names: Iterable[str]) -> str:
    return list(names)[min(3 * position // size, 2)]
