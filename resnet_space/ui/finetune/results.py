"""What a run gets right and wrong on its test images: scores, the confusion matrix, and the images behind its cells."""

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.common.text import plotly_text, shortened
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import open_dataset
from resnet_space.runs import Run, last_metric, split_words
from resnet_space.serve.context import AppContext
from resnet_space.training.evaluation import (
    Evaluation,
    confusion_matrix,
    highest_losses,
    images_behind,
    load_evaluation,
    most_confused,
    most_mistaken,
    per_class,
    reliability,
)
from resnet_space.ui.events import EACH, LATEST, QUIET
from resnet_space.ui.finetune.data_view import tile, tiles_html
from resnet_space.ui.finetune.status import test_evaluations_words
from resnet_space.ui.reports import scores_words

MOST_IMAGES = 24  # behind a cell, on the page
MOST_CLASSES = 60  # in the confusion matrix: of more, those with the most errors
COLUMNS = ["class", "images", "precision %", "recall %", "F1 %"]
HIGHEST_LOSSES = "highest-losses"
CHART = '<div class="chart"></div>'
CLICKABLE = "resnetSpace.clickable(element, props, trigger, watch)"
NOTHING = "Nothing to see yet: a run has to be trained to its end."


def scores_html(run: Run, test: dict[str, Any]) -> str:
    """The test in words and numbers."""
    return (
        f'<p class="scores"><b>{escape(run.name)}</b> on {test["images"]:,} {split_words(test["split"])} images: '
        f"{scores_words(test)} {test_evaluations_words(test)}</p>"
    )


def confusion_value(evaluation: Evaluation, among: NDArray[np.integer] | None = None, **options: Any) -> plots.Chart:
    """The chart of the confusion matrix; of too many classes (`among` all) those with the most errors."""
    matrix = confusion_matrix(evaluation)
    among = np.arange(len(matrix)) if among is None else among
    chosen = among[most_mistaken(matrix[np.ix_(among, among)], MOST_CLASSES)]
    names = [evaluation.classes[i] for i in chosen]
    return plots.confusion_chart(matrix[np.ix_(chosen, chosen)].tolist(), names, **options)


def cell_title(evaluation: Evaluation, true: int, predicted: int, count: int) -> str:
    names = evaluation.classes
    if true == predicted:
        return f"{names[true]}, recognised: {count:,}"
    return f"{names[true]}, taken for {names[predicted]}: {count:,}"


def pictures_html(run: Run, evaluation: Evaluation, positions: Sequence[int], title: str) -> str:
    """The test images at these positions, each with what it is, what the model said, and its confidence."""
    test = last_metric(run.metrics(), "test")
    try:
        data = open_dataset(DatasetRef.of(run.config.training), evaluation.classes)
        rows = [int(evaluation.rows[i]) for i in positions]
        images = read_images(data.files[test["split"]], rows, data.columns.image, tile) if test and rows else []
    except (UserError, KeyError, IndexError, OSError):
        return '<p class="caution">The test images are not on this machine any more, so they cannot be shown.</p>'
    names = evaluation.classes
    tiles = []
    for i, image in zip(positions, images, strict=True):
        true, predicted = names[evaluation.labels[i]], names[evaluation.predicted[i]]
        sure = f"{evaluation.confidence[i]:.0%}"
        if image is not None:
            tiles.append((image, f"{true} {sure}" if true == predicted else f"{true} → {predicted} {sure}"))
    return f'<div class="data">{tiles_html(title, tiles)}</div>'


