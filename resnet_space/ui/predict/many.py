"""The panel for many pictures: a table that grows while they are read, the way to keep it, and how many are right."""

import threading
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
from resnet_space.serve.refusals import refusal
from resnet_space.serve.uploads import uploaded_file
from resnet_space.serve.workshop import Workshop
from resnet_space.training.evaluation import Evaluation, confusion_matrix, most_mistaken, summary, wilson_interval
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.finetune.more_data import ARCHIVES
from resnet_space.ui.finetune.results import CHART, CLICKABLE, MOST_CLASSES
from resnet_space.ui.live import SCRIPTS
from resnet_space.ui.predict.batch import (
    TOP,
    Reading,
    Row,
    classified,
    evaluation_of,
    read_all,
    table_columns,
    table_rows,
)

MOST, MOST_PUBLIC = 20_000, 2_000  # pictures at once: on one's own machine, and on one for all
SHOW_SECONDS = 1.0  # between two looks at what is there already
SHOWN = 1_000  # rows on the page; the CSV has all
LISTED = 20  # skipped files
WHAT = "Pictures, or a zip or tar"
WAITING = '<div class="status"><div class="line"><span>Waiting: other pictures are classified first.</span></div></div>'
HOW = "Where they are in folders that are named after classes of the run, it is checked how many are right."


def progress_html(done: int, total: int, rows: int, run: str) -> str:
    share, pictures = 100 * done / max(total, 1), _counted(rows, "picture")
    return (
        f'<div class="status"><div class="line"><span>{pictures} classified by {escape(run)}</span></div>'
        f'<div class="bar" role="progressbar" aria-label="pictures" aria-valuenow="{share:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100"><div style="width: {share:.1f}%"></div></div></div>'
    )


def result_html(rows: Sequence[Row], skipped: SkippedFiles, ended: str, run: str, evaluation: Evaluation | None) -> str:
    """What came of it, in words: how many, how many of them right, what was left out."""
    pictures, files = _counted(len(rows), "picture"), _counted(skipped.count, "file")
    parts = [f"<p><b>{pictures}</b> classified by <b>{escape(run)}</b>. {escape(ended)}</p>"]
    if evaluation is not None:
        right, count = int(evaluation.correct.sum()), len(evaluation)
        low, high = wilson_interval(right, count)
        scores = summary(evaluation)
        parts.append(
            f'<p class="scores">Of {count:,} in a folder named after a class, <b>{right / count:.1%}</b> are right '
            f"({low:.1%} to {high:.1%} at 95 %, Wilson); {scores['top5_accuracy']:.1%} have it among the top {TOP}; "
            f"macro F1 {scores['macro_f1']:.1%}; expected calibration error {100 * scores['ece']:.1f} points.</p>"
        )
    unusual = sum(row.unusual for row in rows)
    if unusual:
        are = "is" if unusual == 1 else "are"
        parts.append(
            f'<p class="caution">{unusual:,} {are} unlike the pictures that the model was trained on: do not rely on '
            "its answers there.</p>"
        )
    if skipped.count:
        listed = "".join(f"<li>{escape(s.name)}: {escape(s.reason)}</li>" for s in skipped.listed[:LISTED])
        rest = skipped.count - min(len(skipped.listed), LISTED)
        more = f"<li>and {rest:,} more</li>" if rest else ""
        parts.append(f"<details><summary>{files} could not be used</summary><ul>{listed}{more}</ul></details>")
    if len(rows) > SHOWN:
        parts.append(f'<p class="note">The table shows the first {SHOWN:,}; the CSV has all.</p>')
    return f'<div class="report">{"".join(parts)}</div>'


def confusion_value(evaluation: Evaluation | None) -> dict[str, Any] | None:
    """The chart of the confusion matrix, of too many classes those with the most errors."""
    if evaluation is None:
        return None
    matrix = confusion_matrix(evaluation)
    occurring = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    matrix = matrix[np.ix_(occurring, occurring)]
    chosen = most_mistaken(matrix, MOST_CLASSES)
    names = [evaluation.classes[occurring[i]] for i in chosen]
    return plots.confusion_chart(matrix[np.ix_(chosen, chosen)].tolist(), names, title="Confusion, of these pictures")


