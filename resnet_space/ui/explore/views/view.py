"""What a view of the Explore tab is, and what several of them need."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from gradio.components import Component

from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import Block, fewer_points_words, quartiles
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.snippets import Python

if TYPE_CHECKING:
    import gradio as gr
    from torch import Tensor

    from resnet_space.serve.context import AppContext
    from resnet_space.ui.explore.pictures import PicturesTab
    from resnet_space.ui.explore.view_tab import ViewTab

Table = tuple[list[str], list[list[Any]]]


@dataclass(frozen=True)
class Variants:
    """Ways to look at the same findings.

    Attributes:
        label, info: of the choice.
        choices: (label, id) of each; the first is shown unless another is chosen.
        apply: whether the findings have them.
    """

    label: str
    info: str
    choices: Sequence[tuple[str, str]]
    apply: Callable[[Findings], bool]


class View(ABC):
    """One sub-tab: what it needs measured, its charts, words, table, and lines of Python.

    To add one, write a file with a subclass, and put it into `views.VIEWS`. `variant` is one of the view's ids, or ""
    for the first.

    Attributes:
        key: in addresses and the page's ids.
        file: in the names of its files, if not the key.
        title: on its tab.
        about: what is shown, for somebody who sees it for the first time.
        charts: how many.
        reserved: pixels kept free for the first chart, so that nothing moves when it comes; 0 where it may not come.
        definitions: for a figure in a paper.
        on_demand: further measurements that it shows.
        variants: ways to look at it; None where there is one only.
        lines: of Python; None where there are none.
    """

    key: ClassVar[str]
    file: ClassVar[str] = ""
    title: ClassVar[str]
    about: ClassVar[str]
    charts: ClassVar[int] = 1
    reserved: ClassVar[int] = 0
    definitions: ClassVar[str] = ""
    on_demand: "ClassVar[Sequence[OnDemand[Any]]]" = ()
    variants: ClassVar[Variants | None] = None
    lines: ClassVar[Python | None] = None

    @abstractmethod
    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        """The charts, None for what was not measured."""

    @abstractmethod
    def words(self, findings: Findings, variant: str = "") -> str:
        """What to look for in this result; "" before it was measured."""

    @abstractmethod
    def table(self, findings: Findings, variant: str = "") -> Table:
        """The numbers."""

    def caption(self, variant: str = "") -> str:
        return self.definitions

    def python(self, variant: str = "") -> Python | None:
        return self.lines

    def extend(
        self, tab: "ViewTab", context: "AppContext", findings: "gr.State", pictures: "PicturesTab"
    ) -> list[Component]:
        """Place and wire what only this view has.

        `findings` is the handle of what was measured, `pictures` the tab of one block's pictures. Returns the
        components that a new measurement empties.
        """
        return []

    def variant_of(self, findings: Findings, value: object) -> str:
        """The variant that a choice's value names; "" where the findings have none, or it is unknown."""
        ids = [id_ for _, id_ in self.variants.choices] if self.variants and self.variants.apply(findings) else []
        return str(value) if value in ids[1:] else ""


def units_of(findings: Findings) -> str:
    """What F(x) is measured of: a transformer's block has two residual branches."""
    return "residual branches" if any(findings.measured.parts) else "blocks"


def blocks_of(findings: Findings) -> list[Block]:
    norms, stages = findings.measured.norms, findings.measured.stages
    return [Block(*block) for block in zip(norms.blocks, norms.identity, stages, strict=True)]


def stages_of(findings: Findings, names: Sequence[str]) -> list[int]:
    """The stages of some of the blocks."""
    stages = dict(zip(findings.measured.norms.blocks, findings.measured.stages, strict=True))
    return [stages.get(name, 0) for name in names]


def medians(values: "Tensor") -> list[float]:
    """[B, N] -> B medians of the finite ones."""
    return [quartiles(row)[1] for row in values.tolist()]


def fewer_points(findings: Findings) -> str:
    """A paragraph on images that have no points, if there are any."""
    words = fewer_points_words(findings.measured.images, len(findings.measured.norms.blocks))
    return f"\n\n{words}" if words else ""


def rounded(value: float) -> float | None:
    """Four digits; None where there is no number."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
