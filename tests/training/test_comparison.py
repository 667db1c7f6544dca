import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scipy.stats import binomtest

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, imagenet_config
from resnet_space.data.reference import DatasetRef
from resnet_space.data.summary import DatasetSummary, Sample
from resnet_space.models.registry import entry_of
from resnet_space.training.choosing import Row, choose, listed, p_value, pareto_front
from resnet_space.training.comparison import (
    COLUMNS,
    FOLDS,
    PREPARED_SECONDS,
    Candidate,
    Comparison,
    expected_seconds,
    has_seen,
    table_rows,
    to_json,
)
from resnet_space.training.speeds import Speeds
from resnet_space.training.work import Doing, LeftOut


def row(name: str, right: str, speed: float = 100.0, *, seen: bool = False) -> Row:
    """Of images that it is right for where there is a 1."""
    return Row(
        name,
        "resnet20",
        "ResNet-20",
        32,
        correct=right.count("1"),
        images=len(right),
        right=f"{int(right, 2):x}",
        neighbours_correct=right.count("1"),
        images_per_second=speed,
        parameters=1_000_000,
        seen=seen,
    )


def test_two_networks_are_told_apart_by_the_images_that_only_one_of_them_is_right_for() -> None:
    both, neither = "1" * 50, "0" * 20
    for only_first, only_second in ((0, 0), (1, 0), (3, 5), (0, 6), (2, 12), (40, 30)):
        first = row("a", both + neither + "1" * only_first + "0" * only_second)
        second = row("b", both + neither + "0" * only_first + "1" * only_second)
        differ = only_first + only_second
        expected = binomtest(only_first, differ).pvalue if differ else 1.0
        assert p_value(first, second) == pytest.approx(expected)
        assert p_value(second, first) == p_value(first, second)


def test_of_networks_that_cannot_be_told_apart_a_clearly_faster_one_is_taken() -> None:
    best, slower = row("best", "1" * 90 + "0" * 10, 10.0), row("slow", "1" * 89 + "0" * 11, 12.0)
    fast = row("fast", "1" * 88 + "0" * 12, 30.0)
    poor = row("poor", "1" * 40 + "0" * 60, 1_000.0)
    choice = choose([slower, best, fast, poor])
    assert choice.take == "fast"
    assert set(choice.alike) == {"best", "slow", "fast"}
    assert "on 100 images, its 88.0\u00a0% cannot be told apart from the 90.0\u00a0% of best" in choice.words
    assert "3.0 times as fast" in choice.words


def test_the_most_accurate_network_is_taken_where_no_other_is_as_good_or_clearly_faster() -> None:
    best, slower = row("best", "1" * 90 + "0" * 10, 10.0), row("slow", "1" * 89 + "0" * 11, 12.0)
    poor = row("poor", "1" * 40 + "0" * 60, 1_000.0)
    choice = choose([slower, best, poor])
    assert (choice.take, set(choice.alike)) == ("best", {"best", "slow"})
    assert choice.words.endswith("slow cannot be told apart from it, but is not clearly faster.")
    assert (
        choose([best, poor]).words
        == "Take best: 90.0\u00a0% on 100 images, significantly more than every other network."
    )
    both = choose([best, slower, replace(slower, name="third")])
    assert both.words.endswith("slow and third cannot be told apart from it, but none of them is clearly faster.")


def test_a_network_that_knows_the_classes_is_never_taken_and_a_choice_says_so() -> None:
    fair, seen = row("fair", "1" * 60 + "0" * 40), row("seen", "1" * 100, seen=True)
    choice = choose([seen, fair])
    assert choice.take == "fair"
    assert "seen has learned these classes before, perhaps from these images, so it is left out" in choice.words
    worse = row("worse", "1" * 20 + "0" * 80)
    assert "significantly more than the others to which these classes are new" in choose([seen, fair, worse]).words
    assert choose([seen]).take is None
    assert choose([]).words == ""
    assert choose([fair]).words.endswith("There is no other network to compare it with.")


def test_a_choice_says_where_no_network_beats_naming_the_most_frequent_class() -> None:
    rows = [row("a", "1" * 55 + "0" * 45), row("b", "1" * 30 + "0" * 70)]
    assert "always naming the most frequent class, 50.0\u00a0%" in choose(rows, largest=50).words
    assert "always naming" not in choose(rows, largest=20).words


