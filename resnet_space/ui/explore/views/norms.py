"""‖F(x)‖ against ‖x‖ for every block and image, and their ratio by depth."""

import math
from collections.abc import Sequence
from html import unescape
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_space.common.text import markdown_text
from resnet_space.plots import Chart
from resnet_space.plots.residuals.depth import Block, quartiles, stage_names
from resnet_space.plots.residuals.norms import BlockNorms, norms_chart, ratio_chart
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.events import QUIET
from resnet_space.ui.explore.measuring import Findings, findings_of
from resnet_space.ui.explore.memory import Handle
from resnet_space.ui.explore.pictures import BlockView, PicturesTab
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import (
    NORM,
    RESIDUAL,
    Table,
    Variants,
    View,
    blocks_of,
    fewer_points,
    rounded,
)
from resnet_space.ui.exports import stem, wire_download

if TYPE_CHECKING:
    from gradio.components import Component

    from resnet_space.ui.explore.view_tab import ViewTab

UNGATED = "before-gate"
COLUMNS = ["block", "shortcut", "median ‖x‖", "median ‖F(x)‖", "ratio: lower quartile", "median", "upper quartile"]
ALL_COLUMNS = ["block", "image", "norm_x", "norm_shortcut", "norm_residual", "norm_before_gate", "norm_output", "ratio"]
NEARLY_IDENTITY = 0.1
MOST_LISTED = 6


