"""How much of the gradient reaches each block on the way back."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import gradient_chart
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, medians, rounded, stages_of
from resnet_space.ui.explore.wording import NORM

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.residuals import Gradients


GRADIENTS: "OnDemand[Gradients]" = OnDemand(
    "gradients",
    "Measure gradients",
    "gradients",
    lambda residuals, model, batches: residuals.gradients(model, batches),
    passes=lambda _blocks: 9,  # three ways, forward and back
)
PATHS = ("the whole network", "residual branches only", "same weights without shortcuts")


class Gradient(View):
    key = "gradient"
    title = "Gradient flow"
    about = (
        "The norm of the loss gradient at the input of each block: in the whole network, through the residual branches "
        "only (shortcuts pass no gradient), and in the same weights without shortcuts."
    )
    definitions = (
        f"L: cross-entropy. {NORM} Lines: medians over the images; bands: quartiles. The weights were not trained to "
        "work without shortcuts."
    )
    on_demand = (GRADIENTS,)
    lines = Python(
        "gradients, last",
        "last(gradients(model, batches))",
        "found.blocks, found.norm.quantile(0.5, dim=1), found.alignment.quantile(0.5, dim=1)",
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        if (g := GRADIENTS.of(findings)) is None:
            return [None]
        curves = {path: norms.tolist() for path, norms in _by_path(g).items()}
        return [gradient_chart(g.blocks, stages_of(findings, g.blocks), curves)]

    def words(self, findings: Findings, variant: str = "") -> str:
        if (g := GRADIENTS.of(findings)) is None:
            return ""
        return gradient_words(g.blocks, medians(g.norm), medians(g.branches), medians(g.plain))

    def table(self, findings: Findings, variant: str = "") -> Table:
        if (g := GRADIENTS.of(findings)) is None:
            return ["block"], []
        norms = _by_path(g)
        rows = zip(g.blocks, *map(medians, norms.values()), strict=True)
        return ["block", *(f"median norm of dL/dx: {path}" for path in norms)], [
            [block, *map(rounded, row)] for block, *row in rows
        ]


def _by_path(g: "Gradients") -> "dict[str, Tensor]":
    norms = zip(PATHS, (g.norm, g.branches, g.plain), strict=True)
    return {path: norm for path, norm in norms if not norm.isnan().all()}


def gradient_words(
    blocks: Sequence[str], norm: Sequence[float], branches: Sequence[float], plain: Sequence[float]
) -> str:
    """How much of the gradient reaches the first block, by medians: with shortcuts, and without."""

    def share(values: Sequence[float]) -> float:
        return values[0] / values[-1] if values[-1] else math.nan

    words = (
        f"At the first block (**{blocks[0]}**), the gradient is {times(share(norm))} as large as at the last "
        f"(**{blocks[-1]}**)."
    )
    for values, how in ((branches, "Through the residual branches only"), (plain, "Without shortcuts")):
        if math.isfinite(share(values)):
            words += f" {how}, it is {times(share(values))} as large."
    return words


def times(factor: float) -> str:
    """A factor as people read it: "1.8 times", "0.0004 times"."""
    if not math.isfinite(factor):
        return "an unknown number of times"
    return f"{factor:,.0f} times" if factor >= 100 else f"{factor:.2g} times"
