"""The accuracy without some blocks, or with two of them exchanged."""

from typing import TYPE_CHECKING

from resnet_space.plots import Chart, residuals
from resnet_space.plots.residuals import quartiles
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings, Kind, drop_counts
from resnet_space.ui.explore.views.view import Rows, Table, View, rounded, stages_of

if TYPE_CHECKING:
    from resnet_space.residuals import Lesioned


def _draw_lesions(found: Findings, _: bool) -> list[Chart | None]:
    drawn: list[Chart | None] = [None, None, None]
    if (one := found.lesioned("lesions")) is not None:
        names = [" + ".join(lesion.blocks) for lesion in one.lesions]
        drawn[0] = residuals.lesion_chart(names, stages_of(found, names), one.accuracy.tolist(), one.base_accuracy)
    if (several := found.lesioned("several")) is not None:
        counts, draws = by_count(several)
        title = "Accuracy with several blocks dropped at random"
        x = f"blocks dropped at once, of {len(found.measured.norms.blocks)}"
        drawn[1] = residuals.several_chart(title, counts, draws, several.base_accuracy, x)
    if (swapped := found.lesioned("swapped")) is not None:
        names = [" ↔ ".join(lesion.blocks) for lesion in swapped.lesions]
        chart = residuals.lesion_chart(names, [0] * len(names), swapped.accuracy.tolist(), swapped.base_accuracy)
        chart["layout"]["title"]["text"] = "Accuracy with two blocks of a stage exchanged"
        chart["layout"]["xaxis"]["title"]["text"] = "pair"
        chart["data"][0]["hovertemplate"] = "%{text}<br>accuracy %{y:.1%}<extra></extra>"
        drawn[2] = chart
    return drawn


def by_count(several: "Lesioned") -> tuple[list[int], list[list[float]]]:
    """Of random drops: how many blocks, and the accuracy of each draw of so many."""
    draws: dict[int, list[float]] = {}
    for lesion, accuracy in zip(several.lesions, several.accuracy.tolist(), strict=True):
        draws.setdefault(len(lesion.blocks), []).append(accuracy)
    return list(draws), list(draws.values())


def _lesion_words(found: Findings, _: bool) -> str:
    told = []
    if (one := found.lesioned("lesions")) is not None:
        names = [" + ".join(lesion.blocks) for lesion in one.lesions]
        told.append(words.lesion_words(names, one.accuracy.tolist(), one.base_accuracy, one.images))
    if (several := found.lesioned("several")) is not None:
        counts, draws = by_count(several)
        middle = [quartiles(accuracies)[1] for accuracies in draws]
        blocks = len(found.measured.norms.blocks)
        told.append(words.several_words(counts, middle, several.base_accuracy, blocks))
    if (pairs := found.lesioned("swapped")) is not None:
        names = [" and ".join(lesion.blocks) for lesion in pairs.lesions]
        told.append(words.swapped_words(names, pairs.accuracy.tolist(), pairs.base_accuracy))
    return "\n\n".join(told)


def _lesion_table(found: Findings, _: bool) -> Table:
    rows: Rows = []
    kinds: tuple[Kind, ...] = ("lesions", "several", "swapped")
    for lesioned in map(found.lesioned, kinds):
        if lesioned is None:
            continue
        if not rows:
            rows.append(["none", "", lesioned.images, rounded(lesioned.base_accuracy), rounded(lesioned.base_loss)])
        rows += [
            [lesion.kind, " ".join(lesion.blocks), lesioned.images, rounded(accuracy), rounded(loss)]
            for lesion, accuracy, loss in zip(
                lesioned.lesions, lesioned.accuracy.tolist(), lesioned.loss.tolist(), strict=True
            )
        ]
    return ["lesion", "blocks", "images", "accuracy", "loss (nats)"], rows


LESION = View(
    "lesion",
    "Lesion",
    "What if a block is cut out? F(x) is set to zero, so that only the shortcut is left, and the network is tested "
    "again: it was never trained for that. Veit et al. (2016) found that residual networks take it lightly, and plain "
    "ones not at all.",
    3,
    _draw_lesions,
    _lesion_words,
    _lesion_table,
    f"Accuracy with F(x) := 0 in the named blocks, or with two blocks of a stage exchanged, without training (Veit et "
    f"al. 2016); at random: {len(drop_counts(9))} counts or fewer, 5 draws each.",
    (("lesions", "Drop each block"), ("several", "Drop several at random"), ("swapped", "Exchange two")),
)
