"""The history of image classification as charts: the year beside the error, and beside the parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_space.common.text import plotly_text
from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud

SPREAD = 0.8  # of a year: its families stand beside one another
# Of a chart on a laptop, in pixels: what names must not overlap on.
WIDTH, HEIGHT, CHARACTER, LINE, POINT = 1_080, 300, 5.6, 12, 14
# Of a name's centre from its point, in halves of its width and in lines.
POSITIONS = {"top center": (0, 1), "bottom center": (0, -1), "middle right": (1, 0), "middle left": (-1, 0)}


@dataclass(frozen=True)
class Milestone:
    """A network.

    Attributes:
        name: in the registry.
        title: for people.
        family: which shares a colour.
        year: of publication.
        parameters: with 1,000 classes.
        top5: error on ImageNet, 0..1; None where it is not known.
        of_paper: whether its own paper has the error.
    """

    name: str
    title: str
    family: str
    year: int
    parameters: int
    top5: float | None
    of_paper: bool


def error_chart(networks: Sequence[Milestone]) -> Chart:
    """Top-5 error by year; open points where the number is not from the paper."""
    known = [network for network in networks if network.top5 is not None]
    errors = [100 * (network.top5 or 0) for network in known]
    axis = {"title": "top-5 error (%)", "rangemode": "tozero"}
    symbols = ["circle" if network.of_paper else "circle-open" for network in known]
    heights = [error / max(errors) for error in errors]
    return _chart(
        "Top-5 error on ImageNet by year", known, errors, heights, symbols, axis, "%{y:.1f} %", min, _families(networks)
    )


def parameters_chart(networks: Sequence[Milestone]) -> Chart:
    """Parameters by year, on a log axis."""
    axis = {"title": "parameters (millions)", "type": "log", "dtick": 1}
    millions = [network.parameters / 1e6 for network in networks]
    symbols = ["circle"] * len(networks)
    logs = np.log10(millions)
    heights = ((logs - logs.min()) / (np.ptp(logs) or 1)).tolist()
    hover = "%{y:.3g} million parameters"
    return _chart("Parameters by year", networks, millions, heights, symbols, axis, hover, max, _families(networks))


def _families(networks: Sequence[Milestone]) -> list[str]:
    """In the order of their colours, which both charts share."""
    return list(dict.fromkeys(network.family for network in networks))


def _chart(
    title: str,
    networks: Sequence[Milestone],
    ys: Sequence[float],
    heights: Sequence[float],
    symbols: Sequence[str],
    axis: dict[str, Any],
    hover: str,
    named: Callable[..., int],
    families: list[str],
) -> Chart:
    """Each family's lowest or highest point of a year is `named`, where there is room; the others' names are told on
    hover. `heights` are from 0, the lowest, to 1.
    """
    # Years without a network take no room, as those after 1998.
    years = sorted({network.year for network in networks})
    beside = _beside(networks)
    at = {n: (years.index(year) + place, heights[n]) for (year, _), (place, members) in beside.items() for n in members}
    best = [named(members, key=lambda n: ys[n]) for _, members in beside.values()]
    positions = _positions(at, {n: networks[n].title for n in best}, len(years))
    traces: list[Trace] = []
    for (year, family), (place, members) in beside.items():
        colour = palette.category(families.index(family))
        traces.append(
            cloud(
                family,
                [years.index(year) + place] * len(members),
                [ys[n] for n in members],
                f"<b>%{{hovertext}}</b><br>{hover}",
                marker={
                    "color": colour,
                    "size": 11,
                    "symbol": [symbols[n] for n in members],
                    "line": {"width": 2, "color": colour},
                },
                mode="markers+text",
                text=[plotly_text(networks[n].title) if n in positions else "" for n in members],
                textposition=[positions.get(n, "top center") for n in members],
                textfont={"size": 10},
                meta="roomy",
                hovertext=[f"{plotly_text(networks[n].title)}, {year}" for n in members],
                customdata=[[networks[n].name] for n in members],
                showlegend=False,
            )
        )
    return chart(
        title,
        traces,
        {"title": "year", "tickvals": list(range(len(years))), "ticktext": list(map(str, years)), "showgrid": False},
        axis,
        height=400,
        showlegend=False,
    )


def _positions(at: Mapping[int, tuple[float, float]], names: Mapping[int, str], years: int) -> dict[int, str]:
    """Of each name where it stands beside its point, on no other point and on no name; without those that have no room.

    Args:
        at: of all points, the place among the years, and the height from 0 to 1.
        names: by point.
        years: how many there are.
    """
    points = {n: (WIDTH * x / years, HEIGHT * y) for n, (x, y) in at.items()}
    taken: list[tuple[float, float, float, float]] = [(x, y, POINT, POINT) for x, y in points.values()]
    found: dict[int, str] = {}
    for n, name in names.items():
        x, y = points[n]
        wide = CHARACTER * len(name)
        for position, (right, up) in POSITIONS.items():
            box = (x + right * (wide + POINT + 4) / 2, y + up * (LINE + POINT + 2) / 2, wide, LINE)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found[n] = position
                break
    return found


def _overlap(one: tuple[float, float, float, float], two: tuple[float, float, float, float]) -> bool:
    """Of boxes: the centre, the width, the height."""
    return abs(one[0] - two[0]) < (one[2] + two[2]) / 2 and abs(one[1] - two[1]) < (one[3] + two[3]) / 2


def _beside(networks: Sequence[Milestone]) -> dict[tuple[int, str], tuple[float, list[int]]]:
    """(year, family) -> its place in the year, -0.5..0.5, and the numbers of its networks."""
    members: dict[tuple[int, str], list[int]] = {}
    for n, network in enumerate(networks):
        members.setdefault((network.year, network.family), []).append(n)
    found = {}
    for year, family in members:
        of_year = [key for key in members if key[0] == year]
        rank = of_year.index((year, family))
        found[year, family] = (SPREAD * ((rank + 0.5) / len(of_year) - 0.5), members[year, family])
    return found
