"""The fine-tune tab: data, setup and start on the left; on the right the result, the live charts, and the mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.hub.pretrained import is_pretrained
from resnet_space.runs import Run, is_tested
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.identity import token_of
from resnet_space.ui.events import LATEST, PRIVATE, PROGRESS, QUIET, Looks, SignedIn, Update, reporter
from resnet_space.ui.finetune.api import build_api, build_data_api
from resnet_space.ui.finetune.check import build_check
from resnet_space.ui.finetune.check.api import build_check_api
from resnet_space.ui.finetune.compare import Compare, start_all, start_one
from resnet_space.ui.finetune.compare.api import build_compare_api
from resnet_space.ui.finetune.comparison import NO_RESULT, difference_html, mixed_data
from resnet_space.ui.finetune.domains import build_domains
from resnet_space.ui.finetune.entries import keep_entries
from resnet_space.ui.finetune.fields import MORE_EPOCHS, NO_TARGET, Fields, start_choices
from resnet_space.ui.finetune.figures import build_figures, figure_choices
from resnet_space.ui.finetune.form import create_comparison, create_run, go_on, next_try, start_training
from resnet_space.ui.finetune.jobs import build_jobs
from resnet_space.ui.finetune.live import MAX_SHOWN, followed_row, rows_of
from resnet_space.ui.finetune.results import build_results
from resnet_space.ui.finetune.run_list import build_run_list, run_rows
from resnet_space.ui.finetune.share import build_share
from resnet_space.ui.finetune.slices import host_in_slices
from resnet_space.ui.finetune.status import is_underway
from resnet_space.ui.finetune.study import build_study
from resnet_space.ui.finetune.take import build_export_api, build_take
from resnet_space.ui.finetune.teach import Teach, build_teach
from resnet_space.ui.finetune.wiring import wire_fields
from resnet_space.ui.html import LIVE_LINE, note_html, place_heading, place_html
from resnet_space.ui.subject import Shared, counterpart

LIVE = """
<div class="charts"><div class="chart" data-chart="loss"></div><div class="chart" data-chart="accuracy"></div></div>
<details><summary>Learning rates, speed and memory</summary>
<div class="charts"><div class="chart" data-chart="rates"></div><div class="chart" data-chart="speed"></div>
<div class="chart" data-chart="memory"></div></div></details>
<div class="table"></div>
"""
SCROLL = "() => document.getElementById('{}')?.scrollIntoView({{behavior: 'smooth'}})"


@dataclass(frozen=True)
class FinetuneTab:
    """What the other tabs need: the buttons that lead to them; the choice of data, and what changes to a dataset that
    was just brought here; and what is taught by showing.
    """

    try_it: gr.Button
    explore_it: gr.Button
    dataset: gr.Dropdown
    added: gr.State
    teach: Teach


def build_finetune(shared: Shared, app: gr.Blocks, looks: Looks) -> FinetuneTab:
    """Place the tab's components in the app, what one sets on the left and what came of it on the right, and wire them.

    `looks`: when the tab is looked at. It is opened when the subject is settled, and the visitor's key is known.
    """
    context, subject, visitor, names = shared.context, shared.subject, shared.visitor, shared.names
    teach = build_teach(shared, looks.opened)
    with gr.Row(elem_id="finetune"):
        with gr.Column(scale=2, min_width=320, elem_id="steps", visible=not context.readonly):
            form = Fields(shared)
            job_started = build_jobs(shared, form)
        with gr.Column(scale=3, min_width=320):
            place_heading("Result")
            place_html(NO_RESULT, html_template=LIVE_LINE, elem_id="result")
            with gr.Row(elem_id="next"):
                compare_button = gr.Button("Compare with random initialisation", size="sm", visible=False)
                see_mistakes = gr.Button("See mistakes", size="sm", visible=False, min_width=110)
                try_it = gr.Button("Try it in Predict", size="sm", visible=False, min_width=130)
                explore_it = gr.Button("Explore its residuals", size="sm", visible=False, min_width=150)
                take_it = gr.Button("Take it with you", size="sm", visible=False, min_width=120)
            live = place_html({"runs": None}, "live", html_template=LIVE, elem_id="live")
            beside = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                max_choices=MAX_SHOWN - 1,
                label="Compare with other runs",
                info="in the charts and the table; for a single one, the settings that differ are listed",
            )
            difference = place_html()
            followed = gr.State(None)  # the run that the status line speaks of
            compare = Compare(shared, form, looks.opened)
            build_study(shared, form)
            check = build_check(shared, form)
            mistakes = build_results(context)
            domains = build_domains(shared)
            take = build_take(shared)
            build_share(shared)
            figures = build_figures(shared, beside)
            run_list = build_run_list(shared, beside)

    def open_page(about: str | None, key: str, known: list[str], request: gr.Request) -> Update:
        """The runs beside the subject and the cell that the page's address names, and the visitor's datasets."""
        asked = dict(request.query_params)
        linked = [*asked.get("run", "").split(",")[1:], *asked.get("with", "").split(",")]
        named = context.library.names_now(linked) or partners(about, key)
        return drawn(named, about, key, known, was=None) | {
            mistakes.link: asked.get("cell", ""),
            form.dataset: gr.update(choices=context.datasets.choices(key)),
            form.settings["target"]: gr.update(choices=[NO_TARGET, *context.datasets.targets(key)]),
        }

    def partners(about: str | None, key: str | None) -> list[str]:
        """The visitor's run that the subject is compared with by itself: it differs in nothing but the start."""
        own = context.finetuned_names(key)
        runs = [run for run in context.runs(key) if run.name in own]
        run = next((run for run in runs if run.name == about), None)
        other = counterpart(run, runs) if run else None
        return [other.name] if other else []

    def on_subject(names_now: list[str], about: str | None, key: str | None) -> Any:
        """What a visitor has chosen to look at is laid beside runs of its own data only."""
        run = context.library.open(about or "")
        return _runs_update(list(dict.fromkeys([*comparable(context, run, names_now), *partners(about, key)])))

    def refresh(names_before: list[str], about: str | None, key: str, known: list[str]) -> Update:
        return drawn(names_before, about, key, known, was=names_before)

    def drawn(named: Sequence[str], about: str | None, key: str, known: list[str], was: list[str] | None) -> Update:
        """The buttons and choices as the runs' folders have it now. What is drawn comes by the live stream.

        `named` are the runs beside the subject, of which the page shows `was`.
        """
        made = context.finetuned_names(key)
        # One that trains, wherever it was started. Not before it does: the answer to a press of Start, which makes it
        # the subject, may still be under way, and this one would come over it.
        active = context.trainer.active()
        coming = [active] if active in made and context.library.metrics(context.library.open(active)) else []
        shown = context.library.names_now([*([about] if about else []), *named, *coming])[:MAX_SHOWN]
        rows = rows_of(context, shown)
        followed_now = followed_row(rows)
        status_now = followed_now[1] if followed_now else None
        trains = status_now is not None and is_underway(status_now)
        run, status, metrics = rows[0] if rows else (None, None, [])
        idle = status is not None and not is_underway(status)
        finished = status is not None and status.state == "finished"
        tested, usable = is_tested(metrics), run is not None and run.has_weights
        own = run is not None and run.name in made and not context.readonly
        offer = next_try(run, status) if run and status and own else None
        pretrained = run is not None and run.config.training.start is not None
        alone = run is not None and counterpart(run, [other for other, *_ in rows[1:]]) is None
        trained = [*dict.fromkeys([*context.trained_names(key), *(r.name for r, *_ in rows if r.has_weights)])]
        others = [name for name in dict.fromkeys([*(r.name for r in context.runs(key)), *shown]) if name != about]
        kept = figure_choices(metrics, tested=tested)
        update = {
            live: {"runs": shown},
            # Only where it has to change: a start or a new choice may be under way meanwhile.
            beside: gr.update(choices=others) if shown[1:] == was else _runs_update(shown[1:], others),
            form.start_button: gr.update(visible=not trains),
            form.queue_button: gr.update(visible=trains),
            form.stop_button: gr.update(
                visible=trains, interactive=status_now is not None and status_now.state != "stopping"
            ),
            form.name: gr.update(
                placeholder="fine-tune-…" if context.public else context.library.free_name("fine-tune")
            ),
            compare_button: gr.update(visible=own and idle and pretrained and alone),
            see_mistakes: gr.update(visible=tested),
            take_it: gr.update(visible=usable),
            # By the style sheet: with `visible`, the hidden file in it would appear too.
            domains: gr.update(elem_classes="" if usable and run and run.config.training.target else "left-out"),
            form.going_on: gr.update(visible=offer is not None),
            form.more_epochs: gr.update(
                visible=bool(offer and offer.takes_epochs),
                value=MORE_EPOCHS if finished else 0,
                info="re-evaluates on the test set" if finished else "than planned; may be 0",
            ),
            difference: difference_html([run for run, *_ in rows], form.labels),
            followed: followed_now[0].name if followed_now else None,
            mistakes.judged: run.name if run and tested else "",
            figures: gr.update(choices=kept, value=kept[0][1]),
            run_list.table: run_rows(context, key),
        }
        update |= {button: gr.update(visible=usable and (idle or tested)) for button in (try_it, explore_it)}
        update |= {form.go_on_button: gr.update(value=offer.label)} if offer else {}
        return update | ({names: trained} if trained != known else {})

    @costly
    def on_start(
        names_now: list[str],
        about: str | None,
        key: str,
        name: str | None,
        *values: Any,
        progress: gr.Progress = PROGRESS,
    ) -> Any:
        request = replace(form.request(key, values), name=(name or "").strip())
        if is_pretrained(request.start):  # before the trainer is held for the start
            context.start_run(request.start, reporter(progress, "Downloading"))
        run = start_training(context, lambda: create_run(context, request), key)
        before = [about] if about in context.finetuned_names(key) else []
        others = comparable(context, run, [*before, *names_now])
        return {beside: _runs_update(others), form.name: ""} | subject.become(run.name, context.trained_names(key))

    @costly
    def on_compare(names_now: list[str], about: str, key: str) -> Any:
        run = start_training(context, lambda: create_comparison(context, about, key), key)
        return {beside: _runs_update([*names_now, run.name])}

    @costly
    def on_go_on(names_now: list[str], about: str, key: str, epochs: object, signed_in: SignedIn) -> Any:
        run = go_on(context, about, key, epochs, token_of(context, key, signed_in))
        return subject.become(run.name, context.trained_names(key)) | {beside: _runs_update(names_now)}

    @costly
    def on_row(names_now: list[str], about: str, key: str, name: str, event: gr.EventData) -> Any:
        pressed = event._data if isinstance(event._data, dict) else {}
        return started_from_comparison([start_one(context, name, pressed.get("network"), key)], names_now, key)

    @costly
    def on_all(names_now: list[str], about: str, key: str, name: str, recipe: str) -> Any:
        runs, why_no_more = start_all(context, name, key, recipe)
        update = started_from_comparison(runs, names_now, key)
        return update | {compare.message: f"<p>{escape(why_no_more)}</p>" if why_no_more else update[compare.message]}

    def started_from_comparison(runs: Sequence[Run], names_now: list[str], key: str) -> Update:
        first, *others = runs
        beside_first = [*(run.name for run in others), *comparable(context, first, names_now)]
        stands = "waits in the queue" if context.trainer.status(first).state == "queued" else "has started"
        more = f"; {len(others)} more in the queue" if others else ""
        told = note_html(f"<b>{escape(first.name)}</b> {stands}{more}. See Result.")
        update = {beside: _runs_update(list(dict.fromkeys(beside_first))[: MAX_SHOWN - 1]), compare.message: told}
        return update | subject.become(first.name, context.trained_names(key))

    def on_stop(name: str | None, key: str) -> None:
        run = context.own_run(name, key) if name else None
        if run is None or not is_underway(context.trainer.status(run)):
            raise UserError("Nothing is training, so there is nothing to stop.")
        context.trainer.stop(run)

    buttons = [compare_button, see_mistakes, try_it, explore_it, take_it]
    buttons += [form.start_button, form.queue_button, form.stop_button, form.go_on_button]
    view: list[Any] = [*buttons, live, beside, form.name, domains, form.going_on, form.more_epochs]
    view += [difference, followed, mistakes.judged, figures, names, run_list.table]
    # In the queue, although it is quick: outside of it a changed state tells nobody that it has changed.
    asked = [beside, subject.run, visitor]
    redraw: Any = LATEST | {"fn": refresh, "inputs": [*asked, names], "outputs": view, "concurrency_limit": 8}
    arrived = looks.opened(
        open_page, [*asked[1:], names], [*view, mistakes.link, form.dataset, form.settings["target"]], **QUIET
    )
    taken_back = keep_entries(app, form.by_name, arrived)
    live.submit(**redraw)
    beside.input(**redraw)
    looks.again(**redraw)
    for event in (subject.run.input, run_list.selected.then):
        event(on_subject, asked, beside, **QUIET).then(**redraw)
    started_here = [beside, *subject.outputs]
    for triggers, handler, inputs, outputs in (
        ([form.start_button.click, form.queue_button.click], on_start, [form.name, *form.components], [form.name]),
        ([compare_button.click], on_compare, (), ()),
        ([form.go_on_button.click], on_go_on, [form.more_epochs], ()),
        ([compare.fold.report.select], on_row, [compare.fold.shown], [compare.message]),
        ([compare.queue_all.click], on_all, [compare.fold.shown, compare.recipe], [compare.message]),
    ):
        started = gr.on(
            triggers, handler, [*asked, *inputs], [*started_here, *outputs], show_progress_on=form.message, **PRIVATE
        )
        started.success(**redraw)
        host_in_slices(context, started, [subject.run, beside, visitor])
    job_started.success(**redraw)
    form.stop_button.click(on_stop, [followed, visitor], None, **PRIVATE).success(**redraw)
    run_list.changed.change(**redraw)
    teach.changed.change(**redraw)
    see_mistakes.click(None, None, None, js=SCROLL.format("mistakes-of"), **QUIET)
    for button, section in (
        (take_it, take),
        (form.compare_button, compare.section),
        (form.check_button, check),
        (form.data.teach, teach.section),
    ):
        shown = button.click(lambda section=section: {section: gr.update(open=True)}, None, section, **QUIET)
        shown.then(None, js=SCROLL.format(section.elem_id), **QUIET)
    teach.dataset.change(lambda key: gr.update(choices=context.datasets.choices(key)), visitor, form.dataset, **QUIET)
    names.change(lambda key: gr.update(choices=start_choices(context, key)), visitor, form.start, **QUIET)
    form.pulled.change(lambda name, known: [*dict.fromkeys([name, *known])], [form.pulled, names], names, **QUIET)
    wire_fields(shared, looks.first, form, taken_back)
    build_api(context)
    build_data_api(context)
    build_export_api(context)
    build_compare_api(context)
    build_check_api(context)
    return FinetuneTab(try_it, explore_it, form.dataset, form.data.added, teach)


def comparable(context: AppContext, run: Run, others: Sequence[str]) -> list[str]:
    """Those of the other runs that there are, and whose accuracies can stand beside the run's."""
    found = [context.library.open(name) for name in context.library.names_now(others)]
    return [other.name for other in found if other.name != run.name and not mixed_data([run, other])][: MAX_SHOWN - 1]


def _runs_update(names: Sequence[str], choices: Sequence[str] | None = None) -> Any:
    """Of the runs beside the subject."""
    return gr.update(choices=choices or names, value=names)
