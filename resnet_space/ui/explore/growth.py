"""The sub-tab of how a run's ratios by depth came about, epoch by epoch; also of one that trains right now."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.residuals.growth import growth_chart
from resnet_space.runs import Run
from resnet_space.serve.context import AppContext
from resnet_space.ui.events import QUIET
from resnet_space.ui.explore.networks import Network
from resnet_space.ui.explore.view_tab import place_chart
from resnet_space.ui.explore.views.view import QUARTILES, Table
from resnet_space.ui.exports import Export, place_exports, stem

if TYPE_CHECKING:
    from resnet_space.residuals.history import Growth

LOOK_SECONDS = 2.0  # until the open tab looks for the newest epoch again
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


def growth_of(context: AppContext, network: str | None) -> "tuple[Run | None, Growth | None]":
    """The run, and what it recorded so far."""
    from resnet_space.residuals import recorded_growth

    try:
        run = context.library.open(Network.parse(network).run or "")
    except UserError:
        return None, None
    return run, recorded_growth(context.library.metrics(run))


def growth_view(context: AppContext, network: str | None) -> tuple[str, Chart | None]:
    """(words, chart)."""
    run, growth = growth_of(context, network)
    if run is None:
        return NO_RUN.format(name=Network.parse(network).label or "This"), None
    if growth is None:
        return (WAITING if run.is_training else NONE).format(name=run.name), None
    words = growth_words(growth.blocks, growth.epochs, growth.medians)
    return f"**{run.name}** on {growth.images} validation images. {words}", growth_chart(
        growth.blocks, growth.epochs, growth.medians
    )


def growth_words(blocks: Sequence[str], epochs: Sequence[int], ratios: Sequence[Sequence[float]]) -> str:
    """Which block changed most from the first to the last epoch."""
    if len(epochs) < 2:
        return "One epoch is recorded so far."
    first, last = ratios[0], ratios[-1]
    grown = [b / a if a and math.isfinite(a) and math.isfinite(b) else 1.0 for a, b in zip(first, last, strict=True)]
    at = max(range(len(blocks)), key=lambda i: abs(math.log(max(grown[i], 1e-9))))
    rose = sum(g > 1 for g in grown)
    return (
        f"**{blocks[at]}** changed most: its ratio was {first[at]:.2f} {_when(epochs[0])} and is {last[at]:.2f} after "
        f"epoch {epochs[-1]}. {rose or 'None'} of {len(blocks)} blocks change their input more than at first."
    )


def _when(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "before training"


def growth_export(context: AppContext, network: str | None) -> Export:
    run, growth = growth_of(context, network)
    if run is None or growth is None:
        raise UserError("There is no growth to keep: choose a run that was trained here.")
    caption = (
        f"{run.name}: median over {growth.images} validation images of ‖F(x)‖ / ‖x‖ after epoch {growth.epochs[-1]}, "
        f"and {_when(growth.epochs[0])} in grey. F(x) is what the residual branch gives to the addition, x what comes "
        "through the shortcut."
    )
    return Export(
        stem(run.name, "growth"),
        [growth_view(context, network)[1]],
        caption,
        growth_table(growth),
        growth_lines(run.name),
    )


def growth_table(growth: "Growth") -> Table:
    rows: list[list[Any]] = [
        [epoch, block, *values]
        for epoch, row in zip(growth.epochs, growth.quartiles, strict=True)
        for block, values in zip(growth.blocks, row, strict=True)
    ]
    return ["epoch", "block", f"ratio: {QUARTILES[0]}", *QUARTILES[1:]], rows


def growth_lines(run: str) -> str:
    return f"""from resnet_space.residuals import recorded_growth
from resnet_space.runs import Run

found = recorded_growth(Run.open({f"checkpoints/{run}"!r}).metrics())
print(found.epochs, found.blocks, found.quartiles)
"""


def build_growth(context: AppContext, network: gr.Dropdown) -> None:
    """Place the sub-tab and wire its events; `network` is the chosen one."""
    with gr.Tab("Growth", id="growth") as tab:
        gr.Markdown(ABOUT, elem_classes="about")
        words = gr.Markdown("", elem_classes="said")
        chart = place_chart("growth-chart")
        place_exports([network], lambda chosen: growth_export(context, chosen))
        clock = gr.Timer(LOOK_SECONDS, active=False)
        drawn = gr.State(None)  # (network, epochs, whether it trains) of what is on the page

    def on_look(chosen: str | None, before: tuple[Any, ...] | None) -> dict[Any, Any]:
        """Draw what is not drawn yet; while the run trains, look again."""
        run, growth = growth_of(context, chosen)
        now = (chosen, len(growth.epochs) if growth else -1, bool(run and run.is_training))
        update: dict[Any, Any] = {clock: gr.Timer(active=now[2])}
        if now != before:
            told, made = growth_view(context, chosen)
            update |= {words: told, chart: gr.update(value=made or {}, visible=made is not None), drawn: now}
        return update

    for event in (tab.select, clock.tick, network.change):
        event(on_look, [network, drawn], [words, chart, drawn, clock], **QUIET)
