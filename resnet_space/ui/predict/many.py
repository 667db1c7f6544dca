"""The panel for many pictures: a table that grows while they are read, the way to keep it, and how many are right."""

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
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.uploads import uploaded_file
from resnet_space.training.evaluation import Evaluation, summary
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.events import QUIET
from resnet_space.ui.finetune.more_data import ARCHIVES, machine_folder
from resnet_space.ui.finetune.results import CHART, CLICKABLE, confusion_value
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
from resnet_space.ui.predict.choice import choose_run
from resnet_space.ui.progress import progress_html
from resnet_space.ui.reports import counted, left_out_html, scores_words
from resnet_space.ui.scripts import SCRIPTS
from resnet_space.ui.stops import Stops

MOST, MOST_PUBLIC = 20_000, 2_000  # pictures at once: on one's own machine, and on one for all
SHOW_SECONDS = 1.0  # between two looks at what is there already
SHOWN = 1_000  # rows on the page; the CSV has all
WHAT = "Pictures, or a zip or tar"
WAITING = "Waiting: other pictures are classified first."
ALONE = "This page classifies pictures already: stop that first."
HOW = "Where they are in folders that are named after classes of the run, it is checked how many are right."


def result_html(
    rows: Sequence[Row],
    skipped: SkippedFiles,
    ended: str,
    run: str,
    evaluation: Evaluation | None,
    *,
    calibrated: bool = True,
) -> str:
    """What came of it, in words: how many, how many of them right, what was left out.

    `calibrated`: whether the run's probabilities are.
    """
    parts = [f"<p><b>{counted(len(rows), 'picture')}</b> classified by <b>{escape(run)}</b>. {escape(ended)}</p>"]
    if evaluation is not None:
        scores = summary(evaluation) | {"images": len(evaluation)}
        parts.append(
            f'<p class="scores">Of {len(evaluation):,} in a folder named after a class: {scores_words(scores)}</p>'
        )
    unusual = sum(row.unusual for row in rows)
    if unusual:
        are = "is" if unusual == 1 else "are"
        parts.append(
            f'<p class="caution">{unusual:,} {are} unlike the pictures that the model was trained on: do not rely on '
            "its answers there.</p>"
        )
    if not calibrated:
        from resnet_space.inference import UNCALIBRATED

        parts.append(f'<p class="caution">{UNCALIBRATED}</p>')
    parts.append(left_out_html(skipped.listed, skipped.count))
    if len(rows) > SHOWN:
        parts.append(f'<p class="note">The table shows the first {SHOWN:,}; the CSV has all.</p>')
    return f'<div class="report">{"".join(parts)}</div>'


def occurring_confusion(evaluation: Evaluation | None) -> plots.Chart | None:
    """The chart of the confusion matrix, of the classes that occur."""
    if evaluation is None:
        return None
    occurring = np.union1d(evaluation.labels, evaluation.predicted)
    return confusion_value(evaluation, occurring, title="Confusion, of these pictures")


