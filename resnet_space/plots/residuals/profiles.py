"""A few numbers a block or layer, by depth: responses, lesions, early readings, gradients, and runs side by side."""

import math
from collections.abc import Mapping, Sequence

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud, curve, level, short
from resnet_space.plots.residuals.depth import Block, depth_axis, quartiles, stage_lines

LEGEND_ABOVE = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "font": {"size": 11}}
PERCENT = {"tickformat": ".0%", "rangemode": "tozero"}


def responses_chart(layers: Mapping[str, Sequence[tuple[str, float]]], *, ordered: bool = False) -> Chart:
    """The spread of each layer's responses, a curve a run: in layer order, or sorted from the largest down.

    Args:
        layers: run -> (layer, standard deviation) in layer order.
        ordered: sorted by magnitude, as in the lower half of He et al. 2015, figure 7.
    """
    traces = []
    for i, (run, responses) in enumerate(layers.items()):
        shown = sorted(responses, key=lambda layer: -layer[1]) if ordered else responses
        traces.append(
            curve(
                run,
                range(1, len(shown) + 1),
                [value for _, value in shown],
                palette.category(i),
                "%{text}<br>std %{y:.3g}",
                points=5,
                extra=run,
                text=[name for name, _ in shown],
                showlegend=len(layers) > 1,
            )
        )
    what = "sorted from the largest down" if ordered else "in layer order"
    return chart(
        f"Responses of the layers, {what}",
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
    title: str = "Accuracy with one block's F(x) set to zero",
    x: str = "dropped block, by depth",
    hover: str = "without F of <b>%{text}</b>",
) -> Chart:
    """The accuracy with each lesion, by default of one block, as bars, with the whole network's as a line."""
    bars = {
        "type": "bar",
        "name": "one block dropped",
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
    whole = curve(f"nothing dropped: {intact:.1%}", across, [intact] * 2, "#888", width=1.4, dash="dash")
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


def early_chart(names: Sequence[str], curves: Mapping[str, Sequence[float]]) -> Chart:
    """Shares of the images after each block of the last stage: right already, as in the end, and the confidence."""
    traces = [
        curve(label, range(len(names)), values, palette.category(i), f"{label}: %{{y:.1%}}", points=5)
        for i, (label, values) in enumerate(curves.items())
    ]
    return chart(
        "The head applied early: how the answer forms",
        traces,
        depth_axis(names, "read after this block"),
        {"title": "share of the images", "tickformat": ".0%", "range": [0, 1.02]},
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


def compare_chart(runs: Mapping[str, tuple[Sequence[Block], Sequence[Sequence[float]]]]) -> Chart:
    """||F(x)|| / ||x|| by depth of several runs: a curve through the medians, quartiles as bars.

    Networks of another depth are laid over one another from the first block to the last.

    Args:
        runs: run -> (B blocks, [B] of (lower quartile, median, upper quartile)); at least one.
    """
    first, *_ = (blocks for blocks, _ in runs.values())
    names = [block.name for block in first]
    alike = all([block.name for block in blocks] == names for blocks, _ in runs.values())
    traces = []
    for i, (run, (blocks, ratios)) in enumerate(runs.items()):
        last = max(len(blocks) - 1, 1)
        xs = [float(n) if alike else n / last for n in range(len(blocks))]
        spread = {
            "type": "data",
            "symmetric": False,
            "array": [short(high - middle) for _, middle, high in ratios],
            "arrayminus": [short(middle - low) for low, middle, _ in ratios],
            "thickness": 1,
            "width": 2,
        }
        traces.append(
            curve(
                run,
                xs,
                [middle for _, middle, _ in ratios],
                palette.category(i),
                "<b>%{text}</b><br>median %{y:.3f}",
                points=5,
                extra=run,
                text=[block.name for block in blocks],
                error_y=spread,
            )
        )
    x = depth_axis(names) if alike else {"title": "depth: first block 0, last block 1", "showgrid": False}
    return chart(
        "‖F(x)‖ / ‖x‖ by depth, run by run: median and quartiles",
        traces,
        x,
        {"title": "‖F(x)‖ / ‖x‖", "rangemode": "tozero"},
        height=400,
        shapes=[*(stage_lines([block.stage for block in first]) if alike else []), level(1)],
        legend=LEGEND_ABOVE,
    )
