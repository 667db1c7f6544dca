"""Does transfer help? A study of learning curves: plan it, start it, watch it grow, continue it, take it away."""

from functools import partial
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.studies import MINUTES, plan_study, start_study
from resnet_space.training.study import SEEDS, SIZES, STEPS
from resnet_space.ui.events import LATEST, QUIET
from resnet_space.ui.exports import place_exports, wire_download
from resnet_space.ui.finetune.data_view import cautions_html
from resnet_space.ui.finetune.fields import Fields
from resnet_space.ui.finetune.study.shown import export_of, plan_html, progress_of, report_file, report_of
from resnet_space.ui.progress import progress_html
from resnet_space.ui.scripts import SCRIPTS

POLL_SECONDS = 2.0
ABOUT = (
    "The same network three times: from random initialisation, frozen with a solved head, and fine-tuned from the "
    "weights chosen as start, with few and with many images per class, over several seeds. Trainings go first: a study "
    "waits while one runs. It goes on when you close the page, and can be continued after a stop."
)


def build_study(context: AppContext, visitor: gr.BrowserState, form: Fields) -> None:
    """Place the fold and wire its events; what it shows is looked up when it is opened.

    Args:
        context: what all share.
        visitor: the key that a browser is known by.
        form: whose dataset and start it is about.
    """
    with gr.Accordion("Does transfer help? Learning curves", open=False, elem_id="study") as section:
        gr.HTML(f'<p class="note">{ABOUT}</p>', apply_default_css=False)
        with gr.Column(visible=not context.readonly):
            with gr.Row():
                sizes = gr.Textbox(", ".join(map(str, SIZES)), label="Images per class", scale=3, min_width=200)
                seeds = gr.Number(SEEDS, label="Seeds", precision=0, minimum=1, scale=1, min_width=90)
                steps = gr.Number(STEPS, label="Steps", info="per training", precision=0, minimum=1, min_width=100)
                minutes = gr.Number(MINUTES, label="Minutes", info="for all together", minimum=1, min_width=110)
            plan = gr.HTML("", elem_id="study-plan", apply_default_css=False)
            with gr.Row():
                start = gr.Button("Start the study", variant="primary", min_width=190, scale=0, elem_id="study-start")
                stop = gr.Button("Stop", variant="stop", min_width=110, scale=0, visible=False, elem_id="study-stop")
                resume = gr.Button("Continue", min_width=110, scale=0, visible=False, elem_id="study-continue")
        progress = gr.HTML("", elem_id="study-progress", apply_default_css=False)
        report = gr.HTML(
            None,
            html_template='<div class="body"></div>',
            js_on_load="resnetSpace.report(element, props, watch)",
            head=SCRIPTS,
            elem_id="study-report",
            apply_default_css=False,
        )
        with gr.Column(visible=False) as found:
            shown = gr.Textbox("", visible="hidden")
            exports = place_exports([shown], partial(export_of, context))
            keep = gr.Button("Report as Markdown", size="sm", scale=0, min_width=160)
            wire_download(keep, partial(report_file, context), [shown], exports.file)
    known = gr.State(None)  # what is drawn: the name, how many results, the state
    timer = gr.Timer(POLL_SECONDS, active=False)
    views = [progress, report, found, start, stop, resume, timer, known]

    def look(name: str | None, drawn: object) -> dict[Any, Any]:
        if not name:
            return {timer: gr.Timer(active=False), progress: "", start: gr.update(interactive=True)}
        study = context.studies.open(name)
        running = study.state == "running"
        now = [name, len(study.points), study.state]
        update: dict[Any, Any] = {progress: progress_of(study)}
        if now != drawn:
            update |= {
                report: report_of(study),
                found: gr.update(visible=bool(study.done)),
                start: gr.update(visible=not running, interactive=True),
                stop: gr.update(visible=running, interactive=True),
                resume: gr.update(visible=study.state in ("stopped", "failed"), interactive=True),
                timer: gr.Timer(active=running),
                known: now,
            }
        return update

    def planned(dataset: str, weights: str, *values: Any) -> Any:
        *settings, key = values
        named = dict(zip(("sizes", "seeds", "steps", "minutes"), settings, strict=True))
        return plan_study(context, dataset, key, start=weights, **named)

    def look_ahead(*values: Any) -> str:
        try:
            return plan_html(planned(*values))
        except UserError as error:
            return cautions_html([str(error)])

    @costly
    def on_start(*values: Any) -> str:
        context.require_writable()
        return start_study(context, planned(*values), values[-1])

    @costly
    def on_resume(name: str, key: str | None) -> None:
        context.require_writable()
        context.studies.resume(name, key)

    def on_stop(name: str, key: str | None) -> dict[Any, Any]:
        context.require_writable()
        context.studies.stop(name, key)
        return {stop: gr.update(interactive=False)}

    asked = [form.dataset, form.start, sizes, seeds, steps, minutes, visitor]
    changes = [section.expand, form.dataset.change, form.start.change]
    changes += [field.change for field in (sizes, seeds, steps, minutes)]
    ahead: Any = LATEST | {"concurrency_limit": 2}
    gr.on(changes, look_ahead, asked, plan, **ahead)
    opened = section.expand(lambda key: context.studies.newest(key) or "", visitor, shown, **QUIET)
    opened.then(look, [shown, known], views, **QUIET)
    pressed = start.click(
        lambda: {start: gr.update(interactive=False), progress: progress_html("Starting.")},
        None,
        [start, progress],
        queue=False,
        **QUIET,
    )
    started = pressed.then(on_start, asked, shown, **QUIET)
    started.failure(look, [shown, known], views, **QUIET)
    started.failure(lambda: {start: gr.update(interactive=True)}, None, [start], **QUIET)
    started.success(look, [shown, known], views, **QUIET)
    resume.click(on_resume, [shown, visitor], None, **QUIET).success(look, [shown, known], views, **QUIET)
    timer.tick(look, [shown, known], views, **QUIET)
    stop.click(on_stop, [shown, visitor], stop, **QUIET)
