"""The accuracy with blocks removed, or with two of them swapped."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import quartiles
from resnet_space.plots.residuals.profiles import lesion_chart, several_chart
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, rounded, stages_of, units_of
from resnet_space.ui.explore.wording import percent

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
        raise UserError("This network has no two blocks of the same shape that could be swapped.")
    return pairs[:: math.ceil(len(pairs) / MOST_PAIRS)]


def _on_demand(
    id_: str, label: str, what: str, lesions: "Callable[[Any, nn.Module], Any]", passes: Callable[[int], float]
) -> "OnDemand[Lesioned]":
    return OnDemand(
        id_,
        label,
        what,
        lambda residuals, model, batches: residuals.lesioned(model, batches, lesions(residuals, model)),
        passes,
    )


# From the removed block on the network is computed again: on average half of it.
EACH = _on_demand(
    "lesions",
    "Remove each block",
    "one block removed",
    lambda residuals, model: residuals.single_drops(model),
    lambda blocks: blocks / 2,
)
SEVERAL = _on_demand(
    "several", "Remove several at random", "several removed", _several, lambda _blocks: (COUNTS - 1) * DRAWS
)
PAIRS = _on_demand("swapped", "Swap two blocks", "two swapped", _pairs, lambda blocks: min(blocks, MOST_PAIRS) / 2)


class Lesion(View):
    key = "lesion"
    title = "Remove a block"
    about = (
        "The accuracy on these images with F(x) set to zero in one block, so that only its shortcut is left. Nothing "
        "is retrained. Veit et al. (2016) found that residual networks tolerate it and plain networks do not."
    )
    charts = 3
    definitions = (
        "Accuracy with F(x) := 0 in the named blocks, or with two blocks of a stage swapped, without retraining (Veit "
        f"et al. 2016); random removal: {DRAWS} draws per count."
    )
    on_demand = (EACH, SEVERAL, PAIRS)
    lines: ClassVar[Python] = Python(
        "last, lesioned, single_drops",
        "last(lesioned(model, batches, single_drops(model)))",
        "found.base_accuracy, [lesion.blocks for lesion in found.lesions], found.accuracy",
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        each, several, pairs = (wanted.of(findings) for wanted in self.on_demand)
        charts: list[Chart | None] = [None, None, None]
        units = units_of(findings)
        if each is not None:
            names = _names(each, " + ")
            charts[0] = lesion_chart(names, stages_of(findings, names), each.accuracy.tolist(), each.base_accuracy)
        if several is not None:
            x = f"{units} removed, of {len(findings.measured.norms.blocks)}"
            title = f"Accuracy with several {units} removed at random"
            charts[1] = several_chart(title, *by_count(several), several.base_accuracy, x)
        if pairs is not None:
            names = _names(pairs, " ↔ ")
            charts[2] = lesion_chart(
                names,
                [0] * len(names),
                pairs.accuracy.tolist(),
                pairs.base_accuracy,
                title="Accuracy with two blocks of a stage swapped",
                x="pair",
                hover="%{text}",
            )
        return charts

    def words(self, findings: Findings, variant: str = "") -> str:
        each, several, pairs = (wanted.of(findings) for wanted in self.on_demand)
        words = []
        if each is not None:
            accuracy, units = each.accuracy.tolist(), units_of(findings)
            words.append(lesion_words(_names(each, " + "), accuracy, each.base_accuracy, each.images, units))
        if several is not None:
            counts, draws = by_count(several)
            middle = [quartiles(accuracies)[1] for accuracies in draws]
            blocks = len(findings.measured.norms.blocks)
            words.append(several_words(counts, middle, several.base_accuracy, blocks, units_of(findings)))
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
        return ["change", "blocks", "images", "accuracy", "loss (nats)"], rows


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


def lesion_words(
    blocks: Sequence[str], accuracy: Sequence[float], intact: float, images: int, units: str = "blocks"
) -> str:
    """Which block the accuracy depends on most and least."""
    worst, best = _worst_and_best(accuracy)
    one = f" One image is {percent(1 / images)}." if images < 1_000 else ""
    if accuracy[best] - accuracy[worst] < 1 / images:
        return (
            f"The intact network classifies {percent(intact)} of the images correctly, and {percent(accuracy[worst])} "
            f"without any one of the {units}.{one}"
        )
    spare = sum(a > intact - 0.01 for a in accuracy)
    words = (
        f"**{blocks[worst]}** matters most: without it, the accuracy falls from {percent(intact)} to "
        f"{percent(accuracy[worst])}. **{blocks[best]}** matters least: {percent(accuracy[best])} without it."
    )
    if spare > 1:
        words += f" Removing any one of {spare} of the {len(blocks)} {units} costs less than a point."
    return words + one


def several_words(
    counts: Sequence[int], medians: Sequence[float], intact: float, blocks: int, units: str = "blocks"
) -> str:
    """How fast the accuracy falls (Veit et al. 2016, figure 5)."""
    half = next((c for c, m in zip(counts, medians, strict=True) if m < intact / 2), None)
    first = f"With {counts[0]} of {blocks} {units} removed at random, the median accuracy is {percent(medians[0])}"
    if half is None:
        return f"{first}; even with {counts[-1]} removed, it stays above half of the intact {percent(intact)}."
    if half == counts[0]:
        return f"{first}, less than half of the intact {percent(intact)}."
    return f"{first}; with {half} removed, it falls below half of the intact {percent(intact)}."


def swapped_words(pairs: Sequence[str], accuracy: Sequence[float], intact: float) -> str:
    worst, best = _worst_and_best(accuracy)
    if accuracy[best] == accuracy[worst]:
        return (
            f"Swapping any of {len(pairs)} pairs changes the accuracy from {percent(intact)} to "
            f"{percent(accuracy[worst])}."
        )
    return (
        f"Of {len(pairs)} pairs, swapping **{pairs[best]}** costs least (from {percent(intact)} to "
        f"{percent(accuracy[best])}) and **{pairs[worst]}** most (to {percent(accuracy[worst])})."
    )
