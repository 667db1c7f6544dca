"""What a view of the Explore tab is, and what several of them need."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet_space.plots import Chart, residuals
from resnet_space.plots.residuals import Block, quartiles
from resnet_space.ui.explore.findings import Findings, Kind

if TYPE_CHECKING:
    from torch import Tensor

Rows = list[list[Any]]
Table = tuple[list[str], Rows]

NORM = "The norm ‖·‖ is the l2 norm over channels and places, image by image."
RESIDUAL = "F(x) is what the residual branch gives to the addition"


@dataclass(frozen=True)
class View:
    """One sub-tab.

    Attributes:
        key: its name in addresses and files.
        title: on its tab.
        about: what is shown, for somebody who sees it for the first time.
        charts: how many.
        draw: the charts, None for what was not measured.
        words: what to look for in this result; "" before it was measured.
        table: the numbers.
        caption: the definitions, for a figure in a paper.
        kinds: what is measured on demand for it: (kind, the button's words).
    """

    key: str
    title: str
    about: str
    charts: int
    draw: Callable[[Findings, bool], list[Chart | None]]
    words: Callable[[Findings, bool], str]
    table: Callable[[Findings, bool], Table]
    caption: str
    kinds: tuple[tuple[Kind, str], ...] = ()


def blocks_of(found: Findings) -> list[Block]:
    norms, stages = found.measured.norms, found.measured.stages
    return [Block(*block) for block in zip(norms.blocks, norms.identity, stages, strict=True)]


def stages_of(found: Findings, names: Sequence[str]) -> list[int]:
    """The stages of some of the blocks."""
    stages = dict(zip(found.measured.norms.blocks, found.measured.stages, strict=True))
    return [stages.get(name, 0) for name in names]


def medians(values: "Tensor") -> list[float]:
    """[B, N] -> B medians of the finite ones."""
    return [quartiles(row)[1] for row in values.tolist()]


def thinned(found: Findings) -> str:
    told = residuals.thinned_words(found.measured.images, len(found.measured.norms.blocks))
    return f"\n\n{told}" if told else ""


def rounded(value: float) -> float | None:
    """Four digits; None where there is no number."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
