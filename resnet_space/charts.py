"""Plain data -> interactive Plotly charts for the page.

A chart is what Plotly's library draws: {"data": [traces], "layout": {...}}. Plain dictionaries, because Plotly's own
classes check every value, which takes longer than all the rest of an update.
Texts and grids have no colours of their own: the page's style sheet gives them those of its light or dark theme.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from resnet_space import palette
from resnet_space.runs import Metric, last_metric
from resnet_space.text import plotly_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Chart = dict[str, Any]

MAX_POINTS = 300  # of one curve: what a plot of this width can show
MAX_RATES = 100  # of one part's learning rate, which is smooth
MOST_CELLS_WITH_NUMBERS = 15  # classes of a confusion matrix whose counts fit into its cells


@dataclass(frozen=True)
class BlockNorms:
    """A block's norms over N images, for the residual charts."""

    name: str
    identity: bool
    shortcut: Sequence[float]
    residual: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Not a number where the shortcut is zero everywhere."""
        return [f / x if x else math.nan for f, x in zip(self.residual, self.shortcut, strict=True)]


def _chart(title: str, traces: list[dict[str, Any]], x: dict[str, Any], y: dict[str, Any], **layout: Any) -> Chart:
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


def _phase_lines(histories: dict[str, list[Metric]], *, by_epoch: bool) -> list[dict[str, Any]]:
    """A dashed line in the run's colour where its next phase begins."""
    lines = []
    for i, metrics in enumerate(histories.values()):
        start = last_metric(metrics, "start") or {}
        done = 0
        for phase in start.get("phases", [])[:-1]:
            done += phase["epochs"]
            x = done + 0.5 if by_epoch else done * start["steps_per_epoch"]
            line = {"color": palette.category(i), "width": 1.2, "dash": "dash"}
            lines.append({"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line})
    return lines


def _span(low: float, high: float) -> dict[str, Any]:
    """An axis that shows all of this, until the reader zooms. With a "range" a longer one would end the zoom."""
    return {"autorange": True, "autorangeoptions": {"minallowed": low, "maxallowed": high, "include": [low, high]}}


def _curve(name: str, xs: Sequence[float], ys: Sequence[float], colour: str, value: str) -> dict[str, Any]:
    x, y = thinned(xs, ys)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": [float(f"{v:.4g}") for v in y],
        "line": {"color": colour, "width": 1.8},
        "hovertemplate": f"{name}<br>iteration %{{x}}<br>{value}<extra></extra>",
    }


def _by_iteration(
    title: str, histories: dict[str, list[Metric]], key: str, y_title: str, value: str, scale: float = 1.0
) -> Chart:
    """One curve a run of what its steps tell under `key`."""
    traces, last = [], 1 if histories else 100
    for i, (name, metrics) in enumerate(histories.items()):
        last = max([last, *(m["epochs"] * m["steps_per_epoch"] for m in metrics if m["event"] == "start")])
        steps = [m for m in metrics if m["event"] == "step" and key in m]
        xs, ys = [m["step"] for m in steps], [m[key] * scale for m in steps]
        traces.append(_curve(name, xs, ys, palette.category(i), value))
    return _chart(
        title,
        traces,
        {"title": "iteration", "showgrid": False} | _span(0, last),
        {"title": y_title, "rangemode": "tozero"},
        shapes=_phase_lines(histories, by_epoch=False),
    )


def loss_chart(histories: dict[str, list[Metric]]) -> Chart:
    """Training loss by iteration, one curve a run."""
    return _by_iteration("Loss by iteration", histories, "loss", "training loss (nats)", "loss %{y:.3f}")


def speed_chart(histories: dict[str, list[Metric]]) -> Chart:
    """Images a second by iteration, one curve a run."""
    return _by_iteration("Speed", histories, "images_per_second", "images/s", "%{y:,.0f} images/s")


def memory_chart(histories: dict[str, list[Metric]]) -> Chart:
    """The trainer's memory by iteration, one curve a run: the GPU's where there is one, else the machine's."""
    return _by_iteration("Memory of the trainer", histories, "memory", "memory (GB)", "%{y:.2f} GB", scale=1e-9)


def rates_chart(metrics: Sequence[Metric]) -> Chart:
    """The learning rate of every part of one run by iteration; a gap where a part is frozen."""
    steps = [m for m in metrics if m["event"] == "step" and "rates" in m]  # older runs have none
    parts = list(dict.fromkeys(part for m in steps for part in m["rates"]))
    traces = []
    # Every n-th, not a mean: the curves of the parts share their iterations, and a frozen part has no rate.
    kept = steps[:: math.ceil(len(steps) / MAX_RATES) or 1]
    for i, part in enumerate(parts):
        trace = _curve(part, [], [], palette.in_order(i, len(parts)), "rate %{y:.2g}")
        traces.append(trace | {"x": [m["step"] for m in kept], "y": [m["rates"].get(part) or None for m in kept]})
    last = max([1, *(m["epochs"] * m["steps_per_epoch"] for m in metrics if m["event"] == "start")])
    return _chart(
        "Learning rate of every part",
        traces,
        {"title": "iteration", "showgrid": False} | _span(0, last),
        {"title": "learning rate", "type": "log", "exponentformat": "power", "dtick": 1},
        shapes=_phase_lines({"": list(metrics)}, by_epoch=False),
        legend={"font": {"size": 11}, "y": 1, "yanchor": "top"},  # beside the plot: there are too many for a line
    )


def confusion_chart(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Chart:
    """A confusion matrix [C, C] as a heat map: rows are the true classes, columns the predicted; colours are shares.

    A square root between share and colour: a few per cent of mistakes are what one looks for.
    """
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    cells = {
        "type": "heatmap",
        "x": list(map(plotly_text, classes)),
        "y": list(map(plotly_text, classes)),
        "z": [[round(math.sqrt(share), 4) for share in row] for row in shares],
        "customdata": [
            [[count, share] for count, share in zip(*rows, strict=True)] for rows in zip(counts, shares, strict=True)
        ],
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Viridis",
        "showscale": False,
        "hovertemplate": "%{y}, taken for %{x}:<br>%{customdata[0]} images, %{customdata[1]:.1%}<extra></extra>",
    }
    if len(classes) <= MOST_CELLS_WITH_NUMBERS:
        cells |= {"text": [[str(count) if count else "" for count in row] for row in counts], "texttemplate": "%{text}"}
    side = min(max(320, 30 * len(classes) + 120), 760)
    return _chart(
        "Confusion: click a cell to see its images",
        [cells],
        {"title": "predicted class", "type": "category", "showgrid": False, "tickangle": -45},
        {"title": "true class", "type": "category", "showgrid": False, "autorange": "reversed"},
        height=side,
        showlegend=False,
        margin={"l": 70, "r": 16, "t": 44, "b": 70},
    )


def reliability_chart(bins: Sequence[tuple[float, float, int]]) -> Chart:
    """Accuracy against confidence, of (mean confidence, accuracy, images) a bin, with the diagonal where both agree."""
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "name": "as sure as right",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": "#888", "width": 1.2, "dash": "dash"},
        "hoverinfo": "skip",
    }
    largest = max((count for *_, count in bins), default=1)
    points = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "this model; larger points are more images",
        "x": [confidence for confidence, _, _ in bins],
        "y": [accuracy for _, accuracy, _ in bins],
        "text": [f"{count:,} images" for *_, count in bins],
        "marker": {"size": [6 + 14 * math.sqrt(count / largest) for *_, count in bins]},
        "line": {"color": palette.category(0), "width": 1.5},
        "hovertemplate": "%{text}<br>confidence %{x:.1%}<br>accuracy %{y:.1%}<extra></extra>",
    }
    return _chart(
        "Calibration: is it as often right as it is sure?",
        [diagonal, points],
        {"title": "confidence", "range": [0, 1.02], "tickformat": ".0%"},
        {"title": "accuracy", "range": [0, 1.02], "tickformat": ".0%"},
    )


