"""Whether a map of one picture can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_space.common.text import plotly_text
from resnet_space.plots import palette
from resnet_space.plots.base import Chart, chart, cloud, curve


@dataclass(frozen=True)
class MeasuredMap:
    """One measure of a map, beside the same of maps that know nothing; `label` says which way is better."""

    label: str
    value: float
    random: tuple[float, ...]
    centre: float


def evidence_chart(title: str, measures: Sequence[MeasuredMap]) -> Chart:
    """A row a measure: the map, the random maps and the blob in the centre on one axis of probability."""
    labels = [plotly_text(measure.label) for measure in measures]
    random = cloud(
        "random",
        [value for measure in measures for value in measure.random],
        [label for label, measure in zip(labels, measures, strict=True) for _ in measure.random],
        "a random map: %{x:.3f}",
        marker={"symbol": "line-ns-open", "size": 13, "color": "#888", "line": {"width": 1.4}},
    )
    named = [
        cloud(
            name,
            values,
            labels,
            f"{name}: %{{x:.3f}}",
            marker={"symbol": symbol, "size": 12, "color": colour, "line": {"color": "#fff", "width": 1}},
        )
        for name, symbol, colour, values in (
            ("centre", "diamond", palette.category(1), [measure.centre for measure in measures]),
            ("this map", "circle", palette.category(0), [measure.value for measure in measures]),
        )
    ]
    return chart(
        plotly_text(title),
        [random, *named],
        {"title": "probability", "tickformat": ".2f", "nticks": 6},
        {"title": "", "type": "category", "autorange": "reversed", "showgrid": True},
        height=250,
        margin={"l": 120, "r": 16, "t": 64, "b": 44},
    )


def curves_chart(fractions: Sequence[float], insertion: Sequence[float], deletion: Sequence[float]) -> Chart:
    """The class's probability while the map's brightest pixels are put in first, or taken away first."""
    traces = [
        curve(name, fractions, values, colour, "%{x:.0%} of the pixels: %{y:.2f}", width=2, dash=dash)
        for name, values, colour, dash in (
            ("put in", insertion, palette.category(0), "solid"),
            ("taken away", deletion, palette.category(1), "dot"),
        )
    ]
    return chart(
        "Brightest pixels first",
        traces,
        {"title": "pixels", "range": [0, 1], "tickformat": ".0%"},
        {"title": "probability", "range": [0, 1.02], "tickformat": ".1f"},
        height=250,
        margin={"l": 52, "r": 16, "t": 64, "b": 44},
    )
