"""Which picture an answer is wanted for, labelled test pictures, many predictions as a grid, and the figure."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.plots.export import SIZES
from resnet_space.serve.context import AppContext
from resnet_space.training.evaluation import Evaluation, load_evaluation
from resnet_space.ui.predict.batch import Row
from resnet_space.ui.predict.evidence import Judged
from resnet_space.ui.predict.figure import View, export_of
from resnet_space.ui.predict.grid import SHOWN, grid_html, in_order, short_name, thumbnails
from resnet_space.ui.predict.labelled import MOST, labelled_html, some_of
from resnet_space.ui.predict.looks import looks
from resnet_space.ui.predict.many import scores_html
from resnet_space.ui.predict.wanted import Wanted
from tests.tested import SHIPPED, with_test_pictures

KEPT, OTHER = "kept", "shipped"  # a run whose dataset is here, and one whose is not


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> AppContext:
    made = AppContext(tmp_path_factory.mktemp("runs"))
    shutil.copytree(SHIPPED, made.library.root / OTHER)
    with_test_pictures(made.library.root / KEPT)
    return made


@pytest.fixture(scope="module")
def evaluation(context: AppContext) -> Evaluation:
    found = load_evaluation(context.library.open(KEPT))
    assert found is not None
    return found


def wrong(evaluation: Evaluation) -> int:
    return some_of(evaluation)[0]


# Test pictures


def test_as_many_test_pictures_are_wrong_as_are_right_each_of_another_class(evaluation: Evaluation) -> None:
    positions = some_of(evaluation)
    assert positions == some_of(evaluation)
    assert [bool(evaluation.correct[i]) for i in positions] == [False] * MOST + [True] * MOST
    for half in (positions[:MOST], positions[MOST:]):
        assert len({int(evaluation.labels[i]) for i in half}) == MOST


def test_a_run_offers_test_pictures_where_its_data_set_is_here(context: AppContext, evaluation: Evaluation) -> None:
    html = labelled_html(context, KEPT)
    assert html.count("<button") == html.count("<img") == 2 * MOST
    i = wrong(evaluation)
    label, said = (evaluation.classes[of[i]] for of in (evaluation.labels, evaluation.predicted))
    assert f'data-picture="test:{evaluation.rows[i]}" data-of="{KEPT}"' in html
    assert f"labelled {label}, predicted {said}" in html
    for name in (OTHER, "no such run", None):
        assert labelled_html(context, name) == ""


def test_a_test_picture_is_named_by_its_split_and_row_and_has_its_label(
    context: AppContext, evaluation: Evaluation
) -> None:
    i = wrong(evaluation)
    named = Wanted(picture=f"test:{evaluation.rows[i]}", of=KEPT, run=KEPT)
    choice, shown, (look,) = looks(context, named, None)
    assert (choice.name, shown.label) == (KEPT, evaluation.classes[evaluation.labels[i]])
    assert look.prediction.classes[0] == evaluation.classes[evaluation.predicted[i]]
    assert look.prediction.probabilities[0] == pytest.approx(float(evaluation.confidence[i]), abs=0.02)
    for picture, of in (("test:1000000", KEPT), ("train:1", KEPT), ("test:x", KEPT), ("test:1", OTHER)):
        with pytest.raises(UserError):
            Wanted(picture=picture, of=of).shown(context, None)


def test_before_anything_was_chosen_a_picture_is_shown_that_the_run_knows_or_else_an_example(
    context: AppContext,
) -> None:
    first = Wanted(picture="first", of=KEPT, run=KEPT).found(context)
    _, shown, (look,) = looks(context, first, None)
    assert shown.label == look.prediction.classes[0]
    other = Wanted(picture="first", of=OTHER).found(context)
    assert (other.example, other.picture) == ("cat", "")


def test_what_the_page_tells_is_read_whatever_it_is() -> None:
    told = {"example": "cat", "run": "a", "other": None, "more": 1}
    assert Wanted.parse(json.dumps(told)) == Wanted(example="cat", run="a")
    for text in ("", None, "[1]", "{"):
        assert Wanted.parse(text).is_own
    with pytest.raises(UserError, match=r"There is no example named '\.\./x'"):
        Wanted(example="../x").shown(None, None)


# The figure


@pytest.mark.parametrize("size", list(SIZES))
def test_the_answer_is_a_figure_and_a_table(context: AppContext, size: str) -> None:
    wanted = Wanted(example="dog", run=KEPT, other=OTHER)
    _, shown, sides = looks(context, wanted, None)
    view = View.parse(json.dumps({"method": "ablation-cam", "classes": [sides[0].prediction.indices[3], 99]}))
    assert [view.ranks(look, i) for i, look in enumerate(sides)] == [[0, 3], [0, 1]]
    export = export_of(sides, shown, wanted, view)
    assert export.figure is not None
    figure = export.figure(SIZES[size])
    assert figure.get_figwidth() == SIZES[size].width
    columns, rows = export.table
    assert columns == ("run", "rank", "class", "probability %", "label")
    assert [row[:2] for row in rows] == [(name, i) for name in (KEPT, OTHER) for i in range(1, 6)]
    assert rows[0][2:] == ("dog", round(100 * sides[0].prediction.probabilities[0], 2), "dog")
    compile(export.code(), "code", "exec")
    assert "datasets/examples/dog.jpg" in export.code()


# What is tested


class Event:
    """A click as the page tells it."""

    def __init__(self, **told: object) -> None:
        vars(self).update(told)


def test_the_maps_of_two_classes_are_tested_by_one_method(context: AppContext) -> None:
    _, _, (look,) = looks(context, Wanted(example="cat", run=KEPT), None)
    indices = look.prediction.indices
    judged = Judged.of(Event(method="grad-cam", classes=[indices[0], indices[2]], side=0))
    maps = judged.maps(look)
    assert list(maps) == [look.prediction.classes[0], look.prediction.classes[2]]
    for rank, (index, values) in zip((0, 2), maps.values(), strict=True):
        assert index == indices[rank]
        assert np.array_equal(values, look.class_maps["grad-cam"].raw[rank])
    for told in (
        {},
        {"classes": [True], "method": "grad-cam"},
        {"classes": [1], "method": "x"},
        {"classes": [1, 2, 3]},
    ):
        with pytest.raises(UserError):
            Judged.of(Event(**told))
    with pytest.raises(UserError, match="Only the five most probable classes"):
        Judged("grad-cam", (next(i for i in range(10) if i not in indices),)).maps(look)


# Many pictures


def row(file: str, folder: str, said: str, share: float, **more: object) -> Row:
    known = Row(file, folder, (said, "x"), (share, 1 - share), (0, 1), 0.0, unusual=False, thumbnail="data:,")
    return replace(known, **more)


def test_mistakes_stand_first_in_the_grid_and_every_answer_is_in_view() -> None:
    rows = [
        row("a/cat/1.png", "cat", "cat", 0.9),
        row("a/cat/2.png", "cat", "dog", 0.6),
        row("3.png", "", "<b>", 0.5, unusual=True),
        row(f"a/cat/{'long' * 20}.png", "cat", "dog", 0.8),
        row("4.png", "", "dog", 0.5, thumbnail=""),
    ]
    assert [r.file for r in in_order(rows)] == [rows[i].file for i in (3, 1, 2, 0)]
    html = grid_html(rows)
    assert "4 of 5 pictures, mistakes first" in html
    assert html.count("<li>") == 4
    assert html.count("✗</span> labelled cat") == 2
    assert "&lt;b&gt;</b> 50.0 %" in html
    assert "unlike training images" in html
    assert short_name("a/DSC_2026_holiday_00017.jpg") == "DSC_2026…y_00017.jpg"
    assert short_name("a/1.png") == "1.png"
    assert grid_html([]) == ""


def test_thumbnails_of_mistakes_are_kept_however_many_pictures_came_before() -> None:
    keep = thumbnails()
    image = Image.new("RGB", (200, 200))
    assert [bool(keep(image, False)) for _ in range(SHOWN + 2)] == [True] * SHOWN + [False] * 2
    assert keep(image, True).startswith("data:image/jpeg")


def test_scores_are_told_with_their_counts_and_the_top_5_only_of_more_classes(evaluation: Evaluation) -> None:
    correct = int(evaluation.correct.sum())
    words = scores_html(evaluation)
    assert f"{correct} of {len(evaluation):,} correct ({100 * correct / len(evaluation):.1f} %)" in words
    assert "top-5 accuracy" in words
    few = replace(
        evaluation, top=evaluation.top[:, :2] % 2, labels=evaluation.labels % 2, classes=evaluation.classes[:2]
    )
    assert "top-5" not in scores_html(few)
