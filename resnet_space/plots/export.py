"""A chart of the page as a figure to take away: the same data, drawn by matplotlib for a slide or for a paper.

It knows what the charts of the page are made of: points, lines, filled bands, error bars, bars, boxes of quartiles,
heat maps, and straight lines across.
"""

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, PercentFormatter

PIXELS = 96  # of the page's charts, an inch
LETTER = 0.5  # width of an average letter, in sizes of its font
LINE = 1.25  # height of a line of text, in sizes of its font
POINTS = 72  # of a font, an inch
MOST_VECTORS = 1_500  # points of one series; more would make a file that no viewer scrolls
MARKERS = {"circle": "o", "diamond": "D", "star": "*", "square": "s", "triangle-up": "^", "cross": "P"}
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3))}


@dataclass(frozen=True)
class Size:
    """What a figure is made for.

    Attributes:
        width: in inches.
        height: in inches; None: as high as its charts need.
        text: in points, of ordinary text.
        line: width of a curve, as a multiple of a thin one.
    """

    width: float
    height: float | None
    text: float
    line: float

    def wrapped(self, text: str, width: float) -> list[str]:
        """The text in lines of at most this width in inches."""
        return textwrap.wrap(" ".join(text.split()), max(int(width * POINTS / (LETTER * self.text)), 1))


SIZES: dict[str, Size] = {
    "slide": Size(40 / 3, 7.5, 17, 2.2),  # 16:9, as presentation programs have it
    "paper": Size(3.5, None, 7, 1),  # one column of two
}


def exported_figure(charts: Sequence[Mapping[str, Any]], caption: str, size: Size) -> Figure:
    """The charts side by side on a slide, below one another in a paper's column, and what a reader needs to know.

    Args:
        charts: as `resnet_space.plots` makes them.
        caption: in one paragraph. Its names may come from outside: nothing in it is read as a formula.
        size: what it is for.
    """
    heights = [chart["layout"]["height"] / PIXELS for chart in charts]
    if size.height is None:  # a chart of the page is about twice as wide
        figure, place = captioned(0.62 * sum(heights), caption, size)
        panels = place.subfigures(len(charts), 1, squeeze=False, height_ratios=heights)[:, 0]
    else:
        figure, place = captioned(size.height, caption, size)
        rows = 1 if len(charts) < 4 else 2
        columns = math.ceil(len(charts) / rows)
        panels = place.subfigures(rows, columns, squeeze=False).ravel()
        size = replace(size, width=size.width / columns, text=size.text * min(1, 2 / columns, 2.5 / columns / rows))
    for panel, chart in zip(panels, charts, strict=False):  # of an uneven number one panel stays empty
        _draw(panel, chart, size)
    return figure


def captioned(height: float, caption: str, size: Size) -> tuple[Figure, SubFigure]:
    """A figure with a caption at its bottom, in which nothing is read as a formula, and the room above it.

    Args:
        height: in inches, of the room, where the size has no height of its own.
        caption: in one paragraph.
        size: what it is for.
    """
    lines = size.wrapped(caption, size.width - 0.2)
    below = (LINE * size.text * len(lines) + 8) / POINTS
    whole = size.height if size.height is not None else height + below
    figure = Figure(
        figsize=(size.width, whole), layout=ConstrainedLayoutEngine(w_pad=0.008 * size.width, h_pad=0.008 * size.width)
    )
    room, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[whole - below, below])[:, 0]
    bottom.text(
        0.1 / size.width,
        0.5,
        "\n".join(lines),
        fontsize=size.text * 0.95,
        va="center",
        linespacing=LINE,
        parse_math=False,
    )
    return figure, room


def _draw(panel: SubFigure, chart: Mapping[str, Any], size: Size) -> None:
    """One chart into a panel of this size."""
    axes, layout = panel.subplots(), chart["layout"]
    for trace in chart["data"]:
        {"bar": _bar, "box": _box, "heatmap": _heatmap}.get(trace["type"], _scatter)(axes, trace, size)
    _axis(axes, "x", layout["xaxis"], size)
    _axis(axes, "y", layout["yaxis"], size)
    for shape in layout.get("shapes", ()):
        style = {
            "color": shape["line"]["color"],
            "linewidth": 0.8 * size.line,
            "linestyle": DASHES[shape["line"]["dash"]],
        }
        if shape.get("yref") == "paper":
            axes.axvline(shape["x0"], zorder=0.5, **style)
        else:
            axes.axhline(shape["y0"], zorder=0.5, **style)
    title = "\n".join(size.wrapped(layout["title"]["text"], size.width * 0.7))
    axes.set_title(title, loc="left", fontsize=1.15 * size.text, parse_math=False)
    axes.tick_params(labelsize=0.9 * size.text, width=0.6 * size.line, length=2.5 * size.line)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_linewidth(0.6 * size.line)
    handles, labels = axes.get_legend_handles_labels()
    if layout.get("showlegend", True) and handles:
        _legend(panel, handles, labels, size)