def build_many(workshop: Workshop, run: gr.Dropdown) -> None:
    """Place the panel and wire its events; `run` is the tab's choice."""
    most = MOST_PUBLIC if workshop.public else MOST
    working: dict[str, threading.Event] = {}  # by the page's session: set to stop
    with gr.Accordion("Many pictures at once: files, a zip or tar, a folder", open=False, elem_id="many"), gr.Row():
        with gr.Column(scale=1, min_width=300):
            files = gr.File(
                label=WHAT, file_count="multiple", file_types=["image", *ARCHIVES], height=160, elem_id="pictures"
            )
            folder = gr.Textbox(
                label="Or a folder on this machine",
                placeholder="/home/me/pictures",
                visible=not workshop.public,
            )
            gr.HTML(f'<p class="note">{HOW}</p>', apply_default_css=False)
            with gr.Row():
                start = gr.Button("Classify all", variant="primary", min_width=120)
                stop = gr.Button("Stop", variant="stop", min_width=120, interactive=False)
            said = gr.HTML("", apply_default_css=False)
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
        found = [(uploaded_file(file), str(file.get("orig_name") or "")) for file in payload or [] if file]
        if wanted := (text or "").strip():
            if workshop.public:  # hidden is not protected
                raise refusal("A folder can be read only by the app's owner.")
            path = Path(wanted).expanduser().resolve()  # which has a name
            if not path.is_dir():
                raise refusal(f"There is no folder {wanted!r} on this machine.")
            found.append((path, path.name))
        if not found:
            raise refusal("There are no pictures yet: upload some, or a zip or tar of them.")
        return [(path, name or path.name) for path, name in found]

    @costly
    def on_classify(
        payload: list[dict[str, Any]] | None, text: str | None, name: str, request: gr.Request
    ) -> Iterator[Any]:
        found = sources(payload, text)
        try:
            classifier = workshop.classifier(name)
        except UserError as error:
            raise refusal(error) from None
        session = str(request.session_hash)
        if session in working:
            raise refusal("This page classifies pictures already: stop that first.")
        stopped = working[session] = threading.Event()
        rows: list[Row] = []
        reading = Reading(SkippedFiles())
        ended, told = "", time.monotonic()
        running = (gr.update(interactive=False), gr.update(interactive=True))
        try:
            yield progress_html(0, 1, 0, name), gr.skip(), gr.update(visible=False), None, *running
            try:
                for row in classified(classifier, read_all(found), reading, most=most, stopped=stopped.is_set):
                    rows.append(row)
                    if time.monotonic() - told > SHOW_SECONDS:
                        shown = gr.skip() if len(rows) > SHOWN else _shown(rows)
                        yield progress_html(reading.done, reading.total, len(rows), name), shown, *(gr.skip(),) * 4
                        told = time.monotonic()
            except UserError as error:
                ended = f"Then it ended: {error}"
            if stopped.is_set():
                ended = "Then it was stopped."
            elif len(rows) == most and not ended:
                ended = f"More than {most:,} are not read at once here."
            evaluation = evaluation_of(rows, classifier.config.classes)
            path = csv_file(f"{name}-predictions", table_columns(_width(rows)), table_rows(rows)) if rows else None
            yield (
                result_html(rows, reading.skipped, ended, name, evaluation),
                _shown(rows) if rows else gr.update(visible=False),
                gr.update(value=path, visible=path is not None),
                confusion_value(evaluation),
                gr.update(interactive=True),
                gr.update(interactive=False),
            )
        finally:
            del working[session]

    def on_halt(request: gr.Request) -> None:
        event = working.get(str(request.session_hash))
        if event is not None:
            event.set()

    private: Any = {"api_visibility": "private", "preprocess": False}
    quiet: Any = private | {"show_progress": "hidden"}
    closed, off = gr.update(visible=False), gr.update(interactive=False)
    waiting = start.click(
        lambda: (WAITING, closed, None, off), None, [said, keep, confusion, start], queue=False, **quiet
    )
    done = waiting.then(
        on_classify, [files, folder, run], [said, table, keep, confusion, start, stop], concurrency_limit=1, **quiet
    )
    done.failure(lambda: ("", gr.update(interactive=True), off), None, [said, start, stop], **quiet)
    stop.click(on_halt, None, None, **quiet)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _width(rows: Sequence[Row]) -> int:
    """Classes a picture."""
    return len(rows[0].classes)


def _shown(rows: Sequence[Row]) -> Any:
    return gr.update(value={"headers": table_columns(_width(rows)), "data": table_rows(rows[:SHOWN])}, visible=True)
