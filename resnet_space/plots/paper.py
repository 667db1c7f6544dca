"""A chart of the page as a figure for a paper: the same data, drawn by matplotlib, with a caption below.

It knows what the residual charts are made of: points, lines, filled bands, error bars, bars, boxes of quartiles, and
straight lines across.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, PercentFormatter

WIDTH = 7.2  # inches: a page's text
PIXELS = 96  # of the page's charts, an inch
CAPTION_CHARACTERS = 118
MOST_VECTORS = 1_500  # points of one series; more would make a file that no viewer scrolls
MARKERS = {"circle": "o", "diamond": "D", "star": "*"}
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (9, 3))}


def paper_figure(charts: Sequence[Mapping[str, Any]], caption: str) -> Figure:
    """The charts below one another, and what a reader needs to know of them.

    Args:
        charts: as `resnet_space.plots` makes them.
        caption: in one paragraph. Its names may come from outside: nothing in it is read as a formula.
    """
    heights = [0.72 * chart["layout"]["height"] / PIXELS for chart in charts]
    figure = captioned(sum(heights), caption)
    panels = figure.subplots(len(charts), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, chart in zip(panels, charts, strict=True):
        _draw(axes, chart)
    return figure


def captioned(height: float, caption: str) -> Figure:
    """An empty figure of this height in inches, and below it the caption, in which nothing is read as a formula."""
    lines = textwrap.wrap(" ".join(caption.split()), CAPTION_CHARACTERS)
    below = 0.16 * len(lines) + 0.15
    share = below / (height + below)
    layout = ConstrainedLayoutEngine(rect=(0, share, 1, 1 - share))
    figure = Figure(figsize=(WIDTH, height + below), layout=layout)
    y = 0.08 / (height + below)
    figure.text(0.012, y, "\n".join(lines), fontsize=7.5, va="bottom", parse_math=False, wrap=False)
    return figure


def _draw(axes: Axes, chart: Mapping[str, Any]) -> None:
    layout = chart["layout"]
    for trace in chart["data"]:
        {"bar": _bar, "box": _box}.get(trace["type"], _scatter)(axes, trace)
    _axis(axes, "x", layout["xaxis"])
    _axis(axes, "y", layout["yaxis"])
    for shape in layout.get("shapes", ()):
        style = {"color": shape["line"]["color"], "linewidth": 0.8, "linestyle": DASHES[shape["line"]["dash"]]}
        if shape.get("yref") == "paper":
            axes.axvline(shape["x0"], zorder=0.5, **style)
        else:
            axes.axhline(shape["y0"], zorder=0.5, **style)
    axes.set_title(layout["title"]["text"], loc="left", fontsize=9, parse_math=False)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if layout.get("showlegend", True) and handles:
        columns = min(max(len(handles) // 6 + 1, 1), 3)
        legend = axes.legend(handles, labels, frameon=False, fontsize=6.5, ncols=columns, loc="best")
        for text in legend.get_texts():
            text.set_parse_math(False)


def _axis(axes: Axes, which: str, given: Mapping[str, Any]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_label_text(given["title"]["text"], fontsize=8)
    if given.get("type") == "log":
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        # As plain numbers where they span little; "plain" leaves minor ticks without any.
        low, high = axis.get_view_interval()
        if low > 0 and high / low < 1_000:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if _leads(value, (2, 5)) else ""))
            axis.set_tick_params(which="minor", labelsize=7)
    elif "tickvals" in given:
        axis.set_ticks(given["tickvals"], given["ticktext"], parse_math=False)
        if len(given["tickvals"]) > 9 and which == "x":
            axis.set_tick_params(rotation=90)
    if "range" in given and given.get("type") != "log":
        (axes.set_xlim if which == "x" else axes.set_ylim)(*given["range"])
    elif given.get("rangemode") == "tozero":
        (axes.set_xlim if which == "x" else axes.set_ylim)(0, None)
    if str(given.get("tickformat", "")).endswith("%"):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    if given.get("showgrid", True):
        axis.grid(visible=True, linewidth=0.3)


def _leads(value: float, digits: Sequence[int]) -> bool:
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return round(value / power) in digits


def _scatter(axes: Axes, trace: Mapping[str, Any]) -> None:
    x, y = _numbers(trace["x"]), _numbers(trace["y"])
    shown = trace.get("showlegend", True)
    label = trace["name"] if shown else "_"
    if trace.get("fill") == "toself":
        axes.fill(x, y, color=trace["line"]["color"], alpha=0.2, linewidth=0, label="_")
        return
    mode = trace["mode"]
    if mode == "markers":
        marker = trace["marker"]
        axes.scatter(
            x,
            y,
            s=0.45 * marker["size"] ** 2,
            c=marker["color"],
            alpha=marker.get("opacity", 1),
            marker=MARKERS[marker.get("symbol", "circle")],
            linewidths=0,
            label=label,
            rasterized=len(x) > MOST_VECTORS,
        )
        return
    line = trace["line"]
    style: dict[str, Any] = {"color": line["color"], "linewidth": 0.75 * line["width"], "label": label}
    style |= {"linestyle": DASHES[line.get("dash", "solid")], "alpha": trace.get("opacity", 1)}
    if "markers" in mode:
        style |= {"marker": "o", "markersize": 2.6}
    if "error_y" in trace:
        error = trace["error_y"]
        spread = np.stack([_numbers(error["arrayminus"]), _numbers(error["array"])])
        axes.errorbar(x, y, spread, elinewidth=0.6, capsize=1.5, **style)
    else:
        axes.plot(x, y, **style)


def _bar(axes: Axes, trace: Mapping[str, Any]) -> None:
    axes.bar(_numbers(trace["x"]), _numbers(trace["y"]), width=0.8, color=trace["marker"]["color"], label="_")


def _box(axes: Axes, trace: Mapping[str, Any]) -> None:
    colour = trace["line"]["color"]
    (x,), (low,), (middle,), (high,) = (trace[key] for key in ("x", "q1", "median", "q3"))
    stats = [{"med": middle, "q1": low, "q3": high, "whislo": low, "whishi": high}]
    style = {"color": colour, "linewidth": 1}
    axes.bxp(
        stats,
        positions=[x],
        widths=trace["width"],
        showfliers=False,
        showcaps=False,
        boxprops=style,
        medianprops=style | {"linewidth": 1.6},
        whiskerprops={"linewidth": 0},
        manage_ticks=False,
    )


def _numbers(values: Sequence[float | None]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
