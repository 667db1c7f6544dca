"""What residual blocks do to their input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_space import palette
from resnet_space.charts.base import Chart, chart


@dataclass(frozen=True)
class BlockNorms:
    """A block's norms over N images, for the residual charts."""

    name: str
    identity: bool
    shortcut: Sequence[float]
    residual: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Not a number where the shortcut is zero everywhere."""
        return [f / x if x else math.nan for f, x in zip(self.residual, self.shortcut, strict=True)]


def norms_chart(blocks: list[BlockNorms], images: list[str]) -> Chart:
    """||F(x)|| against ||shortcut(x)||, a point an image and a colour a block, log axes, with the diagonal."""
    values = [v for block in blocks for v in (*block.shortcut, *block.residual) if v > 0]
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "name": "‖F(x)‖ = ‖x‖",
        "x": [low, high],
        "y": [low, high],
        "line": {"color": "#888", "width": 1.2, "dash": "dash"},
        "hoverinfo": "skip",
    }
    clouds = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": block.name + ("" if block.identity else " (new shape)"),
            "x": list(block.shortcut),
            "y": list(block.residual),
            "text": images,
            "marker": {
                "color": palette.in_order(i, len(blocks)),
                "size": 7,
                "opacity": 0.8,
                "symbol": "circle" if block.identity else "diamond",
                "line": {"width": 0.5, "color": "rgba(128,128,128,0.8)"},
            },
            "hovertemplate": (f"<b>{block.name}</b>, %{{text}}<br>‖x‖ %{{x:.3g}}<br>‖F(x)‖ %{{y:.3g}}<extra></extra>"),
        }
        for i, block in enumerate(blocks)
    ]
    ticks = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
    log = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return chart(
        "‖F(x)‖ against ‖x‖: every image in every block",
        [diagonal, *clouds],
        {"title": "‖x‖ on the shortcut"} | log,
        {"title": "‖F(x)‖ of the residual branch"} | log,
        height=520,
        margin={"l": 56, "r": 16, "t": 48, "b": 48},
        # Below the plot, where any number of blocks has room.
        legend={"orientation": "h", "yanchor": "top", "y": -0.14, "font": {"size": 11}, "itemsizing": "constant"},
    )


def ratio_chart(blocks: list[BlockNorms], stage_ends: list[int]) -> Chart:
    """||F(x)|| / ||x|| by depth: median and quartiles a block, all images behind, lines between stages."""
    boxes = [
        {
            "type": "box",
            "name": block.name,
            "y": block.ratios,
            "boxpoints": "all",
            "pointpos": 0,
            "jitter": 0.5,
            "marker": {"color": palette.in_order(i, len(blocks)), "size": 3, "opacity": 0.45},
            "line": {"width": 1.5},
            "fillcolor": "rgba(128,128,128,0.15)",
            "showlegend": False,
            "hovertemplate": f"{block.name}<br>‖F(x)‖ / ‖x‖ = %{{y:.3f}}<extra></extra>",
        }
        for i, block in enumerate(blocks)
    ]
    ends = [
        {"type": "line", "x0": end - 0.5, "x1": end - 0.5, "yref": "paper", "y0": 0, "y1": 1}
        | {"line": {"color": "#888", "width": 1, "dash": "dot"}}
        for end in stage_ends
    ]
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
    return chart(
        "‖F(x)‖ / ‖x‖ by depth: median, quartiles, every image",
        boxes,
        {"title": "block, by depth", "showgrid": False, "type": "category"},
        {"title": "‖F(x)‖ / ‖x‖", "rangemode": "tozero"},
        height=380,
        margin={"l": 56, "r": 16, "t": 48, "b": 48},
        showlegend=False,
        shapes=[*ends, one | {"line": {"color": "#888", "width": 1.2, "dash": "dash"}}],
    )