class Norms(View):
    key = "norms"
    file = "residual-norms"
    title = "Norms"
    about = (
        "A residual block gives **x + F(x)**: **x** comes through the shortcut unchanged, **F(x)** is what the block's "
        "convolutions make of it. Each point is one image in one block. **On the dashed diagonal** the block adds as "
        "much as it was given; **far below it** it hardly touches its input. Diamonds are blocks whose shortcut must "
        "change the shape of x: there ‖x‖ is of the shortcut's output. Click a point to see its image and what the "
        "block does to it."
    )
    charts = 2
    definitions = f"{RESIDUAL}, x what comes through the shortcut. {NORM} Boxes are quartiles with the median."
    variants = Variants(
        "F(x) is",
        "the blocks of this network have a CBAM at the end of their branch",
        (("what the addition receives", "gated"), ("before the gate", UNGATED)),
        lambda findings: findings.measured.has_gates,
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        blocks = block_norms(findings, variant)
        return [norms_chart(blocks, findings.names), ratio_chart(blocks, findings.names)]

    def words(self, findings: Findings, variant: str = "") -> str:
        what = markdown_text(findings.words)
        if findings.measured.plain:
            words = plain_words(what, len(findings.measured.norms.blocks))
        else:
            what += ", the branch before its gate" if variant else ""
            words = norms_words(what, blocks_of(findings), ratio_medians(findings, variant))
        return words + fewer_points(findings)

    def table(self, findings: Findings, variant: str = "") -> Table:
        plain = findings.measured.plain
        return COLUMNS, [
            [
                block.name,
                "none" if plain else "identity" if block.identity else "changes the shape",
                *(rounded(quartiles(values)[1]) for values in (block.shortcut, block.residual)),
                *(rounded(value) for value in quartiles(block.ratios)),
            ]
            for block in block_norms(findings, variant)
        ]

    def caption(self, variant: str = "") -> str:
        return f"{self.definitions} (before the gate of its CBAM)" if variant else self.definitions

    def python(self, variant: str = "") -> Python:
        ratio = "(found.before_gate / found.norms.shortcut)" if variant else "found.norms.ratio"
        return Python(
            "last, measure", "last(measure(model, images))", f"found.norms.blocks, {ratio}.quantile(0.5, dim=1)"
        )

    def extend(
        self, tab: "ViewTab", context: AppContext, findings: gr.State, pictures: PicturesTab
    ) -> "list[Component]":
        """All values as CSV, and the image and block of a point that is clicked."""
        with tab.extra:
            clicked = gr.HTML("", apply_default_css=False, elem_id="clicked")
            values_button = gr.Button("All values as CSV", size="sm")

        def values(handle: Handle[Findings] | None) -> str:
            measured = findings_of(handle)
            return csv_file(stem(measured.network.label, f"{self.file}-all-images"), *all_values(measured))

        @costly
        def on_point(handle: Handle[Findings] | None, event: gr.EventData) -> Any:
            measured = findings_of(handle)
            try:
                block, index = (int(number) for number in event.point)
                name = measured.measured.norms.blocks[block]
            except (AttributeError, TypeError, ValueError, IndexError):  # a line was clicked, or it is a raw request
                return {clicked: gr.skip()}
            html = BlockView.of(context, measured, name, index).html
            return {clicked: html, pictures.block: name, pictures.image: index}

        wire_download(values_button, values, [findings], tab.exports.file)
        for chart in tab.charts:
            outputs = [clicked, pictures.block, pictures.image]
            chart.select(on_point, findings, outputs, trigger_mode="multiple", **QUIET)
        return [clicked]


def block_norms(findings: Findings, variant: str = "") -> list[BlockNorms]:
    """The norms of every block; of a plain network beside x itself, which no shortcut carries."""
    norms = findings.measured.norms
    residual = findings.measured.before_gate if variant == UNGATED else norms.residual
    shortcut = norms.input if findings.measured.plain else norms.shortcut
    return [
        BlockNorms(block.name, block.identity, block.stage, x, f)
        for block, x, f in zip(blocks_of(findings), shortcut.tolist(), residual.tolist(), strict=True)
    ]


def ratio_medians(findings: Findings, variant: str = "") -> list[float]:
    return [quartiles(block.ratios)[1] for block in block_norms(findings, variant)]


def all_values(findings: Findings) -> Table:
    """One row a block and image."""
    norms = findings.measured.norms
    parts = (norms.input, norms.shortcut, norms.residual, findings.measured.before_gate, norms.output, norms.ratio)
    columns = [part.tolist() for part in parts]
    return ALL_COLUMNS, [
        [block, name, *(column[i][n] for column in columns)]
        for i, block in enumerate(norms.blocks)
        for n, name in enumerate(map(unescape, findings.names))
    ]


def norms_words(what: str, blocks: Sequence[Block], ratios: Sequence[float]) -> str:
    """Which blocks change their input most and least, and how the ratio goes within a stage.

    Args:
        what: was measured.
        blocks: in forward order.
        ratios: theirs, medians over the images of ||F(x)|| / ||shortcut(x)||.
    """
    finite = [(block, r) for block, r in zip(blocks, ratios, strict=True) if math.isfinite(r)]
    identities = {block.name: r for block, r in finite if block.identity}
    new_shape = {block.name: r for block, r in finite if not block.identity}
    words = f"**{what}.**"
    if identities:
        most, least = (pick(identities, key=identities.__getitem__) for pick in (max, min))
        nearly = sum(r < NEARLY_IDENTITY for r in identities.values())
        words += (
            f" Of the {len(identities)} blocks that keep x's shape, **{most}** changes its input most, by "
            f"{identities[most]:.0%} of its length, and **{least}** least, by {identities[least]:.0%}"
            f"{': nearly an identity' if nearly else ''}."
        )
        if nearly > 1:
            words += f" {nearly} blocks are nearly identities: they change x by less than {NEARLY_IDENTITY:.0%}."
    paragraphs = [words, stage_trends(blocks, ratios)]
    if new_shape:
        listed = ", ".join(f"{block} by {r:.0%}" for block, r in [*new_shape.items()][:MOST_LISTED])
        paragraphs.append(
            f"Where the shape changes, F(x) has new channels to fill; the shortcut's output changes: {listed}."
        )
    return "\n\n".join(filter(None, paragraphs))


def stage_trends(blocks: Sequence[Block], ratios: Sequence[float]) -> str:
    """In how many stages the last block that keeps the shape changes x less than the first, as published."""
    names = stage_names(blocks)
    stages: dict[str, list[float]] = {}
    for block, r in zip(blocks, ratios, strict=True):
        if block.identity and math.isfinite(r):
            stages.setdefault(names[block.stage], []).append(r)
    long = {stage: rs for stage, rs in stages.items() if len(rs) > 1}
    if not long:
        return ""
    falling = sum(rs[-1] < rs[0] for rs in long.values())
    listed = "; ".join(f"{stage} from {rs[0]:.2f} to {rs[-1]:.2f}" for stage, rs in [*long.items()][:MOST_LISTED])
    goes = "falls in every stage" if falling == len(long) else f"falls in {falling} of {len(long)} stages"
    return (
        f"From the first to the last of these blocks the ratio {goes if falling else 'rises in every stage'}: "
        f"{listed}. Jastrzębski et al. (2018) found a fall within each stage, in pre-activation networks."
    )


def plain_words(what: str, count: int) -> str:
    """For a network without shortcuts."""
    return (
        f"**{what}.** This network is plain: its {count} blocks have no shortcut, so nothing is added to F(x), and "
        "there is no ratio. The points show how long F(x) is beside the block's input."
    )
