"""How much of the gradient reaches each block on the way back."""

from typing import TYPE_CHECKING

from resnet_space.plots import Chart, residuals
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings
from resnet_space.ui.explore.views.view import NORM, Table, View, medians, rounded, stages_of

if TYPE_CHECKING:
    from torch import Tensor


WAYS = ("through the network", "through the branches only", "in the plain network of the same weights")


def _ways(found: Findings) -> "dict[str, Tensor]":
    assert found.gradients is not None
    g = found.gradients
    return {way: part for way, part in zip(WAYS, (g.norm, g.branches, g.plain), strict=True) if not part.isnan().all()}


def _draw_gradient(found: Findings, _: bool) -> list[Chart | None]:
    if found.gradients is None:
        return [None]
    curves = {way: part.tolist() for way, part in _ways(found).items()}
    return [residuals.gradient_chart(found.gradients.blocks, stages_of(found, found.gradients.blocks), curves)]


def _gradient_words(found: Findings, _: bool) -> str:
    if (g := found.gradients) is None:
        return ""
    return words.gradient_words(g.blocks, medians(g.norm), medians(g.branches), medians(g.plain))


def _gradient_table(found: Findings, _: bool) -> Table:
    if (g := found.gradients) is None:
        return ["block"], []
    ways = _ways(found)
    rows = zip(g.blocks, *(medians(part) for part in ways.values()), strict=True)
    return ["block", *(f"median norm of dL/dx {way}" for way in ways)], [
        [block, *map(rounded, row)] for block, *row in rows
    ]


GRADIENT = View(
    "gradient",
    "Gradient",
    "How much of the loss's gradient reaches the input of each block on the way back: as the network is, through the "
    "branches only (the shortcuts pass nothing back), and in the plain network of the same weights, without shortcuts "
    "forward or back.",
    1,
    _draw_gradient,
    _gradient_words,
    _gradient_table,
    f"L is the cross-entropy of each image. {NORM} Lines are medians over the images, bands quartiles. The plain "
    "network has the same weights, which were not trained for it.",
    (("gradients", "Measure the gradients"),),
)
