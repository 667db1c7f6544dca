"""The views of what was measured: for each its charts, its words, its table, and what a paper's caption has to say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any

from resnet_space import charts
from resnet_space.charts import Chart, residuals
from resnet_space.charts.residuals import Block, BlockNorms, quartiles
from resnet_space.text import markdown_text
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings, Kind, drop_counts

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.residuals import Lesioned

Rows = list[list[Any]]
Table = tuple[list[str], Rows]

GATED, UNGATED = "what the addition receives", "before the gate"
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


def block_norms(found: Findings, ungated: bool = False) -> list[BlockNorms]:
    """The norms of every block; of a plain network beside x itself, which no shortcut carries."""
    norms = found.measured.norms
    residual = found.measured.before_gate if ungated else norms.residual
    shortcut = norms.input if found.measured.plain else norms.shortcut
    return [
        BlockNorms(block.name, block.identity, block.stage, x, f)
        for block, x, f in zip(_blocks(found), shortcut.tolist(), residual.tolist(), strict=True)
    ]


def medians(values: "Tensor") -> list[float]:
    """[B, N] -> B medians of the finite ones."""
    return [quartiles(row)[1] for row in values.tolist()]


def ratio_medians(found: Findings, ungated: bool = False) -> list[float]:
    return [quartiles(block.ratios)[1] for block in block_norms(found, ungated)]


def _blocks(found: Findings) -> list[Block]:
    norms, stages = found.measured.norms, found.measured.stages
    return [Block(*block) for block in zip(norms.blocks, norms.identity, stages, strict=True)]


def _thinned(found: Findings) -> str:
    told = residuals.thinned_words(found.measured.images, len(found.measured.norms.blocks))
    return f"\n\n{told}" if told else ""


# Norms

COLUMNS = ["block", "shortcut", "median ‖x‖", "median ‖F(x)‖", "ratio: lower quartile", "median", "upper quartile"]
ALL_COLUMNS = ["block", "image", "norm_x", "norm_shortcut", "norm_residual", "norm_before_gate", "norm_output", "ratio"]


def _draw_norms(found: Findings, ungated: bool) -> list[Chart | None]:
    blocks = block_norms(found, ungated)
    return [charts.norms_chart(blocks, found.names), charts.ratio_chart(blocks, found.names)]


def _norms_words(found: Findings, ungated: bool) -> str:
    norms = found.measured.norms
    if found.measured.plain:
        return words.plain_words(markdown_text(found.words), len(norms.blocks)) + _thinned(found)
    what = markdown_text(found.words) + (", the branch before its gate" if ungated else "")
    return words.norms_words(what, _blocks(found), ratio_medians(found, ungated)) + _thinned(found)


def _norms_table(found: Findings, ungated: bool) -> Table:
    plain = found.measured.plain
    return COLUMNS, [
        [
            block.name,
            "none" if plain else "identity" if block.identity else "changes the shape",
            *(rounded(quartiles(values)[1]) for values in (block.shortcut, block.residual)),
            *(rounded(value) for value in quartiles(block.ratios)),
        ]
        for block in block_norms(found, ungated)
    ]


def all_values(found: Findings) -> Table:
    """One row a block and image."""
    norms = found.measured.norms
    parts = (norms.input, norms.shortcut, norms.residual, found.measured.before_gate, norms.output, norms.ratio)
    columns = [part.tolist() for part in parts]
    return ALL_COLUMNS, [
        [block, name, *(column[i][n] for column in columns)]
        for i, block in enumerate(norms.blocks)
        for n, name in enumerate(map(unescape, found.names))
    ]


# Direction


def _draw_direction(found: Findings, _: bool) -> list[Chart | None]:
    axis = {"title": "cosine"}
    cosine = residuals.spread_chart(
        "cos(F(x), x) by depth: along x, across, or against it",
        _blocks(found),
        found.measured.cosine.tolist(),
        found.names,
        axis,
        level=0,
        value="cos(F(x), x) = %{y:.3f}",
    )
    if found.gradients is None:
        return [cosine, None]
    downhill = residuals.spread_chart(
        "cos(F(x), ∂L/∂x) by depth: below 0 is downhill",
        _blocks(found),
        found.gradients.alignment.tolist(),
        found.names[: found.gradients.images],
        axis,
        level=0,
        value="cos(F(x), ∂L/∂x) = %{y:.3f}",
    )
    return [cosine, downhill]


def _direction_words(found: Findings, _: bool) -> str:
    blocks = found.measured.norms.blocks
    told = words.direction_words(blocks, medians(found.measured.cosine))
    if found.gradients is not None:
        told += "\n\n" + words.alignment_words(blocks, medians(found.gradients.alignment))
    return told + _thinned(found)


def _direction_table(found: Findings, _: bool) -> Table:
    columns = ["block", *(f"cos(F, x): {q}" for q in ("lower quartile", "median", "upper quartile"))]
    rows = [
        [block, *map(rounded, quartiles(row))]
        for block, row in zip(found.measured.norms.blocks, found.measured.cosine.tolist(), strict=True)
    ]
    if found.gradients is not None:
        columns += [f"cos(F, dL/dx): {q}" for q in ("lower quartile", "median", "upper quartile")]
        for line, row in zip(rows, found.gradients.alignment.tolist(), strict=True):
            line += map(rounded, quartiles(row))
    return columns, rows


# Responses


def _layers(found: Findings) -> dict[str, list[tuple[str, float]]]:
    responses = found.measured.responses
    return {found.subject: [*zip(responses.layers, responses.std.tolist(), strict=True)]}


def _draw_responses(found: Findings, _: bool) -> list[Chart | None]:
    layers = _layers(found)
    return [residuals.responses_chart(layers), residuals.responses_chart(layers, ordered=True)]


def _responses_words(found: Findings, _: bool) -> str:
    responses = found.measured.responses
    return words.responses_words(responses.layers, responses.std.tolist())


def _responses_table(found: Findings, _: bool) -> Table:
    (layers,) = _layers(found).values()
    return ["layer", "standard deviation"], [[name, rounded(std)] for name, std in layers]


# Lesion


def _draw_lesions(found: Findings, _: bool) -> list[Chart | None]:
    drawn: list[Chart | None] = [None, None, None]
    if (one := found.lesioned("lesions")) is not None:
        names = [" + ".join(lesion.blocks) for lesion in one.lesions]
        drawn[0] = residuals.lesion_chart(names, _stages(found, names), one.accuracy.tolist(), one.base_accuracy)
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


def _stages(found: Findings, names: Sequence[str]) -> list[int]:
    """The stages of some of the blocks."""
    stages = dict(zip(found.measured.norms.blocks, found.measured.stages, strict=True))
    return [stages.get(name, 0) for name in names]


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


# Early reading


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


# Gradient

WAYS = ("through the network", "through the branches only", "in the plain network of the same weights")


def _ways(found: Findings) -> "dict[str, Tensor]":
    assert found.gradients is not None
    g = found.gradients
    return {way: part for way, part in zip(WAYS, (g.norm, g.branches, g.plain), strict=True) if not part.isnan().all()}


def _draw_gradient(found: Findings, _: bool) -> list[Chart | None]:
    if found.gradients is None:
        return [None]
    curves = {way: part.tolist() for way, part in _ways(found).items()}
    return [residuals.gradient_chart(found.gradients.blocks, _stages(found, found.gradients.blocks), curves)]


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


def rounded(value: float) -> float | None:
    """Four digits; None where there is no number."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


