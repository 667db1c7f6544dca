"""The tab's charts and tables to take away: as images for slides and papers, as CSV, and as lines of Python."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import gradio as gr

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.runs import Metric, Run
from resnet_space.serve.context import AppContext
from resnet_space.training.evaluation import confusion_matrix, load_evaluation, per_class, reliability
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.finetune.live import CURVES, rows_of
from resnet_space.ui.finetune.results import confusion_value
from resnet_space.ui.finetune.run_list import COLUMNS as RUN_COLUMNS
from resnet_space.ui.finetune.run_list import run_rows
from resnet_space.ui.subject import Shared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_space.plots.export import Size

TESTED = {"confusion": "Confusion matrix", "classes": "Scores by class", "calibration": "Calibration"}
RUNS = "runs"


def figure_choices(metrics: Sequence[Metric], *, tested: bool) -> list[tuple[str, str]]:
    """(label, id) of what there is for a run with these metrics."""
    events = {metric["event"] for metric in metrics}
    curves = [(label, name) for name, (label, event, *_) in CURVES.items() if event in events]
    return [*curves, *([(label, name) for name, label in TESTED.items()] if tested else []), ("All runs", RUNS)]


def build_figures(shared: Shared, beside: gr.Dropdown) -> gr.Radio:
    """Place the panel and wire its events. Returns the choice of what to take, for the page to say what there is."""
    with gr.Accordion("Figures and tables for slides and papers", open=False, elem_id="figures"):
        which = gr.Radio(figure_choices([], tested=False), value=RUNS, label="Export")
        place_exports([which, shared.subject.run, beside, shared.visitor], partial(figure_of, shared.context))
    return which


def figure_of(context: AppContext, which: str, about: str | None, beside: Sequence[str], key: str | None) -> Export:
    """What is exported of the subject and the runs beside it. Raises UserError where there is nothing."""
    if which == RUNS:
        rows = run_rows(context, key)
        return Export("runs", [], "", (list(RUN_COLUMNS), rows), None, partial(_table_figure, list(RUN_COLUMNS), rows))
    run = context.library.open(about or "")
    if which in CURVES:
        return _curves(context, which, [run.name, *beside])
    if which not in TESTED:
        raise UserError("Choose a figure first.")
    return _of_test(which, run)


def _curves(context: AppContext, which: str, names: Sequence[str]) -> Export:
    label, event, keys, draw = CURVES[which]
    histories = {run.name: metrics for run, _, metrics in rows_of(context, names)}
    told = [(name, metric) for name, metrics in histories.items() for metric in metrics if metric["event"] == event]
    if any("target_accuracy" in metric for _, metric in told):
        keys = (*keys[:-1], "target_accuracy", keys[-1])
    if which == "rates":
        keys = ("step", "part", "rate")
        rates = ((name, metric["step"], metric.get("rates", {})) for name, metric in told)
        rows = [[name, step, part, rate] for name, step, of_parts in rates for part, rate in of_parts.items()]
    else:
        rows = [[name, *(metric.get(key) for key in keys)] for name, metric in told if keys[-1] in metric]
    python = (
        "from resnet_space.runs import Run\n\n"
        f"for name in {list(histories)}:\n"
        '    for metric in Run.open(f"checkpoints/{name}").metrics():\n'
        f'        if metric["event"] == {event!r}:\n'
        f"            print(name, *(metric.get(key) for key in {CURVES[which][2]}))"
    )
    caption = f"{label} of {', '.join(histories)}."
    return Export(stem(*names[:1], which), [draw(histories)], caption, (["run", *keys], rows), python)


def _of_test(which: str, run: Run) -> Export:
    evaluation = load_evaluation(run)
    if evaluation is None:
        raise UserError(f"{run.name} was not tested yet: there is no figure.")
    read = (
        "from resnet_space.runs import Run\nfrom resnet_space.training.evaluation import {name}, load_evaluation\n\n"
        f'evaluation = load_evaluation(Run.open("checkpoints/{run.name}"))\nprint({{name}}(evaluation))'
    )
    about = f"{run.name} on {len(evaluation):,} test images."
    figure: Callable[[Size], Figure] | None = None
    charts: list[plots.Chart | None] = []
    table: tuple[list[str], list[list[object]]]
    if which == "confusion":
        matrix, names = confusion_matrix(evaluation), list(evaluation.classes)
        table = ["true class", *names], [[name, *row] for name, row in zip(names, matrix.tolist(), strict=True)]
        charts = [confusion_value(evaluation, title="Confusion matrix: share of each true class")]
        source = "confusion_matrix"
    elif which == "classes":
        scores = per_class(evaluation)
        table = (
            ["class", "images", "precision", "recall", "F1"],
            [[s.name, s.images, s.precision, s.recall, s.f1] for s in scores],
        )
        source = "per_class"
        figure = partial(_table_figure, *table)
    else:
        bins = reliability(evaluation)
        charts = [plots.reliability_chart(bins)]
        table = ["mean confidence", "accuracy", "images"], [list(one) for one in bins]
        source = "reliability"
    return Export(stem(run.name, which), charts, about, table, read.format(name=source), figure)


def _table_figure(columns: Sequence[str], rows: Sequence[Sequence[object]], size: "Size") -> "Figure":
    from resnet_space.plots.figures import table

    return table(columns, rows, size)
