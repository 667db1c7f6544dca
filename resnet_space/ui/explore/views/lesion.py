"""The accuracy without some blocks, or with two of them exchanged."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import quartiles
from resnet_space.plots.residuals.profiles import lesion_chart, several_chart
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, rounded, stages_of

if TYPE_CHECKING:
    from torch import nn

    from resnet_space.residuals import Lesioned

COUNTS = 6  # of how many blocks are dropped together, spread over the depth
DRAWS = 5
MOST_PAIRS = 48  # of blocks that are exchanged; a resnet110 has hundreds


def drop_counts(blocks: int) -> list[int]:
    """How many blocks to drop together, of so many: at most `COUNTS` numbers, evenly spread."""
    return sorted({max(round(blocks * i / COUNTS), 1) for i in range(1, COUNTS)}) if blocks > 1 else [1]


def _several(residuals: Any, model: "nn.Module") -> Any:
    return residuals.random_drops(model, drop_counts(len(residuals.single_drops(model))), draws=DRAWS)


def _pairs(residuals: Any, model: "nn.Module") -> Any:
    pairs = residuals.swaps(model)
    if not pairs:
        raise UserError("No two blocks of this network have the same shape, so none can be exchanged.")
    return pairs[:: math.ceil(len(pairs) / MOST_PAIRS)]


def _on_demand(id_: str, label: str, lesions: "Callable[[Any, nn.Module], Any]") -> "OnDemand[Lesioned]":
    return OnDemand(
        id_,
        label,
        "lesions",
        lambda residuals, model, batches: residuals.lesioned(model, batches, lesions(residuals, model)),
    )


EACH = _on_demand("lesions", "Drop each block", lambda residuals, model: residuals.single_drops(model))
SEVERAL = _on_demand("several", "Drop several at random", _several)
PAIRS = _on_demand("swapped", "Exchange two", _pairs)


class Lesion(View):
    key = "lesion"
    title = "Lesion"
    about = (
        "What if a block is cut out? F(x) is set to zero, so that only the shortcut is left, and the network is tested "
        "again: it was never trained for that. Veit et al. (2016) found that residual networks take it lightly, and "
        "plain ones not at all."
    )
    charts = 3
    definitions = (
        "Accuracy with F(x) := 0 in the named blocks, or with two blocks of a stage exchanged, without training (Veit "
        f"et al. 2016); at random: {len(drop_counts(9))} counts or fewer, {DRAWS} draws each."
    )
    on_demand = (EACH, SEVERAL, PAIRS)
    lines = Python(
        "last, lesioned, single_drops",
        "last(lesioned(model, batches, single_drops(model)))",
        "found.base_accuracy, [lesion.blocks for lesion in found.lesions], found.accuracy",
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        each, several, pairs = (wanted.of(findings) for wanted in self.on_demand)
        charts: list[Chart | None] = [None, None, None]
        if each is not None:
            names = _names(each, " + ")
            charts[0] = lesion_chart(names, stages_of(findings, names), each.accuracy.tolist(), each.base_accuracy)
        if several is not None:
            x = f"blocks dropped at once, of {len(findings.measured.norms.blocks)}"
            title = "Accuracy with several blocks dropped at random"
            charts[1] = several_chart(title, *by_count(several), several.base_accuracy, x)
        if pairs is not None:
            names = _names(pairs, " ↔ ")
            charts[2] = lesion_chart(
                names,
                [0] * len(names),
                pairs.accuracy.tolist(),
                pairs.base_accuracy,
                title="Accuracy with two blocks of a stage exchanged",
                x="pair",
                hover="%{text}",
            )
        return charts

    def words(self, findings: Findings, variant: str = "") -> str:
        each, several, pairs = (wanted.of(findings) for wanted in self.on_demand)
        words = []
        if each is not None:
            words.append(lesion_words(_names(each, " + "), each.accuracy.tolist(), each.base_accuracy, each.images))
        if several is not None:
            counts, draws = by_count(several)
            middle = [quartiles(accuracies)[1] for accuracies in draws]
            blocks = len(findings.measured.norms.blocks)
            words.append(several_words(counts, middle, several.base_accuracy, blocks))
        if pairs is not None:
            words.append(swapped_words(_names(pairs, " and "), pairs.accuracy.tolist(), pairs.base_accuracy))
        return "\n\n".join(words)

    def table(self, findings: Findings, variant: str = "") -> Table:
        results = [result for wanted in self.on_demand if (result := wanted.of(findings)) is not None]
        rows = [["none", "", r.images, rounded(r.base_accuracy), rounded(r.base_loss)] for r in results[:1]]
        rows += [
            [lesion.kind, " ".join(lesion.blocks), result.images, rounded(accuracy), rounded(loss)]
            for result in results
            for lesion, accuracy, loss in zip(
                result.lesions, result.accuracy.tolist(), result.loss.tolist(), strict=True
            )
        ]
        return ["lesion", "blocks", "images", "accuracy", "loss (nats)"], rows


def _names(result: "Lesioned", between: str) -> list[str]:
    return [between.join(lesion.blocks) for lesion in result.lesions]


def by_count(several: "Lesioned") -> tuple[list[int], list[list[float]]]:
    """Of random drops: how many blocks, and the accuracy of each draw of so many."""
    draws: dict[int, list[float]] = {}
    for lesion, accuracy in zip(several.lesions, several.accuracy.tolist(), strict=True):
        draws.setdefault(len(lesion.blocks), []).append(accuracy)
    return list(draws), list(draws.values())


def _worst_and_best(accuracy: Sequence[float]) -> tuple[int, int]:
    worst, best = (pick(range(len(accuracy)), key=accuracy.__getitem__) for pick in (min, max))
    return worst, best


def lesion_words(blocks: Sequence[str], accuracy: Sequence[float], intact: float, images: int) -> str:
    """What the network can do without."""
    worst, best = _worst_and_best(accuracy)
    one = f" One image is {1 / images:.1%} here." if images < 1_000 else ""
    if accuracy[best] - accuracy[worst] < 1 / images:
        return f"Whole, it is right for {intact:.1%}, and without any one block for {accuracy[worst]:.1%}.{one}"
    spare = sum(a > intact - 0.01 for a in accuracy)
    words = (
        f"Whole, it is right for {intact:.1%}. Without **{blocks[worst]}** only for {accuracy[worst]:.1%}: of all "
        f"blocks it is needed most. Without **{blocks[best]}** it is still right for {accuracy[best]:.1%}."
    )
    if spare > 1:
        words += f" {spare} of {len(blocks)} blocks can go at a cost of less than a point each."
    return words + one


def several_words(counts: Sequence[int], medians: Sequence[float], intact: float, blocks: int) -> str:
    """How gracefully it fails (Veit et al. 2016, figure 5)."""
    half = next((c for c, m in zip(counts, medians, strict=True) if m < intact / 2), None)
    first = f"With {counts[0]} of {blocks} blocks dropped at random the median accuracy is {medians[0]:.1%}"
    if half is None:
        return f"{first}; even with {counts[-1]} it stays above half of the whole network's {intact:.1%}."
    if half == counts[0]:
        return f"{first}, less than half of the whole network's {intact:.1%}."
    return f"{first}; it falls below half of the whole network's {intact:.1%} with {half}."


def swapped_words(pairs: Sequence[str], accuracy: Sequence[float], intact: float) -> str:
    worst, best = _worst_and_best(accuracy)
    if accuracy[best] == accuracy[worst]:
        return f"Exchanging any of {len(pairs)} pairs leaves {accuracy[worst]:.1%} right, of {intact:.1%}."
    return (
        f"Of {len(pairs)} pairs, exchanging **{pairs[best]}** hurts least ({intact:.1%} becomes {accuracy[best]:.1%}) "
        f"and **{pairs[worst]}** most ({accuracy[worst]:.1%})."
    )
