"""Trainings whose head is solved: `linear-probe`, and the first phase of `probe-then-fine-tune`."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.explain.ood import load_feature_statistics
from resnet_space.models import create_model
from resnet_space.runs import METRICS, WEIGHTS, Doing, Metric, Run, last_metric
from resnet_space.training import extraction as extraction_module
from resnet_space.training.calibration import passed
from resnet_space.training.evaluation import evaluate_test, load_evaluation
from resnet_space.training.feature_store import FOLDER
from resnet_space.training.loop import train
from resnet_space.training.strategies import recipe
from tests.networks import alive
from tests.trainings import train_to_the_end, without_times

CPU = torch.device("cpu")
MODEL = ModelConfig("resnet20", ("dark", "bright", "red"), options={"cbam": "stage"}, image_size=16)


def image_set(count: int, seed: int) -> ImageSet:
    """Noise of three kinds, which overlap."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    tint = torch.tensor([[50, 50, 50], [110, 110, 110], [140, 50, 50]])[labels]
    noise = (
        torch.randn(count, 16, 16, 3, generator=generator) * 40 + torch.randn(count, 1, 1, 3, generator=generator) * 15
    )
    images = (tint[:, None, None] + noise).clamp(0, 255).to(torch.uint8)
    return ImageSet(images, labels, MODEL.classes)


SPLITS = Splits(image_set(90, 0), image_set(45, 1), image_set(60, 2), "test")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with weights that look trained."""
    run = Run.create(tmp_path_factory.mktemp("start") / "start", RunConfig(MODEL, TrainConfig(dataset="-")))
    run.save_weights(alive(create_model("resnet20", 3, cbam="stage")).state_dict())
    return run


def config(strategy: str, **settings: Any) -> RunConfig:
    return RunConfig(
        MODEL, recipe(strategy, "-", **{"start": "start", "batch_size": 16, "precision": "float32"} | settings)
    )


def trained(path: Path, config: RunConfig, start: Run) -> tuple[Run, list[Metric]]:
    run = Run.create(path, config, start=start)
    return run, [metric for metric in train(run, device=CPU, splits=SPLITS) if metric["event"] != "tick"]


def test_a_linear_probe_is_one_epoch_that_is_drawn_tested_and_told_as_any_other(start: Run, tmp_path: Path) -> None:
    run, metrics = trained(tmp_path / "run", config("linear-probe", epochs=7), start)  # however many are asked for
    steps = [metric for metric in metrics if metric["event"] == "step"]
    events = [metric["event"] for metric in metrics]
    assert events == ["start", *["step"] * len(steps), "epoch", "calibration", "test", "sanity", "sanity"]
    assert (metrics[0]["epochs"], metrics[0]["phases"]) == (1, [{"epochs": 1, "rates": {"head": 0.01}, "solved": True}])
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert 1 < len(steps) <= 5
    assert [step["loss"] for step in steps] == sorted((step["loss"] for step in steps), reverse=True)
    before, after = start.load_weights(), run.load_weights()
    assert {name for name in before if not before[name].equal(after[name])} == {"fc.weight", "fc.bias"}
    # What was computed from features is what the saved model says of the images themselves.
    model = run.load_model()
    evaluation, scores = evaluate_test(model, SPLITS.test, Run.open(run.path).config.model)
    stored, test = load_evaluation(run), last_metric(metrics, "test")
    assert stored is not None
    assert test is not None
    assert stored.predicted.tolist() == evaluation.predicted.tolist()
    assert test["accuracy"] == pytest.approx(scores["accuracy"], abs=1e-5)
    assert test["accuracy"] > 0.6
    assert test["loss"] == pytest.approx(scores["loss"], abs=1e-3)
    logits, means, labels = passed(model, SPLITS.validation, MODEL)
    epoch = last_metric(metrics, "epoch")
    assert epoch is not None
    assert epoch["validation_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-4)
    statistics = load_feature_statistics(run)
    assert statistics is not None
    assert 0.9 < (statistics.ood_score(means) <= 1).mean() <= 1


def test_a_second_training_of_the_same_pictures_computes_nothing(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, metrics = trained(tmp_path / "first", config("linear-probe"), start)
    assert (tmp_path / FOLDER).is_dir()

    def refuse(*_: object) -> None:
        raise AssertionError("a forward pass")

    monkeypatch.setattr(extraction_module.Extractor, "_chosen", refuse)
    again, others = trained(tmp_path / "again", config("linear-probe"), start)
    assert (again.path / WEIGHTS).read_bytes() == (first.path / WEIGHTS).read_bytes()
    assert without_times(others) == without_times(metrics)


@pytest.mark.parametrize("strategy", ["linear-probe", "probe-then-fine-tune"])
@pytest.mark.parametrize("interval", [11])  # after the solved epoch, which begins anew, or it would never end
def test_a_training_that_is_interrupted_ends_the_same(strategy: str, interval: int, start: Run, tmp_path: Path) -> None:
    chosen = config(strategy, epochs=3, backbone_lr=1e-3, head_lr=1e-3, ema=0.5)
    whole, _ = trained(tmp_path / "whole", chosen, start)
    run = train_to_the_end(Run.create(tmp_path / "run", chosen, start=start), SPLITS, interval)
    assert (run.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()
    assert without_times(run.metrics()) == without_times(whole.metrics())


def test_probe_then_fine_tune_tells_a_tested_number_before_it_goes_on_and_keeps_the_better(
    start: Run, tmp_path: Path
) -> None:
    probe, _ = trained(tmp_path / "probe", config("linear-probe"), start)
    ruinous = config("probe-then-fine-tune", epochs=3, backbone_lr=0.5, head_lr=0.5)
    run, metrics = trained(tmp_path / "run", ruinous, start)
    first, *others = (metric for metric in metrics if metric["event"] == "epoch")
    test, expected = last_metric(metrics, "test"), last_metric(probe.metrics(), "test")
    assert test is not None
    assert expected is not None
    assert (first["test_accuracy"], first["test_images"]) == (pytest.approx(expected["accuracy"], abs=1e-5), 60)
    assert len(others) == 2
    assert not any(epoch["best"] for epoch in others)  # at such rates all is lost
    assert test["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-5)
    kept = probe.load_weights()
    assert all(value.equal(kept[name]) for name, value in run.load_weights().items())


def test_a_stop_while_features_are_computed_leaves_a_run_that_begins_anew(start: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config("linear-probe"), start=start)
    with closing(train(run, device=CPU, splits=SPLITS)) as metrics:
        while next(metrics)["event"] != "tick":
            pass
        assert run.doing().phase == "features"
    assert run.has_weights
    whole, _ = trained(tmp_path / "whole", config("linear-probe"), start)
    list(train(run, resume=True, device=CPU, splits=SPLITS))
    assert without_times(run.metrics()) == without_times(whole.metrics())
    assert run.doing() == Doing("checking")


def test_a_second_objective_and_a_new_cbam_are_trained_by_steps(start: Run, tmp_path: Path) -> None:
    plain = replace(MODEL, options={"cbam": None})
    older = Run.create(tmp_path / "plain", RunConfig(plain, TrainConfig(dataset="-")))
    older.save_weights(alive(create_model("resnet20", 3)).state_dict())
    run = Run.create(tmp_path / "run", config("linear-probe", start="plain", epochs=2), start=older)
    metrics = list(train(run, device=CPU, splits=SPLITS))
    assert metrics[0]["phases"][0].keys() == {"epochs", "rates"}
    assert sum(metric["event"] == "epoch" for metric in metrics) == 2
    assert (run.path / METRICS).exists()