def build_many(context: AppContext, chosen: gr.Textbox) -> None:
    """Place the panel and wire its events; `chosen` is the run that the visitor wants to answer, or empty."""
    most = MOST_PUBLIC if context.public else MOST
    stops = Stops()
    with gr.Accordion("Many pictures at once: files, a zip or tar, a folder", open=False, elem_id="many"), gr.Row():
        with gr.Column(scale=1, min_width=300):
            files = gr.File(
                label=WHAT, file_count="multiple", file_types=["image", *ARCHIVES], height=160, elem_id="pictures"
            )
            folder = gr.Textbox(
                label="Or a folder on this machine", placeholder="/home/me/pictures", visible=not context.public
            )
            gr.HTML(f'<p class="note">{HOW}</p>', apply_default_css=False)
            with gr.Row():
                start = gr.Button("Classify all", variant="primary", min_width=120)
                stop = gr.Button("Stop", variant="stop", min_width=120, interactive=False)
            report = gr.HTML("", apply_default_css=False)
            keep = gr.DownloadButton("Table as CSV", size="sm", visible=False)
        with gr.Column(scale=2, min_width=320):
            table = gr.Dataframe(
                headers=table_columns(TOP),
                interactive=False,
                max_height=420,
                label="The ⋮ of a heading sorts",
                visible=False,
                elem_id="many-table",
            )
            confusion = gr.HTML(
                None,
                html_template=CHART,
                js_on_load=CLICKABLE,
                head=SCRIPTS,
                apply_default_css=False,
                elem_id="many-confusion",
            )

    def sources(payload: list[dict[str, Any]] | None, text: str | None) -> list[tuple[Path, str]]:
        uploads = [(uploaded_file(file), str(file.get("orig_name") or "")) for file in payload or [] if file]
        if path := machine_folder(context, text):
            uploads.append((path, path.name))
        if not uploads:
            raise UserError("There are no pictures yet: upload some, or a zip or tar of them.")
        return [(path, name or path.name) for path, name in uploads]

    @costly
    def on_classify(
        payload: list[dict[str, Any]] | None, text: str | None, named: str | None, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        short_side, pictures = first_short_side(read_all(sources(payload, text)))
        name = choose_run(context, short_side, named).name
        classifier = context.classifier(name)
        rows: list[Row] = []
        reading = Reading(SkippedFiles())
        ended, shown_at = "", time.monotonic()

        def progress() -> str:
            words = f"{counted(len(rows), 'picture')} classified by {escape(name)}"
            return progress_html(words, share=reading.done / max(reading.total, 1), label="pictures")

        with stops.asked(str(request.session_hash), alone=ALONE) as stopped:
            yield {report: progress(), keep: gr.update(visible=False), confusion: None} | running(True)
            try:
                for row in classified(classifier, pictures, reading, most=most, stopped=stopped.is_set):
                    rows.append(row)
                    if time.monotonic() - shown_at > SHOW_SECONDS:
                        yield {report: progress()} | ({} if len(rows) > SHOWN else {table: _shown(rows)})
                        shown_at = time.monotonic()
            except UserError as error:
                ended = f"Then it ended: {error}"
            if stopped.is_set():
                ended = "Then it was stopped."
            elif len(rows) == most and not ended:
                ended = f"More than {most:,} are not read at once here."
            evaluation = evaluation_of(rows, classifier.config.classes)
            path = csv_file(f"{name}-predictions", table_columns(_width(rows)), table_rows(rows)) if rows else None
            yield {
                report: result_html(rows, reading.skipped, ended, name, evaluation, calibrated=classifier.calibrated),
                table: _shown(rows) if rows else gr.update(visible=False),
                keep: gr.update(value=path, visible=path is not None),
                confusion: occurring_confusion(evaluation),
            } | running(False)

    def running(on: bool) -> dict[Any, Any]:
        return {start: gr.update(interactive=not on), stop: gr.update(interactive=on)}

    def on_start() -> dict[Any, Any]:
        off = {start: gr.update(interactive=False), keep: gr.update(visible=False)}
        return off | {report: progress_html(WAITING), confusion: None}

    def on_stop(request: gr.Request) -> None:
        stops.stop(str(request.session_hash))

    waiting = start.click(on_start, None, [report, keep, confusion, start], queue=False, **QUIET)
    views = [report, table, keep, confusion, start, stop]
    done = waiting.then(on_classify, [files, folder, chosen], views, concurrency_limit=1, **QUIET)
    done.failure(lambda: {report: ""} | running(False), None, [report, start, stop], **QUIET)
    stop.click(on_stop, None, None, **QUIET)


def _width(rows: Sequence[Row]) -> int:
    """Classes a picture."""
    return len(rows[0].classes)


def _shown(rows: Sequence[Row]) -> Any:
    return gr.update(value={"headers": table_columns(_width(rows)), "data": table_rows(rows[:SHOWN])}, visible=True)