def _legend(panel: SubFigure, handles: list[Any], labels: list[str], size: Size) -> None:
    """Below the chart, where it covers no data, in as many columns as there is room for."""
    entry = LETTER * size.text * (max(map(len, labels)) + 7) / POINTS
    columns = min(max(int(size.width / entry), 1), len(labels))
    legend = panel.legend(
        handles, labels, frameon=False, fontsize=0.9 * size.text, ncols=columns, loc="outside lower left"
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _axis(axes: Axes, which: str, given: Mapping[str, Any], size: Size) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_label_text(given["title"]["text"], fontsize=size.text)
    if given.get("type") == "log":
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        # As plain numbers where they span little; "plain" leaves minor ticks without any.
        low, high = axis.get_view_interval()
        if low > 0 and high / low < 1_000:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if _leads(value, (2, 5)) else ""))
            axis.set_tick_params(which="minor", labelsize=0.9 * size.text)
    elif given.get("type") == "category":
        pass  # a heat map names its own
    elif "tickvals" in given:
        texts = [html.unescape(text.replace("<br>", "\n")) for text in given["ticktext"]]
        axis.set_ticks(given["tickvals"], texts, parse_math=False)
        if len(given["tickvals"]) > 9 and which == "x":
            axis.set_tick_params(rotation=90)
    if "autorangeoptions" in given:
        (axes.set_xlim if which == "x" else axes.set_ylim)(*given["autorangeoptions"]["include"])
    elif "range" in given and given.get("type") != "log":
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


def _scatter(axes: Axes, trace: Mapping[str, Any], size: Size) -> None:
    x, y = _numbers(trace["x"]), _numbers(trace["y"])
    shown = trace.get("showlegend", True)
    label = trace["name"] if shown else "_"
    if trace.get("fill") == "toself":
        axes.fill(x, y, color=trace["line"]["color"], alpha=0.2, linewidth=0, label="_")
        return
    mode = trace["mode"]
    if mode in ("markers", "markers+text"):
        marker = trace["marker"]
        symbols = np.broadcast_to(marker.get("symbol", "circle"), len(x))
        sizes, colors = (np.broadcast_to(marker[part], len(x)) for part in ("size", "color"))
        for symbol in dict.fromkeys(symbols):
            of, is_open = symbols == symbol, symbol.endswith("-open")
            colour: dict[str, Any] = {"facecolors": "none", "edgecolors": colors[of]} if is_open else {"c": colors[of]}
            axes.scatter(
                np.asarray(x)[of],
                np.asarray(y)[of],
                s=0.45 * (sizes[of] * size.line**0.5) ** 2,
                alpha=marker.get("opacity", 1),
                marker=MARKERS[symbol.removesuffix("-open")],
                label=label,
                rasterized=len(x) > MOST_VECTORS,
                **colour,
                linewidths=size.line if is_open else 0,
            )
        if "text" in mode:
            _texts(axes, trace, size)
        return
    line = trace["line"]
    style: dict[str, Any] = {"color": line["color"], "linewidth": 0.75 * line["width"] * size.line, "label": label}
    style |= {"linestyle": DASHES[line.get("dash", "solid")], "alpha": trace.get("opacity", 1)}
    if "markers" in mode:
        style |= {"marker": "o", "markersize": 2.6 * size.line}
    if "error_y" in trace:
        error = trace["error_y"]
        spread = np.stack([_numbers(error["arrayminus"]), _numbers(error["array"])])
        axes.errorbar(x, y, spread, elinewidth=0.6 * size.line, capsize=1.5 * size.line, **style)
    else:
        axes.plot(x, y, **style)


def _texts(axes: Axes, trace: Mapping[str, Any], size: Size) -> None:
    """Beside points, where Plotly has them: "top left", "middle right", "bottom center" ..."""
    places = np.broadcast_to(trace["textposition"], len(trace["text"]))
    for x, y, text, place in zip(trace["x"], trace["y"], trace["text"], places, strict=True):
        upright, across = place.split()
        sideways = {"left": -1, "center": 0, "right": 1}[across]
        upwards = {"bottom": -1, "middle": 0, "top": 1}[upright]
        axes.annotate(
            html.unescape(text),
            (x, y),
            ((0.3 if upwards else 0.6) * size.text * sideways, 0.4 * size.text * upwards),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[sideways],
            va={-1: "top", 0: "center", 1: "bottom"}[upwards],
            fontsize=trace.get("textfont", {}).get("size", 13) / 16 * size.text,
            parse_math=False,
        )


def _bar(axes: Axes, trace: Mapping[str, Any], size: Size) -> None:
    axes.bar(_numbers(trace["x"]), _numbers(trace["y"]), width=0.8, color=trace["marker"]["color"], label="_")


def _box(axes: Axes, trace: Mapping[str, Any], size: Size) -> None:
    colour = trace["line"]["color"]
    (x,), (low,), (middle,), (high,) = (trace[key] for key in ("x", "q1", "median", "q3"))
    stats = [{"med": middle, "q1": low, "q3": high, "whislo": low, "whishi": high}]
    style = {"color": colour, "linewidth": size.line}
    axes.bxp(
        stats,
        positions=[x],
        widths=trace["width"],
        showfliers=False,
        showcaps=False,
        boxprops=style,
        medianprops=style | {"linewidth": 1.6 * size.line},
        whiskerprops={"linewidth": 0},
        manage_ticks=False,
    )


def _heatmap(axes: Axes, trace: Mapping[str, Any], size: Size) -> None:
    """Square cells, the first row on top, with their texts where there are few."""
    values = np.array(trace["z"], dtype=np.float64)
    axes.imshow(values, cmap=str(trace["colorscale"]).lower(), vmin=trace["zmin"], vmax=trace["zmax"])
    for axis, names in ((axes.xaxis, trace["x"]), (axes.yaxis, trace["y"])):
        axis.set_ticks(np.arange(len(names)), list(names), parse_math=False)
    axes.xaxis.set_tick_params(rotation=90 if len(trace["x"]) > 4 else 0)
    middle = (trace["zmin"] + trace["zmax"]) / 2
    for (row, column), value in np.ndenumerate(values) if "text" in trace else ():
        text = trace["text"][row][column]
        colour = "black" if value > middle else "white"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=0.9 * size.text, parse_math=False)


def _numbers(values: Sequence[float | None]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
