"""The fine-tune tab: a form, a live view of what trains, the comparison of runs, and what a run gets wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.hub.pretrained import is_pretrained
from resnet_space.runs import Run, is_tested
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import token_of
from resnet_space.ui.events import LATEST, PRIVATE, PROGRESS, QUIET, reporter
from resnet_space.ui.finetune.api import build_api, build_data_api
from resnet_space.ui.finetune.entries import keep_entries
from resnet_space.ui.finetune.fields import build_fields, start_choices
from resnet_space.ui.finetune.form import create_comparison, create_run, go_on, next_try, start_training
from resnet_space.ui.finetune.jobs import build_jobs
from resnet_space.ui.finetune.live import MAX_SHOWN, followed_row, rows_of
from resnet_space.ui.finetune.results import build_results
from resnet_space.ui.finetune.run_list import build_run_list, run_rows
from resnet_space.ui.finetune.share import build_share
from resnet_space.ui.finetune.slices import host_in_slices
from resnet_space.ui.finetune.status import EMPTY, difference_html, is_underway
from resnet_space.ui.finetune.teach import Teach, build_teach
from resnet_space.ui.finetune.wiring import wire_fields
from resnet_space.ui.scripts import SCRIPTS
from resnet_space.ui.subject import Subject

SHOWN_AT_FIRST = 2  # the newest runs
MORE_EPOCHS = 5  # that a finished run is offered

LIVE = """
<div class="charts"><div class="chart" data-chart="loss"></div><div class="chart" data-chart="accuracy"></div></div>
<details><summary>Learning rates, speed and memory</summary>
<div class="charts"><div class="chart" data-chart="rates"></div><div class="chart" data-chart="speed"></div>
<div class="chart" data-chart="memory"></div></div></details>
<div class="table"></div>
"""


@dataclass(frozen=True)
class FinetuneTab:
    """What the other tabs need: the buttons that lead to them; the choice of data, and what changes to a data set that
    was just brought here; and what is taught by showing.
    """

    try_it: gr.Button
    explore_it: gr.Button
    dataset: gr.Dropdown
    added: gr.State
    teach: Teach


def build_finetune(
    context: AppContext,
    app: gr.Blocks,
    subject: Subject,
    visitor: gr.BrowserState,
    names: gr.State,
    settled: Dependency,
) -> FinetuneTab:
    """Place the tab's components in the app and wire its events.

    Args:
        context: what all share.
        app: the page.
        subject: the run that results, continuing and pushing are about.
        visitor: the key that a browser is known by.
        names: the runs that can predict, for all tabs' choices.
        settled: the event after which the subject is that of the page's address, and the visitor's key is known.
    """
    teach = build_teach(context, visitor, settled)
    with gr.Row(elem_id="finetune"):
        with gr.Column(scale=1, min_width=300, visible=not context.readonly):
            form = build_fields(context, visitor)
            jobs_place = gr.Column()

        with gr.Column(scale=2, min_width=320):
            gr.HTML(EMPTY, html_template='<div class="live">${value}</div>', elem_id="status", apply_default_css=False)
            with gr.Row(visible=False, elem_id="going-on") as going_on:
                go_on_button = gr.Button("Resume", min_width=200)
                more_epochs = gr.Number(
                    MORE_EPOCHS, label="More epochs", info="than planned", min_width=130, precision=0, minimum=0
                )
            with gr.Accordion("The plan: which part trains when, and at which peak rate", open=False):
                plan_view = gr.HTML("", apply_default_css=False)
            with gr.Accordion("The data: how many, a few of them, and as the model sees them", open=False):
                data_view = gr.HTML("", apply_default_css=False)
            suggestion_plot = gr.Plot(visible=False, show_label=False, elem_classes="chart")
            live = gr.HTML(
                {"runs": []},
                html_template=LIVE,
                js_on_load="resnetSpace.live(element, props, trigger, watch)",
                head=SCRIPTS,
                elem_id="live",
                apply_default_css=False,
            )
            difference = gr.HTML("", apply_default_css=False)
            with gr.Row(visible=False) as next_steps:
                try_it = gr.Button("Try it in Predict", size="sm")
                explore_it = gr.Button("Explore its residuals", size="sm")
            shown = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                max_choices=MAX_SHOWN,
                label="Runs in the plots",
                info="choose which to lay over one another; of two, the settings that differ are listed",
            )
            followed = gr.State(None)  # the run that the status line speaks of
            judged = gr.State(None)  # the run whose test the results are about
            build_results(context, judged)
            build_share(context, visitor, subject.run)
            run_list = build_run_list(context, visitor, shown)
    with jobs_place:
        job_started = build_jobs(context, visitor, form, shown)

    def open_page(key: str, request: gr.Request) -> dict[Any, Any]:
        """The runs to show (those in the page's address, else the visitor's newest), and the visitor's data sets."""
        asked = dict(request.query_params)
        linked = [*asked.get("run", "").split(","), *asked.get("with", "").split(",")]
        linked = context.library.names_now(list(dict.fromkeys(linked))[::-1]) if "run" in asked else []
        return {
            shown: _runs_update(linked or context.finetuned_names(key)[:SHOWN_AT_FIRST][::-1]),
            form.dataset: gr.update(choices=context.datasets.choices(key)),
        }

    def refresh(shown_names: Sequence[str], about: str | None, key: str, known: list[str]) -> dict[Any, Any]:
        """The buttons and choices as the runs' folders have it now. What is drawn comes by the live stream."""
        made = context.finetuned_names(key)
        active = context.trainer.active()
        coming = [name for name in [active, *(run.name for run in context.trainer.queue())] if name in made]
        names_now = context.library.names_now([*shown_names, *coming[:1]])[-MAX_SHOWN:]
        rows = rows_of(context, names_now)
        followed_now = followed_row(rows)
        trains = followed_now is not None and is_underway(followed_now[1])
        row = next(iter(rows_of(context, context.library.names_now([about] if about else []))), None)
        run, status = row[:2] if row else (None, None)
        idle = status is not None and not is_underway(status)
        finished = status is not None and status.state == "finished"
        tested = row is not None and is_tested(row[2])
        offer = next_try(run, status) if run and status and run.name in made and not context.readonly else None
        comparable = idle and run is not None and run.config.training.start is not None
        trained = [*dict.fromkeys([*context.trained_names(key), *(r.name for r, *_ in rows if r.has_weights)])]
        choices = [*dict.fromkeys([*made, *names_now])]
        update = {
            live: {"runs": names_now},
            # Only where it has to change: a start or a new choice may be under way meanwhile.
            shown: gr.update(choices=choices) if names_now == shown_names else _runs_update(names_now, choices),
            form.stop_button: gr.update(interactive=trains),
            form.compare_button: gr.update(interactive=comparable, variant="primary" if comparable else "secondary"),
            going_on: gr.update(visible=offer is not None),
            more_epochs: gr.update(
                visible=bool(offer and offer.takes_epochs),
                value=MORE_EPOCHS if finished else 0,
                info="then the test images are looked at once more" if finished else "than planned; may be 0",
            ),
            next_steps: gr.update(visible=(idle or tested) and run is not None and run.has_weights),
            difference: difference_html([run for run, *_ in rows]),
            followed: followed_now[0].name if followed_now else None,
            judged: run.name if run and tested else None,
            run_list.table: run_rows(context, key),
        }
        update |= {go_on_button: gr.update(value=offer.label)} if offer else {}
        return update | ({names: trained} if trained != known else {})

    def shown_with(shown_names: list[str], run: Run) -> Any:
        return _runs_update([*shown_names, *([run.name] if run.name not in shown_names else [])][-MAX_SHOWN:])

    @costly
    def on_start(shown_names: list[str], key: str, *values: Any, progress: gr.Progress = PROGRESS) -> Any:
        request = form.request(key, values)
        if is_pretrained(request.start):  # before the trainer is held for the start
            context.start_run(request.start, reporter(progress, "Downloading"))
        run = start_training(context, lambda: create_run(context, request), key)
        return {shown: shown_with(shown_names, run)} | subject.become(run.name, context.trained_names(key))

    @costly
    def on_compare(shown_names: list[str], key: str, name: str) -> Any:
        run = start_training(context, lambda: create_comparison(context, name, key), key)
        return shown_with(shown_names, run)

    @costly
    def on_go_on(shown_names: list[str], key: str, name: str, epochs: object, signed_in: gr.OAuthToken | None) -> Any:
        return shown_with(shown_names, go_on(context, name, key, epochs, token_of(context, key, signed_in)))

    def on_stop(name: str | None, key: str) -> None:
        run = context.own_run(name, key) if name else None
        if run is None or not is_underway(context.trainer.status(run)):
            raise UserError("Nothing is training, so there is nothing to stop.")
        context.trainer.stop(run)

    view = [live, shown, form.stop_button, form.compare_button, going_on, go_on_button, more_epochs, next_steps]
    view += [difference, followed, judged, names, run_list.table]
    # In the queue, although it is quick: outside of it a changed state tells nobody that it has changed.
    asked = [shown, subject.run, visitor, names]
    redraw: Any = LATEST | {"fn": refresh, "inputs": asked, "outputs": view, "concurrency_limit": 8}
    opened = settled.then(open_page, visitor, [shown, form.dataset], **QUIET)
    taken_back = keep_entries(app, form.by_name, opened)
    opened.then(**redraw)
    live.submit(**redraw)
    shown.input(**redraw)
    subject.run.change(**redraw)
    for button, handler, inputs, outputs in (
        (form.start_button, on_start, [shown, visitor, *form.components], [shown, *subject.outputs]),
        (form.compare_button, on_compare, [shown, visitor, subject.run], [shown]),
        (go_on_button, on_go_on, [shown, visitor, subject.run, more_epochs], [shown]),
    ):
        started = button.click(handler, inputs, outputs, show_progress_on=form.message, **PRIVATE)
        started.success(**redraw)
        host_in_slices(context, started, [shown, visitor])
    job_started.success(**redraw)
    form.stop_button.click(on_stop, [followed, visitor], None, **PRIVATE).success(**redraw)
    run_list.changed.change(**redraw)
    teach.changed.change(**redraw)
    teach.dataset.change(lambda key: gr.update(choices=context.datasets.choices(key)), visitor, form.dataset, **QUIET)
    names.change(lambda key: gr.update(choices=start_choices(context, key)), visitor, form.start, **QUIET)
    form.pulled.change(lambda name, known: [*dict.fromkeys([name, *known])], [form.pulled, names], names, **QUIET)
    wire_fields(context, app, visitor, form, taken_back, plan_view, data_view, suggestion_plot)
    build_api(context)
    build_data_api(context)
    return FinetuneTab(try_it, explore_it, form.dataset, form.added, teach)


def _runs_update(names: Sequence[str], choices: Sequence[str] | None = None) -> Any:
    """Of the choice of runs in the plots."""
    return gr.update(choices=choices or names, value=names)
