"""The sub-tab of a run's ratios by depth, epoch by epoch; also of one that is training."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.residuals.growth import growth_chart
from resnet_space.runs import Run
from resnet_space.serve.context import AppContext
from resnet_space.ui.events import QUIET, Update
from resnet_space.ui.explore.networks import Network
from resnet_space.ui.explore.view_tab import place_chart
from resnet_space.ui.explore.views.view import Table
from resnet_space.ui.explore.wording import QUARTILES, RESIDUAL
from resnet_space.ui.exports import Export, place_exports, stem

if TYPE_CHECKING:
    from resnet_space.residuals.history import Growth

LOOK_SECONDS = 2.0  # until the open tab looks for the newest epoch again
ABOUT = (
    "The ratios ‖F(x)‖ / ‖x‖ after each epoch, on the same validation images. Move the slider or press Play. While the "
    "run trains, each new epoch is added."
)
NONE = (
    "No ratios were recorded for **{name}**: it was trained elsewhere or by an earlier version, or has no residual "
    "blocks. Train a run in the Fine-tune tab."
)
WAITING = "**{name}** has not finished its first epoch yet."
NO_RUN = "{name} was not trained, so there are no epochs to show: choose a run."


def growth_of(context: AppContext, network: Network) -> "tuple[Run | None, Growth | None]":
    """The run, and what it recorded so far."""
    from resnet_space.residuals import recorded_growth

    try:
        run = context.library.open(network.run or "")
    except UserError:
        return None, None
    return run, recorded_growth(context.library.metrics(run))


def growth_view(context: AppContext, network: Network) -> tuple[str, Chart | None]:
    """(words, chart)."""
    run, growth = growth_of(context, network)
    if run is None:
        return NO_RUN.format(name=network.label or "This network"), None
    if growth is None:
        return (WAITING if run.is_training else NONE).format(name=run.name), None
    words = growth_words(growth.blocks, growth.epochs, growth.medians)
    return f"**{run.name}**, {growth.images} validation images. {words}", growth_chart(
        growth.blocks, growth.epochs, growth.medians
    )


def growth_words(blocks: Sequence[str], epochs: Sequence[int], ratios: Sequence[Sequence[float]]) -> str:
    """Which block changed most from the first to the last epoch."""
    if len(epochs) < 2:
        return "Only one epoch is recorded so far."
    first, last = ratios[0], ratios[-1]
    grown = [b / a if a and math.isfinite(a) and math.isfinite(b) else 1.0 for a, b in zip(first, last, strict=True)]
    at = max(range(len(blocks)), key=lambda i: abs(math.log(max(grown[i], 1e-9))))
    rose = sum(g > 1 for g in grown)
    return (
        f"**{blocks[at]}** changed most: from {first[at]:.2f} {_when(epochs[0])} to {last[at]:.2f} after epoch "
        f"{epochs[-1]}. The ratio rose in {rose or 'none'} of {len(blocks)} blocks."
    )


def _when(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "before training"


def growth_export(context: AppContext, network: Network) -> Export:
    run, growth = growth_of(context, network)
    if run is None or growth is None:
        raise UserError("There is nothing to export: choose a run with recorded epochs.")
    caption = (
        f"{run.name}: median of ‖F(x)‖ / ‖x‖ over {growth.images} validation images after epoch {growth.epochs[-1]}, "
        f"and {_when(growth.epochs[0])} in grey. {RESIDUAL}"
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


def build_growth(context: AppContext, network: gr.Dropdown, subject: gr.Dropdown) -> gr.Tab:
    """Place the sub-tab and wire its events; `network` is the chosen one, which may follow the `subject`."""
    with gr.Tab("During training", id="growth") as tab:
        gr.Markdown(ABOUT, elem_classes="about")
        words = gr.Markdown("", elem_classes="said")
        chart = place_chart("growth-chart")
        place_exports([network, subject], lambda *chosen: growth_export(context, _network(*chosen)))
        clock = gr.Timer(LOOK_SECONDS, active=False)
        drawn = gr.State(None)  # (network, epochs, whether it trains) of what is on the page

    def on_look(chosen: str | None, run_name: str | None, before: tuple[Any, ...] | None) -> Update:
        """Draw what is not drawn yet; while the run trains, look again."""
        asked = _network(chosen, run_name)
        run, growth = growth_of(context, asked)
        now = (str(asked), len(growth.epochs) if growth else -1, bool(run and run.is_training))
        update: Update = {clock: gr.Timer(active=now[2])}
        if now != before:
            told, made = growth_view(context, asked)
            update |= {words: told, chart: made or {}, drawn: now}
        return update

    for event in (tab.select, clock.tick, network.change, subject.change):
        event(on_look, [network, subject, drawn], [words, chart, drawn, clock], **QUIET)
    placed: gr.Tab = tab
    return placed


def _network(chosen: str | None, subject: str | None) -> Network:
    return Network.parse(chosen).about(subject)
