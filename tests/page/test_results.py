"""What a run got wrong, and what of it can be taken away: of the runs that come with the app."""

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.runs import SHOWPIECE, last_metric
from resnet_space.serve.context import AppContext
from resnet_space.training.evaluation import confusion_matrix, load_evaluation
from resnet_space.ui.finetune.figures import RUNS, TESTED, figure_choices, figure_of
from resnet_space.ui.finetune.live import CURVES
from resnet_space.ui.finetune.results import cell_link, chosen_cell, linked_cell, scores_html

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
OTHER = "resnet20-cifar10"


@pytest.fixture(scope="module")
def context() -> AppContext:
    return AppContext(CHECKPOINTS)


def evaluation_of(context: AppContext) -> Any:
    evaluation = load_evaluation(context.library.open(SHOWPIECE))
    assert evaluation is not None
    return evaluation


def test_a_cell_is_found_by_the_names_of_its_classes_in_an_address(context: AppContext) -> None:
    evaluation = evaluation_of(context)
    link = cell_link(evaluation, 3, 5)
    assert (link, linked_cell(evaluation, link)) == ("cat,dog", (3, 5))
    assert [linked_cell(evaluation, wrong) for wrong in ("", "cat", "cat,", "cat,unicorn", ",,")] == [None] * 5
    assert chosen_cell(evaluation, "3,5") == (3, 5)
    for wrong in (None, "", "3", "3,5,7", "a,b", "-1,0", "0,10", ["3"]):
        with pytest.raises(UserError, match=r"^Choose pictures from the list"):
            chosen_cell(evaluation, wrong)
    vars(evaluation)["classes"] = ("red, round", "blue", *evaluation.classes[2:])
    assert linked_cell(evaluation, "red, round,blue") == (0, 1)


def test_the_top_5_are_told_of_more_than_five_classes_only(context: AppContext) -> None:
    run = context.library.open(SHOWPIECE)
    test = last_metric(run.metrics(), "test")
    assert test is not None
    assert "top-5 accuracy 99.5 %" in scores_html(run, test)


@pytest.mark.parametrize("which", [*CURVES, *TESTED, RUNS])
def test_every_chart_and_table_is_exported(context: AppContext, which: str) -> None:
    export = figure_of(context, which, SHOWPIECE, [OTHER], None)
    if which in ("accuracy", "confusion", RUNS):  # of each kind one
        with Image.open(export.figure_file("png")) as picture:
            assert abs(picture.width / picture.height - 16 / 9) < 0.02
    with open(export.table_file(), encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    assert rows
    assert all(len(row) == len(columns) for row in rows)
    if which == "confusion":
        assert [[int(cell) for cell in row[1:]] for row in rows] == confusion_matrix(evaluation_of(context)).tolist()
    if which in ("loss", "accuracy"):
        assert {row[0] for row in rows} == {SHOWPIECE, OTHER}


def test_what_there_is_to_export_follows_from_the_run(context: AppContext) -> None:
    assert [name for _, name in figure_choices([], tested=False)] == [RUNS]
    metrics = context.library.metrics(context.library.open(SHOWPIECE))
    assert [name for _, name in figure_choices(metrics, tested=True)] == [*CURVES, *TESTED, RUNS]
    with pytest.raises(UserError, match="Choose a figure first"):
        figure_of(context, "rocket", SHOWPIECE, [], None)
    with pytest.raises(UserError, match="not tested"):
        figure_of(context, "confusion", "efficientnet-lite0-imagenet", [], None)
