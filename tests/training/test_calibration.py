import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.optimize import minimize_scalar

from resnet_space.calibrate import main
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.splits import load_splits
from resnet_space.explain.sanity import sanity_checks
from resnet_space.inference import Classifier
from resnet_space.runs import FEATURE_STATISTICS, PHOTO_BACKBONE, SHIPPED, Metric, Run, last_metric
from resnet_space.training.calibration import fit_temperature
from resnet_space.training.evaluation import calibration_error, evaluate_test, load_evaluation

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def too_sure(count: int, factor: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose probabilities are true but for a factor, and labels drawn from the true ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 7, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return factor * logits, labels


@pytest.mark.parametrize("factor", [0.3, 1, 4])
def test_the_temperature_is_that_of_a_reference_optimiser(factor: float) -> None:
    logits, labels = too_sure(2000, factor)
    doubt = 1 / 2002
    targets = F.one_hot(labels, 7) * (1 - doubt - doubt / 6) + doubt / 6

    def loss(temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / temperature, targets.double()))

    expected = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-6}).x
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(expected, abs=1e-3)
    assert found == pytest.approx(factor, rel=0.1)  # and so it is true again


def test_a_few_images_that_are_all_right_make_no_model_certain() -> None:
    logits = 3 * F.one_hot(torch.arange(7), 7).float()
    right = (logits / fit_temperature(logits, torch.arange(7))).softmax(1).amax(1)
    torch.testing.assert_close(right, torch.full((7,), 8 / 9), atol=1e-3, rtol=0)  # one in n + 2 may be wrong


def test_the_calibration_error_is_torchmetrics() -> None:
    logits, labels = too_sure(3000, 2.5)
    best = logits.softmax(1).max(1)
    from torchmetrics.functional.classification import multiclass_calibration_error  # which takes 1 s

    expected = multiclass_calibration_error(logits.softmax(1), labels, num_classes=7, n_bins=15, norm="l1")
    found = calibration_error(best.values.numpy(), (best.indices == labels).numpy())
    assert found == pytest.approx(expected.item(), abs=1e-6)
    cooler = (logits / fit_temperature(logits, labels)).softmax(1).max(1)
    assert calibration_error(cooler.values.numpy(), (cooler.indices == labels).numpy()) < found / 3


# The configuration


@pytest.mark.parametrize("temperature", [0, -1, 1000, float("nan"), "1", True])
def test_a_temperature_that_cannot_be_is_refused(temperature: object) -> None:
    with pytest.raises(UserError, match="temperature"):
        ModelConfig("resnet20", ("a", "b"), temperature=temperature)


def test_a_temperature_makes_no_other_model_and_a_new_run_has_none(tmp_path: Path) -> None:
    config = ModelConfig("resnet20", ("a", "b"))
    assert replace(config, temperature=2.0) == config
    run = Run.create(tmp_path / "run", RunConfig(replace(config, temperature=2.0)))
    assert Run.open(run.path).config.model.temperature == 1


def test_a_configuration_from_before_there_was_a_temperature_is_read(tmp_path: Path) -> None:
    stored = json.loads((CHECKPOINTS / SHIPPED[1] / "config.json").read_text())
    del stored["model"]["temperature"]
    assert RunConfig.from_json(stored).model.temperature == 1


# What is shown


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != PHOTO_BACKBONE])
def test_the_shipped_runs_are_calibrated_and_their_maps_were_checked(name: str) -> None:
    run = Run.open(CHECKPOINTS / name)
    metrics = run.metrics()
    calibration, test = last_metric(metrics, "calibration"), last_metric(metrics, "test")
    assert calibration is not None
    assert test is not None
    assert run.config.model.temperature == calibration["temperature"] != 1
    assert test["ece"] < test["ece_uncalibrated"]
    evaluation = load_evaluation(run)
    assert evaluation is not None
    assert calibration_error(evaluation.confidence, evaluation.correct) == pytest.approx(test["ece"], abs=1e-4)
    gates = ["gates"] if run.config.model.options["cbam"] else []
    assert [check.method for check in sanity_checks(metrics)] == ["grad-cam", *gates]
    assert (run.path / FEATURE_STATISTICS).exists()
    assert "Calibration and heatmaps" in (run.path / "README.md").read_text()


def test_the_test_is_judged_by_the_probabilities_that_are_shown() -> None:
    run = Run.open(CHECKPOINTS / SHIPPED[1])
    config, classifier = run.config.model, Classifier(run)
    test = load_splits(TrainConfig(dataset="cifar10-mini"), 32).test.subset(torch.arange(20))
    evaluation, scores = evaluate_test(classifier.model, test, config)
    pictures = [Image.fromarray(image.numpy()) for image in test.images]
    shown = np.array([prediction.probabilities for prediction in classifier.predict_many(pictures)])
    np.testing.assert_allclose(evaluation.probabilities, shown, atol=1e-4)
    with torch.no_grad():
        logits = classifier.model(classifier.prepare(pictures))
    expected = (logits / config.temperature).softmax(1)
    np.testing.assert_allclose(shown[:, 0], expected.amax(1), atol=1e-5)
    loss = F.nll_loss(expected.log(), test.labels).item()
    assert scores["loss"] == pytest.approx(loss, abs=1e-4)


# The command


def test_a_run_from_before_is_fitted_by_the_command_and_only_its_confidence_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(
        CHECKPOINTS / SHIPPED[1], folder, ignore=shutil.ignore_patterns("resume", "figures", FEATURE_STATISTICS)
    )
    run = Run.open(folder)
    small = replace(run.config.training, dataset="cifar10-mini", validation_fraction=0.1)
    replace(run, config=RunConfig(replace(run.config.model, temperature=1.0), small)).write_config()
    old: list[Metric] = [m for m in run.metrics() if m["event"] not in ("calibration", "sanity", "step")]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in old))
    monkeypatch.setattr(sys, "argv", ["calibration", str(folder)])
    assert main() == 0
    new = Run.open(folder)
    assert new.config.model.temperature == pytest.approx(0.7, abs=0.3)
    assert new.config.training == small
    events = [metric["event"] for metric in new.metrics()]
    assert events == [m["event"] for m in old[:-2]] + ["calibration", "sanity", "sanity", "test", "end"]
    assert last_metric(new.metrics(), "end") == old[-1]
    assert Classifier(new).feature_statistics is not None
    assert "calibrated" in (folder / "README.md").read_text()


def test_a_run_whose_images_are_not_here_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(CHECKPOINTS / SHIPPED[1], folder, ignore=shutil.ignore_patterns("resume", "figures"))
    run = Run.open(folder)
    elsewhere = replace(run.config, training=replace(run.config.training, dataset="nowhere"))
    replace(run, config=elsewhere).write_config()
    before = (folder / "config.json").read_bytes()
    monkeypatch.setattr(sys, "argv", ["calibration", str(folder)])
    assert main() == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (folder / "config.json").read_bytes() == before
