"""The head applied to the state after each block of the last stage."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import early_chart
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, rounded
from resnet_space.ui.explore.wording import percent

if TYPE_CHECKING:
    from resnet_space.residuals import Readings


READINGS: "OnDemand[Readings]" = OnDemand(
    "readings",
    "Apply the head early",
    "early answers",
    lambda residuals, model, batches: residuals.early_readings(model, batches),
)


class Early(View):
    key = "early"
    title = "Early answers"
    about = (
        "The blocks of the last stage share one shape, so the classifier head can be applied after each of them. If "
        "the stage refines one estimate step by step, the early answers approximate the final one."
    )
    definitions = (
        "The head (pooling and linear layer) applied after each block of the last stage (Greff et al. 2017; "
        "Jastrzębski et al. 2018)."
    )
    on_demand = (READINGS,)
    lines = Python("early_readings, last", "last(early_readings(model, batches))", "found.blocks, found.accuracy")

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        if (read := READINGS.of(findings)) is None:
            return [None]
        names = ("correct", "same as the final answer", "mean probability of the final answer")
        return [early_chart(read.blocks, dict(zip(names, _numbers(read), strict=True)))]

    def words(self, findings: Findings, variant: str = "") -> str:
        read = READINGS.of(findings)
        return "" if read is None else early_words(read.blocks, *_numbers(read)[:2])

    def table(self, findings: Findings, variant: str = "") -> Table:
        read = READINGS.of(findings)
        rows = zip(read.blocks, *_numbers(read), strict=True) if read else ()
        return [
            "head applied after",
            "accuracy",
            "agreement with the final answer",
            "mean probability of the final answer",
        ], [[block, *map(rounded, numbers)] for block, *numbers in rows]


def _numbers(read: "Readings") -> list[list[float]]:
    """By block: the accuracy, the agreement with the end, and the final answer's mean probability."""
    return [part.tolist() for part in (read.accuracy, read.agreement, read.final.double().mean(1))]


def early_words(blocks: Sequence[str], accuracy: Sequence[float], agreement: Sequence[float]) -> str:
    """Which block contributes most to the answer."""
    if len(blocks) < 2:
        return f"The last stage has only one block: after it, {percent(accuracy[-1])} of the images are correct."
    steps = [b - a for a, b in pairwise(accuracy)]
    largest = max(range(len(steps)), key=steps.__getitem__)
    most = f"**{blocks[largest + 1]}** contributes most: {100 * steps[largest]:+.1f} points."
    return (
        f"After **{blocks[0]}**, the head classifies {percent(accuracy[0])} of the images correctly and gives the "
        f"final answer for {percent(agreement[0])}; after the last block, **{blocks[-1]}**, {percent(accuracy[-1])} "
        f"are correct. {most if steps[largest] > 0 else 'No later block adds to that.'}"
    )
