"""The history of the networks: charts, texts and drawings, without a page."""

import csv
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from resnet_space.common.errors import UserError
from resnet_space.models.ideas import BLOCKS, GUIDE, PUBLISHED
from resnet_space.models.registry import Entry, entries, register, unregister
from resnet_space.plots.blocks import block_svg, description
from resnet_space.plots.history import Milestone, error_chart, parameters_chart
from resnet_space.ui.explore.history import guide_html, history_export, milestones, network_html

NETWORKS = [
    Milestone("old", "Old <net>", "one", 1998, 60_000, None, True),
    Milestone("a", "A", "one", 2015, 10_000_000, 0.07, True),
    Milestone("b", "B", "one", 2015, 30_000_000, 0.05, False),
    Milestone("c", "C", "two", 2015, 5_000_000, 0.06, True),
]


def test_the_errors_are_drawn_by_year_with_those_of_no_paper_open_and_unknown_ones_left_out() -> None:
    one, two = error_chart(NETWORKS)["data"]
    assert one["y"] == [7, 5]
    assert one["marker"]["symbol"] == ["circle", "circle-open"]
    assert one["text"] == ["", "B"]  # the best of the family's year
    assert one["customdata"] == [["a"], ["b"]]
    assert one["hovertext"] == ["A, 2015", "B, 2015"]
    assert len({*one["x"]}) == 1
    assert one["x"][0] < two["x"][0]  # side by side, within the year
    assert all(abs(x) < 0.5 for x in (*one["x"], *two["x"]))


def test_a_name_stands_where_it_covers_no_other_and_is_left_to_the_hover_where_there_is_no_room() -> None:
    def named(families: int) -> list[str]:
        crowd = [Milestone(f"n{i}", "A long name", f"f{i}", 2015, 10_000_000, 0.07, True) for i in range(families)]
        data = error_chart(crowd)["data"]
        return [trace["textposition"][0] for trace in data if trace["text"][0]]

    assert named(1) == ["top center"]
    assert named(24) == 12 * ["top center", "bottom center"]  # 36 pixels from one another, a name is 62 wide
    assert named(48) == [*12 * ["top center", "bottom center"], "middle right"]  # of every four two, and the last one


def test_a_family_has_one_colour_in_both_charts() -> None:
    found = [
        {trace["name"]: trace["marker"]["color"] for trace in chart(milestones())["data"]}
        for chart in (error_chart, parameters_chart)
    ]
    assert found[0].items() <= found[1].items()


def test_the_parameters_are_drawn_for_all_and_names_are_no_markup() -> None:
    chart = parameters_chart(NETWORKS)
    old = chart["data"][0]
    assert old["y"] == [0.06]
    assert old["text"] == ["Old &lt;net&gt;"]
    assert chart["layout"]["yaxis"]["type"] == "log"
    assert chart["layout"]["xaxis"]["ticktext"] == ["1998", "2015"]
    assert chart["layout"]["xaxis"]["tickvals"] == [0, 1]
    assert chart["data"][0]["x"] == [0]


def test_the_history_is_that_of_the_registry_and_an_entry_without_a_place_is_not_in_it() -> None:
    entry = register(Entry("somebody_elses", "family", lambda *_: None, "me", 2024, "", 5, 1000))
    try:
        found = milestones()
    finally:
        unregister(entry.name)
    assert {network.name for network in found} == set(PUBLISHED) & set(entries(trains=False))
    assert [network.year for network in found] == sorted(network.year for network in found)
    resnet = next(network for network in found if network.name == "resnet50")
    assert (resnet.title, resnet.year, resnet.parameters) == ("ResNet-50", 2015, 25_557_032)


def test_of_a_network_the_idea_the_numbers_with_their_source_and_the_block_are_told() -> None:
    html = network_html("resnet50")
    assert "top-5 error 6.7\u00a0% (He et al. 2015, table 3: 10 crops)" in html
    assert "25.6\u00a0M parameters" in html
    assert 'href="https://arxiv.org/abs/1512.03385"' in html
    assert html.count("<svg") == 1
    assert "top-5" not in network_html("tf_efficientnet_lite0")  # nobody published it
    with pytest.raises(UserError, match="no place in the history"):
        network_html("resnet20")


def _others(steps: Sequence[Any]) -> int:
    """Boxes of branches, and of the concatenations after them and at the end of shortcuts."""
    branches = [step for step in steps if not isinstance(step, str)]
    return sum(map(len, itertools.chain(*branches))) + len(branches) + sum(step == "join" for step in steps)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_drawing_is_well_formed_stays_within_its_frame_and_says_what_it_shows(name: str) -> None:
    svg = ET.fromstring(block_svg(BLOCKS[name], "A <block>"))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    boxes = svg.findall("rect")
    for box in boxes:
        x, y, w, h = (float(box.attrib[of]) for of in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + w <= width
        assert y + h <= height
    texts = [text.text for text in svg.findall("text")]
    layers = [step for step in BLOCKS[name] if isinstance(step, str) and step not in ("split", "add", "join")]
    assert set(layers) <= set(texts)
    assert len(texts) == 1 + len(layers) + sum(step == "add" for step in BLOCKS[name]) + _others(BLOCKS[name])
    assert len([path for path in svg.findall("path") if path.attrib.get("class") == "shortcut"]) == sum(
        step == "split" for step in BLOCKS[name]
    )
    assert svg.attrib["aria-label"] == f"A <block>: {description(BLOCKS[name])}"


def test_a_residual_block_is_described_in_words() -> None:
    assert description(BLOCKS["basic"]) == (
        "3x3, BatchNorm, ReLU; then 3x3, BatchNorm; then plus the block's input; then ReLU"
    )


def test_the_guide_is_a_row_a_case() -> None:
    assert guide_html().count("<tr>") == 1 + len(GUIDE)
    assert "EfficientNet-Lite0" in guide_html()


def test_the_numbers_leave_with_their_sources_and_the_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    export = history_export()
    with Path(export.table_file()).open(newline="", encoding="utf-8") as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    assert rows["vgg16"]["top-5 error"] == "0.081"
    assert rows["vgg16"]["source"].startswith("Simonyan & Zisserman 2014")
    assert Path(export.figure_file("svg")).stat().st_size
    exec(export.code(), {})
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
