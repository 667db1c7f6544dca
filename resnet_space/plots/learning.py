"""Learning curves: accuracy by the number of images per class, a curve for each way to train, with intervals."""

from collections.abc import Mapping, Sequence
from math import log10

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, chart, curve, error_bars

LOOKS = (("circle", "solid"), ("diamond", "dash"), ("star", "dot"))  # so that no colour is needed


def learning_chart(
    curves: Mapping[str, Sequence[tuple[int, float, float, float]]],
    title: str,
    sizes: Sequence[int],
    what: str = "images per class",
) -> Chart:
    """Accuracy on a logarithmic axis of images.

    Args:
        curves: label -> (images per class, low, mean, high) by images; low and high are the interval's ends.
        title: of the chart.
        sizes: of all curves, also those to come.
        what: the axis has.
    """
    traces = []
    for i, (label, points) in enumerate(curves.items()):
        symbol, dash = LOOKS[i % len(LOOKS)]
        colour = palette.category(i)
        bars = error_bars([(low, mean, high) for _, low, mean, high in points], thickness=1.2, width=4)
        xs, ys = [size for size, *_ in points], [mean for *_, mean, _ in points]
        hover = f"%{{x}} {what}: %{{y:.1%}}"
        marker = {"size": 9, "color": colour, "symbol": symbol}
        traces.append(
            curve(label, xs, ys, colour, hover, dash=dash, points=9, extra=label, marker=marker, error_y=bars)
        )
    ends = [log10(min(sizes, default=1)) - 0.1, log10(max(sizes, default=10)) + 0.1]
    ticks = {"tickvals": list(sizes), "ticktext": [f"{size:,}" for size in sizes]}
    return chart(
        title,
        traces,
        {"title": what, "type": "log", "range": ends} | ticks,
        {"title": "accuracy", "tickformat": ".0%", "rangemode": "tozero"},
        height=380,
    )