def accuracy_chart(histories: dict[str, list[Metric]]) -> Chart:
    """Accuracy by epoch: validation solid, training dotted, the test as a star at the end; one colour a run."""
    traces: list[dict[str, Any]] = []
    last = 1 if histories else 10
    for i, (name, metrics) in enumerate(histories.items()):
        last = max([last, *(m["epochs"] for m in metrics if m["event"] == "start")])
        epochs = [m for m in metrics if m["event"] == "epoch"]
        test = [m for m in metrics if m["event"] == "test"]
        colour = palette.category(i)
        for key, label, dash in (
            ("validation_accuracy", "validation", "solid"),
            ("train_accuracy", "training", "dot"),
        ):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if dash == "solid" else "lines",
                    "name": name if dash == "solid" else f"{name}, training",
                    "legendgroup": name,
                    "showlegend": dash == "solid",
                    "x": [m["epoch"] for m in epochs],
                    "y": [m[key] for m in epochs],
                    "line": {"color": colour, "width": 2 if dash == "solid" else 1.4, "dash": dash},
                    "marker": {"size": 5},
                    "hovertemplate": f"{name}, {label}<br>epoch %{{x}}<br>%{{y:.1%}}<extra></extra>",
                }
            )
        if test:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": f"{name}, test",
                    "legendgroup": name,
                    "showlegend": False,
                    "x": [max((m["epoch"] for m in epochs), default=0)],
                    "y": [test[-1]["accuracy"]],
                    "marker": {"symbol": "star", "size": 13, "color": colour, "line": {"width": 1, "color": "#888"}},
                    "hovertemplate": f"{name}, test<br>%{{y:.1%}}<extra></extra>",
                }
            )
    return _chart(
        "Accuracy: — validation, ⋯ training, ★ test",
        traces,
        {
            "title": "epoch",
            "showgrid": False,
            "tick0": 0,
            "dtick": max(math.ceil(last / 10), 1),
        }
        | _span(0.5, last + 0.5),
        {"title": "accuracy", "range": [0, 1.02], "tickformat": ".0%"},
        shapes=_phase_lines(histories, by_epoch=True),
    )


