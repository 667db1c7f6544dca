"""The head applied to the state after each block of the last stage."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import early_chart
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, rounded

if TYPE_CHECKING:
    from resnet_space.residuals import Readings


READINGS: "OnDemand[Readings]" = OnDemand(
    "readings",
    "Read early",
    "early readings",
    lambda residuals, model, batches: residuals.early_readings(model, batches),
)


class Early(View):
    key = "early"
    title = "Early"
    about = (
        "The blocks of the last stage share one shape, so the head can be applied after each of them, before the "
        "network is done. If a stage refines one estimate step by step, the early readings are rough versions of the "
        "answer."
    )
    definitions = (
        "The head (pooling and linear layer) applied to the output of each block of the last stage (Jastrzębski et al. "
        "2018; Greff et al. 2017)."
    )
    on_demand = (READINGS,)
    lines = Python("early_readings, last", "last(early_readings(model, batches))", "found.blocks, found.accuracy")

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        if (read := READINGS.of(findings)) is None:
            return [None]
        names = ("right", "as it will be in the end", "mean probability of its final answer")
        return [early_chart(read.blocks, dict(zip(names, _numbers(read), strict=True)))]

    def words(self, findings: Findings, variant: str = "") -> str:
        read = READINGS.of(findings)
        return "" if read is None else early_words(read.blocks, *_numbers(read)[:2])

    def table(self, findings: Findings, variant: str = "") -> Table:
        read = READINGS.of(findings)
        rows = zip(read.blocks, *_numbers(read), strict=True) if read else ()
        return ["read after", "accuracy", "agrees with the end", "mean probability of the final answer"], [
            [block, *map(rounded, numbers)] for block, *numbers in rows
        ]


def _numbers(read: "Readings") -> list[list[float]]:
    """By block: the accuracy, the agreement with the end, and the final answer's mean probability."""
    return [part.tolist() for part in (read.accuracy, read.agreement, read.final.double().mean(1))]


def early_words(blocks: Sequence[str], accuracy: Sequence[float], agreement: Sequence[float]) -> str:
    """Where the answer is formed."""
    if len(blocks) < 2:
        return f"The last stage has one block only: the head reads {accuracy[-1]:.1%} right after it."
    steps = [b - a for a, b in pairwise(accuracy)]
    largest = max(range(len(steps)), key=steps.__getitem__)
    most = f"**{blocks[largest + 1]}** adds most: {100 * steps[largest]:+.1f} points."
    return (
        f"Read after **{blocks[0]}**, the head is right for {accuracy[0]:.1%}, and says already what it will say in "
        f"the end for {agreement[0]:.1%}; after the last block, **{blocks[-1]}**, it is right for {accuracy[-1]:.1%}. "
        f"{most if steps[largest] > 0 else 'No block adds to that.'}"
    )
