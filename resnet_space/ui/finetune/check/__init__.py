"""Is the data sound? A check of the dataset in the form: start it, watch it, look at what it found, take it away."""

from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.serve.checks import start_check
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.events import QUIET
from resnet_space.ui.exports import stem, wire_download
from resnet_space.ui.finetune.check.review import place_review, wire_review
from resnet_space.ui.finetune.check.shown import COLUMNS, progress_of, report_of, table_rows
from resnet_space.ui.finetune.fields import Fields
from resnet_space.ui.progress import progress_html
from resnet_space.ui.scripts import SCRIPTS

POLL_SECONDS = 1.0
ABOUT = (
    "Looks for labels that may be wrong, copies of one picture, and odd pictures, in all splits. Each is judged "
    "by a head that has not learned from it or its copies. Nothing is changed."
)


def build_check(context: AppContext, visitor: gr.BrowserState, form: Fields) -> gr.Accordion:
    """Place the fold and wire its events; what it shows is looked up when it is opened.

    Args:
        context: what all share.
        visitor: the key that a browser is known by.
        form: whose dataset it is about.
    """
    section: gr.Accordion
    with gr.Accordion("Check the data", open=False, elem_id="check-data") as section:
        gr.HTML(f'<p class="note">{ABOUT}</p>', apply_default_css=False)
        with gr.Row(visible=not context.readonly):
            start = gr.Button("Check these pictures", variant="primary", min_width=250, scale=0, elem_id="check-start")
            stop = gr.Button("Stop", variant="stop", min_width=110, scale=0, visible=False, elem_id="check-stop")
        progress = gr.HTML("", elem_id="check-progress", apply_default_css=False)
        review = place_review(context)
        report = gr.HTML(
            None,
            html_template='<div class="body"></div>',
            js_on_load="resnetSpace.report(element, props, watch)",
            head=SCRIPTS,
            elem_id="check-report",
            apply_default_css=False,
        )
        shown = gr.Textbox("", visible="hidden")
        file = gr.File(visible="hidden")
        keep = gr.Button("Findings as CSV", size="sm", scale=0, min_width=160, visible=False)
    known = gr.State(None)  # what is drawn: the name and the state
    timer = gr.Timer(POLL_SECONDS, active=False)
    views = [progress, report, start, stop, keep, timer, known]

    def look(name: str | None, drawn: object) -> dict[Any, Any]:
        if not name:
            return {timer: gr.Timer(active=False), progress: "", start: gr.update(interactive=True)}
        found = context.checks.open(name)
        running = found.state == "running"
        now = [name, found.state]
        update: dict[Any, Any] = {progress: progress_of(found)}
        if now != drawn:
            update |= {
                report: report_of(found),
                start: gr.update(visible=not running, interactive=True),
                stop: gr.update(visible=running, interactive=True),
                keep: gr.update(visible=bool(found.counts) and not running),
                timer: gr.Timer(active=running),
                known: now,
            }
        return update

    @costly
    def on_start(dataset: str, key: str | None) -> str:
        return start_check(context, dataset, key)

    def on_stop(name: str, key: str | None) -> dict[Any, Any]:
        context.require_writable()
        context.checks.stop(name, key)
        return {stop: gr.update(interactive=False)}

    def table(name: str) -> str:
        found = context.checks.open(name)
        if not found.counts:
            raise UserError("There is nothing to take away yet: check the pictures first.")
        return csv_file(stem("check", name), COLUMNS, table_rows(found))

    opened = section.expand(lambda key: context.checks.newest(key) or "", visitor, shown, **QUIET)
    opened.then(look, [shown, known], views, **QUIET)
    pressed = start.click(
        lambda: {start: gr.update(interactive=False), progress: progress_html("Starting."), report: None},
        None,
        [start, progress, report],
        queue=False,
        **QUIET,
    )
    started = pressed.then(on_start, [form.dataset, visitor], shown, **QUIET)
    started.failure(lambda name: look(name, None), shown, views, **QUIET)
    started.success(look, [shown, known], views, **QUIET)
    timer.tick(look, [shown, known], views, **QUIET)
    stop.click(on_stop, [shown, visitor], stop, **QUIET)
    wire_download(keep, table, [shown], file)
    wire_review(review, context, visitor, form, shown, known)
    return section
