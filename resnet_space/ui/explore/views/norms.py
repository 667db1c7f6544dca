"""‖F(x)‖ against ‖x‖ for every block and image, and their ratio by depth."""

import math
from collections.abc import Sequence
from html import unescape
from statistics import median
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

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
from resnet_space.ui.explore.views.view import Table, Variants, View, blocks_of, fewer_points, rounded, units_of
from resnet_space.ui.explore.wording import NORM, RESIDUAL, percent
from resnet_space.ui.exports import stem, wire_download
from resnet_space.ui.html import place_html

if TYPE_CHECKING:
    from resnet_space.ui.explore.view_tab import ViewTab

UNGATED = "before-gate"
COLUMNS = ["block", "shortcut", "median ‖x‖", "median ‖F(x)‖", "ratio: lower quartile", "median", "upper quartile"]
ALL_COLUMNS = ["block", "image", "norm_x", "norm_shortcut", "norm_residual", "norm_before_gate", "norm_output", "ratio"]
NEARLY_IDENTITY = 0.1
MOST_LISTED = 6


class Norms(View):
    key = "norms"
    file = "residual-norms"
    title = "Size of F(x)"
    about = (
        "Each point is one image in one block. **On the dashed diagonal**, "
        "F(x) is as large as x; **far below it**, the block hardly changes its input. Diamonds: the shortcut changes "
        "the shape, and ‖x‖ is the norm of its output. Click a point to see its image and feature maps."
    )
    charts = 2
    reserved = 520
    definitions = f"{RESIDUAL} {NORM} Boxes: quartiles and median."
    variants = Variants(
        "Measure F(x)",
        "the residual branches of this network end in a CBAM",
        (("after the CBAM gate", "gated"), ("before the gate", UNGATED)),
        lambda findings: findings.measured.has_gates,
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        blocks = block_norms(findings, variant)
        return [norms_chart(blocks, findings.names), ratio_chart(blocks, findings.names)]

    def words(self, findings: Findings, variant: str = "") -> str:
        if findings.measured.plain:
            words = plain_words(len(findings.measured.norms.blocks))
        else:
            parts = findings.measured.parts
            words = norms_words(blocks_of(findings), ratio_medians(findings, variant), parts, units_of(findings))
        return words + fewer_points(findings)

    def table(self, findings: Findings, variant: str = "") -> Table:
        plain = findings.measured.plain
        return COLUMNS, [
            [
                block.name,
                "none" if plain else "identity" if block.identity else "new shape",
                *(rounded(quartiles(values)[1]) for values in (block.shortcut, block.residual)),
                *(rounded(value) for value in quartiles(block.ratios)),
            ]
            for block in block_norms(findings, variant)
        ]

    def caption(self, variant: str = "") -> str:
        return f"{self.definitions} F(x) before the CBAM gate." if variant else self.definitions

    def python(self, variant: str = "") -> Python:
        ratio = "(found.before_gate / found.norms.shortcut)" if variant else "found.norms.ratio"
        return Python(
            "last, measure", "last(measure(model, images))", f"found.norms.blocks, {ratio}.quantile(0.5, dim=1)"
        )

    def extend(self, tab: "ViewTab", context: AppContext, findings: gr.State, pictures: PicturesTab) -> list[Component]:
        """All values as CSV, and the image and block of a point that is clicked."""
        with tab.extra:
            clicked = place_html(elem_id="clicked")
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


def norms_words(
    blocks: Sequence[Block], ratios: Sequence[float], parts: Sequence[str] = (), units: str = "blocks"
) -> str:
    """Which blocks change their input most and least, and how the ratio changes within a stage.

    Args:
        blocks: in forward order.
        ratios: theirs, medians over the images of ||F(x)|| / ||shortcut(x)||.
        parts: which part of its block each is, where blocks have several.
        units: what they are called.
    """
    finite = [(block, r) for block, r in zip(blocks, ratios, strict=True) if math.isfinite(r)]
    identities = {block.name: r for block, r in finite if block.identity}
    new_shape = {block.name: r for block, r in finite if not block.identity}
    words = ""
    if identities:
        most, least = (pick(identities, key=identities.__getitem__) for pick in (max, min))
        nearly = sum(r < NEARLY_IDENTITY for r in identities.values())
        words += (
            f"Of the {len(identities)} {units} with an identity shortcut, **{most}** changes its input most (‖F(x)‖ is "
            f"{percent(identities[most], 0)} of ‖x‖) and **{least}** least ({percent(identities[least], 0)}"
            f"{', nearly an identity' if nearly else ''})."
        )
        if nearly > 1:
            words += f" In {nearly} {units}, ‖F(x)‖ is below {percent(NEARLY_IDENTITY, 0)} of ‖x‖: nearly identities."
    paragraphs = [words, part_trends(parts, ratios) if any(parts) else stage_trends(blocks, ratios)]
    if new_shape:
        listed = ", ".join(f"{block} {percent(r, 0)}" for block, r in [*new_shape.items()][:MOST_LISTED])
        paragraphs.append(f"Where the shape changes, F(x) also fills new channels: {listed}.")
    return "\n\n".join(filter(None, paragraphs))


def stage_trends(blocks: Sequence[Block], ratios: Sequence[float]) -> str:
    """In how many stages the ratio falls from the first block with an identity shortcut to the last, as published."""
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
        f"From the first to the last of these blocks, the ratio {goes if falling else 'rises in every stage'}: "
        f"{listed}. Jastrzębski et al. (2018) report a fall within each stage of pre-activation networks."
    )


def part_trends(parts: Sequence[str], ratios: Sequence[float]) -> str:
    """How the ratio of each part of a transformer's block goes from the first to the last block."""
    of_part: dict[str, list[float]] = {}
    for part, r in zip(parts, ratios, strict=True):
        if math.isfinite(r):
            of_part.setdefault(part, []).append(r)
    return "Each block adds twice. " + " ".join(
        f"Its {part} branch: ‖F(x)‖ is {percent(rs[0], 0)} of ‖x‖ in the first block, {percent(rs[-1], 0)} in the "
        f"last; the median is {percent(median(rs), 0)}."
        for part, rs in of_part.items()
    )


def plain_words(count: int) -> str:
    """For a network without shortcuts."""
    return (
        f"This network is plain: its {count} blocks have no shortcuts, so there is no sum and no ratio. The points "
        "show ‖F(x)‖ against the norm of the block's input."
    )
