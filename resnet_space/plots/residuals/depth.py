"""A value of every image in every block, by depth: median and quartiles as boxes, the images as points behind them.

The blocks are at 0, 1, 2 ... of a linear axis, so that points can be spread beside one another; their names are ticks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles
from typing import Any

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, Trace, chart, cloud, level, short, upright

MOST_POINTS = 3_000  # of one chart: more take a browser seconds. WebGL is no way out: without a GPU it takes longer.
MOST_TICKS = 24
MOST_LEVEL = 9  # names that usually fit beside one another
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples spread evenly, without chance


@dataclass(frozen=True)
class Block:
    """A block's name, whether its shortcut is the identity, and the number of its stage: blocks of one shape."""

    name: str
    identity: bool = True
    stage: int = 0


def stage_names(blocks: Sequence[Block]) -> dict[int, str]:
    """By number: "layer2" where all its blocks and no others are called so, else its first and last block."""
    members: dict[int, list[str]] = {}
    for block in blocks:
        members.setdefault(block.stage, []).append(block.name)
    parents = {stage: {name.rpartition(".")[0] for name in names} for stage, names in members.items()}
    found = {}
    for stage, names in members.items():
        own = len(parents[stage]) == 1 and not any(parents[stage] & parents[s] for s in parents if s != stage)
        parent = next(iter(parents[stage])) if own else ""
        found[stage] = parent or (names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}")
    return found


def shown_images(images: int, blocks: int) -> list[int]:
    """Which of so many images are drawn as points, the same in every block: evenly spaced, `MOST_POINTS` in all."""
    most = max(MOST_POINTS // max(blocks, 1), 1)
    if images <= most:
        return list(range(images))
    return [i * images // most for i in range(most)]


def fewer_points_words(images: int, blocks: int) -> str:
    """A sentence on images that have no points; empty where all have."""
    shown = len(shown_images(images, blocks))
    if shown == images:
        return ""
    return f"The points show {shown:,} of the {images:,} images; all statistics use all of them."


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """(lower quartile, median, upper quartile) of the finite ones; not numbers where there are none."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        only = finite[0] if finite else math.nan
        return only, only, only
    low, middle, high = quantiles(finite, n=4, method="inclusive")
    return low, middle, high


def depth_axis(names: Sequence[str], title: str = "block, by depth") -> dict[str, Any]:
    """An axis with the blocks' names, each or every few."""
    step = math.ceil(len(names) / MOST_TICKS) or 1
    at = list(range(0, len(names), step))
    return {
        "title": title,
        "showgrid": False,
        "tickvals": at,
        "ticktext": [names[i] for i in at],
        "range": [-0.6, max(len(names), 1) - 0.4],
    } | ({"tickangle": -45} if len(names) > MOST_LEVEL else {})  # of fewer they turn only where they need to


def stage_lines(stages: Sequence[int]) -> list[dict[str, Any]]:
    """A dotted line wherever a new stage begins, but at the first."""
    return [upright(i + 0.5) for i, (before, after) in enumerate(pairwise(stages)) if before != after]


def spread_chart(
    title: str,
    blocks: Sequence[Block],
    values: Sequence[Sequence[float]],
    images: Sequence[str],
    y: dict[str, Any],
    *,
    at: float | None = None,
    value: str = "%{y:.3f}",
) -> Chart:
    """Boxes by depth with the images behind them.

    Args:
        title: of the chart.
        blocks: B of them.
        values: [B][N], one of each image.
        images: N names, for the hover.
        y: the axis, with its title.
        at: where to draw a dashed line.
        value: how the hover writes a value.
    """
    names = [block.name for block in blocks]
    chosen = shown_images(len(images), len(blocks))
    traces: list[Trace] = []
    for i, (block, row) in enumerate(zip(blocks, values, strict=True)):
        traces.append(
            cloud(
                block.name,
                [round(i + 0.5 * ((n * GOLDEN) % 1 - 0.5), 3) for n in range(len(chosen))],
                [row[n] for n in chosen],
                f"<b>{block.name}</b>, %{{text}}<br>{value}",
                marker={"color": palette.in_order(i, len(blocks)), "size": 4, "opacity": 0.45},
                text=[images[n] for n in chosen],
                customdata=[[i, n] for n in chosen],
                showlegend=False,
            )
        )
    for i, (block, row) in enumerate(zip(blocks, values, strict=True)):
        low, middle, high = (short(number) for number in quartiles(row))
        if middle is None:
            continue
        traces.append(
            {
                "type": "box",
                "name": block.name,
                "x": [i],
                "q1": [low],
                "median": [middle],
                "q3": [high],
                "lowerfence": [low],  # no whiskers: the points show the range
                "upperfence": [high],
                "width": 0.62,
                "line": {"width": 1.6, "color": palette.in_order(i, len(blocks))},
                "fillcolor": "rgba(128,128,128,0.15)",
                "showlegend": False,
                "hoverinfo": "y",
            }
        )
    return chart(
        title,
        traces,
        depth_axis(names),
        y,
        height=380,
        margin={"l": 56, "r": 16, "t": 48, "b": 48},
        showlegend=False,
        shapes=[*stage_lines([block.stage for block in blocks]), *([] if at is None else [level(at)])],
    )
