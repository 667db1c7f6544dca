"""A study of what transfer is worth: its plan, its trainings, what stops and resumes it, and what it says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from scipy.stats import t as student

from resnet_space import study as command
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.held_out import subset_indices
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import Splits, load_splits
from resnet_space.data.summary import DatasetSummary, summarise
from resnet_space.runs import Run
from resnet_space.study import study_transfer
from resnet_space.training import studying
from resnet_space.training.speeds import Speeds
from resnet_space.training.strategies import STRATEGIES
from resnet_space.training.study import Arm, Point, Study, config_of, expected_seconds, mean_of, planned, run_name
from resnet_space.training.study_words import left_out_words, share_of, table_rows, words_of
from resnet_space.training.studying import TURN
from resnet_space.training.work import STOP
from tests.conftest import WriteSplit
from tests.networks import alive
from tests.trainings import GREYS, write_greys

SMALL = ModelConfig("resnet20", ("a", "b"))
SPEEDS = Speeds("cpu", 5.0, {("resnet20", 32): 1_000.0}, {("resnet20", 32): 500.0}, {("resnet20", 32): 1e6})
MINI = Study(dataset="cifar10-mini", start="start")


@pytest.fixture(scope="module")
def mini() -> DatasetSummary:
    return summarise(DatasetRef("cifar10-mini"))


def test_a_smaller_subset_is_part_of_a_larger_one_of_its_seed() -> None:
    labels = torch.tensor([0, 1, 2] * 20 + [3] * 2)
    few, many = (set(subset_indices(labels, n, 7).tolist()) for n in (4, 11))
    assert few < many
    assert labels[sorted(few)].bincount().tolist() == [4, 4, 4, 2]  # all where a class has fewer
    assert few != set(subset_indices(labels, 4, 8).tolist())


def rows_of(splits: Splits) -> set[int]:
    assert splits.train.source is not None
    assert splits.validation.source is not None
    return {*splits.train.source.tolist(), *splits.validation.source.tolist()}


def test_a_training_sees_so_many_images_of_each_class_and_is_tested_on_all() -> None:
    training = TrainConfig("cifar10-mini", images_per_class=5, subset_seed=3, validation_fraction=0.2)
    splits, whole = load_splits(training, 8), load_splits(replace(training, images_per_class=0), 8)
    assert splits.train.labels.bincount().tolist() == [4] * 10
    assert splits.validation.labels.bincount().tolist() == [1] * 10
    assert len(splits.test) == len(whole.test) == 1_000
    more = load_splits(replace(training, images_per_class=20), 8)
    assert rows_of(splits) < rows_of(more) < rows_of(whole)
    wrong: Any
    for wrong in (-1, 1.5, "5"):
        with pytest.raises(UserError, match="The number of images per class must be a whole number"):
            replace(training, images_per_class=wrong)


def test_the_plan_has_the_sizes_that_the_data_allow_and_all_of_the_images(mini: DatasetSummary) -> None:
    study = planned(MINI, mini, SMALL, SPEEDS)
    assert study.sizes == (5, 10, 30, 100, 200)
    assert left_out_words(study) == [
        "Left out: 300 and 1,000 images per class, as the smallest class has 200 images to train on."
    ]
    assert len(study.trainings) == 3 * 5 * 3
    assert [arm for arm, *_ in study.trainings[:3]] == ["scratch", "frozen", "fine-tuned"]
    seconds = [expected_seconds(study, mini, SMALL, SPEEDS, size) or 0.0 for size in study.sizes]
    assert study.expected == pytest.approx(sum(seconds), abs=0.1)
    assert planned(replace(MINI, sizes=(5, 150)), mini, SMALL, SPEEDS).sizes == (5, 150)
    assert planned(replace(MINI, sizes=(300,)), mini, SMALL, SPEEDS).sizes == (200,)


def test_sizes_that_do_not_fit_the_minutes_are_left_out(mini: DatasetSummary) -> None:
    whole = planned(MINI, mini, SMALL, SPEEDS)
    study = planned(replace(MINI, budget=(whole.expected or 0) / 60 / 2), mini, SMALL, SPEEDS)
    assert 0 < len(study.sizes) < 5
    assert "it would take about" in study.left_out[-1].reason
    assert (study.expected or 0) <= 60 * (study.budget or 0)
    with pytest.raises(UserError, match=r"No size fits 0\.1 minutes"):
        planned(replace(MINI, budget=0.1), mini, SMALL, SPEEDS)
    unknown = planned(replace(MINI, budget=0.1), mini, SMALL, Speeds())
    assert (unknown.expected, unknown.sizes) == (None, whole.sizes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": ()}, "The images per class must be up to 12 whole numbers"),
        ({"sizes": (5, -3)}, "The images per class must be"),
        ({"sizes": (1, 5)}, "at least two images per class"),
        ({"seeds": 0}, "The number of seeds must be a whole number from 1 to 20, not 0"),
        ({"steps": 2.5}, "The number of steps must be"),
        ({"strategy": "scratch"}, "Nothing can be fine-tuned by the strategy 'scratch'"),
    ],
)
def test_what_is_not_allowed_is_refused_in_a_sentence(
    changes: dict[str, Any], words: str, mini: DatasetSummary
) -> None:
    with pytest.raises(UserError, match=words):
        planned(replace(MINI, **changes), mini, SMALL, SPEEDS)


def test_each_training_takes_as_many_steps_on_its_images(mini: DatasetSummary) -> None:
    study = planned(MINI, mini, SMALL, SPEEDS)
    arms: tuple[Arm, ...] = ("scratch", "frozen", "fine-tuned")
    for size in study.sizes:
        scratch, frozen, tuned = (config_of(study, mini, SMALL, arm, size, 2).training for arm in arms)
        assert {t.images_per_class for t in (scratch, frozen, tuned)} == {size}
        assert {t.subset_seed for t in (scratch, frozen, tuned)} == {t.seed for t in (scratch, frozen, tuned)} == {2}
        assert (scratch.start, frozen.start, tuned.start) == (None, "start", "start")
        assert STRATEGIES[scratch.strategy].start == "none"
        assert (frozen.strategy, tuned.strategy) == ("linear-probe", "probe-then-fine-tune")
        per_epoch = max(8 * size // scratch.batch_size, 1)
        assert scratch.epochs * per_epoch == pytest.approx(study.steps, rel=0.1)
        assert tuned.epochs == scratch.epochs + 1  # whose first solves the head
        assert tuned.batch_size == scratch.batch_size
    limited = config_of(replace(study, most_epochs=20), mini, SMALL, "fine-tuned", 5, 0)
    assert limited.training.epochs == 20


def points(accuracies: dict[Arm, dict[int, list[float]]]) -> tuple[Point, ...]:
    return tuple(
        Point(arm, size, seed, round(1_000 * value), 1_000, 60.0)
        for arm, of_sizes in accuracies.items()
        for size, values in of_sizes.items()
        for seed, value in enumerate(values)
    )


FOUND = replace(
    MINI,
    sizes=(5, 50, 500),
    classes=10,
    points=points(
        {
            "scratch": {5: [0.2, 0.22, 0.21], 50: [0.5, 0.52, 0.51], 500: [0.8, 0.81, 0.79]},
            "frozen": {5: [0.4, 0.41, 0.42], 50: [0.6, 0.61, 0.6], 500: [0.7, 0.7, 0.71]},
            "fine-tuned": {5: [0.4, 0.43, 0.40], 50: [0.7, 0.71, 0.72], 500: [0.8, 0.8, 0.81]},
        }
    ),
)


def test_means_have_students_interval_over_the_seeds() -> None:
    values = [0.2, 0.22, 0.27, 0.21]
    mean = mean_of(values)
    expected = student.interval(0.95, 3, loc=0.225, scale=torch.tensor(values).double().std().item() / 2)
    assert mean.interval == pytest.approx(expected, rel=1e-6)
    assert share_of(mean_of([0.5])) == "50.0\u00a0%"
    assert share_of(mean_of([0.99, 1.0, 1.0])).endswith("100.0\u00a0%)")


def test_scratch_catches_up_where_its_paired_difference_is_not_clearly_below_zero() -> None:
    ahead = FOUND.ahead("fine-tuned", "scratch", 5)
    assert ahead is not None
    assert ahead.value == pytest.approx((0.2 + 0.21 + 0.19) / 3)
    assert FOUND.catches_up("scratch", "fine-tuned") == 500
    assert FOUND.catches_up("frozen", "fine-tuned") is None
    without = replace(FOUND, points=tuple(p for p in FOUND.points if p.per_class < 500))
    assert without.catches_up("scratch", "fine-tuned") is None
    assert "Scratch catches up at 500 images per class." in words_of(FOUND)
    said = words_of(without)
    assert "With 5 images per class, fine-tuning is 20.0 points better (95" in said
    assert "Scratch does not catch up within this data" in said
    assert "Fine-tuning clearly beats the frozen network with a solved head from 50 images per class on" in said
    single = replace(FOUND, points=tuple(p for p in FOUND.points if not p.seed))
    assert "Sizes with a single seed have no interval yet" in words_of(single)
    assert words_of(MINI) == ""
    failed = replace(FOUND, points=(*FOUND.points, Point("scratch", 5, 3, problem="It failed.")))
    assert len(table_rows(failed)) == len(FOUND.points)


@pytest.fixture
def root(tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with weights to transfer, and grey pictures."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    write_greys(write_split, tmp_path / "data", train=40, test=20)
    run = Run.create(tmp_path / "runs" / "start", RunConfig(ModelConfig("resnet20", ("x", "y"))))
    run.save_weights(alive(run.config.model.build(seed=0)).state_dict())
    monkeypatch.setattr(command, "measured", lambda runs: SPEEDS)
    return tmp_path / "runs"


Go = Callable[..., Study]


@pytest.fixture
def go(root: Path) -> Go:
    return lambda name="one", **more: study_transfer(
        GREYS, "start", root / ".studies" / name, runs=root, **{"sizes": (5,), "seeds": 1, "steps": 4} | more
    )


def test_a_study_trains_each_kind_and_one_that_was_stopped_goes_on_where_it_was(root: Path, go: Go) -> None:
    told: list[Study] = []
    whole = go(tell=told.append)
    assert whole.state == "finished"
    assert [(p.arm, p.per_class, p.seed, p.images, p.problem) for p in whole.points] == [
        (arm, 5, 0, 20, "") for arm in ("scratch", "frozen", "fine-tuned")
    ]
    assert [p.steps for p in whole.points] == [4, 0, 4]
    shares = [now.doing.share for now in told]
    assert shares == sorted(shares)
    folder = root / ".studies" / "one" / "runs" / run_name("fine-tuned", 5, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "metrics.jsonl"]

    def stop(now: Study) -> None:
        if now.doing.name == "fine-tuned-5-0" and now.doing.done >= 3:
            (root / ".studies" / "two" / STOP).touch()

    stopped = go("two", tell=stop)
    assert (stopped.state, len(stopped.points)) == ("stopped", 2)
    (root / ".studies" / "two" / STOP).unlink()
    resumed = go("two")
    alike = [[replace(p, seconds=0.0) for p in study.points] for study in (whole, resumed)]
    assert alike[0] == alike[1]
    repeated = Run.open(folder).again(root / "again")  # a training of it can be repeated alone
    assert repeated.config.training.images_per_class == 5


def test_a_study_waits_while_somebody_trains_and_while_another_study_runs(
    root: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studying, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(studying, "WAIT_SECONDS", 0.01)
    looks = iter([None, None, "another", "another"])
    monkeypatch.setattr(studying.Trainer, "active", lambda self: next(looks, None))
    phases: list[str] = []
    (root / ".studies").mkdir()
    turn = FileLock(root / ".studies" / TURN)
    turn.acquire()

    def tell(now: Study) -> None:
        phases.append(now.doing.phase)
        if now.doing.phase == "waiting for another study":
            turn.release()

    done = go(tell=tell)
    assert phases[0] == "waiting for another study"
    assert "waiting for a training" in phases
    assert [p.problem for p in done.points] == ["", "", ""]


def test_what_fails_is_a_point_that_says_why_and_the_others_follow(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(run: Run, **more: Any) -> Any:
        raise UserError(f"{run.name} is not wanted.")

    monkeypatch.setattr(studying, "train", failing)
    done = go()
    assert [p.problem for p in done.points] == [
        f"{arm}-5-0 is not wanted." for arm in ("scratch", "frozen", "fine-tuned")
    ]
    assert words_of(done) == ""


def test_the_command_prints_the_plan_and_a_line_for_each_training(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", GREYS, "start", "--runs", str(root), "--sizes", "5", "--seeds", "1", "--steps", "2"]
    monkeypatch.setattr("sys.argv", words)
    assert command.main() == 0
    plan, first, *_, last = capsys.readouterr().out.splitlines()
    assert plan.startswith("3 trainings, about")
    assert first.startswith("scratch, 5 per class, seed 0: ")
    assert last.startswith("With 5 images per class, fine-tuning is")
    monkeypatch.setattr("sys.argv", ["study", GREYS])
    assert command.main() == 1
    assert "Name the network" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["study", GREYS, "gone", "--runs", str(root)])
    assert command.main() == 1
    assert "gone is not a run" in capsys.readouterr().err
