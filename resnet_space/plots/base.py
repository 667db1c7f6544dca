"""What all charts share: axes, the figure that Gradio draws, fewer points.

A chart is what Plotly's library draws: {"data": [traces], "layout": {...}}. Plain dictionaries, because Plotly's own
classes check every value, which takes longer than all the rest of an update.
Texts and grids have no colours of their own: the page's style sheet gives them those of its light or dark theme.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Chart = dict[str, Any]

MAX_POINTS = 300  # of one curve: what a plot of this width can show


def chart(title: str, traces: list[dict[str, Any]], x: dict[str, Any], y: dict[str, Any], **layout: Any) -> Chart:
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
