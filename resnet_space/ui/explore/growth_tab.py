"""The sub-tab of a run's growth. While it is open it looks for the newest epoch."""

from typing import Any

import gradio as gr

from resnet_space.serve.refusals import refusal
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore.exports import stem
from resnet_space.ui.explore.growth import ABOUT, growth_caption, growth_of, growth_table, growth_view
from resnet_space.ui.explore.keep import Kept, place_keep, wire_keep
from resnet_space.ui.explore.places import chart_place
from resnet_space.ui.explore.snippets import growth_lines

LOOK_SECONDS = 2.0


def build_growth(workshop: Workshop, run: gr.Dropdown) -> None:
    """Place the sub-tab and wire its events; `run` is the chosen one."""
    with gr.Tab("Growth", id="growth") as tab:
        gr.Markdown(ABOUT, elem_classes="about")
        said = gr.Markdown("", elem_classes="said")
        chart = chart_place("growth-chart")
        keep = place_keep()
        clock = gr.Timer(LOOK_SECONDS, active=False)
        drawn = gr.State(None)  # (run, epochs) of what is on the page

    def version(subject: str | None) -> tuple[Any, ...]:
        found_run, found = growth_of(workshop, subject)
        epochs = len(found.epochs) if found else -1
        return (subject, epochs, bool(found_run and found_run.is_training))

    def on_look(subject: str | None, before: tuple[Any, ...] | None) -> Any:
        """Draw what is not drawn yet; while the run trains, look again."""
        now = version(subject)
        clock_now = gr.Timer(active=now[2])
        if now == before:
            return gr.skip(), gr.skip(), gr.skip(), clock_now
        told, growth = growth_view(workshop, subject)
        return told, gr.update(value=growth or {}, visible=growth is not None), now, clock_now

    def provide(subject: str | None) -> Kept:
        found_run, found = growth_of(workshop, subject)
        if found_run is None or found is None:
            raise refusal("There is no growth to keep: choose a run that was trained here.")
        columns, rows = growth_table(found)
        _, growth = growth_view(workshop, subject)
        caption = growth_caption(found_run, found)
        return Kept(stem(found_run.name, "growth"), [growth], caption, columns, rows, growth_lines(found_run.name))

    looked: Any = {"fn": on_look, "inputs": [run, drawn], "outputs": [said, chart, drawn, clock]}
    looked |= {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}
    tab.select(**looked)
    clock.tick(**looked)
    run.change(**looked)
    wire_keep(keep, [run], provide)
