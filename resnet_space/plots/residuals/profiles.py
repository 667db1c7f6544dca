"""A few numbers per block or layer, by depth: layer outputs, removed blocks, early answers, gradients, comparisons."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud, curve, error_bars, level, short
from resnet_space.plots.residuals.depth import Block, depth_axis, quartiles, stage_lines

LEGEND_ABOVE = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "font": {"size": 11}}
PERCENT = {"tickformat": ".0%", "rangemode": "tozero"}


def _colours(labels: Iterable[str], order: Sequence[str]) -> dict[str, str]:
    """A colour a label, by its place in `order`, so that a network keeps its colour in charts that lack others."""
    labels = list(labels)
    return {label: palette.category((order or labels).index(label)) for label in labels}


def responses_chart(
    layers: Mapping[str, Sequence[tuple[str, float]]], *, ordered: bool = False, order: Sequence[str] = ()
) -> Chart:
    """The spread of each layer's responses, a curve a run: in layer order, or sorted from the largest down.

    Args:
        layers: run -> (layer, standard deviation) in layer order.
        ordered: sorted by magnitude, as in the lower half of He et al. 2015, figure 7.
        order: all labels, by which the colours go.
    """
    traces, colours = list[Trace](), _colours(layers, order)
    for run, responses in layers.items():
        shown = sorted(responses, key=lambda layer: -layer[1]) if ordered else responses
        traces.append(
            curve(
                run,
                range(1, len(shown) + 1),
                [value for _, value in shown],
                colours[run],
                "%{text}<br>std %{y:.3g}",
                points=5,
                extra=run,
                text=[name for name, _ in shown],
                showlegend=len(layers) > 1,
            )
        )
    what = "sorted" if ordered else "in layer order"
    return chart(
        f"Standard deviation of the layer outputs, {what}",
        traces,
        {"title": "layer, " + what, "showgrid": False, "rangemode": "tozero"},
        {"title": "standard deviation", "rangemode": "tozero"},
        height=340,
        legend=LEGEND_ABOVE,
    )


def lesion_chart(
    names: Sequence[str],
    stages: Sequence[int],
    accuracy: Sequence[float],
    intact: float,
    *,
    title: str = "Accuracy with one block removed",
    x: str = "removed block, by depth",
    hover: str = "without <b>%{text}</b>",
) -> Chart:
    """The accuracy with each lesion, by default of one block, as bars, with the whole network's as a line."""
    bars = {
        "type": "bar",
        "name": "one block removed",
        "x": list(range(len(names))),
        "y": [short(value) for value in accuracy],
        "text": list(names),
        "textposition": "none",
        "customdata": [[i] for i in range(len(names))],
        "marker": {"color": [palette.in_order(i, len(names)) for i in range(len(names))]},
        "hovertemplate": f"{hover}<br>accuracy %{{y:.1%}}<extra></extra>",
        "showlegend": False,
    }
    across = [-0.5, len(names) - 0.5]
    whole = curve(f"intact network: {100 * intact:.1f} %", across, [intact] * 2, "#888", width=1.4, dash="dash")
    return chart(
        title,
        [bars, whole],
        depth_axis(names, x),
        {"title": "accuracy", **PERCENT},
        height=380,
        shapes=stage_lines(stages),
        legend=LEGEND_ABOVE,
    )


def several_chart(title: str, counts: Sequence[int], draws: Sequence[Sequence[float]], intact: float, x: str) -> Chart:
    """The accuracy of each random draw against how many blocks were changed, with the median of each count."""
    points = cloud(
        "one draw",
        [count for count, accuracies in zip(counts, draws, strict=True) for _ in accuracies],
        [accuracy for accuracies in draws for accuracy in accuracies],
        "%{x} blocks: %{y:.1%}",
        marker={"size": 6, "opacity": 0.5, "color": palette.category(0)},
    )
    middle = [quartiles(accuracies)[1] for accuracies in draws]
    medians = curve("median", counts, middle, palette.category(1), "median %{y:.1%}", points=5)
    return chart(
        title,
        [points, medians],
        {"title": x, "showgrid": False, "rangemode": "tozero"},
        {"title": "accuracy", **PERCENT},
        height=340,
        shapes=[level(intact)],
        legend=LEGEND_ABOVE,
    )


def change_chart(names: Sequence[str], values: Sequence[float], title: str, y: str) -> Chart:
    """A value of each layer by depth, as bars."""
    bars = {
        "type": "bar",
        "x": list(range(len(names))),
        "y": [short(value) for value in values],
        "text": list(names),
        "textposition": "none",
        "marker": {"color": [palette.in_order(i, len(names)) for i in range(len(names))]},
        "hovertemplate": f"<b>%{{text}}</b><br>{y} %{{y:.3g}}<extra></extra>",
    }
    axis = depth_axis(names, "layer, by depth")
    return chart(title, [bars], axis, {"title": y, "rangemode": "tozero"}, height=320, showlegend=False)


def early_chart(names: Sequence[str], curves: Mapping[str, Sequence[float]]) -> Chart:
    """Shares of the images after each block of the last stage: right already, as in the end, and the confidence."""
    traces = [
        curve(label, range(len(names)), values, palette.category(i), f"{label}: %{{y:.1%}}", points=5)
        for i, (label, values) in enumerate(curves.items())
    ]
    return chart(
        "Answers of the head applied early",
        traces,
        depth_axis(names, "head applied after this block"),
        {"title": "share of images", "tickformat": ".0%", "range": [0, 1.02]},
        height=360,
        legend=LEGEND_ABOVE,
    )


