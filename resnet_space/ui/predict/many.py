"""Many pictures: a grid of thumbnails with their predictions, how many are correct, and all of it as CSV."""

import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.data.archives.report import SkippedFiles
from resnet_space.serve.handlers import costly
from resnet_space.serve.uploads import uploaded_file
from resnet_space.training.evaluation import Evaluation, summary, wilson_interval
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.events import QUIET, Update
from resnet_space.ui.finetune.more_data import ARCHIVES, machine_folder
from resnet_space.ui.finetune.results import confusion_value
from resnet_space.ui.html import cautions_html, place_html, place_note, progress_html
from resnet_space.ui.predict.batch import (
    TOP,
    Reading,
    Row,
    classified,
    evaluation_of,
    first_short_side,
    read_all,
    table_columns,
    table_rows,
)
from resnet_space.ui.predict.grid import SHOWN, grid_html, thumbnails
from resnet_space.ui.predict.looks import choose_run
from resnet_space.ui.reports import counted, left_out_html
from resnet_space.ui.stops import Stops
from resnet_space.ui.subject import Shared

MOST, MOST_PUBLIC = 20_000, 2_000  # pictures at once: on one's own machine, and on one for all
SHOW_SECONDS = 1.0  # between two updates of the page
WHAT = "Pictures, or a zip or tar archive"
WAITING = "Waiting: other pictures are classified first."
ALONE = "This page is already classifying pictures. Stop that first."
NOTHING = '<div class="empty">The predictions appear here, mistakes first.</div>'
HOW = "If the pictures are in folders named after classes of the run, the folder names are used as labels."


def result_html(
    rows: Sequence[Row],
    skipped: SkippedFiles,
    ended: str,
    run: str,
    evaluation: Evaluation | None,
    *,
    calibrated: bool = True,
) -> str:
    """The result in words: how many pictures, how many of them correct, what was left out.

    `calibrated`: whether the run's probabilities are.
    """
    parts = [f"<p><b>{counted(len(rows), 'picture')}</b> classified by <b>{escape(run)}</b>. {escape(ended)}</p>"]
    if evaluation is not None:
        parts.append(f'<p class="scores">{scores_html(evaluation)}</p>')
    unusual = sum(row.unusual for row in rows)
    if unusual:
        are = "picture is" if unusual == 1 else "pictures are"
        it = "it" if unusual == 1 else "them"
        words = f"{unusual:,} {are} unlike the training images. Do not rely on the predictions for {it}."
        parts.append(cautions_html(words))
    if not calibrated:
        from resnet_space.inference import UNCALIBRATED

        parts.append(cautions_html(UNCALIBRATED))
    parts.append(left_out_html(skipped.listed, skipped.count))
    return f'<div class="report">{"".join(parts)}</div>'


def scores_html(evaluation: Evaluation) -> str:
    """ "245 of 396 correct (61.9 %; 95 % interval 57.0 to 66.5 %)", and the top-5 where there are more classes."""
    correct, images = int(evaluation.correct.sum()), len(evaluation)
    low, high = wilson_interval(correct, images)
    found = summary(evaluation)
    words = (
        f"<b>{correct:,} of {images:,} correct ({100 * correct / images:.1f} %)</b>; 95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %, macro F1 {100 * found['macro_f1']:.1f} %"
    )
    if len(evaluation.classes) > TOP:
        words += f", top-5 accuracy {100 * found['top5_accuracy']:.1f} %"
    return f"{words}."


def occurring_confusion(evaluation: Evaluation | None) -> plots.Chart | None:
    """The chart of the confusion matrix, of the classes that occur."""
    if evaluation is None:
        return None
    occurring = np.union1d(evaluation.labels, evaluation.predicted)
    return confusion_value(evaluation, occurring, title="Confusion matrix of these pictures")


