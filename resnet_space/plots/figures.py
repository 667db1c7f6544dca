"""Plain data -> matplotlib figures, by the object interface: nothing is shared between requests."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from resnet_space.common.text import shortened
from resnet_space.plots import palette
from resnet_space.plots.export import LETTER, POINTS, Size
from resnet_space.runs import Metric

MOST_ROWS = 60  # of a table without a height of its own
# Matplotlib reads this where it draws, so it cannot be set for one figure alone.
matplotlib.rcParams["svg.fonttype"] = "none"


def learning_curves(metrics: Sequence[Metric]) -> Figure:
    """Loss by iteration and accuracy by epoch of one run, for its card."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    steps = [m for m in metrics if m["event"] == "step"]
    epochs = [m for m in metrics if m["event"] == "epoch"]
    loss.plot([m["step"] for m in steps], [m["loss"] for m in steps], linewidth=1, color=palette.category(0))
    loss.set(xlabel="iteration", ylabel="training loss (nats)", xlim=(0, None), ylim=(0, None))
    for i, (key, label) in enumerate((("validation_accuracy", "validation"), ("train_accuracy", "training"))):
        accuracy.plot(
            [m["epoch"] for m in epochs],
            [100 * m[key] for m in epochs],
            label=label,
            color=palette.category(i),
            marker="." if len(epochs) < 20 else None,  # a single epoch makes no line
        )
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 100))
    accuracy.xaxis.get_major_locator().set_params(integer=True)
    accuracy.legend(frameon=False)
    _tidy(loss, accuracy)
    return figure


def save_png(figure: Figure, file: Path | IO[bytes]) -> None:
    """Write at 150 dots an inch, on white."""
    _save(figure, file, format="png", dpi=150)


def save_svg(figure: Figure, path: Path) -> None:
    """Write as SVG, text as text, so that it can be edited and searched."""
    _save(figure, path, format="svg", dpi=300, metadata={"Date": None})


def _save(figure: Figure, file: Path | IO[bytes], **options: Any) -> None:
    with warnings.catch_warnings():  # a machine may lack the letters of a class's name: then it has boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, facecolor="white", **options)


def png(figure: Figure) -> bytes:
    """As `save_png` writes it."""
    buffer = io.BytesIO()
    save_png(figure, buffer)
    return buffer.getvalue()


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """A confusion matrix [C, C], rows the true classes; each row's shares as colours, counts where they fit."""
    size = min(3.2 + 0.32 * len(classes), 14)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(100 * shares, cmap="viridis", vmin=0, vmax=100)
    # Names are drawn as they are: a "$" is no formula.
    ticks = np.arange(len(classes))
    axes.set_xticks(ticks, [shortened(name) for name in classes], rotation=90, parse_math=False)
    axes.set_yticks(ticks, [shortened(name) for name in classes], parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(classes) <= 15:
        for row, column in np.ndindex(matrix.shape):
            colour = "black" if shares[row, column] > 0.6 else "white"
            axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.8)
    return figure


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], size: Size) -> Figure:
    """A table as a figure, as many of its first rows as there is room for."""
    line = 1.9 * size.text / POINTS
    texts = [
        [shortened(_cell_words(cell)) for cell in row] for row in rows[: int((size.height or 60 * line) / line) - 1]
    ]
    figure = Figure(figsize=(size.width, size.height or line * (len(texts) + 1)))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_axis_off()
    drawn = axes.table(texts, colLabels=list(columns), loc="upper left", cellLoc="left", edges="horizontal")
    drawn.auto_set_font_size(False)
    drawn.auto_set_column_width(list(range(len(columns))))
    letters = sum(max(map(len, column)) + 3 for column in zip(columns, *texts, strict=True))
    for (row, _), cell in drawn.get_celld().items():
        cell.set_height(line / figure.get_figheight())
        cell.get_text().set_parse_math(False)
        cell.get_text().set_fontweight("bold" if row == 0 else "normal")
        cell.get_text().set_fontsize(min(size.text, 0.8 * size.width * POINTS / (letters * LETTER)))
    return figure


def _cell_words(cell: object) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else "" if cell is None else str(cell)


def residual_profile(
    blocks: Sequence[str], identity: Sequence[bool], quartiles: Sequence[Sequence[float]], images: int
) -> Figure:
    """||F(x)|| / ||x|| by depth: the median over the images as a point, the quartiles as a bar.

    Args:
        blocks: B names in forward order.
        identity: B flags: whether the shortcut keeps x as it is.
        quartiles: B times (lower quartile, median, upper quartile).
        images: how many were measured.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    depth = np.arange(1, len(blocks) + 1)
    low, middle, high = np.array(quartiles).T
    kept = np.array(identity)
    for chosen, marker, label in (
        (kept, "o", "x is kept"),
        (~kept, "D", "x changes shape: beside the shortcut's output"),
    ):
        if chosen.any():
            spread = (middle - low)[chosen], (high - middle)[chosen]
            colour = palette.category(0 if marker == "o" else 1)
            axes.errorbar(depth[chosen], middle[chosen], spread, fmt=marker, capsize=3, label=label, color=colour)
    step = max(1, len(blocks) // 27)  # a resnet110 has 54 blocks
    axes.set_xticks(depth[::step], blocks[::step], rotation=90 if len(blocks) > 9 else 0, fontsize=8)
    axes.set(ylabel="||F(x)|| / ||x||", xlabel=f"block, in forward order ({images} test images)", ylim=(0, None))
    axes.legend(frameon=False)
    _tidy(axes)
    return figure


def _tidy(*several: Axes) -> None:
    for axes in several:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4)
