"""How a run's ratios by depth came about, epoch by epoch; also of one that trains right now."""

from typing import TYPE_CHECKING

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart, residuals
from resnet_space.runs import Run
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore import words
from resnet_space.ui.explore.subjects import run_of

if TYPE_CHECKING:
    from resnet_space.residuals.history import Growth

ABOUT = (
    "After each epoch of a training the ratios are measured on the same few validation images. Move the slider, or "
    "press Play, to see how the blocks grow; while a run trains, the newest epoch comes by itself."
)
NONE = (
    "Nothing was recorded for **{name}**: it was made before this was measured, pulled, or has no residual blocks. "
    "Train one in the Fine-tune tab."
)
WAITING = "**{name}** has not finished an epoch yet: the first ratios come with it."
NO_RUN = "{name} was not trained here, so there is no growth to show: choose a run."


def growth_of(workshop: Workshop, subject: str | None) -> "tuple[Run | None, Growth | None]":
    """The run, and what it recorded so far."""
    from resnet_space.residuals import recorded_growth

    name = run_of(subject or "")
    if not name:
        return None, None
    try:
        run = workshop.library.open(name)
    except UserError:
        return None, None
    return run, recorded_growth(workshop.library.metrics(run))


def growth_view(workshop: Workshop, subject: str | None) -> tuple[str, Chart | None]:
    """(words, chart)."""
    run, found = growth_of(workshop, subject)
    if run is None:
        return NO_RUN.format(name=subject or "This"), None
    if found is None:
        return (WAITING if run.is_training else NONE).format(name=run.name), None
    medians = [[middle for _, middle, _ in row] for row in found.quartiles]
    told = words.growth_words(found.blocks, found.epochs, medians)
    return f"**{run.name}** on {found.images} validation images. {told}", residuals.growth_chart(
        found.blocks, found.epochs, medians
    )


def growth_caption(run: Run, found: "Growth") -> str:
    return (
        f"{run.name}: median over {found.images} validation images of ‖F(x)‖ / ‖x‖ after epoch {found.epochs[-1]}, and "
        f"{'before training' if not found.epochs[0] else f'after epoch {found.epochs[0]}'} in grey. F(x) is what the "
        "residual branch gives to the addition, x what comes through the shortcut."
    )


def growth_table(found: "Growth") -> tuple[list[str], list[list[object]]]:
    rows: list[list[object]] = [
        [epoch, block, *values]
        for epoch, row in zip(found.epochs, found.quartiles, strict=True)
        for block, values in zip(found.blocks, row, strict=True)
    ]
    return ["epoch", "block", "ratio: lower quartile", "median", "upper quartile"], rows
