import errno
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data import room as room_module
from resnet_space.data import splits as splits_module
from resnet_space.data.batches import normalise
from resnet_space.data.sources import BUNDLED, DATA_FOLDER_VARIABLE
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.explain.ood import load_feature_statistics
from resnet_space.explain.sanity import sanity_checks
from resnet_space.hub.card import card_text, write_card
from resnet_space.models import create_model
from resnet_space.residuals.history import growth_entry, probe_images, recorded_growth
from resnet_space.runs import CARD, START_WEIGHTS, STATE, WEIGHTS, Metric, Run
from resnet_space.serve.limits import VARIABLES
from resnet_space.train import main
from resnet_space.training import batches as batches_module
from resnet_space.training import loop as train_module
from resnet_space.training.device import autocast_dtype
from resnet_space.training.evaluation import evaluate_test, load_evaluation
from resnet_space.training.host import host
from resnet_space.training.loop import TrainingError, train
from resnet_space.training.state import Training, evaluate, initial_model
from resnet_space.training.strategies import CBAM_RATES, rate_at
from tests.conftest import WriteSplit
from tests.trainings import with_everything, without_times, write_greys

CLASSES = {"airplane": 0, "automobile": 1, "frog": 6}  # names -> labels in CIFAR-10
CHANCE = 1 / 3
AFTER = ["calibration", "test", "sanity", "sanity"]  # of a model with CBAM


def the_test(metrics: list[Metric]) -> Metric:
    (test,) = (metric for metric in metrics if metric["event"] == "test")
    return test


