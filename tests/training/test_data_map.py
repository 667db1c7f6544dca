"""The pictures of a check on a plane, and the files that a page draws them from."""

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from resnet_space.common.errors import UserError
from resnet_space.data.checks.tiles import ON_A_SHEET, ON_A_SIDE, tile
from resnet_space.training.data_map import KINDS, PICTURES, POINTS, UNKNOWN, DataMap, Drawing, Points
from resnet_space.training.data_report import DataReport
from resnet_space.training.plane import kept_neighbours, on_a_plane, principal_components
from resnet_space.training.work import Stopped
from tests.mapped import EACH, GROUPS, NAME, colour, features, write_check


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps positions for all tests."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """The folder of the runs, with a check."""
    write_check(tmp_path)
    return tmp_path


def drawn(root: Path, kept: Path) -> Path:
    folder = root / DataMap.FOLDER / "map"
    folder.mkdir(parents=True)
    found = Drawing(DataMap(dataset="d", check=NAME), folder, kept).done()
    assert (found.state, found.pictures, found.seconds_left) == ("finished", GROUPS * EACH, None)
    found.write(folder)
    return folder


def test_pictures_with_similar_features_are_near_one_another_the_same_each_time(
    kept: Path,
) -> None:
    components = principal_components(features())
    assert components.shape == (GROUPS * EACH, 50)
    told: list[tuple[int, int]] = []
    places = on_a_plane(components, kept, lambda *now: told.append(now))
    assert trustworthiness(components, places, n_neighbors=10) > 0.9  # 0.5 is chance
    own = NearestNeighbors(n_neighbors=2).fit(places).kneighbors(places, return_distance=False)[:, 1]
    assert (own // EACH == np.arange(GROUPS * EACH) // EACH).all()
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    told.clear()
    np.testing.assert_array_equal(on_a_plane(components, kept, lambda *now: told.append(now)), places)
    assert told == []  # it was on disk
    for file in kept.iterdir():
        file.write_bytes(b"damaged")
    np.testing.assert_array_equal(on_a_plane(components, kept), places)


def test_the_components_keep_the_angles_between_features() -> None:
    few = features()[:30]
    unit = torch.nn.functional.normalize(few, dim=1)
    found = torch.from_numpy(principal_components(few))
    torch.testing.assert_close(torch.pdist(found), torch.pdist(unit), atol=1e-4, rtol=0)


def test_it_ends_where_it_is_told_to() -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Stopped("enough")

    with pytest.raises(Stopped, match="enough"):
        on_a_plane(np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), None, stop)


def test_the_neighbours_that_stay_are_those_that_scikit_learn_finds() -> None:
    generator = np.random.default_rng(0)
    space, plane = (generator.normal(size=(200, width)).astype(np.float32) for width in (6, 2))
    near = [NearestNeighbors(n_neighbors=10).fit(of).kneighbors(return_distance=False) for of in (space, plane)]
    expected = np.mean([len(set(one) & set(other)) for one, other in zip(*near, strict=True)])
    assert kept_neighbours(space, plane, 10) == pytest.approx(expected)
    assert kept_neighbours(space, space, 10) == 10


@pytest.mark.parametrize("count", [1, 4, 12])
def test_few_pictures_and_equal_ones_have_positions_too(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for some in (torch.randn(count, 8, generator=generator), torch.ones(count, 8)):
        places = on_a_plane(principal_components(some))
        assert places.shape == (count, 2)
        assert np.isfinite(places).all()


def test_each_picture_is_where_the_page_looks_for_it(checked: Path, kept: Path) -> None:
    folder = drawn(checked, kept)
    found = json.loads(gzip.decompress((folder / POINTS).read_bytes()))
    assert (found["side"], found["columns"]) == (40, ON_A_SIDE)
    assert sorted(found["row"]) == list(range(GROUPS * EACH))
    sheets = [Image.open(folder / f"sheet-{i}.jpg").convert("RGB") for i in range(-(-len(found["row"]) // ON_A_SHEET))]
    for at, row in enumerate(found["row"]):
        line, column = divmod(at % ON_A_SHEET, ON_A_SIDE)
        seen = sheets[at // ON_A_SHEET].getpixel((40 * column + 20, 40 * line + 20))
        assert np.abs(np.array(seen) - colour(row)).max() < 12  # it is a JPEG
    assert found["split"][found["row"].index(7)] == found["splits"].index("train")
    bits = {row: bits for row, bits in zip(found["row"], found["found"], strict=True) if bits}
    assert bits == {7: 0b101, 8: 0b010, 9: 0b010}
    words = found["words"][str(found["row"].index(7))]
    assert words == ["Labelled a, but looks like b. Probability of a wrong label: 90.0 %.", "It is nearly black."]
    steps = np.hypot(np.diff(found["x"]), np.diff(found["y"]))
    shuffled = np.random.default_rng(0).permutation(len(found["x"]))
    assert (
        steps.mean()
        < np.hypot(np.diff(np.array(found["x"])[shuffled]), np.diff(np.array(found["y"])[shuffled])).mean() / 2
    )


def test_what_was_drawn_is_read_as_a_table(checked: Path, kept: Path) -> None:
    points = Points.read(drawn(checked, kept))
    at = [row for _, row, _ in points.where].index(7)
    assert points.where[at] == ("train", 7, "7.png")
    assert points.findings[at] == f"{KINDS[0]}, {KINDS[2]}"
    assert points.predicted[[row for _, row, _ in points.where].index(5)] == UNKNOWN
    with pytest.raises(UserError, match="There is no map yet"):
        Points.read(checked)


def test_a_map_stops_and_says_what_it_lacks(checked: Path) -> None:
    asked = DataMap(dataset="d", check=NAME)
    folder = checked / DataMap.FOLDER / "map"
    folder.mkdir(parents=True)
    told: list[DataMap] = []
    found = Drawing(asked, folder, checked / "none").done(told.append, lambda: "" if len(told) > 3 else None)
    assert (found.state, found.reason, len(told)) == ("stopped", "", 4)
    assert told[-1].doing.phase == "plane"
    with pytest.raises(UserError, match="This check has kept no pictures for a map"):
        Drawing(replace(asked, check="gone"), folder, checked).done()
    (checked / DataReport.FOLDER / NAME / PICTURES).write_bytes(b"damaged")
    with pytest.raises(UserError, match="This check has kept no pictures for a map"):
        Drawing(asked, folder, checked).done()


def test_a_tile_is_the_whole_picture_and_is_never_enlarged() -> None:
    for size, side, expected in (((200, 100), 64, (64, 32)), ((32, 20), 64, (32, 20)), ((1, 500), 64, (1, 64))):
        assert Image.open(io.BytesIO(tile(Image.new("RGBA", size), side))).size == expected