def build_results(context: AppContext, judged: gr.State) -> None:
    """Place the panel and wire its events; `judged` has the name of the finished run that it is about."""
    with gr.Accordion("What it gets right and wrong", open=False):
        scores = gr.HTML(f'<p class="note">{NOTHING}</p>', apply_default_css=False)
        with gr.Column(visible=False) as panel:
            confusion = gr.HTML(
                None, html_template=CHART, js_on_load=CLICKABLE, elem_id="confusion", apply_default_css=False
            )
            cell = gr.Dropdown([], label="Images of", info="or click a cell of the matrix", allow_custom_value=False)
            tiles = gr.HTML("", apply_default_css=False)
            calibration = gr.HTML(
                None, html_template=CHART, js_on_load=CLICKABLE, elem_id="calibration", apply_default_css=False
            )
            table = gr.Dataframe(headers=COLUMNS, interactive=False, label="By class", max_height=440)

    def evaluated(name: str) -> tuple[Run, Evaluation]:
        run = context.library.open(name)
        evaluation = load_evaluation(run)
        if evaluation is None:
            raise UserError(f"{name} was not tested by this version of the app.")
        return run, evaluation

    def pictures(name: str, value: str) -> str:
        run, evaluation = evaluated(name)
        if value == HIGHEST_LOSSES or value is None:
            return pictures_html(
                run, evaluation, highest_losses(evaluation, MOST_IMAGES).tolist(), "the highest losses"
            )
        true, predicted = map(int, value.split(","))
        positions = images_behind(evaluation, true, predicted)
        title = cell_title(evaluation, true, predicted, len(positions))
        if len(positions) > MOST_IMAGES:
            title += f", of which the {MOST_IMAGES} with the highest confidence"
        return pictures_html(run, evaluation, positions[:MOST_IMAGES].tolist(), title)

    def cell_choices(evaluation: Evaluation, *cells: tuple[int, int, int]) -> list[tuple[str, str]]:
        """(label, id) of what can be looked at: the highest losses, and (true, predicted, count) of cells."""
        named = [(cell_title(evaluation, *cell), f"{cell[0]},{cell[1]}") for cell in cells]
        return [("The highest losses", HIGHEST_LOSSES), *dict.fromkeys(named)]

    def on_judged(name: str | None) -> dict[Any, Any]:
        def nothing(html: str) -> dict[Any, Any]:
            return {scores: html, panel: gr.update(visible=False)}

        run = None if name is None else context.library.open(name)
        test = last_metric(context.library.metrics(run), "test") if run else None
        try:
            evaluation = load_evaluation(run) if run else None
        except UserError as error:
            return nothing(f'<p class="caution">{escape(str(error))}</p>')
        if name is None or run is None or evaluation is None or test is None:
            return nothing(f'<p class="note">{NOTHING}</p>')
        return {
            scores: scores_html(run, test),
            panel: gr.update(visible=True),
            confusion: confusion_value(evaluation),
            cell: gr.update(choices=cell_choices(evaluation, *most_confused(evaluation)), value=HIGHEST_LOSSES),
            tiles: pictures(name, HIGHEST_LOSSES),
            calibration: plots.reliability_chart(reliability(evaluation)),
            table: [
                [shortened(s.name), s.images, *(round(100 * v, 1) for v in (s.precision, s.recall, s.f1))]
                for s in per_class(evaluation)
            ],
        }

    def on_cell(name: str, event: gr.EventData) -> Any:
        _, evaluation = evaluated(name)
        try:
            labels = [plotly_text(name) for name in evaluation.classes]  # as the chart has them
            true, predicted = labels.index(event.y), labels.index(event.x)
        except (ValueError, AttributeError):
            return gr.skip()
        chosen = (true, predicted, len(images_behind(evaluation, true, predicted)))
        value = f"{true},{predicted}"
        choices = cell_choices(evaluation, *most_confused(evaluation), chosen)
        return {cell: gr.update(choices=choices, value=value), tiles: pictures(name, value)}

    judged.change(on_judged, judged, [scores, panel, confusion, cell, tiles, calibration, table], **LATEST)
    cell.input(pictures, [judged, cell], tiles, **LATEST)
    confusion.select(on_cell, judged, [cell, tiles], **QUIET | EACH)
