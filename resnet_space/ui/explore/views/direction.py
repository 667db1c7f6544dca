"""Whether F(x) points along x, and whether adding it goes downhill."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import quartiles, spread_chart
from resnet_space.ui.explore.measuring import Findings
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.gradient import GRADIENTS
from resnet_space.ui.explore.views.view import (
    QUARTILES,
    RESIDUAL,
    Table,
    View,
    blocks_of,
    fewer_points,
    medians,
    rounded,
)

if TYPE_CHECKING:
    from torch import Tensor

SMALL_COSINE = 0.1


class Direction(View):
    key = "direction"
    title = "Direction"
    about = (
        "Does F(x) point along x (cosine 1), across (0) or against it (-1)? And, where the labels are known, does "
        "adding it go downhill: against the gradient of the loss?"
    )
    charts = 2
    definitions = (
        f"{RESIDUAL}, x what comes through the shortcut; L is the cross-entropy of each image. The cosines are over "
        "channels and positions, image by image (Jastrzębski et al. 2018). Boxes are quartiles with the median."
    )
    on_demand = (GRADIENTS,)
    lines = Python(
        "last, measure", "last(measure(model, images))", "found.norms.blocks, found.cosine.quantile(0.5, dim=1)"
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        return [
            None if cosines is None else _chart(findings, of, what, cosines)
            for of, what, cosines in (
                ("cos(F(x), x)", "along x, across, or against it", findings.measured.cosine),
                ("cos(F(x), ∂L/∂x)", "below 0 is downhill", _alignment(findings)),
            )
        ]

    def words(self, findings: Findings, variant: str = "") -> str:
        blocks, alignment = findings.measured.norms.blocks, _alignment(findings)
        words = direction_words(blocks, medians(findings.measured.cosine))
        if alignment is not None:
            words += "\n\n" + alignment_words(blocks, medians(alignment))
        return words + fewer_points(findings)

    def table(self, findings: Findings, variant: str = "") -> Table:
        parts = {"cos(F, x)": findings.measured.cosine, "cos(F, dL/dx)": _alignment(findings)}
        given = {of: cosines.tolist() for of, cosines in parts.items() if cosines is not None}
        rows = zip(findings.measured.norms.blocks, *given.values(), strict=True)
        return ["block", *(f"{of}: {quartile}" for of in given for quartile in QUARTILES)], [
            [block, *(rounded(value) for values in cosines for value in quartiles(values))] for block, *cosines in rows
        ]


def _alignment(findings: Findings) -> "Tensor | None":
    gradients = GRADIENTS.of(findings)
    return None if gradients is None else gradients.alignment


def _chart(findings: Findings, of: str, what: str, cosines: "Tensor") -> Chart:
    return spread_chart(
        f"{of} by depth: {what}",
        blocks_of(findings),
        cosines.tolist(),
        findings.names[: cosines.shape[1]],
        {"title": "cosine"},
        at=0,
        value=f"{of} = %{{y:.3f}}",
    )


def direction_words(blocks: Sequence[str], cosines: Sequence[float]) -> str:
    """Medians of cos(F(x), x): does a block add along x, against it, or across?"""
    finite = {b: c for b, c in zip(blocks, cosines, strict=True) if math.isfinite(c)}
    if not finite:
        return "There is no shortcut to compare F(x) with."
    low, high = min(finite, key=finite.__getitem__), max(finite, key=finite.__getitem__)
    across = sum(abs(c) < SMALL_COSINE for c in finite.values())
    words = ""
    if finite[low] < -SMALL_COSINE:
        words += f"**{low}** points most against x (cosine {finite[low]:+.2f}): it takes away part of what comes in. "
    if finite[high] > SMALL_COSINE:
        words += f"**{high}** points most along x ({finite[high]:+.2f}): it strengthens what is there already. "
    return words + (
        f"In {across} of {len(finite)} blocks F(x) is nearly at a right angle to x (within {SMALL_COSINE:g} of 0): "
        "what they add is new."
    )


def alignment_words(blocks: Sequence[str], cosines: Sequence[float]) -> str:
    """Medians of cos(F(x), dL/dx): do the blocks go downhill?"""
    finite = {b: c for b, c in zip(blocks, cosines, strict=True) if math.isfinite(c)}
    if not finite:
        return "F(x) and the gradient have no common shape in any block."
    down = sum(c < 0 for c in finite.values())
    steepest = min(finite, key=finite.__getitem__)
    words = (
        f"In {down or 'none'} of {len(finite)} blocks F(x) points against the gradient of the loss (median cosine "
        "below 0): to first order, adding it there makes the loss smaller."
    )
    return words + (f" **{steepest}** does so most ({finite[steepest]:+.3f})." if down else "")
