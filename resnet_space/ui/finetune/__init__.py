"""The fine-tune tab: a form, a live view of what trains, and the comparison of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space import charts
from resnet_space.pretrained import is_pretrained
from resnet_space.runs import Run, RunError
from resnet_space.ui.finetune.api import build_api
from resnet_space.ui.finetune.fields import build_fields, start_choices, wire_fields
from resnet_space.ui.finetune.form import create_comparison, create_run, start_training
from resnet_space.ui.finetune.status import EMPTY, RANDOM, runs_html, status_html
from resnet_space.ui.workshop import Workshop

SHOWN_AT_FIRST = 2  # the newest runs
LIVE_SECONDS = 0.5
IDLE_SECONDS = 2.0  # while nothing trains, another visitor's start is noticed within this time


@dataclass(frozen=True)
class FinetuneTab:
    """What the other tabs need: the runs that can predict, and the buttons that lead to them with a run."""

    names: gr.State
    try_it: gr.Button
    explore_it: gr.Button
    followed: gr.State


def build_finetune(workshop: Workshop) -> FinetuneTab:
    """Place the tab's components and wire its events."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            form = build_fields(workshop)

        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(EMPTY, apply_default_css=False)
            with gr.Accordion("The plan: which part trains when, and at which peak rate", open=False):
                plan_view = gr.HTML("", apply_default_css=False)
            with gr.Accordion("The data: how many, a few of them, and as the model sees them", open=False):
                data_view = gr.HTML("", apply_default_css=False)
            suggestion_plot = gr.Plot(visible=False, show_label=False, elem_classes="chart")
            with gr.Row():
                loss_plot = gr.Plot(charts.loss_chart({}), show_label=False, min_width=300, elem_classes="chart")
                accuracy_plot = gr.Plot(
                    charts.accuracy_chart({}), show_label=False, min_width=300, elem_classes="chart"
                )
            table = gr.HTML(runs_html([]), apply_default_css=False)
            with gr.Row(visible=False) as next_steps:
                try_it = gr.Button("Try it in Predict", size="sm")
                explore_it = gr.Button("Explore its residuals", size="sm")
            shown = gr.Dropdown(
                [], value=[], multiselect=True, label="Runs in the plots", info="choose which to lay over one another"
            )

    names = gr.State(workshop.trained_names())  # for the other tabs' choices
    followed = gr.State(None)  # the run that the status line speaks of
    drawn = gr.State(None)  # what is on the page, to redraw only what changed
    timer = gr.Timer(LIVE_SECONDS)

    def refresh(shown_names: Sequence[str], drawn_key: object, known: list[str]) -> tuple[Any, ...]:
        """The page as the runs' folders have it now; everything that is as it was is skipped."""
        runs = {run.name: run for run in workshop.library.runs()}  # newest first
        here = [name for name in workshop.finetuned_names() if name in runs]
        trained = [name for name, run in runs.items() if run.has_weights]
        if drawn_key is None and not shown_names:  # a page that was just opened
            shown_names = here[:SHOWN_AT_FIRST][::-1]
        active = workshop.trainer.active()
        if active is not None and active not in shown_names:
            shown_names = [*shown_names, active]
        shown_names = [name for name in shown_names if name in runs]
        rows = [
            (run, workshop.trainer.status(run), workshop.library.metrics(run))
            for run in map(runs.__getitem__, shown_names)
        ]
        key = (active, tuple((r.name, s, len(m)) for r, s, m in rows), tuple(here), tuple(trained))
        if key == drawn_key:
            return (gr.skip(),) * len(view)
        followed_row = next((row for row in rows if row[0].name == active), rows[-1] if rows else None)
        histories = {run.name: metrics for run, _, metrics in rows}
        can_go_on = followed_row is not None and not followed_row[1].is_active and followed_row[0].has_weights
        comparable = can_go_on and followed_row is not None and followed_row[0].config.training.start is not None
        return (
            key,
            status_html(*followed_row) if followed_row else EMPTY,
            charts.loss_chart(histories),
            charts.accuracy_chart(histories),
            runs_html(rows),
            gr.update(choices=[*here, *(n for n in trained if n not in here)], value=shown_names),
            gr.update(interactive=active is None),
            gr.update(interactive=active is not None),
            gr.update(interactive=comparable, variant="primary" if comparable else "secondary"),
            gr.update(visible=can_go_on),
            followed_row[0].name if followed_row else None,
            trained if trained != known else gr.skip(),
            gr.Timer(LIVE_SECONDS if active else IDLE_SECONDS),
        )

    view = [
        drawn,
        status,
        loss_plot,
        accuracy_plot,
        table,
        shown,
        form.start_button,
        form.stop_button,
        form.compare_button,
        next_steps,
        followed,
        names,
        timer,
    ]

    def shown_with(shown_names: list[str], run: Run) -> Any:
        names = [*shown_names, run.name]
        return gr.update(choices=names, value=names)

    def on_start(shown_names: list[str], *values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        request = form.request(values)
        if request.start != RANDOM and is_pretrained(request.start):  # before the trainer is held for the start
            try:
                workshop.start_run(request.start, lambda done, all_: progress(done / max(all_, 1), desc="Downloading"))
            except RunError as error:
                raise gr.Error(str(error), print_exception=False) from None
        return shown_with(shown_names, start_training(workshop, lambda: create_run(workshop, request)))

    def on_compare(shown_names: list[str], name: str) -> Any:
        return shown_with(shown_names, start_training(workshop, lambda: create_comparison(workshop, name)))

    def on_stop() -> None:
        active = workshop.trainer.active()
        if active is None:
            raise gr.Error("Nothing is training, so there is nothing to stop.", print_exception=False)
        workshop.trainer.stop(workshop.library.open(active))

    # Not preprocessed: Gradio refuses a run that appeared after the page was built; the library knows which runs there
    # are.
    private: Any = {"api_visibility": "private", "preprocess": False}
    tick: Any = {
        "fn": refresh,
        "inputs": [shown, drawn, names],
        "outputs": view,
        "queue": False,
        "show_progress": "hidden",
    }
    timer.tick(**tick, **private)
    shown.input(**tick, **private)
    quiet: Any = private | {"show_progress": "hidden"}
    for button, handler, inputs in (
        (form.start_button, on_start, [shown, *form.components]),
        (form.compare_button, on_compare, [shown, followed]),
    ):
        button.click(handler, inputs, shown, show_progress="hidden", **private).success(**tick, **private)
    form.stop_button.click(on_stop, None, None, **private).success(**tick, **private)
    names.change(lambda: gr.update(choices=start_choices(workshop)), None, form.start, **quiet)
    wire_fields(workshop, form, plan_view, data_view, suggestion_plot)
    build_api(workshop)
    return FinetuneTab(names, try_it, explore_it, followed)
