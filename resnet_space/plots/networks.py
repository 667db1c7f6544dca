"""Networks that were judged on the same images: accuracy against what each costs, with the Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10, sqrt

from resnet_space.common.text import plotly_text, shortened
from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud, curve, error_bars

MOST_NAMED = 3  # networks beside whose points there is room for names; of more there are numbers
LONGEST_NAME = 28  # letters beside a point
MARGIN = 0.12  # of the axis' range, on both sides
# What a point stands for: in the legend, and by which shape as well as which colour.
FRONT, BEATEN, SEEN = "on the Pareto front", "not on the front", "has learned these classes before"
LOOKS = {FRONT: ("circle", palette.category(0)), BEATEN: ("diamond", "#888"), SEEN: ("star", palette.category(1))}


@dataclass(frozen=True)
class NetworkPoint:
    """A network in a chart.

    Attributes:
        number: by which tables name it, too.
        name: of it.
        cost: on the x axis, above 0.
        accuracy, low, high: its accuracy and the interval's ends, from 0 to 1.
        kind: `FRONT`, `BEATEN` or `SEEN`.
    """

    number: int
    name: str
    cost: float
    accuracy: float
    low: float
    high: float
    kind: str


def networks_chart(points: Sequence[NetworkPoint], title: str, axis: str, unit: str) -> Chart:
    """Accuracy against a cost, on a logarithmic axis; the front is a staircase through the points that are on it.

    Args:
        points: the networks.
        title: of the chart.
        axis: of the cost.
        unit: of the cost, where a point is pointed at.
    """
    ordered = sorted(points, key=lambda point: point.cost)
    front = [point for point in ordered if point.kind == FRONT]
    steps = [(front[0].cost, front[0].accuracy)] if front else []
    for before, point in pairwise(front):
        steps += [(point.cost, before.accuracy), (point.cost, point.accuracy)]
    costs = [point.cost for point in ordered]
    middle = sqrt(costs[0] * costs[-1]) if costs else 1.0
    traces: list[Trace] = []
    if len(front) > 1:
        xs, ys = [cost for cost, _ in steps], [accuracy for _, accuracy in steps]
        traces.append(curve("Pareto front", xs, ys, LOOKS[FRONT][1], dash="dot", showlegend=False))
    for kind, (symbol, colour) in LOOKS.items():
        own = [point for point in ordered if point.kind == kind]
        if not own:
            continue
        xs, ys = [point.cost for point in own], [point.accuracy for point in own]
        spread = error_bars([(point.low, point.accuracy, point.high) for point in own], thickness=1.2, width=4)
        traces.append(curve("95 % interval", xs, ys, colour, width=0, showlegend=False, error_y=spread))
        hover = f"<b>%{{customdata}}</b><br>accuracy %{{y:.1%}}<br>%{{x:.3~g}} {unit}"
        # Above the points, towards the middle: there the front's staircase does not pass.
        named = {
            "mode": "markers+text",
            "customdata": [plotly_text(point.name) for point in own],
            "text": [plotly_text(_label(point, short=len(points) > MOST_NAMED)) for point in own],
            "textposition": [f"top {'right' if point.cost <= middle else 'left'}" for point in own],
            "textfont": {"size": 11},
            "cliponaxis": False,
        }
        marker = {"size": 10, "color": colour, "symbol": symbol}
        traces.append(cloud(kind, xs, ys, hover, marker=marker) | named)
    return chart(
        title,
        traces,
        {"title": axis, "type": "log", "range": _range(costs)} | {"tickformat": "~g", "dtick": "D2"},
        {"title": "accuracy", "tickformat": ".0%"},
        height=380,
    )


def _label(point: NetworkPoint, *, short: bool) -> str:
    return str(point.number) if short else f"{point.number} {shortened(point.name, LONGEST_NAME)}"


def _range(costs: Sequence[float]) -> list[float]:
    """Of the axis, in powers of ten."""
    low, high = (log10(end(costs, default=1.0)) for end in (min, max))
    room = MARGIN * max(high - low, 0.5)
    return [low - room, high + room]
