"""How long F(x) is beside x."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud, curve
from resnet_space.plots.residuals.depth import Block, shown_images, spread_chart, stage_names

MOST_DECADES = 3  # with more than one tick each
MOST_NAMED = 18  # blocks that the legend names; of more it names the stages


@dataclass(frozen=True)
class BlockNorms(Block):
    """A block's norms over N images."""

    shortcut: Sequence[float] = ()
    residual: Sequence[float] = ()

    @property
    def ratios(self) -> list[float]:
        """Not a number where the shortcut is zero everywhere."""
        return [f / x if x else math.nan for f, x in zip(self.residual, self.shortcut, strict=True)]


def norms_chart(blocks: Sequence[BlockNorms], images: Sequence[str]) -> Chart:
    """||F(x)|| against ||shortcut(x)||, a point an image and a colour a block, log axes, with the diagonal."""
    values = [v for block in blocks for v in (*block.shortcut, *block.residual) if v > 0]
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    diagonal = curve("‖F(x)‖ = ‖x‖", [low, high], [low, high], "#888", width=1.2, dash="dash")
    chosen = shown_images(len(images), len(blocks))
    by_stage = len(blocks) > MOST_NAMED
    clouds: list[Trace] = []
    stages, named = stage_names(blocks), set()
    for i, block in enumerate(blocks):
        stage = stages[block.stage]
        name = block.name + ("" if block.identity else " (new shape)")
        group = stage if by_stage else name
        clouds.append(
            cloud(
                group,
                [block.shortcut[n] for n in chosen],
                [block.residual[n] for n in chosen],
                f"<b>{name}</b>, %{{text}}<br>‖x‖ %{{x:.3g}}<br>‖F(x)‖ %{{y:.3g}}",
                marker={
                    "color": palette.in_order(i, len(blocks)),
                    "size": 5 if by_stage else 7,
                    "opacity": 0.8,
                    "symbol": "circle" if block.identity else "diamond",
                    "line": {"width": 0.5, "color": "rgba(128,128,128,0.8)"},
                },
                text=[images[n] for n in chosen],
                customdata=[[i, n] for n in chosen],
                legendgroup=group,
                showlegend=not (by_stage and stage in named),
            )
        )
        named.add(stage)
    return chart(
        "‖F(x)‖ against ‖x‖, per image and block",
        [diagonal, *clouds],
        {"title": "‖x‖ (shortcut)"} | _log_axis(low, high),
        {"title": "‖F(x)‖ (residual branch)"} | _log_axis(low, high),
        height=520,
        margin={"l": 56, "r": 16, "t": 48, "b": 48},
        # Below the plot, where any number of blocks has room.
        legend={"orientation": "h", "yanchor": "top", "y": -0.14, "font": {"size": 11}, "itemsizing": "constant"},
    )


def _log_axis(low: float, high: float) -> dict[str, Any]:
    """With ticks at 1, 2 and 5, or at powers of ten where there would be too many."""
    decades = math.log10(high / low)
    if decades > MOST_DECADES:
        return {"type": "log", "exponentformat": "power", "dtick": math.ceil(decades / 8)}
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def ratio_chart(blocks: Sequence[BlockNorms], images: Sequence[str]) -> Chart:
    """||F(x)|| / ||x|| by depth: median and quartiles a block, all images behind, lines between stages."""
    return spread_chart(
        "‖F(x)‖ / ‖x‖ by depth: median, quartiles, images",
        blocks,
        [block.ratios for block in blocks],
        images,
        {"title": "‖F(x)‖ / ‖x‖", "rangemode": "tozero"},
        at=1,
        value="‖F(x)‖ / ‖x‖ = %{y:.3f}",
    )
