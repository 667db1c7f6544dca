"""Before and after a review, from Python and by the command, on bundled pictures."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from resnet_space import check, review
from resnet_space.common.errors import UserError
from resnet_space.data import apply_decisions
from resnet_space.data.decisions import PictureDecision
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, split_files
from resnet_space.review import before_and_after, finish
from resnet_space.runs import BACKBONE
from resnet_space.training.review import BeforeAfter
from resnet_space.training.work import STOP
from tests.conftest import WriteSplit

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
CLASSES = {1: "automobile", 7: "horse"}
COUNT, TESTED = 160, 60


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / BACKBONE).symlink_to(CHECKPOINTS / BACKBONE)
    return folder


@pytest.fixture
def labels(tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the training pictures of the dataset "two"."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    table = pq.read_table(split_files("cifar10-mini")["train"][0]).to_pylist()
    chosen = [row for row in table if row["label"] in CLASSES][: COUNT + TESTED]
    found = [list(CLASSES).index(row["label"]) for row in chosen]
    pictures, names = [row["img"]["bytes"] for row in chosen], list(CLASSES.values())
    write_split(tmp_path / "data" / "two", "train", pictures[:COUNT], found[:COUNT], names)
    write_split(tmp_path / "data" / "two", "test", pictures[COUNT:], found[COUNT:], names)
    return found[:COUNT]


def test_a_version_in_which_nothing_or_every_label_was_changed_is_judged_as_it_must_be(
    labels: list[int], runs: Path
) -> None:
    names = list(CLASSES.values())
    apply_decisions("two", [PictureDecision("train", 0, "keep")], "same")
    same = before_and_after("same", runs=runs)
    assert (same.images, same.backbone) == (TESTED, BACKBONE)
    assert same.learned[0] == same.learned[1] < COUNT  # some are for validation
    assert (same.gained, same.lost) == (0, 0)
    assert same.before == same.after > 0.8 * TESTED
    swapped = [PictureDecision("train", i, "relabel", names[1 - label]) for i, label in enumerate(labels)]
    apply_decisions("two", swapped, "swapped")
    opposite = before_and_after("swapped", runs=runs)
    assert opposite.before == same.before
    assert abs(opposite.after - (TESTED - same.before)) <= 1  # every answer is turned round, but for rounding
    assert opposite.interval[1] < 0


def test_both_are_judged_on_the_test_pictures_that_both_have(labels: list[int], runs: Path) -> None:
    decisions = [PictureDecision("test", i, "drop") for i in range(10)]
    decisions += [PictureDecision("train", i, "same", of_split="test", of_index=20 + i) for i in range(20)]
    apply_decisions("two", decisions, "seen")
    seen = before_and_after("seen", runs=runs)
    assert (seen.images, seen.test_cleaned) == (TESTED, False)
    assert 10 < seen.learned[0] - seen.learned[1] <= 20  # those that are not for validation
    apply_decisions("two", decisions, "cleaned", clean_test=True)
    told: list[BeforeAfter] = []
    cleaned = before_and_after("cleaned", runs=runs, tell=told.append)
    assert (cleaned.images, cleaned.test_cleaned) == (TESTED - 10, True)
    shares = [now.doing.share for now in told]
    assert shares == sorted(shares)


def test_the_commands_make_a_version_and_compare_it_and_a_folder_keeps_the_result(
    labels: list[int], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "decisions.json"
    file.write_text('[{"split": "train", "index": 3, "action": "drop"}]')
    monkeypatch.setattr(sys, "argv", ["check", "two", "--decisions", str(file), "--name", "two-v2"])
    assert check.main() == 0
    assert capsys.readouterr().out == "two-v2: 1 dropped.\n"
    monkeypatch.setattr(sys, "argv", ["review", "two-v2", "--runs", str(runs)])
    assert review.main() == 0
    assert capsys.readouterr().out.startswith("Test accuracy ")
    monkeypatch.setattr(sys, "argv", ["review", "two", "--runs", str(runs)])
    assert review.main() == 1
    assert capsys.readouterr().err.startswith("two was not made by a review")

    folder = runs / BeforeAfter.FOLDER / "two-v2"
    folder.mkdir(parents=True)
    BeforeAfter(dataset="two-v2", source="two").write(folder)
    assert finish(folder) == 0
    found = BeforeAfter.read(folder)
    assert (found.state, found.images) == ("finished", TESTED)
    (folder / STOP).touch()
    assert finish(folder) == 0
    assert BeforeAfter.read(folder).state == "stopped"

    train = next((tmp_path / "data" / "two").glob("train-*"))
    pq.write_table(pq.read_table(train).slice(0, COUNT - 1), train)
    with pytest.raises(UserError, match="two has changed since two-v2 was made from it: review it again"):
        before_and_after("two-v2", runs=runs)
    assert np.isfinite(found.interval).all()
