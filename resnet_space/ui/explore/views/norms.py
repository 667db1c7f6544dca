"""‖F(x)‖ against ‖x‖ for every block and image, and their ratio by depth."""

from html import unescape

from resnet_space import plots
from resnet_space.common.text import markdown_text
from resnet_space.plots import Chart
from resnet_space.plots.residuals import BlockNorms, quartiles
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings
from resnet_space.ui.explore.views.view import NORM, RESIDUAL, Table, View, blocks_of, rounded, thinned

GATED, UNGATED = "what the addition receives", "before the gate"
COLUMNS = ["block", "shortcut", "median ‖x‖", "median ‖F(x)‖", "ratio: lower quartile", "median", "upper quartile"]
ALL_COLUMNS = ["block", "image", "norm_x", "norm_shortcut", "norm_residual", "norm_before_gate", "norm_output", "ratio"]


def block_norms(found: Findings, ungated: bool = False) -> list[BlockNorms]:
    """The norms of every block; of a plain network beside x itself, which no shortcut carries."""
    norms = found.measured.norms
    residual = found.measured.before_gate if ungated else norms.residual
    shortcut = norms.input if found.measured.plain else norms.shortcut
    return [
        BlockNorms(block.name, block.identity, block.stage, x, f)
        for block, x, f in zip(blocks_of(found), shortcut.tolist(), residual.tolist(), strict=True)
    ]


def ratio_medians(found: Findings, ungated: bool = False) -> list[float]:
    return [quartiles(block.ratios)[1] for block in block_norms(found, ungated)]


def _draw_norms(found: Findings, ungated: bool) -> list[Chart | None]:
    blocks = block_norms(found, ungated)
    return [plots.norms_chart(blocks, found.names), plots.ratio_chart(blocks, found.names)]


def _norms_words(found: Findings, ungated: bool) -> str:
    norms = found.measured.norms
    if found.measured.plain:
        return words.plain_words(markdown_text(found.words), len(norms.blocks)) + thinned(found)
    what = markdown_text(found.words) + (", the branch before its gate" if ungated else "")
    return words.norms_words(what, blocks_of(found), ratio_medians(found, ungated)) + thinned(found)


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
