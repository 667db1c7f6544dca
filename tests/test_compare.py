"""Comparing networks from Python and by the command, and what its process leaves in a comparison's folder."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from resnet_space import compare
from resnet_space.common.errors import UserError
from resnet_space.compare import compare_models, finish
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import NOTICE, Run
from resnet_space.training.comparison import Candidate, Comparison
from resnet_space.training.work import LOCK, STOP
from tests.conftest import WriteSplit
from tests.networks import alive
from tests.trainings import GREYS, write_greys


@pytest.fixture
def runs(tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, of which one knows the classes of the pictures in `GREYS`."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    write_greys(write_split, tmp_path / "data", train=40, test=10)
    for name, classes in (("other", ("x", "y")), ("knowing", ("bright", "dark"))):
        run = Run.create(tmp_path / "runs" / name, RunConfig(ModelConfig("resnet20", classes)))
        run.save_weights(alive(run.config.model.build(seed=0)).state_dict())
    (tmp_path / "runs" / "other" / NOTICE).write_text("SPDX-License-Identifier: Apache-2.0\n")
    return tmp_path / "runs"


def test_networks_are_compared_by_their_folders_or_their_names(runs: Path) -> None:
    told: list[Comparison] = []
    found = compare_models(GREYS, [runs / "other", "knowing"], runs=runs, images=30, tell=told.append)
    other, knowing = found.rows
    assert (other.name, other.licence, other.seen) == (str(runs / "other"), "apache-2.0", False)
    assert (knowing.name, knowing.licence, knowing.seen) == ("knowing", "mit", True)
    assert other.correct == knowing.correct  # they have the same weights
    assert other.images == 30
    assert found.choice.take == str(runs / "other")
    assert told[-1].rows == found.rows
    with pytest.raises(UserError, match="gone is not a run"):
        compare_models(GREYS, ["gone"], runs=runs)
    with pytest.raises(UserError, match="nothing"):
        compare_models("nothing", ["other"], runs=runs)


def test_the_command_prints_a_line_for_each_network_and_which_to_take(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", GREYS, "other", "--runs", str(runs)])
    assert compare.main() == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("other: ")
    assert "nearest neighbours" in first
    assert last.startswith("other is right for")
    monkeypatch.setattr(sys, "argv", ["compare", GREYS, "gone", "--runs", str(runs)])
    assert compare.main() == 1
    assert capsys.readouterr().err == "gone is not a run: it has no config.json.\n"


@pytest.fixture
def asked(runs: Path) -> Callable[..., Path]:
    """The folder of a comparison below the runs."""

    def write(dataset: str = GREYS, minutes: int | None = None) -> Path:
        folder = runs / ".comparisons" / "one"
        folder.mkdir(parents=True)
        Comparison(dataset, (Candidate("other"), Candidate("knowing")), minutes=minutes).write(folder)
        return folder

    return write


def test_a_process_writes_what_it_found(asked: Callable[..., Path]) -> None:
    folder = asked()
    assert finish(folder) == 0
    found = Comparison.read(folder)
    assert (found.state, [row.name for row in found.rows]) == ("finished", ["other", "knowing"])


def test_a_stop_and_a_time_limit_end_it_and_say_so(asked: Callable[..., Path]) -> None:
    folder = asked(minutes=0)
    assert finish(folder) == 0
    assert Comparison.read(folder).reason == "It reached this app's limit of 0 minutes."
    (folder / STOP).touch()
    assert finish(folder) == 0
    assert (Comparison.read(folder).state, Comparison.read(folder).reason) == ("stopped", "")


def test_data_that_is_gone_fails_it_in_a_sentence_and_two_processes_do_not_share_a_folder(
    asked: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = asked("nothing")
    assert finish(folder) == 1
    found = Comparison.read(folder)
    assert found.state == "failed"
    assert "nothing" in found.reason
    with FileLock(folder / LOCK):
        assert finish(folder) == 1
    assert "already under way" in capsys.readouterr().err