def range_chart(points: Sequence[tuple[float, float]], suggested: float | None) -> Chart:
    """Smoothed loss against the head's learning rate of a range test, with the suggestion marked."""
    curve = {
        "type": "scatter",
        "mode": "lines",
        "name": "loss while the rate rises",
        "x": [rate for rate, _ in points],
        "y": [loss for _, loss in points],
        "line": {"color": palette.category(0), "width": 2},
        "hovertemplate": "rate %{x:.2g}<br>loss %{y:.3f}<extra></extra>",
    }
    traces: list[dict[str, Any]] = [curve]
    if suggested is not None:
        at = min(points, key=lambda point: abs(math.log(point[0] / suggested)))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"suggested: {suggested:.2g}, where it falls fastest",
                "x": [at[0]],
                "y": [at[1]],
                "marker": {"symbol": "star", "size": 15, "color": palette.category(4)},
                "hovertemplate": f"suggested rate {suggested:.2g}<extra></extra>",
            }
        )
    title = "Range test: the loss while the learning rate rises"
    return _chart(
        title if suggested is not None else f"{title}; it never falls, so there is no suggestion",
        traces,
        {"title": "learning rate of the head", "type": "log", "exponentformat": "power"},
        {"title": "training loss (nats), smoothed"},
    )


def norms_chart(blocks: list[BlockNorms], images: list[str]) -> Chart:
    """||F(x)|| against ||shortcut(x)||, a point an image and a colour a block, log axes, with the diagonal."""
    values = [v for block in blocks for v in (*block.shortcut, *block.residual) if v > 0]
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "name": "‖F(x)‖ = ‖x‖",
        "x": [low, high],
        "y": [low, high],
        "line": {"color": "#888", "width": 1.2, "dash": "dash"},
        "hoverinfo": "skip",
    }
    clouds = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": block.name + ("" if block.identity else " (new shape)"),
            "x": list(block.shortcut),
            "y": list(block.residual),
            "text": images,
            "marker": {
                "color": palette.in_order(i, len(blocks)),
                "size": 7,
                "opacity": 0.8,
                "symbol": "circle" if block.identity else "diamond",
                "line": {"width": 0.5, "color": "rgba(128,128,128,0.8)"},
            },
            "hovertemplate": (f"<b>{block.name}</b>, %{{text}}<br>‖x‖ %{{x:.3g}}<br>‖F(x)‖ %{{y:.3g}}<extra></extra>"),
        }
        for i, block in enumerate(blocks)
    ]
    ticks = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
    log = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return _chart(
        "‖F(x)‖ against ‖x‖: every image in every block",
        [diagonal, *clouds],
        {"title": "‖x‖ on the shortcut"} | log,
        {"title": "‖F(x)‖ of the residual branch"} | log,
        height=520,
        margin={"l": 56, "r": 16, "t": 48, "b": 48},
        # Below the plot, where any number of blocks has room.
        legend={"orientation": "h", "yanchor": "top", "y": -0.14, "font": {"size": 11}, "itemsizing": "constant"},
    )


def ratio_chart(blocks: list[BlockNorms], stage_ends: list[int]) -> Chart:
    """||F(x)|| / ||x|| by depth: median and quartiles a block, all images behind, lines between stages."""
    boxes = [
        {
            "type": "box",
            "name": block.name,
            "y": block.ratios,
            "boxpoints": "all",
            "pointpos": 0,
            "jitter": 0.5,
            "marker": {"color": palette.in_order(i, len(blocks)), "size": 3, "opacity": 0.45},
            "line": {"width": 1.5},
            "fillcolor": "rgba(128,128,128,0.15)",
            "showlegend": False,
            "hovertemplate": f"{block.name}<br>‖F(x)‖ / ‖x‖ = %{{y:.3f}}<extra></extra>",
        }
        for i, block in enumerate(blocks)
    ]
    ends = [
        {"type": "line", "x0": end - 0.5, "x1": end - 0.5, "yref": "paper", "y0": 0, "y1": 1}
        | {"line": {"color": "#888", "width": 1, "dash": "dot"}}
        for end in stage_ends
    ]
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
    return _chart(
        "‖F(x)‖ / ‖x‖ by depth: median, quartiles, every image",
        boxes,
        {"title": "block, by depth", "showgrid": False, "type": "category"},
        {"title": "‖F(x)‖ / ‖x‖", "rangemode": "tozero"},
        height=380,
        margin={"l": 56, "r": 16, "t": 48, "b": 48},
        showlegend=False,
        shapes=[*ends, one | {"line": {"color": "#888", "width": 1.2, "dash": "dash"}}],
    )