# 480 images to learn from and 120 to choose the best epoch by, at 16 pixels: a step takes some 30 ms.
LEARNING = RunConfig(
    ModelConfig("resnet20", tuple(CLASSES), options={"cbam": "stage"}, image_size=16),
    TrainConfig(
        dataset="slice",
        epochs=6,
        batch_size=32,
        backbone_lr=0.1,
        head_lr=0.1,
        validation_fraction=0.2,
        precision="float32",
        crop_padding=2,
    ),
)
# 3 epochs of 5 steps at 8 pixels: for what does not depend on how well it learns.
SHORT = RunConfig(
    replace(LEARNING.model, image_size=8), replace(LEARNING.training, dataset="few", epochs=3, batch_size=24)
)
# Many quick steps: for what has to happen before the end.
LONG = RunConfig(SHORT.model.with_options(cbam=None), replace(SHORT.training, epochs=12, crop_padding=0))


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Iterator[Path]:
    """`slice`: all images of three of cifar10-mini's classes, 600 to train, 300 to test; `few`: a quarter of them, 150
    and 75. All training is on the CPU.
    """
    folder = tmp_path_factory.mktemp("data")
    labels = list(CLASSES.values())
    for split in ("train", "test"):
        (file,) = BUNDLED.rglob(f"cifar10-mini/**/{split}-*.parquet")
        rows = [row for row in pq.read_table(file).to_pylist() if row["label"] in labels]
        for name, taken in (("slice", rows), ("few", rows[::4])):
            images = [row["img"]["bytes"] for row in taken]
            write_split(folder / name, split, images, [labels.index(row["label"]) for row in taken], tuple(CLASSES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_FOLDER_VARIABLE, str(folder))
        patch.setattr(train_module, "choose_device", lambda: torch.device("cpu"))
        yield folder


@pytest.fixture
def signals() -> Iterator[None]:
    """`host` takes over the process's signals: give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def no_card(_run: Run) -> None:
    """For a host in whose test nobody reads it: its figures take as long as a short training."""


@dataclass(frozen=True)
class Trained:
    """A run after its training, the metrics that it yielded, and the weights file after each epoch."""

    run: Run
    metrics: list[Metric]
    weights: list[str]  # SHA-256

    def events(self, kind: str) -> list[Metric]:
        return [metric for metric in self.metrics if metric["event"] == kind]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def train_to_the_end(run: Run) -> Trained:
    metrics, weights = [], []
    for metric in train(run):
        metrics.append(metric)
        if metric["event"] == "epoch":
            weights.append(digest(run.path / WEIGHTS))
    return Trained(run, metrics, weights)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_to_the_end(Run.create(tmp_path_factory.mktemp("runs") / "learned", LEARNING))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_to_the_end(Run.create(tmp_path_factory.mktemp("runs") / "short", SHORT))


def read_state(run: Run) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run.path / STATE, weights_only=True)
    return state


@pytest.mark.parametrize(("precision", "dtype"), [("float32", None), ("bfloat16", torch.bfloat16)])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_precision_that_is_asked_for_is_used_on_every_device(
    precision: Any, dtype: torch.dtype | None, device: str
) -> None:
    assert autocast_dtype(TrainConfig(dataset="slice", precision=precision), torch.device(device)) is dtype


# It really learns


def test_training_lowers_the_loss_and_beats_chance_by_far(learned: Trained) -> None:
    epochs = learned.events("epoch")
    losses = [metric["train_loss"] for metric in epochs]
    assert losses[0] < 2 * math.log(3)
    assert losses[-1] < 0.75 * math.log(3)
    assert losses[-1] < losses[0] - 0.2
    assert epochs[-1]["train_accuracy"] > CHANCE + 0.25
    assert max(metric["validation_accuracy"] for metric in epochs) > CHANCE + 0.2
    (test,) = learned.events("test")
    assert test["accuracy"] > CHANCE + 0.2


def test_every_epoch_records_the_ratios_of_the_weights_that_it_kept(learned: Trained) -> None:
    found = recorded_growth(learned.metrics)
    assert found is not None
    assert found.epochs == [1, 2, 3, 4, 5, 6]  # and not before: at random initialisation nothing is normalised yet
    last_best = max(metric["epoch"] for metric in learned.events("epoch") if metric["best"])
    splits = load_splits(learned.run.config.training, 16)
    images = probe_images(splits.validation, learned.run.config.model, len(splits.train), torch.device("cpu"))
    measured = growth_entry(learned.run.load_model(), images)["residuals"]["ratio"]
    for recorded, again in zip(found.quartiles[last_best - 1], measured, strict=True):
        assert recorded == pytest.approx(again, rel=2e-3)


def test_metrics_tell_the_whole_training_in_order(learned: Trained) -> None:
    epoch = ["step"] * 15 + ["epoch"]
    assert [metric["event"] for metric in learned.metrics] == ["start", *epoch * 6, *AFTER]
    assert learned.run.metrics() == learned.metrics
    start = learned.metrics[0]
    expected = {
        "device": "cpu",
        "precision": "float32",
        "train_images": 480,
        "validation_images": 120,
        "epochs": 6,
        "steps_per_epoch": 15,
        "parameters": sum(parameter.numel() for parameter in LEARNING.model.build().parameters()),
    }
    assert {name: start[name] for name in expected} == expected
    steps = learned.events("step")
    assert [metric["step"] for metric in steps] == list(range(1, 91))
    for metric in steps:
        rate = 0.1 * rate_at(metric["step"] - 1, 90, 0.2)
        expected = {part: rate * CBAM_RATES.get(part, 1) for part in learned.metrics[0]["phases"][0]["rates"]}
        assert metric["rates"] == pytest.approx(expected, rel=1e-3)
        assert metric["images_per_second"] > 0
    seconds = [metric["seconds"] for metric in learned.metrics]
    assert seconds == sorted(seconds)
    for i, metric in enumerate(learned.events("epoch")):
        assert (metric["epoch"], metric["step"]) == (i + 1, 15 * (i + 1))
        # All batches have the same size: the epoch's loss is the mean over its steps.
        mean = sum(step["loss"] for step in steps[15 * i : 15 * (i + 1)]) / 15
        assert metric["train_loss"] == pytest.approx(mean, abs=2e-5)


def test_the_weights_are_those_of_the_best_validation_epoch(learned: Trained) -> None:
    epochs = learned.events("epoch")
    best_so_far, before = (-1.0, 0.0), ""
    for metric, weights in zip(epochs, learned.weights, strict=True):
        own = metric["validation_accuracy"], -metric["validation_loss"]
        assert metric["best"] == (own > best_so_far)
        assert (weights != before) == metric["best"]
        best_so_far, before = max(best_so_far, own), weights
    best = max(epochs, key=lambda metric: (metric["validation_accuracy"], -metric["validation_loss"]))
    splits = load_splits(LEARNING.training, 16)
    loss, accuracy = evaluate(learned.run.load_model(), splits.validation, LEARNING.model)
    assert accuracy == pytest.approx(best["validation_accuracy"], abs=1e-5)
    assert loss == pytest.approx(best["validation_loss"], abs=1e-4)


def test_the_test_images_are_judged_once_at_the_end_with_the_best_weights(learned: Trained) -> None:
    (test,) = learned.events("test")
    assert (test["split"], test["images"]) == ("test", 300)
    images = load_splits(LEARNING.training, 16).test
    _, accuracy = evaluate(learned.run.load_model(), images, LEARNING.model)
    assert test["accuracy"] == pytest.approx(accuracy, abs=1e-5)
    (calibration,) = learned.events("calibration")
    config = Run.open(learned.run.path).config.model
    assert config.temperature == calibration["temperature"] != 1
    _, scores = evaluate_test(learned.run.load_model(), images, config)
    assert test["loss"] == pytest.approx(scores["loss"], abs=1e-4)
    assert test["ece_uncalibrated"] == pytest.approx(scores["ece_uncalibrated"], abs=1e-4)


def test_after_its_training_a_run_knows_how_sure_it_may_be_and_what_is_usual(learned: Trained) -> None:
    (calibration,) = learned.events("calibration")
    assert calibration["images"] == learned.events("start")[0]["validation_images"]
    assert calibration["loss_after"] <= calibration["loss_before"] + 1e-4
    assert load_feature_statistics(learned.run) is not None
    assert [check.method for check in sanity_checks(learned.metrics)] == [m["method"] for m in learned.events("sanity")]
    assert "Calibration and heatmaps" in card_text(learned.run, learned.metrics)


def test_an_epoch_that_is_not_the_best_leaves_the_weights_alone(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    with closing(train(run)) as metrics:
        next(metric for metric in metrics if metric["event"] == "epoch")
    state = read_state(run)
    state["progress"]["best_accuracy"] = 1.0  # as if the first epoch had been perfect
    torch.save(state, run.path / STATE)
    first = digest(run.path / WEIGHTS)
    metrics_after = list(train(run, resume=True))
    assert [metric["best"] for metric in metrics_after if metric["event"] == "epoch"] == [False, False]
    assert digest(run.path / WEIGHTS) == first
    _, accuracy = evaluate(run.load_model(), load_splits(SHORT.training, SHORT.model.stored_size).test, SHORT.model)
    assert the_test(metrics_after)["accuracy"] == pytest.approx(accuracy, abs=1e-5)


def test_evaluate_is_the_mean_over_all_images_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = create_model("resnet20", 3).train()
    data = ImageSet(torch.randint(256, (7, 8, 8, 3), dtype=torch.uint8), torch.arange(7) % 3, tuple(CLASSES))
    config = ModelConfig("resnet20", tuple(CLASSES), image_size=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, accuracy = evaluate(model, data, config)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name  # BatchNorm's statistics too
    with torch.inference_mode():
        logits = model.eval()(normalise(data.images, config))
    probabilities = logits.softmax(1)[torch.arange(7), data.labels]
    assert loss == pytest.approx(-probabilities.log().mean().item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == data.labels).float().mean().item())


# Same seed, same training; stopped and continued, same training


def test_the_same_seed_gives_the_same_weights_and_metrics(short: Trained, tmp_path: Path) -> None:
    torch.rand(100)  # the global random state plays no part
    again = train_to_the_end(Run.create(tmp_path / "again", SHORT))
    assert again.weights == short.weights
    assert without_times(again.metrics) == without_times(short.metrics)
    assert all(torch.equal(a, b) for a, b in zip(final(again.run), final(short.run), strict=True))


def test_another_seed_gives_other_weights(short: Trained, tmp_path: Path) -> None:
    config = replace(SHORT, training=replace(SHORT.training, seed=1, epochs=1))
    other = train_to_the_end(Run.create(tmp_path / "other", config))
    assert other.weights[0] != short.weights[0]


def final(run: Run) -> list[torch.Tensor]:
    """Everything that training ended with: the model after the last epoch, not only the best one, and the momentum."""
    state = read_state(run)
    return [*state["model"].values(), *(value["momentum_buffer"] for value in state["optimizer"]["state"].values())]


def test_the_test_images_have_no_say_in_the_training(
    data_folder: Path, tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With wrong labels on them everything is the same but the last number, "plateau" and patience included."""
    (train_file,) = (data_folder / "few").glob("train-*")
    (test_file,) = (data_folder / "few").glob("test-*")
    poisoned = tmp_path / "data" / "few"
    rows = pq.read_table(test_file).to_pylist()
    wrong = [(row["label"] + 1) % 3 for row in rows]
    write_split(poisoned, "test", [row["img"]["bytes"] for row in rows], wrong, tuple(CLASSES))
    shutil.copy(train_file, poisoned)
    training = replace(SHORT.training, schedule="plateau", patience=1)
    honest = Run.create(tmp_path / "honest", replace(SHORT, training=training))
    expected = list(train(honest))
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    run = Run.create(tmp_path / "run", replace(SHORT, training=training))
    found = list(train(run))
    others = [[metric for metric in metrics if metric["event"] != "test"] for metrics in (found, expected)]
    assert without_times(others[0]) == without_times(others[1])
    assert the_test(found)["loss"] != the_test(expected)["loss"]
    assert digest(run.path / WEIGHTS) == digest(honest.path / WEIGHTS)


EVERYTHING_ON = replace(
    SHORT.training,
    strategy="three-stage",
    optimizer="adamw",
    schedule="one-cycle",
    backbone_lr=1e-2,
    head_lr=1e-2,
    ema=0.9,
    mixup=0.2,
    cutmix=1.0,
    clip_norm=1.0,
    label_smoothing=0.1,
    crop="resized",
)


@pytest.mark.parametrize(
    "training",
    [
        EVERYTHING_ON,
        replace(EVERYTHING_ON, strategy="freeze-unfreeze", schedule="plateau", ema=0.0),
        replace(EVERYTHING_ON, strategy="one-cycle", optimizer="sgd", mixup=0.0, cutmix=0.0),
    ],
    ids=lambda training: training.strategy,
)
def test_with_phases_and_everything_on_an_interrupted_training_ends_the_same(
    training: TrainConfig, tmp_path: Path
) -> None:
    config = replace(SHORT, training=training)
    whole = Run.create(tmp_path / "whole", config)
    expected = list(train(whole))
    run = Run.create(tmp_path / "run", config)
    found: list[Metric] = []
    over = False
    while not over:
        with closing(train(run, resume=bool(found))) as metrics:
            for count, metric in enumerate(metrics):
                found.append(metric)
                if count == 4:
                    break
            else:
                over = True
    # What comes after the last epoch is written anew where it was interrupted before the test.
    assert without_times(run.metrics()) == without_times(expected)
    assert digest(run.path / WEIGHTS) == digest(whole.path / WEIGHTS)
    boundaries = [metric["phase"] for metric in expected if metric["event"] == "epoch"]
    assert boundaries == sorted(boundaries)
    assert boundaries[-1] == len(expected[0]["phases"]) > 1


def test_a_linear_probe_leaves_everything_but_the_head_as_it_was(short: Trained, tmp_path: Path) -> None:
    training = replace(SHORT.training, strategy="linear-probe", start="short", epochs=1)
    run = Run.create(tmp_path / "run", replace(SHORT, training=training), start=short.run)
    list(train(run))
    before, after = short.run.load_weights(), run.load_weights()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_cbam_that_is_new_to_a_trained_network_changes_nothing_at_first_and_trains_with_the_head(
    tmp_path: Path,
) -> None:
    plain = Run.create(tmp_path / "plain", replace(SHORT, model=SHORT.model.with_options(cbam=None)))
    list(train(plain))
    training = replace(SHORT.training, strategy="linear-probe", start="plain", epochs=1)
    run = Run.create(tmp_path / "run", replace(SHORT, training=training), start=plain)
    model, new_cbam = initial_model(run)
    assert new_cbam
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(model.eval()(images), plain.load_model()(images), atol=1e-6)
    list(train(run))
    after = run.load_weights()
    before = plain.load_weights()
    changed = {name for name, value in after.items() if name not in before or not torch.equal(value, before[name])}
    assert changed == {name for name in after if "cbam" in name} | {"fc.weight", "fc.bias"}


def test_patience_ends_a_training_whose_last_phase_gets_no_better(tmp_path: Path) -> None:
    # At this rate nothing is learned after the first epoch: the validation accuracy cannot rise any more.
    hopeless = replace(SHORT.training, epochs=9, patience=2, backbone_lr=1e-9, head_lr=1e-9)
    run = Run.create(tmp_path / "run", replace(SHORT, training=hopeless))
    events = [metric["event"] for metric in train(run)]
    assert events.count("epoch") < 9
    assert events[-1] == "sanity"
    epochs = [metric for metric in run.metrics() if metric["event"] == "epoch"]
    assert len({metric["validation_accuracy"] for metric in epochs[-3:]}) == 1
    assert list(train(run, resume=True)) == []  # it stays at its end


def test_images_on_disk_train_to_the_same_weights_as_in_memory(
    short: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "MEMORY_SHARE", 0.0)
    assert load_splits(SHORT.training, SHORT.model.stored_size).train.rows is not None
    run = Run.create(tmp_path / "run", SHORT)
    list(train(run))
    assert digest(run.path / WEIGHTS) == short.weights[-1]


def test_images_that_are_too_many_to_be_copied_train_to_the_same_weights(
    short: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits_module, "COPIED_BYTES", 0)
    splits = load_splits(SHORT.training, SHORT.model.stored_size)
    assert splits.train.images.data_ptr() == splits.validation.images.data_ptr()
    run = Run.create(tmp_path / "run", SHORT)
    list(train(run))
    assert digest(run.path / WEIGHTS) == short.weights[-1]


@pytest.mark.parametrize("interval", [4, 7])
def test_a_training_that_is_interrupted_again_and_again_ends_with_the_same_weights_and_metrics(
    short: Trained, tmp_path: Path, interval: int
) -> None:
    # Every 4 or 7 metrics: after the first step, within an epoch, after its last step, and after an epoch.
    run = Run.create(tmp_path / "run", SHORT)
    parts: list[list[Metric]] = []
    over = False
    while not over:
        parts.append([])
        with closing(train(run, resume=len(parts) > 1)) as metrics:
            for metric in metrics:
                parts[-1].append(metric)
                if len(parts[-1]) == interval:
                    break
            else:
                over = True
    # The calibration is done anew where it was interrupted before the test.
    found = [metric for part in parts for metric in part if metric["event"] != "calibration"]
    expected = [metric for metric in short.metrics if metric["event"] != "calibration"]
    assert without_times(found) == without_times(expected)
    assert without_times(run.metrics()) == without_times(short.metrics)
    assert digest(run.path / WEIGHTS) == short.weights[-1]
    assert all(torch.equal(a, b) for a, b in zip(final(run), final(short.run), strict=True))
    seconds = [metric["seconds"] for metric in run.metrics()]
    assert seconds == sorted(seconds)


def test_it_can_be_interrupted_at_a_tick_too(short: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Long trainings write a loss only every few steps and yield ticks between; with 4 points even this one does.
    monkeypatch.setattr(train_module, "MAX_LOSS_POINTS", 4)
    run = Run.create(tmp_path / "run", SHORT)
    with closing(train(run)) as metrics:
        events = [next(metrics)["event"] for _ in range(10)]
    assert events == ["start", "tick", "tick", "tick", "step", "step", "epoch", "tick", "tick", "step"]
    with closing(train(run, resume=True)) as metrics:
        assert next(metrics) == {"event": "tick", "step": 9}
    assert read_state(run)["progress"]["step"] == 4
    rest = list(train(run, resume=True))
    expected = ["step", "epoch", "tick", "step", "tick", "tick", "step", "epoch", *AFTER]
    assert [metric["event"] for metric in rest] == expected
    assert digest(run.path / WEIGHTS) == short.weights[-1]
    assert all(torch.equal(a, b) for a, b in zip(final(run), final(short.run), strict=True))
    kinds = ("epoch", "test")
    assert without_times([metric for metric in run.metrics() if metric["event"] in kinds]) == without_times(
        [metric for metric in short.metrics if metric["event"] in kinds]
    )


def test_what_was_written_after_the_last_saved_state_is_forgotten(short: Trained, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    with closing(train(run)) as metrics:
        for _ in range(9):  # the start, an epoch of 5 steps, 2 steps
            next(metrics)
    for metric in ({"event": "step", "step": 8, "loss": 99.0}, {"event": "end", "status": "stopped"}):
        run.append_metric(metric)
    list(train(run, resume=True))
    assert without_times(run.metrics()) == without_times(short.metrics)


@pytest.mark.parametrize("moment", ["append_metric", "save_weights"])
def test_a_training_killed_before_its_first_epoch_was_saved_can_go_on(
    short: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The folder as it is right before the first metric, or right after the first weights."""
    run = Run.create(tmp_path / "run", SHORT)
    killed = tmp_path / "killed"
    method = getattr(Run, moment)

    def leaving_a_copy(self: Run, argument: Any) -> None:
        if moment == "save_weights":
            method(self, argument)
        if self.path == run.path and not killed.exists():
            shutil.copytree(run.path, killed)
        if moment == "append_metric":
            method(self, argument)

    monkeypatch.setattr(Run, moment, leaving_a_copy)
    with closing(train(run)) as metrics:
        while not killed.exists():
            next(metrics)
    left = Run.open(killed)
    rest = list(train(left, resume=True))
    assert rest[-1]["event"] == "sanity"
    assert without_times(left.metrics()) == without_times(short.run.metrics())
    assert final(left)[0].equal(final(short.run)[0])


def test_a_training_stopped_in_its_first_epoch_has_weights_and_starts_over_none_of_it(
    short: Trained, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    with closing(train(run)) as metrics:
        for _ in range(3):  # the start and 2 steps
            next(metrics)
    assert run.load_model().bn1.num_batches_tracked == 2
    rest = list(train(run, resume=True))
    assert rest[0]["step"] == 3
    assert rest[5 - 2]["best"]
    assert without_times(run.metrics()) == without_times(short.metrics)


def test_a_training_stopped_before_its_first_step_starts_from_scratch(short: Trained, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    with closing(train(run)) as metrics:
        assert next(metrics)["event"] == "start"
    assert not run.has_weights
    again = list(train(run, resume=True))
    assert without_times(again) == without_times(short.metrics)
    assert without_times(run.metrics()) == without_times(short.metrics)


# Starting from another run's weights


@pytest.mark.parametrize("same_classes", [True, False])
def test_a_training_really_starts_from_the_weights_of_its_start(
    short: Trained, tmp_path: Path, same_classes: bool
) -> None:
    classes = tuple(CLASSES) if same_classes else ("a", "b", "c", "d")
    config = RunConfig(replace(SHORT.model, classes=classes), replace(SHORT.training, start="short", seed=5))
    run = Run.create(tmp_path / "run", config, start=short.run)
    weights = short.run.load_weights()
    model, _ = initial_model(run)
    for name, value in model.state_dict().items():
        if name.startswith("fc.") and not same_classes:
            assert len(value) == 4
            assert value.abs().max() > 0
        else:
            assert torch.equal(value, weights[name]), name
    assert weights["bn1.running_mean"].abs().max() > 0.01  # BatchNorm's statistics are among them
    again, _ = initial_model(run)
    assert torch.equal(model.fc.weight, again.fc.weight)  # the new head is seeded
    if not same_classes:
        other = replace(config, training=replace(config.training, seed=6))
        other_model, _ = initial_model(Run.create(tmp_path / "other", other, start=short.run))
        assert not torch.equal(model.fc.weight, other_model.fc.weight)


def test_a_fine_tuned_run_is_ahead_of_one_from_scratch(learned: Trained, tmp_path: Path) -> None:
    gentle = replace(LEARNING.training, start="learned", epochs=1, backbone_lr=0.001, head_lr=0.001)
    run = Run.create(tmp_path / "run", replace(LEARNING, training=gentle), start=learned.run)
    list(train(run))
    (epoch,) = (metric for metric in run.metrics() if metric["event"] == "epoch")
    assert epoch["train_loss"] < learned.events("epoch")[0]["train_loss"] - 0.2
    assert epoch["validation_accuracy"] > CHANCE + 0.2


def test_a_run_trains_on_when_its_start_is_gone(short: Trained, tmp_path: Path) -> None:
    start = Run.create(tmp_path / "start", SHORT)
    start.save_weights(short.run.load_weights())
    config = replace(SHORT, training=replace(SHORT.training, start="start"))
    run = Run.create(tmp_path / "run", config, start=start)
    (start.path / WEIGHTS).unlink()
    assert torch.equal(initial_model(run)[0].conv1.weight, short.run.load_weights()["conv1.weight"])


def test_a_start_that_does_not_fit_the_architecture_is_refused_in_one_sentence(short: Trained, tmp_path: Path) -> None:
    config = RunConfig(replace(SHORT.model, architecture="resnet32"), replace(SHORT.training, start="short"))
    run = Run.create(tmp_path / "run", config, start=short.run)
    with pytest.raises(UserError, match=r"^The weights of short do not fit the configuration: [^\n]+$"):
        next(train(run))


def test_a_start_whose_weights_are_missing_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", replace(SHORT, training=replace(SHORT.training, start="short")))
    with pytest.raises(UserError, match=f"^run has no {START_WEIGHTS}"):
        next(train(run))


# What is refused, and how a training fails


def test_a_trained_run_is_not_trained_over(short: Trained) -> None:
    before = {file: digest(file) for file in short.run.path.rglob("*") if file.is_file()}
    with pytest.raises(
        UserError, match=r"^short has already been trained: continue with --resume, or create a new run\.$"
    ):
        next(train(short.run))
    assert {file: digest(file) for file in short.run.path.rglob("*") if file.is_file()} == before


def test_a_run_from_another_machine_cannot_go_on(short: Trained, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    run.save_weights(short.run.load_weights())
    with pytest.raises(UserError, match=r"^run cannot be resumed: .* is not on this machine\.$"):
        next(train(run, resume=True))


def test_classes_that_are_not_the_data_sets_are_refused(tmp_path: Path) -> None:
    config = replace(SHORT, model=replace(SHORT.model, classes=("a", "b", "c")))
    with pytest.raises(UserError, match=r"^The classes of run differ from those of the dataset few\.$"):
        next(train(Run.create(tmp_path / "run", config)))


@pytest.fixture
def poisoned(tmp_path: Path) -> Run:
    """A run whose loss is not a number from its first step on: one weight of its start is NaN."""
    start = Run.create(tmp_path / "start", SHORT)
    model = SHORT.model.build()
    nn.init.constant_(model.conv1.weight[0, 0, 0, :1], math.nan)
    start.save_weights(model.state_dict())
    return Run.create(tmp_path / "run", replace(SHORT, training=replace(SHORT.training, start="start")), start=start)


def test_a_loss_that_is_no_number_ends_the_training_with_advice(poisoned: Run) -> None:
    with pytest.raises(TrainingError, match=r"^The loss became NaN or infinite in epoch 1: .*try a tenth\.$"):
        list(train(poisoned))
    assert not poisoned.has_weights
    assert [metric["event"] for metric in poisoned.metrics()] == ["start"]


@pytest.mark.usefixtures("signals")
def test_the_host_writes_why_a_training_failed(poisoned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert host(poisoned, write_card) == 1
    end = poisoned.metrics()[-1]
    assert (end["event"], end["status"]) == ("end", "failed")
    assert end["reason"].startswith("The loss became NaN or infinite in epoch 1")
    assert end["reason"] in capsys.readouterr().err
    assert not poisoned.is_training
    assert json.loads(json.dumps(poisoned.metrics(), allow_nan=False)) == poisoned.metrics()


@pytest.mark.usefixtures("signals")
def test_the_host_writes_that_a_data_set_is_unknown(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", replace(SHORT, training=replace(SHORT.training, dataset="cifar1000")))
    assert host(run, write_card) == 1
    (end,) = run.metrics()
    assert end["status"] == "failed"
    assert end["reason"].startswith("There is no dataset named 'cifar1000'")


@pytest.mark.usefixtures("signals")
def test_the_host_trains_to_the_end_and_writes_the_card(
    short: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    assert host(run, write_card) == 0
    *metrics, end = run.metrics()
    assert without_times(metrics) == without_times(short.metrics)
    assert (end["event"], end["status"]) == ("end", "finished")
    assert digest(run.path / WEIGHTS) == short.weights[-1]
    assert (run.path / CARD).read_text(encoding="utf-8").strip()
    assert capsys.readouterr().out.count("event=epoch") == 3


@pytest.mark.usefixtures("signals")
def test_a_stop_file_stops_it_at_the_next_step(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", replace(LONG, training=replace(LONG.training, epochs=1_000)))

    def stop_after_the_first_epoch() -> None:
        while not any(metric["event"] == "epoch" for metric in run.metrics()):
            time.sleep(0.01)
        run.request_stop()

    watcher = threading.Thread(target=stop_after_the_first_epoch, daemon=True)
    watcher.start()
    assert host(run, write_card) == 0
    watcher.join()
    end = run.metrics()[-1]
    assert (end["event"], end["status"]) == ("end", "stopped")
    assert not any(metric["event"] == "test" for metric in run.metrics())
    assert run.load_model()
    assert (run.path / STATE).exists()
    assert (run.path / CARD).exists()
    assert not run.is_training


@pytest.mark.usefixtures("signals")
def test_a_stop_that_was_asked_for_while_the_trainer_came_up_is_obeyed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    run.request_stop()
    assert host(run, write_card) == 0
    assert [metric["event"] for metric in run.metrics()] == ["start", "end"]
    assert run.metrics()[-1]["status"] == "stopped"
    assert not run.stop_requested()  # it was obeyed: going on later is not stopped by it
    assert host(run, write_card, resume=True) == 0
    assert run.metrics()[-1]["status"] == "finished"


# The process


def command(run: Run, *options: str) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "PYTHONPATH": str(Path(train_module.__file__).parents[2]),
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "resnet_space.train", str(run.path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


@pytest.mark.long
def test_sigterm_stops_the_process_and_resume_finishes(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", LONG)
    with command(run) as process:
        while not any(metric["event"] == "step" for metric in run.metrics()):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        assert run.is_training
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert run.metrics()[-1]["event"] == "end"
    assert run.metrics()[-1]["status"] == "stopped"
    stopped_at = max(metric["step"] for metric in run.metrics() if metric["event"] == "step")
    assert stopped_at < 60
    assert not run.is_training
    assert run.load_model()

    with command(run, "--resume") as process:
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    steps = [metric["step"] for metric in run.metrics() if metric["event"] == "step"]
    assert steps == list(range(1, 61))
    assert [metric["event"] for metric in run.metrics()][-3:] == ["test", "sanity", "end"]
    assert [metric["status"] for metric in run.metrics() if metric["event"] == "end"] == ["finished"]


@pytest.mark.usefixtures("signals")
def test_the_command_refuses_what_it_cannot_train_in_one_sentence(
    short: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path / "nothing")])
    assert main() == 1
    assert capsys.readouterr().err == "nothing is not a run: it has no config.json.\n"
    with short.run.training_lock():
        before = short.run.metrics()
        monkeypatch.setattr(sys, "argv", ["train", str(short.run.path), "--resume"])
        assert main() == 1
    assert capsys.readouterr().err == "short is already being trained by another process.\n"
    assert short.run.metrics() == before  # the other trainer's metrics are left alone


# For longer, and again


def test_a_finished_training_that_goes_on_ends_as_one_that_was_to_be_as_long_from_the_start(tmp_path: Path) -> None:
    two = replace(SHORT, training=replace(SHORT.training, epochs=2))
    whole = Run.create(tmp_path / "whole", replace(two, training=replace(two.training, more_epochs=(1, 2))))
    list(train(whole))
    run = Run.create(tmp_path / "run", two)
    list(train(run))
    for epochs in (1, 2):
        run = run.with_more_epochs(epochs)
        list(train(run, resume=True))
    assert Run.open(run.path).config == run.config == whole.config
    assert digest(run.path / WEIGHTS) == digest(whole.path / WEIGHTS)
    assert all(torch.equal(a, b) for a, b in zip(final(run), final(whole), strict=True))
    kinds = ("epoch", "test")
    ours, theirs = ([m for m in one.metrics() if m["event"] in kinds] for one in (run, whole))
    assert ours[-1].pop("test_evaluations") == 3  # at the test images, of which two are to be seen nowhere else
    assert without_times(ours) == without_times(theirs)
    assert [m["epochs"] for m in run.metrics() if m["event"] == "start"] == [2, 3, 5]
    assert sum(m["event"] == "test" for m in run.metrics()) == 1


def test_that_the_test_images_were_looked_at_is_not_forgotten_by_a_kill_nor_said_of_a_training_that_was_stopped(
    tmp_path: Path,
) -> None:
    run = Run.create(tmp_path / "run", SHORT)
    with closing(train(run)) as metrics:
        next(metric for metric in metrics if metric["event"] == "step")
    list(train(run.with_more_epochs(1), resume=True))  # stopped and made longer: the first look
    run = Run.open(run.path)
    assert "test_evaluations" not in the_test(run.metrics())
    run = run.with_more_epochs(1)
    longer = train(run, resume=True)
    next(metric for metric in longer if metric["event"] == "step")
    state = (run.path / STATE).read_bytes()
    longer.close()
    (run.path / STATE).write_bytes(state)  # as it was when a kill would have come
    assert the_test(list(train(run, resume=True)))["test_evaluations"] == 2


def test_what_was_added_to_a_training_has_a_new_rise_and_fall_of_its_rates(tmp_path: Path) -> None:
    training = replace(SHORT.training, epochs=1, more_epochs=(1,), warmup=0.0)
    run = Run.create(tmp_path / "run", replace(SHORT, training=training))
    rates = [metric["rates"]["head"] for metric in train(run) if metric["event"] == "step"]
    assert rates[:5] == rates[5:]
    assert rates[0] == training.head_lr > rates[4]


def test_a_training_that_patience_ended_can_be_made_longer(tmp_path: Path) -> None:
    still = replace(SHORT.training, epochs=6, patience=1, backbone_lr=1e-9, head_lr=1e-9)
    run = Run.create(tmp_path / "run", replace(SHORT, training=still))
    ended_at = sum(metric["event"] == "epoch" for metric in train(run))
    assert ended_at < 6
    list(train(run.with_more_epochs(2), resume=True))
    epochs = [metric["epoch"] for metric in run.metrics() if metric["event"] == "epoch"]
    assert epochs[:6] == [1, 2, 3, 4, 5, 6]  # what was planned before, and then what was added
    assert epochs[-1] > 6


@pytest.mark.usefixtures("signals")
def test_the_command_repeats_another_runs_training_to_the_bit(
    short: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = replace(SHORT, training=replace(SHORT.training, epochs=1, start="short"))
    run = Run.create(tmp_path / "run", fine, start=short.run)
    list(train(run))
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path / "again"), "--like", str(run.path)])
    assert main() == 0
    again = Run.open(tmp_path / "again")
    assert again.config == run.config
    assert digest(again.path / WEIGHTS) == digest(run.path / WEIGHTS)
    assert without_times(again.metrics()[:-1]) == without_times(run.metrics())


# Limits and failures


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("strategy", ["full", "three-stage", "linear-probe"])
def test_the_command_trains_to_its_end_with_as_few_images_as_there_can_be(
    strategy: str, tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after somebody has kept a few mistakes: 2 images to train with, 1 to validate, 1 to test."""
    write_greys(write_split, tmp_path, train=3, test=1)
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    config = with_everything(epochs=6)
    run = Run.create(tmp_path / "run", replace(config, training=replace(config.training, strategy=strategy)))
    monkeypatch.setattr(sys, "argv", ["train", str(run.path)])
    assert main() == 0, run.metrics()[-1]
    assert run.metrics()[-1]["status"] == "finished"
    assert (run.path / CARD).exists()


@pytest.mark.usefixtures("signals")
def test_a_training_stops_at_the_limit_of_its_minutes_and_keeps_its_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLES["minutes"], "1")
    write = Training.write

    def slow(self: Training, metric: Metric) -> Metric:
        if metric["event"] == "step":
            self.started -= 7  # seconds, as if every step had taken that long
        return write(self, metric)

    monkeypatch.setattr(Training, "write", slow)
    run = Run.create(tmp_path / "run", LONG)
    monkeypatch.setattr(sys, "argv", ["train", str(run.path)])
    assert main() == 0
    end = run.metrics()[-1]
    assert (end["status"], end["reason"]) == ("stopped", "It reached this app's limit of 1 minutes.")
    steps = [metric for metric in run.metrics() if metric["event"] == "step"]
    assert len(steps) == 9  # 63 seconds
    assert run.load_model()


@pytest.mark.parametrize(
    ("error", "reason", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), "The GPU ran out of memory: halve the", "memory"),
        (MemoryError(), "The machine ran out of memory: halve the batch size.", "memory"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: ..."
            ),
            "The machine ran out of memory: halve the batch size.",
            "memory",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full: delete runs or datasets", None),
        (IndexError("row 7"), "An unexpected error occurred: IndexError: row 7", None),
    ],
)
@pytest.mark.usefixtures("signals")
def test_what_goes_wrong_in_a_later_epoch_ends_the_run_with_a_sentence_and_its_best_weights(
    error: Exception,
    reason: str,
    cause: str | None,
    short: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = batches_module.training_batches

    def failing(data: ImageSet, model: ModelConfig, training: TrainConfig, epoch: int, *rest: Any) -> Any:
        for i, batch in enumerate(batches(data, model, training, epoch, *rest)):
            if (epoch, i) == (2, 1):
                raise error
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(batches_module, "training_batches", failing)
        run = Run.create(tmp_path / "run", SHORT)
        assert host(run, no_card) == 1
    end = run.metrics()[-1]
    assert end["status"] == "failed"
    assert end["reason"].startswith(reason)
    assert "\n" not in end["reason"]
    assert end.get("cause") == cause
    assert "Traceback" in capsys.readouterr().err  # in the log, for whoever wants to know more
    assert run.load_model()
    # With the cause gone it goes on from the last epoch and ends as any other.
    assert host(run, no_card, resume=True) == 0
    assert digest(run.path / WEIGHTS) == short.weights[-1]
    assert without_times(run.metrics()[:-1]) == without_times(short.metrics)


@pytest.mark.usefixtures("signals")
def test_on_a_disk_so_full_that_not_even_the_end_can_be_written_the_process_still_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = Run.create(tmp_path / "run", SHORT)
    monkeypatch.setattr(Run, "append_metric", full)
    assert host(run, write_card) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("The disk is full: ")
    assert not run.is_training


def test_the_test_leaves_what_is_needed_to_look_at_its_errors(short: Trained) -> None:
    (test,) = short.events("test")
    evaluation = load_evaluation(short.run)
    assert evaluation is not None
    assert len(evaluation) == test["images"] == 75
    assert evaluation.correct.mean() == pytest.approx(test["accuracy"], abs=1e-5)
    assert evaluation.losses.mean() == pytest.approx(test["loss"], abs=1e-4)
    assert evaluation.rows.tolist() == list(range(75))
    assert {"top5_accuracy", "ece", "macro_f1"} <= test.keys()


def test_every_step_tells_the_memory_that_the_trainer_holds(short: Trained) -> None:
    for step in short.events("step"):
        assert 1e8 < step["memory"] < 1e11
