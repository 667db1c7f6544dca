import json
import math
from itertools import pairwise
from typing import Any

import pytest

from resnet_space.plots import (
    MAX_POINTS,
    Chart,
    accuracy_chart,
    confusion_chart,
    figure,
    loss_chart,
    memory_chart,
    palette,
    rates_chart,
    reliability_chart,
    speed_chart,
    thinned,
)
from resnet_space.runs import Metric


def history(losses: list[float], accuracies: list[tuple[float, float]], test: float | None = None) -> list[Metric]:
    """A run's metrics: `losses` by step, (train, validation) by epoch, and the test's accuracy."""
    metrics: list[Metric] = [{"event": "start", "epochs": 4, "steps_per_epoch": 5}]
    metrics += [{"event": "step", "step": i + 1, "loss": loss} for i, loss in enumerate(losses)]
    metrics += [
        {"event": "epoch", "epoch": i + 1, "train_accuracy": train, "validation_accuracy": validation}
        for i, (train, validation) in enumerate(accuracies)
    ]
    if test is not None:
        metrics.append({"event": "test", "split": "test", "accuracy": test})
    return metrics


HISTORIES = {
    "first": history([2.0, 1.5, 1.0], [(0.3, 0.2), (0.5, 0.4)], test=0.45),
    "second": history([3.0, 2.5], [(0.1, 0.15)]),
}


