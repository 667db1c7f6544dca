"""The map of a check on the page: how it stands, its files, and what is taken away of it."""

import csv
import json
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from resnet_space.common.errors import UserError
from resnet_space.plots import palette
from resnet_space.plots.data_map import SHAPES
from resnet_space.serve.checks import map_of, start_map
from resnet_space.serve.context import AppContext
from resnet_space.training.data_map import DataMap, Drawing
from resnet_space.training.work import Doing
from resnet_space.ui.finetune.check.map import COLUMNS, MapFiles, map_export, told
from resnet_space.ui.scripts import STATIC
from tests.mapped import CLASSES, EACH, GROUPS, NAME, write_check


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> AppContext:
    """With a map that is drawn."""
    root = tmp_path_factory.mktemp("runs")
    write_check(root)
    folder = root / DataMap.FOLDER / "map-1"
    folder.mkdir(parents=True)
    Drawing(DataMap(dataset="d", check=NAME), folder, root).done().write(folder)
    return AppContext(root)


def test_how_it_stands_is_said_in_a_line() -> None:
    asked = DataMap(dataset="d", check=NAME, seconds=10.0)
    assert "near one another" in told(None)
    line = told(DataMap(**vars(asked) | {"doing": Doing("", "plane", 1, 2, 0.5)}))
    assert "Drawing the map" in line
    assert "about 10 s left" in line
    assert "<b>Failed.</b> No &lt;room." in told(DataMap(**vars(asked) | {"state": "failed", "reason": "No <room."}))
    done = told(DataMap(**vars(asked) | {"state": "finished", "kept": 3.06}))
    assert "distances between groups, and their sizes, mean little" in done
    assert "Of a picture's 10 nearest by features, 3.1 are among its 10 nearest here." in done


def test_its_files_are_for_whoever_has_its_name_and_no_others_are(app: AppContext) -> None:
    client = TestClient(Starlette(routes=MapFiles(app).routes))
    answer = client.get("/map/map-1/points.json.gz")
    assert answer.json()["classes"] == CLASSES
    sheet = client.get("/map/map-1/sheet-0.jpg")
    assert (sheet.headers["content-type"], sheet.content[:2]) == ("image/jpeg", b"\xff\xd8")
    for path in (
        "map-1/sheet-99.jpg",
        "map-1/map.json",
        "gone/sheet-0.jpg",
        "map-1/..%2Fmap.json",
        "%2e%2e/sheet-0.jpg",
    ):
        assert client.get(f"/map/{path}").status_code == 404


def test_a_figure_and_a_table_have_all_pictures_in_the_colours_of_the_page(app: AppContext) -> None:
    for by, groups in (
        (None, ["a", "b", "<i>c"]),
        ("predicted", ["a", "b", "<i>c", "unknown"]),
        ("finding", ["copy", "label, odd", "no finding"]),
    ):
        (chart,) = map_export(app, NAME, None, {"by": by}).charts
        assert chart is not None
        assert [trace["name"] for trace in chart["data"]] == groups
        assert sum(len(trace["x"]) for trace in chart["data"]) == GROUPS * EACH
    export = map_export(app, NAME, None, None)
    with Path(export.table_file()).open(encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert tuple(next(iter(rows.values()))) == COLUMNS
    assert (rows["7"]["finding"], rows["7"]["predicted"], rows["5"]["predicted"]) == ("label, odd", "a", "")
    assert Path(export.figure_file("svg", "paper")).stat().st_size > 1_000
    assert "check_data('d', map=True)" in export.code()
    with pytest.raises(UserError, match="A map has no colours by 'age'"):
        map_export(app, NAME, None, {"by": "age"})
    with pytest.raises(UserError, match="There is no map yet"):
        map_export(app, "another", None, None)


def test_a_map_is_that_of_the_check_and_needs_one(app: AppContext, tmp_path: Path) -> None:
    found = map_of(app, NAME, None)
    assert found is not None
    assert (found[0], found[1].state) == ("map-1", "finished")
    assert map_of(app, "another", None) is None
    with pytest.raises(UserError, match="There is no such check"):
        start_map(app, "another", None)
    with pytest.raises(UserError, match="This app is read-only"):
        start_map(AppContext(tmp_path, readonly=True), NAME, None)


def test_the_page_and_the_figure_have_the_same_colours_and_shapes() -> None:
    script = (STATIC / "map.js").read_text(encoding="utf-8")
    drawn = [re.search(rf"const {name} = (\[.*?\]);", script) for name in ("COLOURS", "SHAPES")]
    colours, shapes = (json.loads(found[1]) for found in drawn if found is not None)
    assert tuple(colours) == palette.CATEGORIES
    assert shapes == [shape.removesuffix("-up") for shape in SHAPES]