def test_the_pareto_front_has_the_points_that_no_other_one_beats() -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (4.0, 0.9), (4.0, 0.8), (2.0, 0.7)]
    assert pareto_front(points) == [0, 1, 5, 3]
    assert pareto_front([]) == []
    assert pareto_front([(5.0, 0.1)]) == [0]


def test_names_are_listed_as_people_do() -> None:
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def whole() -> Comparison:
    rows = (
        row("a", "1" * 60 + "0" * 40),
        Row("b", problem="It has no weights.", licence="mit"),
        row("c", "1" * 80 + "0" * 20),
    )
    return Comparison(
        "cifar10-mini",
        (Candidate("a", "mit", 3.0), Candidate("b"), Candidate("c", seen=True, download=10)),
        (LeftOut("d", "it is slow"),),
        images=100,
        rows=rows,
        doing=Doing("c", "features", 3, 4, 0.25),
        seconds=30.0,
    )


def test_a_comparison_is_read_as_it_was_written_and_nothing_else_is_one(tmp_path: Path) -> None:
    comparison = whole()
    comparison.write(tmp_path)
    assert Comparison.read(tmp_path) == comparison
    with pytest.raises(UserError, match="There is no such comparison"):
        Comparison.read(tmp_path / "other")
    for damaged in ("[]", "{", '{"dataset": "x"}', '{"networks": 3}'):
        (tmp_path / "comparison.json").write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            Comparison.read(tmp_path)


def test_the_time_left_is_told_by_the_share_that_is_done() -> None:
    comparison = whole()
    assert comparison.seconds_left == pytest.approx(90.0)
    assert replace(comparison, doing=Doing()).seconds_left is None


def test_a_table_and_a_programs_answer_have_the_most_accurate_first_and_the_problems_last() -> None:
    comparison = whole()
    table = table_rows(comparison)
    assert [line[0] for line in table] == ["c", "a", "b"]
    assert all(len(line) == len(COLUMNS) for line in table)
    assert dict(zip(COLUMNS, table[0], strict=True))["accuracy %"] == 80.0
    assert table[2][-1] == "It has no weights."
    told = to_json(comparison)
    assert [one["name"] for one in told["rows"]] == ["c", "a", "b"]
    assert told["rows"][0]["accuracy"] == 0.8
    assert "right" not in told["rows"][0]
    assert told["take"] == "c"


def test_the_expected_time_is_of_images_features_and_heads() -> None:
    sample = Sample(Image.new("RGB", (32, 32)), "a", 32)
    data = DatasetSummary(
        DatasetRef("x"), ("a", "b"), {"train": [400, 600], "test": [10, 10]}, 32, [sample], decoding=0.01
    )
    model = ModelConfig("resnet20", ("a", "b"))
    speeds = Speeds("cpu", 5.0, {("resnet20", 32): 500.0}, {}, {("resnet20", 32): 10_000.0})
    expected = PREPARED_SECONDS + 1_000 * (0.01 + 1 / 500) + FOLDS * 1_000 * 2 / 10_000
    assert expected_seconds(model, data, speeds) == pytest.approx(expected)
    fewer = PREPARED_SECONDS + 100 * (0.01 + 1 / 500) + FOLDS * 100 * 2 / 10_000
    assert expected_seconds(model, data, speeds, most=100) == pytest.approx(fewer)
    assert expected_seconds(model, data, Speeds()) is None


def test_a_speed_that_was_not_measured_follows_from_the_network_with_the_most_similar_multiply_adds() -> None:
    speeds = Speeds(features={("resnet20", 32): 1_000.0, ("resnet18", 224): 40.0, ("gone", 32): 1.0})
    resnet50 = imagenet_config("resnet50")

    def cost(name: str) -> int:
        counted = entry_of(name).multiply_adds
        assert counted is not None
        return counted

    assert speeds.features_of(imagenet_config("resnet18")) == 40.0
    assert speeds.features_of(resnet50) == pytest.approx(40.0 * cost("resnet18") / cost("resnet50"))
    assert Speeds().features_of(resnet50) is None
    smaller = replace(resnet50, image_size=112, resize=None)
    assert math.isclose(speeds.features_of(smaller) or 0.0, 40.0 * cost("resnet18") / (cost("resnet50") / 4))


def test_a_network_has_seen_classes_that_are_exactly_its_own() -> None:
    model = ModelConfig("resnet20", ("a", "b"))
    assert has_seen(model, ("b", "a"))
    assert not has_seen(model, ("a", "b", "c"))
