"""Is the data sound? A check of the dataset in the form: start it, watch it, look at what it found, take it away."""

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.serve.checks import start_check
from resnet_space.serve.handlers import costly
from resnet_space.training.data_report import DataReport
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.events import Update
from resnet_space.ui.exports import stem, wire_download
from resnet_space.ui.finetune.check.map import build_map
from resnet_space.ui.finetune.check.review import place_review, wire_review
from resnet_space.ui.finetune.check.shown import COLUMNS, progress_of, report_of, table_rows
from resnet_space.ui.finetune.fields import Fields
from resnet_space.ui.finetune.work_fold import WorkFold
from resnet_space.ui.html import place_note
from resnet_space.ui.subject import Shared

ABOUT = (
    "Looks for labels that may be wrong, copies of one picture, and odd pictures, in all splits. Each is judged "
    "by a head that has not learned from it or its copies. Nothing is changed."
)


def build_check(shared: Shared, form: Fields) -> gr.Accordion:
    """Place the fold, about the form's dataset, and wire its events; it is looked up when it is opened."""
    context, visitor = shared.context, shared.visitor
    fold = WorkFold(shared, context.checks, "check")
    section: gr.Accordion
    with gr.Accordion("Check the data", open=False, elem_id="check-data") as section:
        place_note(ABOUT)
        with gr.Row(visible=not context.readonly):
            fold.place_buttons("Check these pictures", min_width=250)
        fold.place_progress()
        review = place_review(context)
        fold.place_report()
        file = gr.File(visible="hidden")
        keep = gr.Button("Findings as CSV", size="sm", scale=0, min_width=160, visible=False)
        build_map(shared, fold.shown, fold.report.change)

    def draw(found: DataReport) -> Update:
        there = bool(found.counts) and found.state != "running"
        return {fold.report: report_of(found), keep: gr.update(visible=there)}

    @costly
    def on_start(dataset: str, key: str | None) -> str:
        return start_check(context, dataset, key)

    def table(name: str) -> str:
        found = context.checks.open(name)
        if not found.counts:
            raise UserError("There is nothing to take away yet: check the pictures first.")
        return csv_file(stem("check", name), COLUMNS, table_rows(found))

    fold.wire(on_start, [form.dataset, visitor], progress_of, draw, [keep])
    fold.look_on_newest(section.expand)
    wire_download(keep, table, [fold.shown], file)
    wire_review(review, shared, form, fold.shown, fold.known)
    return section
