"""A run's mistakes on its test images: the pictures, by cells of the confusion matrix; classes and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.common.text import NO_BREAK, percent, plotly_text, shortened
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
from resnet_space.ui.events import EACH, LATEST, QUIET, Update
from resnet_space.ui.finetune.data_view import tile, tiles_html
from resnet_space.ui.finetune.status import test_evaluations_words
from resnet_space.ui.finetune.stress import Stress
from resnet_space.ui.html import cautions_html, note_html, place_heading, place_html
from resnet_space.ui.reports import scores_words

MOST_IMAGES = 24  # behind a cell, on the page
MOST_CLASSES = 60  # in the confusion matrix: of more, those with the most errors
COLUMNS = ["class", "images", "precision %", "recall %", "F1 %"]
HIGHEST_LOSSES = "highest-losses"
NOTHING = "Mistakes appear here when the run has been tested."
GONE = "The test images are not on this machine, so only the numbers are shown."


def scores_html(run: Run, test: dict[str, Any]) -> str:
    """The test in words and numbers."""
    return (
        f'<p class="scores">Showing: <b>{escape(run.name)}</b> on {test["images"]:,} {split_words(test["split"])} '
        f"images. {scores_words(test, len(run.config.model.classes))} {test_evaluations_words(test)}</p>"
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
        return f"{names[true]}, predicted correctly: {count:,}"
    return f"{names[true]}, predicted as {names[predicted]}: {count:,}"


def cell_link(evaluation: Evaluation, true: int, predicted: int) -> str:
    """A cell in the page's address: the names of its classes."""
    return f"{evaluation.classes[true]},{evaluation.classes[predicted]}"


def chosen_cell(evaluation: Evaluation, value: object) -> tuple[int, int]:
    """The (true, predicted) class of a choice's id. Raises UserError for any other value."""
    try:
        true, predicted = (int(number) for number in str(value).split(","))
    except ValueError:
        true = predicted = -1
    if not (0 <= true < len(evaluation.classes) and 0 <= predicted < len(evaluation.classes)):
        raise UserError("Choose pictures from the list, or click a cell of the matrix.")
    return true, predicted


def linked_cell(evaluation: Evaluation, link: str) -> tuple[int, int] | None:
    """The (true, predicted) class that a link names; names may have commas, too."""
    words, classes = link.split(","), {name: i for i, name in enumerate(evaluation.classes)}
    pairs = ((",".join(words[:i]), ",".join(words[i:])) for i in range(1, len(words)))
    return next(((classes[a], classes[b]) for a, b in pairs if a in classes and b in classes), None)


def pictures_html(run: Run, evaluation: Evaluation, positions: Sequence[int], title: str) -> str:
    """The test images at these positions, each with what it is, what the model said, and its confidence."""
    test = last_metric(run.metrics(), "test")
    try:
        data = open_dataset(DatasetRef.of(run.config.training), evaluation.classes)
        rows = [int(evaluation.rows[i]) for i in positions]
        images = read_images(data.files[test["split"]], rows, data.columns.image, tile) if test and rows else []
    except (UserError, KeyError, IndexError, OSError):
        return note_html(GONE)
    names = evaluation.classes
    tiles = []
    for i, image in zip(positions, images, strict=True):
        true, predicted = names[evaluation.labels[i]], names[evaluation.predicted[i]]
        sure = percent(evaluation.confidence[i], 0, NO_BREAK)
        if image is not None:
            tiles.append((image, f"{true} {sure}" if true == predicted else f"{true} → {predicted} {sure}"))
    return f'<div class="data">{tiles_html(title, tiles)}</div>'


@dataclass(frozen=True)
class Mistakes:
    """`judged` has the name of the tested run that is shown, "" for none, and None until that is known; `link` has the
    cell in the page's address.
    """

    judged: gr.State
    link: gr.Textbox


