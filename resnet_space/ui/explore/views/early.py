"""The head applied to the state after each block of the last stage."""

from resnet_space.plots import Chart, residuals
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings
from resnet_space.ui.explore.views.view import Table, View, rounded


def _draw_early(found: Findings, _: bool) -> list[Chart | None]:
    if (read := found.readings) is None:
        return [None]
    curves = {
        "right": read.accuracy.tolist(),
        "as it will be in the end": read.agreement.tolist(),
        "mean probability of its final answer": read.final.double().mean(1).tolist(),
    }
    return [residuals.early_chart(read.blocks, curves)]


def _early_words(found: Findings, _: bool) -> str:
    read = found.readings
    return "" if read is None else words.early_words(read.blocks, read.accuracy.tolist(), read.agreement.tolist())


def _early_table(found: Findings, _: bool) -> Table:
    columns = ["read after", "accuracy", "agrees with the end", "mean probability of the final answer"]
    if (read := found.readings) is None:
        return columns, []
    parts = (read.accuracy, read.agreement, read.final.double().mean(1))
    numbers = zip(*(part.tolist() for part in parts), strict=True)
    return columns, [[block, *map(rounded, row)] for block, row in zip(read.blocks, numbers, strict=True)]


EARLY = View(
    "early",
    "Early",
    "The blocks of the last stage share one shape, so the head can be applied after each of them, before the network "
    "is done. If a stage refines one estimate step by step, the early readings are rough versions of the answer.",
    1,
    _draw_early,
    _early_words,
    _early_table,
    "The head (pooling and linear layer) applied to the output of each block of the last stage (Jastrzębski et al. "
    "2018; Greff et al. 2017).",
    (("readings", "Read early"),),
)
