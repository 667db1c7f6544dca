"""What a run gets right and wrong on its test images: scores, the confusion matrix, and the images behind its cells."""

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.common.text import plotly_text, shortened
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import open_dataset
from resnet_space.runs import Run, last_metric, split_words
from resnet_space.serve.refusals import refusal
from resnet_space.serve.workshop import Workshop
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
from resnet_space.ui.finetune.data_view import tile, tiles_html
from resnet_space.ui.finetune.status import accuracy_words, looks_words

MOST_IMAGES = 24  # behind a cell, on the page
MOST_CLASSES = 60  # in the confusion matrix: of more, those with the most errors
COLUMNS = ["class", "images", "precision %", "recall %", "F1 %"]
HIGHEST_LOSSES = "the highest losses"
CHART = '<div class="chart"></div>'
CLICKABLE = "resnetSpace.clickable(element, props, trigger, watch)"
NOTHING = "Nothing to see yet: a run has to be trained to its end."


def scores_html(run: Run, test: dict[str, Any]) -> str:
    """The test in words and numbers."""
    return (
        f'<p class="scores"><b>{escape(run.name)}</b> on {test["images"]:,} {split_words(test["split"])} images: '
        f"<b>{accuracy_words(test)}</b> right, the interval at 95 % (Wilson); "
        f"{test['top5_accuracy']:.1%} have their class among the top 5; macro F1 {test['macro_f1']:.1%}; "
        f"expected calibration error {100 * test['ece']:.1f} points. {looks_words(test)}</p>"
    )


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
        true, said = names[evaluation.labels[i]], names[evaluation.predicted[i]]
        sure = f"{evaluation.confidence[i]:.0%}"
        if image is not None:
            tiles.append((image, f"{true} {sure}" if true == said else f"{true} → {said} {sure}"))
    return f'<div class="data">{tiles_html(title, tiles)}</div>'


def build_results(workshop: Workshop, judged: gr.State) -> None:
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
        try:
            run = workshop.library.open(name)
            evaluation = load_evaluation(run)
        except UserError as error:
            raise refusal(error) from None
        if evaluation is None:
            raise refusal(f"{name} was not tested by this version of the app.")
        return run, evaluation

    def pictures(name: str, value: str) -> str:
        run, evaluation = evaluated(name)
        if value == HIGHEST_LOSSES or value is None:
            return pictures_html(run, evaluation, highest_losses(evaluation, MOST_IMAGES).tolist(), HIGHEST_LOSSES)
        true, predicted = map(int, value.split(","))
        found = images_behind(evaluation, true, predicted)
        title = cell_title(evaluation, true, predicted, len(found))
        if len(found) > MOST_IMAGES:
            title += f", of which the {MOST_IMAGES} with the highest confidence"
        return pictures_html(run, evaluation, found[:MOST_IMAGES].tolist(), title)

    def on_judged(name: str | None) -> Any:
        nothing = (f'<p class="note">{NOTHING}</p>', gr.update(visible=False), *(gr.skip(),) * 5)
        if name is None:
            return nothing
        run = workshop.library.open(name)
        test = last_metric(workshop.library.metrics(run), "test")
        try:
            evaluation = load_evaluation(run)
        except UserError as error:
            return f'<p class="caution">{escape(str(error))}</p>', gr.update(visible=False), *(gr.skip(),) * 5
        if evaluation is None or test is None:
            return nothing
        matrix = confusion_matrix(evaluation)
        classes = most_mistaken(matrix, MOST_CLASSES)
        chart = plots.confusion_chart(
            matrix[np.ix_(classes, classes)].tolist(), [evaluation.classes[i] for i in classes]
        )
        confused = [
            (cell_title(evaluation, true, predicted, count), f"{true},{predicted}")
            for true, predicted, count in most_confused(evaluation)
        ]
        rows = [
            [shortened(s.name), s.images, *(round(100 * v, 1) for v in (s.precision, s.recall, s.f1))]
            for s in per_class(evaluation)
        ]
        choices = [(HIGHEST_LOSSES.capitalize(), HIGHEST_LOSSES), *confused]
        return (
            scores_html(run, test),
            gr.update(visible=True),
            chart,
            gr.update(choices=choices, value=HIGHEST_LOSSES),
            pictures(name, HIGHEST_LOSSES),
            plots.reliability_chart(reliability(evaluation)),
            rows,
        )

    def on_cell(name: str, event: gr.EventData) -> Any:
        _, evaluation = evaluated(name)
        try:
            labels = [plotly_text(name) for name in evaluation.classes]  # as the chart has them
            true, predicted = labels.index(event.y), labels.index(event.x)
        except (ValueError, AttributeError):
            return gr.skip(), gr.skip()
        value = f"{true},{predicted}"
        count = len(images_behind(evaluation, true, predicted))
        listed = [(cell_title(evaluation, t, p, n), f"{t},{p}") for t, p, n in most_confused(evaluation)]
        own = (cell_title(evaluation, true, predicted, count), value)
        choices = [(HIGHEST_LOSSES.capitalize(), HIGHEST_LOSSES), *dict.fromkeys([*listed, own])]
        return gr.update(choices=choices, value=value), pictures(name, value)

    quiet: Any = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}
    last: Any = quiet | {"trigger_mode": "always_last"}
    judged.change(on_judged, judged, [scores, panel, confusion, cell, tiles, calibration, table], **last)
    cell.input(pictures, [judged, cell], tiles, **last)
    confusion.select(on_cell, judged, [cell, tiles], trigger_mode="multiple", **quiet)
