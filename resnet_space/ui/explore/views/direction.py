"""Whether F(x) points along x, and whether adding it goes downhill."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import quartiles, spread_chart
from resnet_space.ui.explore.measuring import Findings
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.gradient import GRADIENTS
from resnet_space.ui.explore.views.view import Table, View, blocks_of, fewer_points, medians, rounded
from resnet_space.ui.explore.wording import QUARTILES, RESIDUAL

if TYPE_CHECKING:
    from torch import Tensor

SMALL_COSINE = 0.1


class Direction(View):
    key = "direction"
    title = "Direction"
    about = (
        "The cosine between F(x) and x: 1 where F(x) amplifies x, 0 where it is orthogonal to x, -1 where it cancels "
        "x. With labels, also the cosine between F(x) and the gradient of the loss: below 0, F(x) reduces the loss."
    )
    charts = 2
    reserved = 380
    definitions = (
        f"{RESIDUAL} L: cross-entropy. Cosines over channels and positions, per image (Jastrzębski et al. 2018); "
        "boxes: quartiles and median."
    )
    on_demand = (GRADIENTS,)
    lines = Python(
        "last, measure", "last(measure(model, images))", "found.norms.blocks, found.cosine.quantile(0.5, dim=1)"
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        return [
            None if cosines is None else _chart(findings, of, what, cosines)
            for of, what, cosines in (
                ("cos(F(x), x)", "1 along x, 0 orthogonal, -1 against", findings.measured.cosine),
                ("cos(F(x), ∂L/∂x)", "below 0 reduces the loss", _alignment(findings)),
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
    """Medians of cos(F(x), x): which blocks amplify x, cancel it, or add something orthogonal."""
    finite = {b: c for b, c in zip(blocks, cosines, strict=True) if math.isfinite(c)}
    if not finite:
        return "This network has no shortcuts to compare F(x) with."
    low, high = min(finite, key=finite.__getitem__), max(finite, key=finite.__getitem__)
    across = sum(abs(c) < SMALL_COSINE for c in finite.values())
    words = ""
    if finite[low] < -SMALL_COSINE:
        words += f"In **{low}**, F(x) opposes x most (cosine {finite[low]:+.2f}): the block removes part of its input. "
    if finite[high] > SMALL_COSINE:
        words += f"In **{high}**, F(x) is most aligned with x ({finite[high]:+.2f}): the block amplifies its input. "
    return words + (
        f"In {across} of {len(finite)} blocks, F(x) is nearly orthogonal to x (cosine within {SMALL_COSINE:g} of 0): "
        "they add new features."
    )


def alignment_words(blocks: Sequence[str], cosines: Sequence[float]) -> str:
    """Medians of cos(F(x), dL/dx): which blocks reduce the loss."""
    finite = {b: c for b, c in zip(blocks, cosines, strict=True) if math.isfinite(c)}
    if not finite:
        return "In no block do F(x) and the gradient have the same shape."
    down = sum(c < 0 for c in finite.values())
    steepest = min(finite, key=finite.__getitem__)
    words = (
        f"In {down or 'none'} of {len(finite)} blocks, F(x) points against the gradient of the loss (median cosine "
        "below 0): to first order, adding it reduces the loss."
    )
    return words + (f" The effect is strongest in **{steepest}** ({finite[steepest]:+.3f})." if down else "")
