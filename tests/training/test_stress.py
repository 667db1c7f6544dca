"""A stress test of a run: what it computes, and that it is computed once for each model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import normalise
from resnet_space.data.corruptions import CORRUPTIONS, corrupt
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.hub.card import card_text
from resnet_space.runs import ROBUSTNESS, Run, last_metric
from resnet_space.training import stress
from resnet_space.training.robustness import Robustness, load_robustness, table_rows
from resnet_space.training.run_images import splits_of
from resnet_space.training.stress import stress_steps, stress_test
from tests.conftest import WriteSplit
from tests.trainings import GREYS, train_to_the_end, write_greys


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Iterator[tuple[Run, Robustness]]:
    """A run that learned a little, and its stress test."""
    folder = tmp_path_factory.mktemp("stress")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_FOLDER_VARIABLE, str(folder))
        write_greys(write_split, folder, train=120, test=60, noise=90)
        training = TrainConfig(GREYS, epochs=2, batch_size=16, strategy="scratch")
        model = ModelConfig("resnet20", ("dark", "bright"), image_size=8)
        run = Run.create(folder / "runs" / "greys", RunConfig(model, training))
        train_to_the_end(run, splits_of(run, record=True))
        run = Run.open(run.path)
        yield run, stress_test(run)


def test_without_corruption_it_is_the_test_and_a_row_is_what_the_model_says(tested: tuple[Run, Robustness]) -> None:
    run, found = tested
    test = last_metric(run.metrics(), "test")
    assert test is not None
    assert found.clean.accuracy == test["accuracy"]
    assert found.clean.ece == pytest.approx(test["ece"], abs=1e-4)
    assert found.images == test["images"] == 60
    assert len(found.rows) == found.total == 1 + 5 * len(CORRUPTIONS)
    assert found.mean_accuracy("fog") == pytest.approx(sum(row.accuracy for row in found.of("fog")[1:]) / 5)

    data, config = stress._test_images(run), run.config.model
    with torch.inference_mode():
        logits = run.load_model()(normalise(corrupt(data.images, "contrast", 4), config))
    right = float((logits.argmax(1) == data.labels).float().mean())
    assert found.of("contrast")[4].accuracy == pytest.approx(right, abs=1e-5)
    assert [row[:2] for row in table_rows(found)[:2]] == [["none", 0], ["gaussian-noise", 1]]


def test_it_is_computed_once_and_again_for_other_weights(
    tested: tuple[Run, Robustness], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = tested
    assert (run.path / ROBUSTNESS).exists()
    monkeypatch.setattr(stress, "corrupt", None)  # or it would fail
    assert stress_test(run) == load_robustness(run) == found
    weights = run.load_weights()
    try:
        run.save_weights({name: -value for name, value in weights.items()})
        assert load_robustness(run) is None
    finally:
        run.save_weights(weights)
    assert load_robustness(run) == found
    before = (run.path / ROBUSTNESS).read_text()
    try:
        for damaged in ("", "[]", "{}", before.replace("0.", "x."), before.replace('"total": 61', '"total": 62')):
            (run.path / ROBUSTNESS).write_text(damaged)
            assert load_robustness(run) is None
    finally:
        (run.path / ROBUSTNESS).write_text(before)


def test_its_card_has_the_table(tested: tuple[Run, Robustness]) -> None:
    run, found = tested
    text = card_text(run, run.metrics())
    assert "## Corrupted images" in text
    assert found.words in text
    row = next(line for line in text.splitlines() if line.startswith("| Fog |"))
    assert row == "| Fog | " + " | ".join(f"{100 * one.accuracy:.2f} %" for one in found.of("fog")) + " |"


def test_what_was_found_is_told_in_words(tested: tuple[Run, Robustness]) -> None:
    _, found = tested
    rows = tuple(replace(row, accuracy=0.9 - 0.1 * row.severity, ece=0.1, unlike=0.5) for row in found.rows)
    rows = tuple(replace(row, accuracy=0.2) if row.corruption == "fog" else row for row in rows)
    words = replace(found, rows=rows).words
    assert "Accuracy falls from 90.0\u00a0% to 56.7\u00a0% on average" in words  # (11 x 60 + 20) / 12
    assert "The hardest corruption is Fog (20.0\u00a0%)" in words
    assert "At severity 5, the calibration error is 10.0\u00a0%" in words
    assert "50.0\u00a0% of the images" in words
    assert "unlike" not in replace(found, rows=tuple(replace(row, unlike=None) for row in rows)).words
    assert replace(found, rows=found.rows[:1]).words == ""


def test_a_run_without_a_test_or_whose_images_are_gone_is_refused(
    tested: tuple[Run, Robustness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = tested
    untested = Run.create(tmp_path / "new", run.config)
    untested.save_weights(run.load_weights())
    with pytest.raises(UserError, match="new was not tested yet"):
        next(stress_steps(untested))
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="There is no dataset named 'greys'"):
        next(stress_steps(run, seed=1))
