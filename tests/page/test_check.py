"""A check as the page shows it, and to take away."""

from dataclasses import replace

from resnet_space.common.text import NO_BREAK
from resnet_space.data.checks.items import ClassFinding, CurvePoint, LabelIssue, NearDuplicate, Outlier
from resnet_space.training.data_report import DataReport
from resnet_space.training.work import Doing
from resnet_space.ui.finetune.check.shown import COLUMNS, progress_of, report_html, report_of, table_rows

HOSTILE = "<img src=x onerror=alert(1)>"
FOUND = DataReport(
    dataset="cifar10-mini",
    backbone="a-run",
    counts={"train": 2_000, "test": 1_000},
    expected=12.6,
    interval=[2.1, 30.8],
    label_issues=(LabelIssue("train", 3, "3.png", HOSTILE, 0.974, "airplane"),),
    near_duplicates=(NearDuplicate("test", 5, "5.png", "cat", 0.99, True, "train", 7, "7.png", "dog"),),
    outliers=(Outlier("train", 9, "=9.png", "cat", 1.4, "blurred"),),
    classes=(ClassFinding("imbalanced", ("cat", HOSTILE), "", 0.5, f"cat has 20 times the pictures of {HOSTILE}."),),
    seconds=27.0,
    state="finished",
)


def test_each_kind_is_shown_with_its_pictures_and_what_was_found_in_a_sentence() -> None:
    html = report_html(FOUND)
    assert HOSTILE not in html
    assert html.count("<figure>") == 4  # a label, both of a pair, an odd one
    assert f"&lt;img src=x onerror=alert(1)&gt; → airplane? 97{NO_BREAK}%" in html
    assert "train: dog" in html
    assert "test: cat" in html
    words = "About 13 wrong labels are expected (95 % interval: 2 to 31). 1 picture is a copy of another, 1 in another "
    assert f"{words}split. 1 picture is odd." in html


def test_pictures_that_are_gone_leave_the_numbers() -> None:
    html = report_html(replace(FOUND, dataset="deleted"))
    assert "<figure>" not in html
    assert "Labels that may be wrong: 1" in html


def test_nothing_is_shown_before_there_is_something() -> None:
    assert report_html(DataReport(dataset="cifar10-mini")) == ""
    sound = replace(FOUND, label_issues=(), near_duplicates=(), outliers=(), classes=())
    assert report_html(sound).count("Nothing to look at.") == 4


def test_the_line_of_progress_names_the_phase_and_how_it_ended() -> None:
    running = DataReport(dataset="d", seconds=10.0, doing=Doing("", "features", 40, 100, 0.5))
    line = progress_of(running)
    assert "Computing features, 40 of 100" in line
    assert "about 10 s left" in line
    assert "3,000 pictures by a-run · 27 s" in progress_of(FOUND)
    assert "<b>Failed</b>: d. No room." in progress_of(replace(running, state="failed", reason="No room."))


def test_the_table_has_a_row_for_each_finding() -> None:
    rows = table_rows(FOUND)
    assert [row[0] for row in rows] == ["label", "copy", "blurred", "imbalanced"]
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[1][-1] == (
        "The same picture, mirrored, in test and in train with the labels cat and dog. It is row 7 of train (7.png)."
    )


def with_curve(expected: float, now: float, then: float) -> DataReport:
    points = (CurvePoint(100, 0.5, 0.6, 0.7), CurvePoint(200, now - 0.05, now, now + 0.05))
    predicted = (CurvePoint(400, then - 0.04, then, then + 0.04),)
    return replace(FOUND, expected=expected, curve=points, predicted=predicted)


def test_the_verdict_weighs_more_pictures_against_better_labels_and_a_bigger_backbone() -> None:
    """Of 3,000 pictures: 300 wrong labels are 10 %."""
    more, labels, backbone = with_curve(3, 0.7, 0.745), with_curve(300, 0.7, 0.745), with_curve(3, 0.7, 0.702)
    told = "Twice the pictures: 74.5 % (70.5 to 78.5 %) are predicted, instead of 70.0 %."
    assert more.verdict == f"{told} More pictures help."
    assert labels.verdict == f"{told} Better labels first: about 10.0 % of them are wrong, more than that gains."
    assert backbone.verdict.endswith("More of the same add little: try a bigger backbone, or fine-tune it.")
    assert with_curve(3, 0.7, 0.72).verdict.endswith("More pictures may help.")  # the interval includes what is now
    assert FOUND.verdict == ""
    assert [trace["x"] for trace in report_of(more)["figures"]["curve"]["data"]] == [[100, 200], [400]]
    assert report_of(FOUND)["figures"] == {}
    assert more.verdict in report_html(more)
