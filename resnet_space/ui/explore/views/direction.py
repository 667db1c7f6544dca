"""Whether F(x) points along x, and whether adding it goes downhill."""

from resnet_space.plots import Chart, residuals
from resnet_space.plots.residuals import quartiles
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings
from resnet_space.ui.explore.views.view import RESIDUAL, Table, View, blocks_of, medians, rounded, thinned


def _draw_direction(found: Findings, _: bool) -> list[Chart | None]:
    axis = {"title": "cosine"}
    cosine = residuals.spread_chart(
        "cos(F(x), x) by depth: along x, across, or against it",
        blocks_of(found),
        found.measured.cosine.tolist(),
        found.names,
        axis,
        level=0,
        value="cos(F(x), x) = %{y:.3f}",
    )
    if found.gradients is None:
        return [cosine, None]
    downhill = residuals.spread_chart(
        "cos(F(x), ∂L/∂x) by depth: below 0 is downhill",
        blocks_of(found),
        found.gradients.alignment.tolist(),
        found.names[: found.gradients.images],
        axis,
        level=0,
        value="cos(F(x), ∂L/∂x) = %{y:.3f}",
    )
    return [cosine, downhill]


def _direction_words(found: Findings, _: bool) -> str:
    blocks = found.measured.norms.blocks
    told = words.direction_words(blocks, medians(found.measured.cosine))
    if found.gradients is not None:
        told += "\n\n" + words.alignment_words(blocks, medians(found.gradients.alignment))
    return told + thinned(found)


def _direction_table(found: Findings, _: bool) -> Table:
    columns = ["block", *(f"cos(F, x): {q}" for q in ("lower quartile", "median", "upper quartile"))]
    rows = [
        [block, *map(rounded, quartiles(row))]
        for block, row in zip(found.measured.norms.blocks, found.measured.cosine.tolist(), strict=True)
    ]
    if found.gradients is not None:
        columns += [f"cos(F, dL/dx): {q}" for q in ("lower quartile", "median", "upper quartile")]
        for line, row in zip(rows, found.gradients.alignment.tolist(), strict=True):
            line += map(rounded, quartiles(row))
    return columns, rows


DIRECTION = View(
    "direction",
    "Direction",
    "Does F(x) point along x (cosine 1), across (0) or against it (-1)? And, where the labels are known, does adding "
    "it go downhill: against the gradient of the loss?",
    2,
    _draw_direction,
    _direction_words,
    _direction_table,
    f"{RESIDUAL}, x what comes through the shortcut; L is the cross-entropy of each image. The cosines are over "
    "channels and places, image by image (Jastrzębski et al. 2018). Boxes are quartiles with the median.",
    (("gradients", "Measure the gradients"),),
)
