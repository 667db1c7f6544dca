"""Something of every block or layer, by depth, for several networks: the figures of docs/studies.md."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_space.plots import palette

MARKERS = ("o", "s", "^", "D")  # not by colour alone


@dataclass(frozen=True)
class Curve:
    """One network's values in forward order; `low` and `high` are their quartiles, where there are any."""

    label: str
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title, y, x: what they say.
        curves: at most four; each is spread over the whole width, so that networks of any depth compare.
        names: of the blocks, where all curves have the same; else the axis is the relative depth.
        ends: after how many values of the first curve a stage ends.
        level: a line across, for instance 1 where F(x) is as long as x; None for no line.
    """

    title: str
    y: str
    x: str
    curves: Sequence[Curve]
    names: Sequence[str] = ()
    ends: Sequence[int] = ()
    level: float | None = None


def by_depth(panels: Sequence[Panel]) -> Figure:
    """The panels side by side."""
    figure = Figure(figsize=(max(5.4 * len(panels), 7), 3.6), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(row, panels, strict=True):
        _draw(axes, panel)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    longest = max(len(curve.values) for curve in panel.curves)
    for i, curve in enumerate(panel.curves):
        depth = np.linspace(1, longest, len(curve.values))
        style = {"color": palette.category(i), "marker": MARKERS[i % len(MARKERS)], "markersize": 4, "linewidth": 1}
        axes.plot(depth, curve.values, label=curve.label, **style)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(depth, curve.low, curve.high, color=palette.category(i), alpha=0.15, linewidth=0)
    for end in panel.ends:
        axes.axvline(end + 0.5, color="#888888", linewidth=0.8, linestyle=":")
    if panel.level is not None:
        axes.axhline(panel.level, color="#888888", linewidth=0.8, linestyle="--")
    if panel.names:
        step = max(1, len(panel.names) // 27)
        places = np.arange(1, len(panel.names) + 1)[::step]
        axes.set_xticks(places, panel.names[::step], rotation=90 if len(panel.names) > 9 else 45, fontsize=8)
    else:
        axes.set_xticks([1, longest], ["first", "last"])
    axes.set(xlabel=panel.x, ylabel=panel.y, ylim=(0, None))
    axes.set_title(panel.title, fontsize=10)
    if len(panel.curves) > 1:
        axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4)
