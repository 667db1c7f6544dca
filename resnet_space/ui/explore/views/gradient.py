"""How much of the gradient reaches each block on the way back."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import gradient_chart
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import NORM, Table, View, medians, rounded, stages_of

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.residuals import Gradients


GRADIENTS: "OnDemand[Gradients]" = OnDemand(
    "gradients",
    "Measure the gradients",
    "gradients",
    lambda residuals, model, batches: residuals.gradients(model, batches),
)
PATHS = ("through the network", "through the branches only", "in the plain network of the same weights")


class Gradient(View):
    key = "gradient"
    title = "Gradient"
    about = (
        "How much of the loss's gradient reaches the input of each block on the way back: as the network is, through "
        "the branches only (the shortcuts pass nothing back), and in the plain network of the same weights, without "
        "shortcuts forward or back."
    )
    definitions = (
        f"L is the cross-entropy of each image. {NORM} Lines are medians over the images, bands quartiles. The plain "
        "network has the same weights, which were not trained for it."
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
        return ["block", *(f"median norm of dL/dx {path}" for path in norms)], [
            [block, *map(rounded, row)] for block, *row in rows
        ]


def _by_path(g: "Gradients") -> "dict[str, Tensor]":
    norms = zip(PATHS, (g.norm, g.branches, g.plain), strict=True)
    return {path: norm for path, norm in norms if not norm.isnan().all()}


def gradient_words(
    blocks: Sequence[str], norm: Sequence[float], branches: Sequence[float], plain: Sequence[float]
) -> str:
    """What of the gradient reaches the first block, by medians: with the shortcuts, and without."""

    def share(values: Sequence[float]) -> float:
        return values[0] / values[-1] if values[-1] else math.nan

    words = (
        f"From the last block (**{blocks[-1]}**) to the first (**{blocks[0]}**) the gradient becomes "
        f"{times(share(norm))} as long through the whole network."
    )
    for values, how in ((branches, "Through the branches only, past no shortcut,"), (plain, "In the plain network")):
        if math.isfinite(share(values)):
            words += f" {how} it becomes {times(share(values))} as long."
    return words


def times(factor: float) -> str:
    """A factor as people read it: "1.8 times", "0.0004 times"."""
    if not math.isfinite(factor):
        return "an unknown number of times"
    return f"{factor:,.0f} times" if factor >= 100 else f"{factor:.2g} times"