NORMS = View(
    "norms",
    "Norms",
    "A residual block gives **x + F(x)**: **x** comes through the shortcut unchanged, **F(x)** is what the block's "
    "convolutions make of it. Each point is one image in one block. **On the dashed diagonal** the block adds as much "
    "as it was given; **far below it** it hardly touches its input. Diamonds are blocks whose shortcut must change the "
    "shape of x: there ‖x‖ is of the shortcut's output. Click a point to see its image and what the block does to it.",
    2,
    _draw_norms,
    _norms_words,
    _norms_table,
    f"{RESIDUAL}, x what comes through the shortcut. {NORM} Boxes are quartiles with the median.",
)
DIRECTION = View(
    "direction",
    "Direction",
    "Does F(x) point along x (cosine 1), across (0) or against it (-1)? And, where the labels are known, does adding "
    "it go downhill: against the gradient of the loss?",
    2,
    _draw_direction,
    _direction_words,
    _direction_table,
    f"{RESIDUAL}, x what comes through the shortcut; L is the cross-entropy of each image. The cosines are over "
    "channels and places, image by image (Jastrzębski et al. 2018). Boxes are quartiles with the median.",
    (("gradients", "Measure the gradients"),),
)
RESPONSES = View(
    "responses",
    "Responses",
    "How strongly each 3x3 convolution answers: the standard deviation of its output after BatchNorm, before ReLU or "
    "the addition, over all images, channels and places.",
    2,
    _draw_responses,
    _responses_words,
    _responses_table,
    "Standard deviation of the output of each 3x3 convolution after its BatchNorm, before ReLU or the addition, over "
    "all images, channels and places (He et al. 2015, figure 7).",
)
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

VIEWS: Sequence[View] = (NORMS, DIRECTION, RESPONSES, LESION, EARLY, GRADIENT)
