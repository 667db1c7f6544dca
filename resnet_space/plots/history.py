"""The history of image classification as charts: the year beside the error, and beside the parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_space.common.text import plotly_text
from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud

SPREAD = 0.8  # of a year: its families stand beside one another


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
    return _chart(
        "Top-5 error on ImageNet by year", known, errors, symbols, axis, "%{y:.1f} %", min, _families(networks)
    )


def parameters_chart(networks: Sequence[Milestone]) -> Chart:
    """Parameters by year, on a log axis."""
    axis = {"title": "parameters (millions)", "type": "log", "dtick": 1}
    millions = [network.parameters / 1e6 for network in networks]
    symbols = ["circle"] * len(networks)
    return _chart(
        "Parameters by year", networks, millions, symbols, axis, "%{y:.3g} million parameters", max, _families(networks)
    )


def _families(networks: Sequence[Milestone]) -> list[str]:
    """In the order of their colours, which both charts share."""
    return list(dict.fromkeys(network.family for network in networks))


def _chart(
    title: str,
    networks: Sequence[Milestone],
    ys: Sequence[float],
    symbols: Sequence[str],
    axis: dict[str, Any],
    hover: str,
    named: Callable[..., int],
    families: list[str],
) -> Chart:
    """Each family's lowest or highest point of a year is `named`; the others tell their names on hover."""
    # Years without a network take no room, as those after 1998.
    years = sorted({network.year for network in networks})
    traces: list[Trace] = []
    for (year, family), (rank, place, members) in _beside(networks).items():
        best = named(members, key=lambda n: ys[n])
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
                text=[plotly_text(networks[n].title) if n == best else "" for n in members],
                textposition="middle right" if rank % 2 else "bottom center" if named is min else "top center",
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


def _beside(networks: Sequence[Milestone]) -> dict[tuple[int, str], tuple[int, float, list[int]]]:
    """(year, family) -> its rank among those of the year, its place in the year, -0.5..0.5, and the numbers of its
    networks.
    """
    members: dict[tuple[int, str], list[int]] = {}
    for n, network in enumerate(networks):
        members.setdefault((network.year, network.family), []).append(n)
    found = {}
    for year, family in members:
        of_year = [key for key in members if key[0] == year]
        rank = of_year.index((year, family))
        found[year, family] = (rank, SPREAD * ((rank + 0.5) / len(of_year) - 0.5), members[year, family])
    return found
