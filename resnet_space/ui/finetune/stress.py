"""Does it stand corrupted images? A stress test of the run whose mistakes are shown, on a button."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.robustness import stress_chart
from resnet_space.runs import Run
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.training.robustness import COLUMNS, Robustness, load_robustness, table_rows
from resnet_space.ui.events import PRIVATE, QUIET, Update
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.html import finding_html, place_note, place_report, progress_html
from resnet_space.ui.stops import Stops

ABOUT = (
    "Twelve common corruptions at five severities (Hendrycks &amp; Dietterich 2019): noise, blur, weather and digital. "
    "Each test image is classified 61 times; of more than 1,000 images, or 200 photographs, an evenly spaced part."
)
PYTHON = """from resnet_space.runs import Run
from resnet_space.training.stress import stress_test

found = stress_test(Run.open("checkpoints/{name}"))
print(found.words)
for row in found.rows:
    print(row.corruption, row.severity, row.accuracy, row.ece, row.unlike)
"""


class Stress:
    """The fold, placed and wired; `judged` has the name of the run that is shown."""

    def __init__(self, context: AppContext, judged: gr.State) -> None:
        self.context = context
        stops = Stops()
        with gr.Accordion("Corrupted images: a stress test", open=False, elem_id="stress"):
            place_note(ABOUT)
            with gr.Row():
                self.start = gr.Button(
                    "Run the stress test", min_width=220, scale=0, elem_id="stress-start", visible=False
                )
                stop = gr.Button("Stop", variant="stop", min_width=110, scale=0, visible=False, elem_id="stress-stop")
            self.report = place_report("stress-report")
            self.exports = place_exports([judged], partial(export_of, context), visible=False).buttons

        @costly
        def on_start(name: str, request: gr.Request) -> Iterator[Update]:
            context.require_writable()
            run = context.library.open(name or "")
            with stops.asked(request, alone="A stress test is already under way.") as stopped:
                for found, words in _steps(context, run):
                    yield {self.report: report_of(found, words)}
                    if stopped.is_set():
                        yield {self.report: report_of(found, progress_html("<b>Stopped.</b> Nothing was stored."))}
                        break
            again = {self.start: gr.update(visible=True, interactive=True)}
            yield {stop: gr.update(visible=False)} | (again if stopped.is_set() else self.shown(run))

        def running(on: bool) -> Update:
            return {self.start: gr.update(interactive=not on), stop: gr.update(visible=on)}

        pressed = self.start.click(lambda: running(True), None, [self.start, stop], **QUIET)
        done = pressed.then(on_start, judged, [stop, *self.outputs], **PRIVATE)
        done.failure(lambda: running(False), None, [self.start, stop], **QUIET)
        stop.click(stops.stop, None, None, queue=False, **QUIET)

    @property
    def outputs(self) -> list[Any]:
        return [self.report, self.start, self.exports]

    def shown(self, run: Run) -> Update:
        """What it shows of a run, to be part of the answer to its choice."""
        found = load_robustness(run)
        return {
            self.report: report_of(found),
            self.start: gr.update(visible=found is None and not self.context.readonly, interactive=True),
            self.exports: gr.update(visible=found is not None),
        }


def _steps(context: AppContext, run: Run) -> Iterator[tuple[Robustness | None, str]]:
    """What there is so far, and the line above it."""
    yield None, progress_html("Reading the test images ...")
    from resnet_space.training.stress import stress_steps  # late: torch

    with context.slots.taken("measurements"):
        for found in stress_steps(run):
            done, total = len(found.rows), found.total
            words = f"{done} of {total} sets of {found.images:,} images classified"
            yield found, progress_html(words, share=done / total, label="images classified")


def report_of(found: Robustness | None, line: str = "") -> dict[str, Any]:
    """The sentence and the heat map, for the page's script; `line`: HTML above them."""
    if found is None or not found.corruptions:
        return {"html": line, "figures": {}}
    words = finding_html(found.words if found.is_complete else "")
    return {
        "html": line + words + '<div class="chart" data-chart="stress" style="min-height: 402px"></div>',
        "figures": {"stress": chart_of(found)},
    }


def chart_of(found: Robustness, what: str = "accuracy") -> Chart:
    """`what`: "accuracy", "ece" or "unlike"."""
    titles = {"accuracy": "Accuracy in %", "ece": "Calibration error in %", "unlike": "Warned as unlike, in %"}
    rows = {label: [getattr(row, what) or 0.0 for row in rows] for label, rows in found.by_label()}
    return stress_chart(rows, f"{titles[what]} by corruption and severity")


def export_of(context: AppContext, name: str) -> Export:
    """Raises UserError before a stress test."""
    run = context.library.open(name or "")
    found = load_robustness(run)
    if found is None:
        raise UserError(f"{run.name} has no stress test yet: run it first.")
    kinds = ("accuracy", "ece", *(["unlike"] if found.clean.unlike is not None else []))
    caption = f"{run.name} on {found.images:,} test images under common corruptions (Hendrycks & Dietterich 2019)."
    return Export(
        stem(run.name, "corruptions"),
        [chart_of(found, kind) for kind in kinds],
        caption,
        (COLUMNS, table_rows(found)),
        PYTHON.format(name=run.name),
    )
