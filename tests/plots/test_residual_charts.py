"""The charts of the residual measures, from numbers made by hand."""

import math
from typing import Any

import pytest

from resnet_space.plots.residuals.depth import Block, fewer_points_words, stage_names
from resnet_space.plots.residuals.growth import growth_chart
from resnet_space.plots.residuals.norms import BlockNorms, norms_chart, ratio_chart
from resnet_space.plots.residuals.profiles import (
    compare_chart,
    gradient_chart,
    lesion_chart,
    responses_chart,
    several_chart,
)
from tests.plots.test_charts import as_json

BLOCKS = [
    BlockNorms("layer1.0", True, 0, [4.0, 5.0, 2.0], [1.0, 10.0, 2.0]),
    BlockNorms("layer2.0", False, 1, [8.0, 0.5, 4.0], [2.0, 1.0, 3.0]),
]
IMAGES = ["image 7, cat", "image 2, dog", "image 5, cat"]
NAMES = [block.name for block in BLOCKS]


def upright(chart: dict[str, Any]) -> list[float]:
    return [shape["x0"] for shape in chart["layout"]["shapes"] if shape.get("yref") == "paper"]


def level(chart: dict[str, Any]) -> list[float]:
    return [shape["y0"] for shape in chart["layout"]["shapes"] if shape.get("xref") == "paper"]