def build_many(shared: Shared) -> None:
    """Place the panel and wire its events."""
    context = shared.context
    most = MOST_PUBLIC if context.public else MOST
    stops = Stops()
    with gr.Row(elem_id="many-pictures"):
        with gr.Column(scale=1, min_width=300):
            files = gr.File(
                label=WHAT, file_count="multiple", file_types=["image", *ARCHIVES], height=160, elem_id="pictures"
            )
            folder = gr.Textbox(
                label="Or a folder on this machine", placeholder="/home/me/pictures", visible=not context.public
            )
            place_note(HOW)
            with gr.Row():
                start = gr.Button("Classify all", variant="primary", min_width=120)
                stop = gr.Button("Stop", variant="stop", min_width=120, interactive=False)
            report = place_html()
            keep = gr.DownloadButton("Predictions as CSV", size="sm", visible=False)
        with gr.Column(scale=2, min_width=320):
            grid = place_html(NOTHING, elem_id="many-grid")
            confusion = place_html(None, "clickable", inside="chart", elem_id="many-confusion")

    def sources(payload: list[dict[str, Any]] | None, text: str | None) -> list[tuple[Path, str]]:
        uploads = [(uploaded_file(file), str(file.get("orig_name") or "")) for file in payload or [] if file]
        if path := machine_folder(context, text):
            uploads.append((path, path.name))
        if not uploads:
            raise UserError("There are no pictures yet: upload some, or a zip or tar archive of them.")
        return [(path, name or path.name) for path, name in uploads]

    @costly
    def on_classify(
        payload: list[dict[str, Any]] | None, text: str | None, named: str | None, request: gr.Request
    ) -> Iterator[Update]:
        short_side, pictures = first_short_side(read_all(sources(payload, text)))
        name = choose_run(context, short_side, named).name
        classifier = context.classifier(name)
        rows: list[Row] = []
        reading = Reading(SkippedFiles())
        ended, shown_at = "", time.monotonic()

        def progress() -> str:
            words = f"{counted(len(rows), 'picture')} classified by {escape(name)}"
            return progress_html(words, share=reading.done / max(reading.total, 1), label="pictures")

        with stops.asked(request, alone=ALONE) as stopped:
            yield {report: progress(), keep: gr.update(visible=False), confusion: None} | running(True)
            try:
                classifying = classified(
                    classifier, pictures, reading, most=most, stopped=stopped.is_set, thumbnail=thumbnails()
                )
                for row in classifying:
                    rows.append(row)
                    if time.monotonic() - shown_at > SHOW_SECONDS:
                        yield {report: progress()} | ({} if len(rows) > SHOWN else {grid: grid_html(rows)})
                        shown_at = time.monotonic()
            except UserError as error:
                ended = f"Stopped by an error: {error}"
            if stopped.is_set():
                ended = "Stopped before the end."
            elif len(rows) == most and not ended:
                ended = f"The limit is {most:,} pictures at once."
            evaluation = evaluation_of(rows, classifier.config.classes)
            path = (
                csv_file(f"{name}-predictions", table_columns(len(rows[0].classes)), table_rows(rows)) if rows else None
            )
            yield {
                report: result_html(rows, reading.skipped, ended, name, evaluation, calibrated=classifier.calibrated),
                grid: grid_html(rows) or NOTHING,
                keep: gr.update(value=path, visible=path is not None),
                confusion: occurring_confusion(evaluation),
            } | running(False)

    def running(on: bool) -> Update:
        return {start: gr.update(interactive=not on), stop: gr.update(interactive=on)}

    def on_start() -> Update:
        off = {start: gr.update(interactive=False), keep: gr.update(visible=False)}
        return off | {report: progress_html(WAITING), confusion: None, grid: NOTHING}

    waiting = start.click(on_start, None, [report, keep, confusion, start, grid], queue=False, **QUIET)
    views = [report, grid, keep, confusion, start, stop]
    done = waiting.then(on_classify, [files, folder, shared.subject.chosen], views, concurrency_limit=1, **QUIET)
    done.failure(lambda: {report: ""} | running(False), None, [report, start, stop], **QUIET)
    stop.click(stops.stop, None, None, **QUIET)
