import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.runs import BACKBONE, SHOWPIECE, Run
from resnet_space.training import speeds as speeds_module
from resnet_space.training import timing
from resnet_space.training.feature_store import FOLDER
from resnet_space.training.speeds import SPEEDS, SpeedFile, Speeds, steps_of
from resnet_space.training.strategies import plan, recipe

ROOT = Path(__file__).parents[2]
NETWORK = ("resnet20", 32)
KNOWN = Speeds("cpu", 6.5, {NETWORK: 1_500.0, ("tf_efficientnet_lite0", 224): 90.0}, {NETWORK: 400.0}, {NETWORK: 5e5})


def metrics(config: RunConfig, paces: list[float], device: str = "cpu") -> list[dict[str, Any]]:
    """Of a training with an epoch of two steps for each two paces."""
    phases = [phase.to_json() for phase in plan(config.training, config.model)]
    start = {"event": "start", "device": device, "epochs": len(paces) // 2, "steps_per_epoch": 2, "phases": phases}
    steps = [{"event": "step", "step": i, "images_per_second": pace} for i, pace in enumerate(paces, 1)]
    return [start, *steps, {"event": "end", "status": "finished"}]


def config_of(strategy: str, epochs: int) -> RunConfig:
    return RunConfig(ModelConfig("resnet20", ("a", "b")), recipe(strategy, "mine", start="s", epochs=epochs))


def test_what_was_measured_is_there_again_when_the_app_starts_again(tmp_path: Path) -> None:
    file = SpeedFile(tmp_path)
    assert file.known() is None
    assert not file.are_fresh()
    file.remember(KNOWN)
    assert file.known() == KNOWN
    again = SpeedFile(tmp_path)
    assert again.known() == KNOWN
    assert again.are_fresh()


def test_a_measurement_of_another_machine_or_a_damaged_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SpeedFile(tmp_path).remember(KNOWN)
    whole = (tmp_path / SPEEDS).read_text()
    for damaged in (whole[:-9], "[]", whole.replace("400.0", "-1"), whole.replace("400.0", '"fast"'), "{}"):
        (tmp_path / SPEEDS).write_text(damaged)
        assert SpeedFile(tmp_path).known() is None, damaged
    (tmp_path / SPEEDS).write_text(whole)
    monkeypatch.setattr(speeds_module, "this_machine", lambda: {"processor": "another", "cores": 2})
    assert SpeedFile(tmp_path).known() is None


def test_yesterdays_measurement_counts_until_there_is_a_new_one(tmp_path: Path) -> None:
    SpeedFile(tmp_path).remember(KNOWN)
    yesterday = time.time() - 25 * 3600
    os.utime(tmp_path / SPEEDS, (yesterday, yesterday))
    file = SpeedFile(tmp_path)
    assert file.known() == KNOWN
    assert not file.are_fresh()


def test_where_nothing_can_be_written_it_is_known_as_long_as_the_app_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = SpeedFile(tmp_path / "file")
    file.remember(KNOWN)
    assert file.known() == KNOWN


def test_a_run_tells_the_pace_of_its_steps_where_everything_trained() -> None:
    config = config_of("probe-then-fine-tune", 3)
    told = metrics(config, [90_000.0, 90_000.0, 300.0, 310.0, 320.0, 330.0])  # the first epoch solves the head
    assert steps_of(config, told) == 315.0
    assert KNOWN.with_run(config, told).steps == {NETWORK: 315.0}
    assert KNOWN.with_run(config, told).features == KNOWN.features
    assert KNOWN.with_run(config, told[:-1]) == KNOWN  # the first steps of one that trains are the slowest


@pytest.mark.parametrize("strategy", ["linear-probe", "last-stage"])
def test_a_run_of_which_a_part_was_frozen_tells_nothing_of_the_steps_of_all(strategy: str) -> None:
    config = config_of(strategy, 1)
    assert steps_of(config, metrics(config, [5_000.0, 5_000.0])) is None
    assert KNOWN.with_run(config, metrics(config, [5_000.0, 5_000.0])) == KNOWN


def test_a_run_on_another_device_or_that_never_began_tells_nothing() -> None:
    config = config_of("full", 1)
    assert KNOWN.with_run(config, metrics(config, [9_000.0, 9_000.0], "cuda")) == KNOWN
    assert KNOWN.with_run(config, []) == KNOWN
    assert KNOWN.with_run(config, metrics(config, [])) == KNOWN


def test_this_machine_is_timed_by_a_process_that_starts_as_a_trainer_does(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RunConfig(Run.open(ROOT / "checkpoints" / BACKBONE).config.model))
    run.save_weights(run.config.model.build(seed=0).state_dict())
    found = timing.measured([run])
    assert found.launch is not None
    assert 0.5 < found.launch < 120
    assert set(found.features) == set(found.steps) == set(found.solving) == {NETWORK}
    # Without a gradient it is faster, on any machine.
    assert found.features[NETWORK] > found.steps[NETWORK] > 0
    assert Speeds.from_json(json.loads(json.dumps(found.to_json()))).launch == found.launch
    # The way that features are computed was chosen; no picture that nobody has is kept.
    assert not list((tmp_path / FOLDER).glob("*.sqlite"))


def test_a_process_that_cannot_time_a_network_is_an_error_and_no_measurement(tmp_path: Path) -> None:
    run = Run.create(tmp_path / SHOWPIECE, RunConfig(ModelConfig("resnet20", ("a", "b")), TrainConfig(dataset="x")))
    with pytest.raises(RuntimeError, match="did not start"):
        timing.measured([replace(run)])  # it has no weights