def many(blocks: int, images: int) -> list[BlockNorms]:
    """The i-th block's ratio is 1 / (i + 1) for every image, at lengths of their own."""
    lengths = [1.0 + n for n in range(images)]
    return [
        BlockNorms(f"layer{1 + i // 18}.{i % 18}", True, i // 18, lengths, [x / (i + 1) for x in lengths])
        for i in range(blocks)
    ]


def test_the_norms_chart_has_one_cloud_a_block_and_the_diagonal() -> None:
    content = as_json(norms_chart(BLOCKS, IMAGES))
    diagonal, *clouds = content["data"]
    assert diagonal["x"] == diagonal["y"] == [0.5, 10.0]  # over the whole range of both axes
    assert [(cloud["x"], cloud["y"]) for cloud in clouds] == [
        ([4.0, 5.0, 2.0], [1.0, 10.0, 2.0]),
        ([8.0, 0.5, 4.0], [2.0, 1.0, 3.0]),
    ]
    for i, (cloud, block) in enumerate(zip(clouds, BLOCKS, strict=True)):
        assert cloud["name"].startswith(block.name)
        assert cloud["text"] == IMAGES
        assert cloud["customdata"] == [[i, 0], [i, 1], [i, 2]]  # what a click says
    assert clouds[0]["marker"]["symbol"] != clouds[1]["marker"]["symbol"]  # the shortcut that changes the shape
    assert content["layout"]["xaxis"]["type"] == content["layout"]["yaxis"]["type"] == "log"


def test_norms_over_many_decades_have_ticks_at_powers_of_ten() -> None:
    near = norms_chart(BLOCKS, IMAGES)["layout"]["xaxis"]
    assert {0.5, 1, 2, 10} <= set(near["tickvals"])
    far = norms_chart([BlockNorms("a", True, 0, [1.0, 1e12], [1.0, 1e12])], ["0", "1"])["layout"]["xaxis"]
    assert far["dtick"] == 2
    assert "tickvals" not in far


def test_the_ratio_chart_has_quartiles_of_all_images_and_every_image_behind() -> None:
    content = as_json(ratio_chart(BLOCKS, IMAGES))
    points, boxes = content["data"][:2], content["data"][2:]
    assert [trace["y"] for trace in points] == [[0.25, 2.0, 1.0], [0.25, 2.0, 0.75]]
    for i, trace in enumerate(points):
        assert all(abs(x - i) < 0.3 for x in trace["x"])
        assert len(set(trace["x"])) == 3  # beside one another
    assert [(box["x"], box["q1"], box["median"], box["q3"]) for box in boxes] == [
        ([0], [0.625], [1.0], [1.5]),
        ([1], [0.5], [0.75], [1.375]),
    ]
    assert (upright(content), level(content)) == ([0.5], [1])  # between the two stages; where F(x) is as long as x
    assert content["layout"]["xaxis"]["ticktext"] == NAMES


@pytest.mark.parametrize("images", [50, 10_000])
def test_a_resnet110_with_many_images_has_three_thousand_points_at_most_and_says_so(images: int) -> None:
    blocks = many(54, images)
    names = [f"image {n}" for n in range(images)]
    norms, ratio = norms_chart(blocks, names), ratio_chart(blocks, names)
    for chart in (norms, ratio):
        points = [trace for trace in chart["data"] if trace.get("mode") == "markers"]
        assert len(points) == 54
        assert sum(len(trace["x"]) for trace in points) == 54 * min(images, 55)
        assert len({tuple(n for _, n in trace["customdata"]) for trace in points}) == 1  # the same images everywhere
    boxes = [trace for trace in ratio["data"] if trace["type"] == "box"]
    assert [box["median"] for box in boxes] == [[float(f"{1 / (i + 1):.4g}")] for i in range(54)]
    assert len({trace["marker"]["color"] for trace in norms["data"][1:]}) == 54
    assert [trace["name"] for trace in norms["data"][1:] if trace["showlegend"]] == ["layer1", "layer2", "layer3"]
    told = fewer_points_words(images, 54)
    assert told == "" if images == 50 else "55 of the 10,000 images" in told


def test_an_image_that_a_block_leaves_nothing_of_has_no_ratio_and_no_point() -> None:
    blocks = [BlockNorms("a", True, 0, [0.0, 2.0], [1.0, math.nan])]
    content = as_json(ratio_chart(blocks, ["image 0", "image 1"]))
    assert content["data"][0]["y"] == [None, None]
    assert all(trace["type"] != "box" for trace in content["data"])
    as_json(norms_chart(blocks, ["image 0", "image 1"]))
    assert as_json(norms_chart([], []))["data"][0]["x"] == [1, 10]


def test_stages_are_named_by_what_their_blocks_share() -> None:
    blocks = [Block("layer1.0", stage=0), Block("layer1.1", stage=0), Block("features.3", stage=1)]
    blocks += [Block("encoder.0.attn", stage=2), Block("encoder.0.mlp", stage=2), Block("encoder.1.attn", stage=2)]
    mobile = [Block("features.1", stage=0), Block("features.3", stage=1), Block("features.4", stage=1)]
    assert stage_names(mobile) == {0: "features.1", 1: "features.3 to features.4"}
    assert stage_names(blocks) == {0: "layer1", 1: "features", 2: "encoder.0.attn to encoder.1.attn"}


def test_responses_are_in_layer_order_and_sorted_each_layer_keeping_its_name() -> None:
    layers = {"a": [("conv1", 0.5), ("conv2", 2.0), ("conv3", 1.0)], "b": [("conv1", 3.0)]}
    in_order, _ = as_json(responses_chart(layers))["data"]
    ordered, single = as_json(responses_chart(layers, ordered=True))["data"]
    assert (in_order["x"], in_order["y"]) == ([1, 2, 3], [0.5, 2.0, 1.0])
    assert (ordered["x"], ordered["y"], ordered["text"]) == ([1, 2, 3], [2.0, 1.0, 0.5], ["conv2", "conv3", "conv1"])
    assert single["x"] == [1]


def test_lesions_are_bars_beside_the_whole_networks_accuracy() -> None:
    bars, whole = as_json(lesion_chart(NAMES, [0, 1], [0.1, 0.7], 0.75))["data"]
    assert (bars["x"], bars["y"], bars["text"]) == ([0, 1], [0.1, 0.7], NAMES)
    assert whole["y"] == [0.75, 0.75]
    content = as_json(several_chart("several", [1, 3], [[0.6, 0.4, 0.5], [0.2, 0.1, 0.3]], 0.75, "blocks"))
    points, medians = content["data"]
    assert (points["x"], points["y"]) == ([1, 1, 1, 3, 3, 3], [0.6, 0.4, 0.5, 0.2, 0.1, 0.3])
    assert (medians["x"], medians["y"], level(content)) == ([1, 3], [0.5, 0.2], [0.75])


def test_the_gradient_has_a_median_and_a_band_each_way_on_a_log_axis() -> None:
    values = [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]
    content = as_json(gradient_chart(NAMES, [0, 1], {"with": values, "without": [[0.0] * 3, [1.0] * 3]}))
    band, middle, _, without = content["data"]
    assert (middle["x"], middle["y"]) == ([0, 1], [2.0, 20.0])
    assert (band["x"], band["y"]) == ([0, 1, 1, 0], [1.5, 15.0, 25.0, 2.5])
    assert without["y"] == [None, 1.0]  # a log axis has no zero
    assert content["layout"]["yaxis"]["type"] == "log"


def test_networks_of_one_shape_share_the_blocks_axis_and_others_the_depth() -> None:
    three = [(0.1, 0.2, 0.4), (0.3, 0.5, 0.6), (0.1, 0.1, 0.1)]
    same = as_json(compare_chart({"a": (BLOCKS, three[:2]), "b": (BLOCKS, three[1:])}))
    first = same["data"][0]
    assert (first["x"], first["y"]) == ([0, 1], [0.2, 0.5])
    assert first["error_y"]["array"] == pytest.approx([0.2, 0.1])
    assert first["error_y"]["arrayminus"] == pytest.approx([0.1, 0.2])
    assert same["layout"]["xaxis"]["ticktext"] == NAMES
    deeper = [*BLOCKS, Block("layer3.0", stage=2)]
    other = as_json(compare_chart({"a": (BLOCKS, three[:2]), "c": (deeper, three)}))
    assert [trace["x"] for trace in other["data"]] == [[0, 1], [0, 0.5, 1]]
    assert upright(other) == []


def test_growth_is_animated_over_the_epochs_and_shows_the_last_beside_the_first() -> None:
    ratios = [[0.1, 0.2], [0.3, 0.3], [0.5, 0.2]]
    chart = growth_chart(NAMES, [0, 1, 2], ratios)
    first, shown = chart["data"]
    assert (first["y"], shown["y"]) == ([0.1, 0.2], [0.5, 0.2])
    assert [frame["data"][0]["y"] for frame in chart["frames"]] == ratios
    (slider,) = chart["layout"]["sliders"]
    assert [step["args"][0] for step in slider["steps"]] == [[frame["name"]] for frame in chart["frames"]]
    assert slider["active"] == 2
    assert max(chart["layout"]["yaxis"]["range"]) > 0.5  # the axis does not move while it plays
    only = growth_chart(NAMES, [1], ratios[:1])
    assert only["layout"]["sliders"] == []
