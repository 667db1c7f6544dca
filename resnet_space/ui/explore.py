"""The explore tab: what the residual blocks of a run do to their input, measured on images."""

import csv
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_space import charts
from resnet_space.charts import BlockNorms
from resnet_space.runs import RunError
from resnet_space.text import csv_cell
from resnet_space.ui.choices import run_dropdown
from resnet_space.ui.guard import admit
from resnet_space.ui.pictures import read_picture
from resnet_space.ui.pull import build_pull, wire_pull
from resnet_space.ui.refusals import refusal
from resnet_space.ui.workshop import Workshop

if TYPE_CHECKING:
    from PIL.Image import Image

    from resnet_space.residuals import ResidualNorms

HELD_OUT, OWN = "test images of cifar10-mini", "one picture of your own"
MAX_IMAGES = 256
NEARLY_IDENTITY = 0.1
ABOUT = """
A residual block adds something to its input: it gives **x + F(x)**, where **x** comes through the shortcut unchanged
and **F(x)** is what the block's convolutions make of it. Each point below is one image in one block: how long the
vector x is, and how long the vector F(x) is. **On the dashed diagonal** the block adds as much as it was given; **far
below it** the block hardly touches its input: nearly the identity. That this is easy for a block (it only has to make F
small) is why very deep residual networks can be trained. Diamonds are blocks whose shortcut must change the shape of x,
so that ‖x‖ means the shortcut's output there.
"""
COLUMNS = ["block", "shortcut", "median ‖x‖", "median ‖F(x)‖", "ratio: lower quartile", "median", "upper quartile"]
EMPTY = "Press **Measure** to see what each block does to its input."


@dataclass(frozen=True)
class ExploreTab:
    """What the other tabs need."""

    run: gr.Dropdown


@lru_cache(maxsize=1)
def held_out_images() -> "list[Image]":
    """`MAX_IMAGES` test images of cifar10-mini, the classes in turn; no run was trained or chosen with them."""
    import torch
    from PIL import Image

    from resnet_space.data.sources import split_files
    from resnet_space.data.splits import load_split, stratified_indices

    data = load_split(split_files("cifar10-mini")["test"], 32)
    # Draw one image of each class after another, so that any first few are balanced too.
    rest = torch.arange(len(data))
    order: list[int] = []
    while len(order) < MAX_IMAGES:
        taken, left = stratified_indices(data.labels[rest], len(data.classes), seed=len(order))
        order += rest[taken].tolist()
        rest = rest[left]
    return [Image.fromarray(data.images[i].numpy()) for i in order[:MAX_IMAGES]]


def explore(
    workshop: Workshop, name: str, source: str, count: float, picture: dict[str, Any] | None
) -> tuple[Any, Any, str, list[list[Any]], str, str]:
    """(scatter, ratios by depth, what they say, table rows, the table as CSV, all values as CSV)."""
    from resnet_space.residuals import residual_norms

    if source == OWN:
        images, labels = [read_picture(picture)], ["your picture"]
    else:
        if count is None or not 1 <= count <= MAX_IMAGES or int(count) != count:
            raise refusal(f"The number of images is {count}, but must be a whole number from 1 to {MAX_IMAGES}.")
        images = held_out_images()[: int(count)]
        labels = [f"image {i}" for i in range(len(images))]
    try:
        classifier = workshop.classifier(name)
    except RunError as error:
        raise refusal(error) from None
    with classifier.lock:
        norms = residual_norms(classifier.model, classifier.prepare(images))
    blocks = block_norms(norms)
    stages = [block.name.split(".")[0] for block in blocks]
    stage_ends = [i for i in range(1, len(stages)) if stages[i] != stages[i - 1]]
    rows = table_rows(norms)
    return (
        charts.figure(charts.norms_chart(blocks, labels)),
        charts.figure(charts.ratio_chart(blocks, stage_ends)),
        summary(name, norms),
        rows,
        _csv(f"{name}-residual-norms.csv", COLUMNS, rows),
        _csv(f"{name}-residual-norms-all-images.csv", ALL_COLUMNS, all_rows(norms, labels)),
    )


def block_norms(norms: "ResidualNorms") -> list[BlockNorms]:
    return [
        BlockNorms(name, same, shortcut, residual)
        for name, same, shortcut, residual in zip(
            norms.blocks, norms.identity, norms.shortcut.tolist(), norms.residual.tolist(), strict=True
        )
    ]


def table_rows(norms: "ResidualNorms") -> list[list[Any]]:
    """One row a block: `COLUMNS`."""
    rows = []
    for i, block in enumerate(norms.blocks):
        ratios = norms.ratio[i].tolist()
        lower, middle, upper = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        rows.append(
            [
                block,
                "identity" if norms.identity[i] else "changes the shape",
                round(median(norms.shortcut[i].tolist()), 3),
                round(median(norms.residual[i].tolist()), 3),
                *(round(value, 3) for value in (lower, middle, upper)),
            ]
        )
    return rows