def build_results(context: AppContext) -> Mistakes:
    """Place the section and wire its events."""
    judged, link = gr.State(None), gr.Textbox("", visible="hidden")
    with gr.Column(elem_id="mistakes-of"):
        place_heading("Mistakes")
        scores = place_html("<p>&nbsp;</p>")  # until it is known what there is
        with gr.Column(visible=False) as panel:
            cell = gr.Dropdown([], label="Pictures", info="or click a cell of the matrix", allow_custom_value=False)
            tiles = place_html(elem_id="tiles")
            with gr.Row():
                with gr.Column(scale=8, min_width=330):
                    confusion = place_html(None, "clickable", inside="chart", elem_id="confusion")
                with gr.Column(scale=5, min_width=250):
                    calibration = place_html(None, "clickable", inside="chart", elem_id="calibration")
            table = gr.Dataframe(headers=COLUMNS, interactive=False, label="By class", max_height=300)
            stress = Stress(context, judged)

    def evaluated(name: str) -> tuple[Run, Evaluation]:
        run = context.library.open(name)
        evaluation = load_evaluation(run)
        if evaluation is None:
            raise UserError(f"{name} was not tested by this version of the app.")
        return run, evaluation

    def pictures(run: Run, evaluation: Evaluation, chosen: tuple[int, int] | None) -> str:
        if chosen is None:
            positions = highest_losses(evaluation, MOST_IMAGES)
            return pictures_html(run, evaluation, positions.tolist(), "Highest losses")
        true, predicted = chosen
        positions = images_behind(evaluation, true, predicted)
        title = cell_title(evaluation, true, predicted, len(positions))
        if len(positions) > MOST_IMAGES:
            title += f" (the {MOST_IMAGES} with the highest confidence)"
        return pictures_html(run, evaluation, positions[:MOST_IMAGES].tolist(), title)

    def at_cell(run: Run, evaluation: Evaluation, chosen: tuple[int, int] | None) -> Update:
        """What shows a cell, or without one the highest losses."""
        cells, value = most_confused(evaluation), HIGHEST_LOSSES
        if chosen is not None:
            cells = [*cells, (*chosen, len(images_behind(evaluation, *chosen)))]
            value = f"{chosen[0]},{chosen[1]}"
        named = [(cell_title(evaluation, *cell), f"{cell[0]},{cell[1]}") for cell in cells]
        choices = [("Highest losses", HIGHEST_LOSSES), *dict.fromkeys(named)]
        shown = {cell: gr.update(choices=choices, value=value), tiles: pictures(run, evaluation, chosen)}
        return shown | {link: cell_link(evaluation, *chosen) if chosen else ""}

    def on_judged(name: str, linked: str) -> Update:
        def nothing(html: str) -> Update:
            return {scores: html, panel: gr.update(visible=False)}

        run = context.library.open(name) if name else None
        test = last_metric(context.library.metrics(run), "test") if run else None
        try:
            evaluation = load_evaluation(run) if run else None
        except UserError as error:
            return nothing(cautions_html(error))
        if run is None or evaluation is None or test is None:
            return nothing(note_html(NOTHING))
        return (
            at_cell(run, evaluation, linked_cell(evaluation, str(linked or "")))
            | {
                scores: scores_html(run, test),
                panel: gr.update(visible=True),
                confusion: confusion_value(evaluation),
                calibration: plots.reliability_chart(reliability(evaluation)),
                table: class_rows(evaluation),
            }
            | stress.shown(run)
        )

    def on_choice(name: str, value: str | None) -> Update:
        run, evaluation = evaluated(name)
        chosen = None if value in (None, HIGHEST_LOSSES) else chosen_cell(evaluation, value)
        return {tiles: pictures(run, evaluation, chosen), link: cell_link(evaluation, *chosen) if chosen else ""}

    def on_cell(name: str, event: gr.EventData) -> Any:
        run, evaluation = evaluated(name)
        try:
            labels = [plotly_text(name) for name in evaluation.classes]  # as the chart has them
            chosen = labels.index(event.y), labels.index(event.x)
        except (ValueError, AttributeError):
            return gr.skip()
        return at_cell(run, evaluation, chosen)

    drawn = [scores, panel, confusion, cell, tiles, link, calibration, table, *stress.outputs]
    judged.change(on_judged, [judged, link], drawn, **LATEST)
    cell.input(on_choice, [judged, cell], [tiles, link], **LATEST)
    confusion.select(on_cell, judged, [cell, tiles, link], **QUIET | EACH)
    link.change(None, link, None, js="(cell) => resnetSpace.show('finetune', {cell})", **QUIET)
    return Mistakes(judged, link)


def class_rows(evaluation: Evaluation) -> list[list[Any]]:
    """A row for every class: `COLUMNS`."""
    return [
        [shortened(s.name), s.images, *(round(100 * v, 1) for v in (s.precision, s.recall, s.f1))]
        for s in per_class(evaluation)
    ]
