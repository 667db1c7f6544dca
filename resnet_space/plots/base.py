"""Shared by all charts: axes, the figure that Gradio draws, thinning of points.

A chart is what Plotly's library draws: {"data": [traces], "layout": {...}}. Plain dictionaries, because Plotly's own
classes check every value, which takes longer than all the rest of an update.
Texts and grids have no colours of their own: the page's style sheet gives them those of its light or dark theme.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Chart = dict[str, Any]
Trace = dict[str, Any]

MAX_POINTS = 300  # of one curve: what a plot of this width can show


def short(value: float) -> float | None:
    """Round to four digits, enough for a plot; None for non-finite numbers, which JSON lacks."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _values(values: Iterable[Any]) -> list[Any]:
    return [short(value) if isinstance(value, float) else value for value in values]


def curve(
    name: str,
    xs: Iterable[Any],
    ys: Iterable[Any],
    colour: str,
    hover: str = "",
    *,
    width: float = 1.8,
    dash: str = "solid",
    points: float = 0,
    extra: str = "",
    **more: Any,
) -> Trace:
    """A line through values; where one is not finite it has a gap.

    Args:
        name: in the legend.
        xs, ys: its values.
        colour: of the line.
        hover: what is told at a point; nothing if it is left out.
        width, dash: of the line.
        points: the size of the points on it.
        extra: told beside the hover.
        more: what else Plotly takes.
    """
    told = {"hovertemplate": f"{hover}<extra>{extra}</extra>"} if hover else {"hoverinfo": "skip"}
    marked = {"mode": "lines+markers", "marker": {"size": points, "color": colour}} if points else {"mode": "lines"}
    line = {"color": colour, "width": width, "dash": dash}
    return {"type": "scatter", "name": name, "x": _values(xs), "y": _values(ys), "line": line} | marked | told | more


def cloud(name: str, xs: Iterable[Any], ys: Iterable[Any], hover: str, *, marker: dict[str, Any], **more: Any) -> Trace:
    """Points; the arguments are those of `curve`."""
    points = {"type": "scatter", "mode": "markers", "name": name, "x": _values(xs), "y": _values(ys)}
    return points | {"marker": marker, "hovertemplate": f"{hover}<extra></extra>"} | more


def error_bars(spread: Iterable[tuple[float, float, float]], *, thickness: float, width: float) -> dict[str, Any]:
    """Around the middle ones of (low, middle, high)."""
    spread = list(spread)
    return {
        "type": "data",
        "symmetric": False,
        "array": [short(high - middle) for _, middle, high in spread],
        "arrayminus": [short(middle - low) for low, middle, _ in spread],
        "thickness": thickness,
        "width": width,
    }


def upright(x: float, *, colour: str = "#888", width: float = 1, dash: str = "dot") -> dict[str, Any]:
    """A line from the bottom to the top."""
    line = {"color": colour, "width": width, "dash": dash}
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def level(y: float) -> dict[str, Any]:
    """A dashed line across, to compare with."""
    line = {"color": "#888", "width": 1.2, "dash": "dash"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def chart(title: str, traces: list[Trace], x: dict[str, Any], y: dict[str, Any], **layout: Any) -> Chart:
    axis = {"showline": True, "ticks": "outside", "zeroline": False, "automargin": True}
    return {
        "data": traces,
        "layout": {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "title": {"text": title, "font": {"size": 13}, "x": 0, "xref": "container", "y": 1}
            | {"yref": "container", "yanchor": "top", "pad": {"t": 14, "l": 14}},
            "showlegend": True,  # also for a single curve: nothing moves when a second one comes
            "margin": {"l": 56, "r": 16, "t": 64, "b": 48},
            "height": 340,
            "hovermode": "closest",
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "font": {"size": 12}},
            "uirevision": "keep",  # a refresh does not take the reader's zoom away
            "xaxis": axis | x | {"title": {"text": x["title"], "standoff": 8}},
            "yaxis": axis | y | {"title": {"text": y["title"], "standoff": 8}},
        }
        | layout,
    }


def figure(chart: Chart) -> "Figure":
    """The chart for `gr.Plot`."""
    from plotly.graph_objects import Figure

    return Figure(chart).update_layout(template="none")


def thinned(xs: Sequence[float], ys: Sequence[float], most: int = MAX_POINTS) -> tuple[list[float], list[float]]:
    """At most `most` points: means over equal stretches, so that no spike is picked or lost by chance."""
    if len(xs) <= most:
        return list(xs), list(ys)
    edges = [len(xs) * i // most for i in range(most + 1)]
    spans = list(pairwise(edges))
    return [xs[end - 1] for _, end in spans], [sum(ys[a:b]) / (b - a) for a, b in spans]