ALL_COLUMNS = ["block", "image", "norm_x", "norm_shortcut", "norm_residual", "norm_output", "ratio"]


def all_rows(norms: "ResidualNorms", labels: list[str]) -> list[list[Any]]:
    """One row a block and image: `ALL_COLUMNS`."""
    parts = (norms.input, norms.shortcut, norms.residual, norms.output, norms.ratio)
    return [
        [block, label, *(part[i, n].item() for part in parts)]
        for i, block in enumerate(norms.blocks)
        for n, label in enumerate(labels)
    ]


def summary(name: str, norms: "ResidualNorms") -> str:
    """What to look for in this very result."""
    ratio = dict(zip(norms.blocks, norms.ratio.median(dim=1).values.tolist(), strict=True))
    kept = {block: r for (block, r), same in zip(ratio.items(), norms.identity, strict=True) if same}
    new_shape = {block: r for block, r in ratio.items() if block not in kept}
    count = norms.input.shape[1]
    most, least = max(kept, key=kept.__getitem__), min(kept, key=kept.__getitem__)
    words = (
        f"**{name}** on {'your picture' if count == 1 else f'{count} images'}. Of the {len(kept)} blocks that "
        f"keep x's shape, **{most}** changes its input most, by {kept[most]:.0%} of its length, and **{least}** least, "
        f"by {kept[least]:.0%}{'; that is nearly the identity' if kept[least] < NEARLY_IDENTITY else ''}."
    )
    if new_shape:
        listed = ", ".join(f"{block} by {r:.0%}" for block, r in new_shape.items())
        words += f"\n\nWhere the shape changes, F(x) has new channels to fill; the shortcut's output changes: {listed}."
    return words


def _csv(file_name: str, columns: list[str], rows: list[list[Any]]) -> str:
    path = Path(tempfile.mkdtemp(prefix="resnet-space-")) / file_name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([csv_cell(cell) for cell in row] for row in rows)
    return str(path)


def build_explore(workshop: Workshop, visitor: gr.BrowserState, names: gr.State) -> ExploreTab:
    """Place the tab's components and wire its events; `names` are the runs that can be measured."""
    gr.Markdown(ABOUT)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            run = run_dropdown(workshop.trained_names(), workshop.default_name())
            pulled = build_pull(workshop, visitor)
            source = gr.Radio([HELD_OUT, OWN], value=HELD_OUT, label="Images")
            count = gr.Slider(1, MAX_IMAGES, value=64, step=1, label="How many")
            picture = gr.Image(
                label="Picture",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=260,
                visible=False,
                elem_id="own-picture",
            )
            measure = gr.Button("Measure", variant="primary")
            said = gr.Markdown(EMPTY, label="What they say")
        with gr.Column(scale=2, min_width=320):
            scatter = gr.Plot(
                charts.figure(charts.norms_chart([], [])), label="Norms", show_label=False, elem_classes="chart"
            )
            ratios = gr.Plot(
                charts.figure(charts.ratio_chart([], [])), label="Ratios", show_label=False, elem_classes="chart"
            )
            table = gr.Dataframe(headers=COLUMNS, label="By block", interactive=False, wrap=True, elem_id="by-block")
            with gr.Row():
                table_file = gr.DownloadButton("Table as CSV", size="sm", interactive=False)
                values_file = gr.DownloadButton("All values as CSV", size="sm", interactive=False)

    def explore_residuals(
        run: str, source: str, count: float, image: dict[str, Any] | None, request: gr.Request
    ) -> tuple[Any, ...]:
        """Measure what the residual blocks of a run do to their input.

        Args:
            run: a trained run's name; one that is always there is resnet20-cbam-cifar10.
            source: "test images of cifar10-mini" or "one picture of your own".
            count: how many test images, 1 to 256.
            image: the picture, if it is your own.

        Returns:
            Two Plotly figures, a sentence on them, the table by block, and two CSV files: by block, and of every image.
        """
        admit(workshop, request)
        return explore(workshop, run, source, count, image)

    measure.click(
        explore_residuals,
        [run, source, count, picture],
        [scatter, ratios, said, table, table_file, values_file],
        api_name="explore_residuals",
        preprocess=False,
    ).success(
        lambda: (gr.update(interactive=True), gr.update(interactive=True)),
        None,
        [table_file, values_file],
        api_visibility="private",
    )
    source.change(
        lambda kind: (gr.update(visible=kind == HELD_OUT), gr.update(visible=kind == OWN)),
        source,
        [count, picture],
        api_visibility="private",
    )
    names.change(lambda known: gr.update(choices=known), names, run, show_progress="hidden", api_visibility="private")
    wire_pull(pulled, names, run)
    return ExploreTab(run)
