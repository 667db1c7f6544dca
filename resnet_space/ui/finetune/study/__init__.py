"""Does transfer help? A study of learning curves: plan it, start it, watch it grow, continue it, take it away."""

from functools import partial
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.serve.handlers import costly
from resnet_space.serve.studies import MINUTES, plan_study, start_study
from resnet_space.training.study import SEEDS, SIZES, STEPS, Study
from resnet_space.ui.events import LATEST, QUIET, Update
from resnet_space.ui.exports import place_exports, wire_download
from resnet_space.ui.finetune.fields import Fields
from resnet_space.ui.finetune.study.shown import export_of, plan_html, progress_of, report_file, report_of
from resnet_space.ui.finetune.work_fold import WorkFold
from resnet_space.ui.html import cautions_html, place_html, place_note
from resnet_space.ui.subject import Shared

POLL_SECONDS = 2.0
ABOUT = (
    "The same network three times: from random initialisation, frozen with a solved head, and fine-tuned from the "
    "weights chosen as start, with few and with many images per class, over several seeds. Trainings go first: a study "
    "waits while one runs. It goes on when you close the page, and can be continued after a stop."
)


def build_study(shared: Shared, form: Fields) -> None:
    """Place the fold, about the form's dataset and start, and wire its events; it is looked up when it is opened."""
    context, visitor = shared.context, shared.visitor
    fold = WorkFold(shared, context.studies, "study")
    with gr.Accordion("Does transfer help? Learning curves", open=False, elem_id="study") as section:
        place_note(ABOUT)
        with gr.Column(visible=not context.readonly):
            with gr.Row():
                sizes = gr.Textbox(", ".join(map(str, SIZES)), label="Images per class", scale=3, min_width=200)
                seeds = gr.Number(SEEDS, label="Seeds", precision=0, minimum=1, scale=1, min_width=90)
                steps = gr.Number(STEPS, label="Steps", info="per training", precision=0, minimum=1, min_width=100)
                minutes = gr.Number(MINUTES, label="Minutes", info="for all together", minimum=1, min_width=110)
            plan = place_html(elem_id="study-plan")
            with gr.Row():
                fold.place_buttons("Start the study", min_width=190)
                resume = gr.Button("Continue", min_width=110, scale=0, visible=False, elem_id="study-continue")
        fold.place_progress()
        fold.place_report()
        with gr.Column(visible=False) as found:
            exports = place_exports([fold.shown], partial(export_of, context))
            keep = gr.Button("Report as Markdown", size="sm", scale=0, min_width=160)
            wire_download(keep, partial(report_file, context), [fold.shown], exports.file)

    def draw(study: Study) -> Update:
        return {
            fold.report: report_of(study),
            found: gr.update(visible=bool(study.done)),
            resume: gr.update(visible=study.state in ("stopped", "failed"), interactive=True),
        }

    def planned(dataset: str, weights: str, *values: Any) -> Any:
        *settings, key = values
        named = dict(zip(("sizes", "seeds", "steps", "minutes"), settings, strict=True))
        return plan_study(context, dataset, key, start=weights, **named)

    def look_ahead(*values: Any) -> str:
        try:
            return plan_html(planned(*values))
        except UserError as error:
            return cautions_html(error)

    @costly
    def on_start(*values: Any) -> str:
        return start_study(context, planned(*values), values[-1])

    @costly
    def on_resume(name: str, key: str | None) -> None:
        context.require_writable()
        context.studies.resume(name, key)

    asked = [form.dataset, form.start, sizes, seeds, steps, minutes, visitor]
    changes = [section.expand, form.dataset.change, form.start.change]
    changes += [field.change for field in (sizes, seeds, steps, minutes)]
    ahead: Any = LATEST | {"concurrency_limit": 2}
    gr.on(changes, look_ahead, asked, plan, **ahead)
    fold.wire(on_start, asked, progress_of, draw, [found, resume], seconds=POLL_SECONDS)
    fold.look_on_newest(section.expand)
    fold.look_on(resume.click(on_resume, [fold.shown, visitor], None, **QUIET).success)
