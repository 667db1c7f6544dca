"""Checking a dataset from Python and by the command, with faults that were planted in bundled pictures."""

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter

from resnet_space import check
from resnet_space.check import finish
from resnet_space.common.errors import UserError
from resnet_space.data import check_data
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, open_dataset, split_files
from resnet_space.runs import BACKBONE
from resnet_space.training.data_map import DataMap
from resnet_space.training.data_report import DataReport
from resnet_space.training.work import STOP
from tests.conftest import WriteSplit

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
CLASSES = (1, 7)  # automobiles and horses: nearly all are told apart
FLIPPED = (10, 60, 110)
ODD = {20: "blank", 21: "dark", 22: "blurred"}
COUNT, TESTED = 160, 40


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped backbone alone, beside which features are cached for all tests."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / BACKBONE).symlink_to(CHECKPOINTS / BACKBONE)
    return folder


@pytest.fixture
def faulty(tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset of bundled pictures: three wrong labels, three odd ones, and a mirrored copy in the test split."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    table = pq.read_table(split_files("cifar10-mini")["train"][0]).to_pylist()
    names = open_dataset(DatasetRef("cifar10-mini")).columns.classes
    chosen = [row for row in table if row["label"] in CLASSES][: COUNT + TESTED]
    pictures = [Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB") for row in chosen]
    labels = [CLASSES.index(row["label"]) for row in chosen]
    for i in FLIPPED:
        labels[i] = 1 - labels[i]
    spoilt = {
        "blank": Image.new("RGB", (32, 32), (40, 90, 140)),
        "dark": pictures[21].point(lambda value: value * 0.1),
        "blurred": pictures[22].filter(ImageFilter.GaussianBlur(5)),
    }
    for i, kind in ODD.items():
        pictures[i] = spoilt[kind]
    pictures[COUNT] = pictures[5].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    labels[COUNT] = labels[5]
    encoded, own = [png(picture) for picture in pictures], [names[label] for label in CLASSES]
    write_split(tmp_path / "data" / "faulty", "train", encoded[:COUNT], labels[:COUNT], own)
    write_split(tmp_path / "data" / "faulty", "test", encoded[COUNT:], labels[COUNT:], own)
    return "faulty"


def test_planted_faults_are_found_and_nothing_is_changed(faulty: str, runs: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*.parquet")}
    told: list[DataReport] = []
    report = check_data(faulty, runs=runs, tell=told.append)
    assert report.backbone == BACKBONE
    assert report.counts == {"train": COUNT, "test": TESTED}
    assert report.unreadable == {"train": 0, "test": 0}
    first = {(one.split, one.index) for one in report.label_issues[:6]}  # odd ones look like neither class
    assert {("train", i) for i in FLIPPED} <= first
    low, high = report.interval or (0, 0)
    assert low <= len(FLIPPED) <= high
    assert all(one.score < 1 and one.suggested != one.label for one in report.label_issues)
    copy = report.near_duplicates[0]  # among the bundled pictures, some automobiles are copies, too
    assert (copy.split, copy.index, copy.of_split, copy.of_index, copy.mirrored) == ("test", 0, "train", 5, True)
    assert (copy.across, copy.contradicts) == (True, False)
    assert copy.words == "The same picture, mirrored, in test and in train."
    odd = {one.index: one.problem for one in report.outliers if one.split == "train"}
    assert {index: odd.get(index) for index in ODD} == ODD
    shares = [report.doing.share for report in told]
    assert shares == sorted(shares)
    assert {path: path.read_bytes() for path in before} == before


def test_classes_that_look_alike_an_imbalance_and_another_kind_of_split_are_told(
    tmp_path: Path, write_split: WriteSplit, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    generator = np.random.default_rng(0)

    def noise(count: int, low: int, high: int) -> list[bytes]:
        return [png(Image.fromarray(generator.integers(low, high, (32, 32, 3), dtype=np.uint8))) for _ in range(count)]

    labels = [i % 2 for i in range(60)] + [2] * 4
    write_split(tmp_path / "data" / "d", "train", noise(60, 0, 256) + noise(4, 0, 30), labels, ["a", "b", "few"])
    write_split(tmp_path / "data" / "d", "test", noise(30, 100, 140), [i % 2 for i in range(30)], ["a", "b", "few"])
    report = check_data("d", runs=runs)
    assert {one.kind for one in report.classes} == {"confused", "imbalanced", "shifted"}
    words = {one.kind: one.words for one in report.classes}
    assert words["confused"].startswith("The features cannot tell a and b apart: ")
    assert words["imbalanced"] == "a has 11 times the pictures of few."
    assert words["shifted"].startswith("The pictures of test differ from those of train: ")


def test_what_cannot_be_checked_gets_a_sentence(
    tmp_path: Path, write_split: WriteSplit, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    grey = png(Image.new("RGB", (32, 32)))
    write_split(tmp_path / "data" / "one", "train", [grey] * 3, [0, 0, 1], ["a", "b"])
    with pytest.raises(UserError, match="This needs at least two classes with two images each"):
        check_data("one", runs=runs)
    with pytest.raises(UserError, match="no dataset named 'gone'"):
        check_data("gone", runs=runs)
    with pytest.raises(UserError, match="nothing is not a run"):
        check_data("cifar10-mini", backbone="nothing", runs=runs)
    with pytest.raises(UserError, match="There is no backbone for these pictures"):
        check_data("cifar10-mini", runs=tmp_path)


def test_the_command_prints_what_was_found_and_a_folder_keeps_it(
    faulty: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "map.csv"
    monkeypatch.setattr(sys, "argv", ["check", faulty, "--runs", str(runs), "--map", str(table)])
    assert check.main() == 0
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert list(rows[0]) == ["split", "index", "file", "label", "predicted", "x", "y"]
    assert len({(row["split"], row["index"]) for row in rows}) == COUNT + TESTED
    wrong = {row["index"] for row in rows if row["split"] == "train" and row["predicted"] != row["label"]}
    assert {str(i) for i in FLIPPED} <= wrong
    first, *others = capsys.readouterr().out.splitlines()
    assert "wrong labels are expected" in first
    assert any("The same picture, mirrored, in test and in train." in line for line in others)
    monkeypatch.setattr(sys, "argv", ["check", "gone", "--runs", str(runs)])
    assert check.main() == 1

    folder = runs / DataReport.FOLDER / faulty
    folder.mkdir(parents=True)
    DataReport(dataset=faulty).write(folder)
    assert finish(folder) == 0
    report = DataReport.read(folder)
    assert report.state == "finished"
    assert report.to_json()["label_issues"][0]["words"].startswith("Labelled ")
    assert report.near_duplicates[0].of_index == 5
    assert report.map == ()

    mapped = runs / DataMap.FOLDER / "m"
    mapped.mkdir(parents=True)
    DataMap(dataset=faulty, check=faulty).write(mapped)
    assert finish(mapped) == 0
    drawn = DataMap.read(mapped)
    assert (drawn.state, drawn.pictures) == ("finished", COUNT + TESTED)
    assert drawn.seconds < report.seconds  # the positions were on disk
    assert 0 < (drawn.kept or 0) <= 10
    (folder / STOP).touch()
    assert finish(folder) == 0
    assert DataReport.read(folder).state == "stopped"