def gradient_chart(
    names: Sequence[str], stages: Sequence[int], curves: Mapping[str, Sequence[Sequence[float]]]
) -> Chart:
    """||dL/dx|| by depth on a log axis: a curve through the medians for each way, with the quartiles as a band.

    Args:
        names: of the B blocks.
        stages: their numbers.
        curves: label -> [B][N].
    """
    traces: list[Trace] = []
    xs = list(range(len(names)))
    for i, (label, values) in enumerate(curves.items()):
        colour = palette.category(i)
        low, middle, high = (
            list(part) for part in zip(*(quartiles([v for v in row if v > 0]) for row in values), strict=True)
        )
        inside = [x for x in xs if all(map(math.isfinite, (low[x], high[x])))]
        band = curve(
            f"{label}: quartiles",
            [*inside, *reversed(inside)],
            [*(low[x] for x in inside), *(high[x] for x in reversed(inside))],
            colour,
            width=0,
            fill="toself",
            fillcolor=colour + "33",
            showlegend=False,
        )
        traces += [band, curve(label, xs, middle, colour, f"{label}<br>‖∂L/∂x‖ = %{{y:.3g}}", points=5)]
    return chart(
        "‖∂L/∂x‖ at each block's input",
        traces,
        depth_axis(names),
        {"title": "‖∂L/∂x‖", "type": "log", "exponentformat": "power"},
        height=380,
        shapes=stage_lines(stages),
        legend=LEGEND_ABOVE,
    )


Quartiles = tuple[float, float, float]


def compare_chart(
    runs: Mapping[str, tuple[Sequence[Block], Sequence[Quartiles | float]]],
    title: str = "‖F(x)‖ / ‖x‖ by depth: median and quartiles",
    y: str | dict[str, Any] = "‖F(x)‖ / ‖x‖",
    *,
    at: Mapping[str, float] | None = None,
    value: str = "median %{y:.3f}",
    order: Sequence[str] = (),
) -> Chart:
    """A value of each block of several networks by depth, a curve each.

    Networks of another depth are laid over one another from the first block to the last.

    Args:
        runs: label -> (B blocks, [B] of a value, or of (lower quartile, median, upper quartile)); at least one.
        title: of the chart.
        y: the axis, or its title.
        at: labels with a dashed line each across, such as the accuracy of the intact network; None: one line at 1.
        value: how the hover writes a value.
        order: all labels, by which the colours go.
    """
    first, *_ = (blocks for blocks, _ in runs.values())
    names = [block.name for block in first]
    alike = all([block.name for block in blocks] == names for blocks, _ in runs.values())
    traces, colours = list[Trace](), _colours(runs, order)
    for run, (blocks, values) in runs.items():
        last = max(len(blocks) - 1, 1)
        xs = [float(n) if alike else n / last for n in range(len(blocks))]
        spread = [v if isinstance(v, tuple) else (v, v, v) for v in values]
        colour = colours[run]
        if at is not None and run in at:
            ends = [-0.5, len(names) - 0.5] if alike else [0.0, 1.0]
            traces.append(curve(run, ends, [at[run]] * 2, colour, width=1.2, dash="dash", showlegend=False))
        bars = error_bars(spread, thickness=1, width=2)
        traces.append(
            curve(
                run,
                xs,
                [middle for _, middle, _ in spread],
                colour,
                f"<b>%{{text}}</b><br>{value}",
                points=5,
                extra=run,
                text=[block.name for block in blocks],
            )
            | ({"error_y": bars} if any(isinstance(v, tuple) for v in values) else {})
        )
    x = depth_axis(names) if alike else {"title": "depth: first block 0, last block 1", "showgrid": False}
    return chart(
        title,
        traces,
        x,
        {"title": y, "rangemode": "tozero"} if isinstance(y, str) else y,
        height=400,
        shapes=[*(stage_lines([block.stage for block in first]) if alike else []), *([level(1)] if at is None else [])],
        legend=LEGEND_ABOVE,
    )


def accuracy_bars(
    results: Mapping[str, tuple[float, float, float]], title: str, *, order: Sequence[str] = (), height: int = 300
) -> Chart:
    """An accuracy a network, with its interval.

    Args:
        results: label -> (lower end of the interval, accuracy, upper end).
        title: of the chart, which says what was tested.
        order: all labels, by which the colours go.
        height: in pixels.
    """
    names, values = list(results), list(results.values())
    bars = {
        "type": "bar",
        "name": "accuracy",
        "x": list(range(len(names))),
        "y": [short(middle) for _, middle, _ in values],
        "customdata": [[i] for i in range(len(names))],
        "marker": {"color": [*_colours(names, order).values()]},
        "width": 0.6,
        "hovertemplate": "%{y:.1%}<extra></extra>",
        "showlegend": False,
    }
    spread = error_bars(values, thickness=1.6, width=7)
    middles = [middle for _, middle, _ in values]
    intervals = curve("interval", range(len(names)), middles, "#777", width=0, points=1, error_y=spread)
    # In two lines, which need not be turned on a phone.
    told = [f"{name}<br>{100 * middle:.1f} %" for name, (_, middle, _) in results.items()]
    x = {"title": "", "showgrid": False, "tickvals": list(range(len(names))), "ticktext": told}
    axis = {"title": "accuracy", **PERCENT}
    return chart(
        title, [bars, intervals], x | {"range": [-0.6, len(names) - 0.4]}, axis, height=height, showlegend=False
    )