def as_json(chart: Chart) -> dict[str, Any]:
    """What a browser gets; numbers that JSON does not have are refused."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    content: dict[str, Any] = json.loads(figure(chart).to_json(), parse_constant=refuse)
    return content


def span(chart: Chart) -> list[float]:
    """What the x axis shows, until the reader zooms."""
    axis = as_json(chart)["layout"]["xaxis"]
    assert axis["autorange"] is True
    assert "range" not in axis
    return [axis["autorangeoptions"]["minallowed"], axis["autorangeoptions"]["maxallowed"]]


def curves(chart: Chart) -> dict[str, dict[str, Any]]:
    traces = as_json(chart)["data"]
    assert len({trace["name"] for trace in traces}) == len(traces)
    return {trace["name"]: trace for trace in traces}


# Thinning


@pytest.mark.parametrize("n", [0, 1, MAX_POINTS - 1, MAX_POINTS])
def test_a_short_curve_is_left_as_it_is(n: int) -> None:
    xs, ys = list(range(1, n + 1)), [math.sin(i) for i in range(n)]
    assert thinned(xs, ys) == (xs, ys)


@pytest.mark.parametrize(("n", "most"), [(301, 300), (900, 300), (1_000, 300), (599, 300), (7, 3), (100, 1)])
def test_a_long_curve_becomes_means_over_stretches_of_nearly_equal_length(n: int, most: int) -> None:
    xs, ys = list(range(1, n + 1)), [math.sin(i * i) for i in range(n)]
    thin_xs, thin_ys = thinned(xs, ys, most)
    assert len(thin_xs) == len(thin_ys) == most
    assert thin_xs[-1] == xs[-1]
    ends = [0, *map(int, thin_xs)]
    lengths = [end - begin for begin, end in pairwise(ends)]
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1
    assert thin_ys == pytest.approx([sum(ys[a:b]) / (b - a) for a, b in pairwise(ends)])
    # So no point is lost, and none counts twice.
    assert sum(y * length for y, length in zip(thin_ys, lengths, strict=True)) == pytest.approx(sum(ys))


def test_a_constant_stays_constant_and_a_mean_stays_the_mean() -> None:
    xs = list(range(3_000))
    assert thinned(xs, [2.5] * 3_000)[1] == pytest.approx([2.5] * MAX_POINTS)
    ys = [i % 7 + i / 100 for i in xs]
    thin = thinned(xs, ys)[1]
    assert sum(thin) / len(thin) == pytest.approx(sum(ys) / len(ys))


def test_a_single_spike_is_spread_and_not_lost() -> None:
    ys = [0.0] * 900
    ys[500] = 3.0
    assert sorted(thinned(range(900), ys)[1])[-2:] == [0, 1]


# Loss and accuracy


def test_the_loss_chart_has_one_curve_a_run_with_its_losses() -> None:
    traces = curves(loss_chart(HISTORIES))
    assert {name: (trace["x"], trace["y"]) for name, trace in traces.items()} == {
        "first": ([1, 2, 3], [2.0, 1.5, 1.0]),
        "second": ([1, 2], [3.0, 2.5]),
    }


def test_the_loss_axis_has_room_for_the_longest_training_from_its_start_on() -> None:
    longer = [HISTORIES["second"][0] | {"epochs": 6}]
    assert span(loss_chart(HISTORIES | {"longer": longer})) == [0, 30]
    assert span(loss_chart(HISTORIES)) == [0, 20]


def test_a_long_loss_curve_is_thinned() -> None:
    (trace,) = curves(loss_chart({"long": history([1.0] * 1_000, [])})).values()
    assert len(trace["x"]) == len(trace["y"]) == MAX_POINTS
    assert trace["x"][-1] == 1_000


def test_the_accuracy_chart_has_validation_training_and_test_of_each_run() -> None:
    traces = as_json(accuracy_chart(HISTORIES))["data"]
    of_first, of_second = ([t for t in traces if t["legendgroup"] == name] for name in HISTORIES)
    assert [(t["x"], t["y"]) for t in of_first] == [([1, 2], [0.2, 0.4]), ([1, 2], [0.3, 0.5]), ([2], [0.45])]
    assert [(t["x"], t["y"]) for t in of_second] == [([1], [0.15]), ([1], [0.1])]  # it was not tested
    validation, training, test = of_first
    assert validation["line"]["dash"] != training["line"]["dash"]
    assert test["mode"] == "markers"
    for group in (of_first, of_second):
        assert [trace["showlegend"] for trace in group] == [True] + [False] * (len(group) - 1)
    assert span(accuracy_chart(HISTORIES)) == [0.5, 4.5]


def test_up_to_six_runs_have_colours_of_their_own_that_agree_between_the_charts() -> None:
    histories = {f"run-{i}": HISTORIES["first"] for i in range(6)}
    colours = {name: trace["line"]["color"] for name, trace in curves(loss_chart(histories)).items()}
    assert len(set(colours.values())) == 6
    for trace in as_json(accuracy_chart(histories))["data"]:
        own = trace["line"]["color"] if "line" in trace else trace["marker"]["color"]
        assert own == colours[trace["legendgroup"]]


@pytest.mark.parametrize("chart", [loss_chart, accuracy_chart])
@pytest.mark.parametrize("histories", [{}, {"just created": []}, {"starting": history([], [])}])
def test_runs_without_metrics_give_charts_without_points(chart: Any, histories: dict[str, list[Metric]]) -> None:
    content = as_json(chart(histories))
    assert all(trace["x"] == trace["y"] == [] for trace in content["data"])
    # Plotly overlooks an automatic axis' limits where there is nothing to draw.
    low, high = content["layout"]["xaxis"]["range"]
    assert 0 <= low < 1 < high


def steps(count: int, **values: float) -> list[Metric]:
    return [{"event": "start", "epochs": 1, "steps_per_epoch": count}] + [
        {"event": "step", "step": i + 1, "loss": 1.0, "rates": {"head": 0.1}, **values} for i in range(count)
    ]


def test_speed_and_memory_are_drawn_in_images_a_second_and_gigabytes() -> None:
    histories = {"a-run": steps(3, images_per_second=480.0, memory=1_500_000_000.0), "an older one": steps(2)}
    assert curves(speed_chart(histories))["a-run"]["y"] == [480, 480, 480]
    memory = curves(memory_chart(histories))
    assert memory["a-run"]["y"] == [1.5, 1.5, 1.5]
    assert memory["an older one"]["y"] == []  # which did not write it yet


def test_every_part_has_a_curve_of_its_rate_with_gaps_where_it_is_frozen() -> None:
    metrics = steps(4)
    metrics[3]["rates"], metrics[4]["rates"] = {"stem": 0.01, "head": 0.1}, {"stem": 0.0, "head": 0.05}
    rates = curves(rates_chart(metrics))
    assert rates["head"]["y"] == [0.1, 0.1, 0.1, 0.05]
    assert rates["stem"]["y"] == [None, None, 0.01, None]  # a logarithmic axis has no zero


def test_no_two_parts_have_lines_that_look_alike() -> None:
    metrics = steps(2)
    metrics[1]["rates"] = {f"layer{i}": 0.1 for i in range(20)}
    lines = [trace["line"] for trace in as_json(rates_chart(metrics))["data"]]
    assert len({(line["color"], line["dash"]) for line in lines}) == len(lines) == 21


def test_the_test_stands_at_the_epoch_whose_weights_are_kept_also_where_an_older_run_does_not_say_which() -> None:
    epochs: list[Metric] = [
        {"event": "epoch", "epoch": i, "train_accuracy": 0.5, "validation_accuracy": share}
        for i, share in enumerate((0.2, 0.6, 0.6, 0.4), 1)
    ]
    tested: Metric = {"event": "test", "accuracy": 0.55}
    said = [metric | {"best": metric["epoch"] in (1, 3)} for metric in epochs]
    for metrics, kept in ((epochs, 2), (said, 3)):
        star = as_json(accuracy_chart({"a run": [*metrics, tested]}))["data"][-1]
        assert (star["x"], star["y"]) == ([kept], [0.55])
    assert as_json(rates_chart(metrics))["layout"]["yaxis"]["type"] == "log"
    assert curves(rates_chart([])) == {}


def test_the_parts_are_in_the_order_of_the_network_whichever_trains_first() -> None:
    metrics = steps(2)
    metrics[0]["phases"] = [
        {"epochs": 1, "rates": {"channel attention": 0.1, "head": 0.1}},
        {"epochs": 1, "rates": {"stem": 0.1, "layer1": 0.1, "channel attention": 0.1, "head": 0.1}},
    ]
    assert list(curves(rates_chart(metrics))) == ["stem", "layer1", "channel attention", "head"]


def test_a_long_training_has_few_points_of_each_rate() -> None:
    (curve,) = curves(rates_chart(steps(950))).values()
    assert 90 <= len(curve["x"]) <= 100
    assert curve["x"] == sorted(curve["x"])


def test_the_confusion_chart_has_shares_of_the_true_class_as_colours_and_counts_as_numbers() -> None:
    chart = as_json(confusion_chart([[6, 2], [0, 0]], ["cat", "dog"]))
    (cells,) = chart["data"]
    assert cells["z"] == [[round(math.sqrt(0.75), 4), 0.5], [0, 0]]
    assert cells["text"] == [["6", "2"], ["", ""]]
    assert cells["customdata"] == [[[6, 0.75], [2, 0.25]], [[0, 0], [0, 0]]]
    assert chart["layout"]["yaxis"]["autorange"] == "reversed"  # the first class at the top, as in a table
    assert chart["layout"]["yaxis"]["scaleanchor"] == "x"  # square
    long = as_json(confusion_chart([[1, 0], [0, 1]], ["a" * 180, "<b>"]))
    assert long["data"][0]["x"] == ["a" * 180, "&lt;b&gt;"]  # a click tells the whole name
    for axis in ("xaxis", "yaxis"):
        assert long["layout"][axis]["ticktext"] == ["a" * 17 + "…", "&lt;b&gt;"]
    many = [[i] * 20 for i in range(20)]
    assert "text" not in as_json(confusion_chart(many, [str(i) for i in range(20)]))["data"][0]


def test_the_reliability_chart_has_larger_points_for_more_images() -> None:
    diagonal, points = as_json(reliability_chart([(0.3, 0.2, 1), (0.9, 0.8, 100)]))["data"]
    assert diagonal["x"] == diagonal["y"] == [0, 1]
    assert (points["x"], points["y"]) == ([0.3, 0.9], [0.2, 0.8])
    small, large = points["marker"]["size"]
    assert small < large
    assert as_json(reliability_chart([]))["data"][1]["x"] == []


def test_a_training_that_was_made_longer_has_room_for_all_of_it() -> None:
    metrics = [*HISTORIES["first"], {"event": "start", "epochs": 6, "steps_per_epoch": 5}]
    assert span(loss_chart({"a": metrics})) == [0, 30]
    assert span(accuracy_chart({"a": metrics})) == [0.5, 6.5]


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("count", [1, 2, 6, 9, 54])
def test_colours_in_order_grow_brighter(count: int) -> None:
    colours = [palette.in_order(i, count) for i in range(count)]
    brightness = [0.2126 * int(c[1:3], 16) + 0.7152 * int(c[3:5], 16) + 0.0722 * int(c[5:7], 16) for c in colours]
    assert brightness == sorted(brightness)
    assert all(len(c) == 7 and c.startswith("#") for c in colours)
    assert all(contrast(c, ground) > 1.8 for c in colours for ground in ("#ffffff", "#0b0f19"))  # light, dark
