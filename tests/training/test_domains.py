"""Domain adaptation: the losses against closed forms, and trainings with a second, unlabelled dataset."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.restyled import RESTYLED
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, open_dataset
from resnet_space.data.target import Target
from resnet_space.runs import STATE, WEIGHTS, Metric, Run, last_metric
from resnet_space.training.loop import TrainingError, train
from resnet_space.training.objectives import objective_of
from resnet_space.training.objectives.adversarial import reversed_gradient
from resnet_space.training.objectives.coral import coral_loss
from resnet_space.training.objectives.domain import DomainObjective, weight_at
from resnet_space.training.objectives.mmd import GaussianMMD, gaussian_mmd2, linear_mmd2
from resnet_space.training.speeds import steps_of
from resnet_space.training.state import Training
from tests.conftest import WriteSplit
from tests.trainings import png, without_times

CPU = torch.device("cpu")
CLASSES = ("dark", "bright")
MODEL = ModelConfig("resnet20", CLASSES, image_size=8)
TRAINING = TrainConfig(
    "source", epochs=2, batch_size=16, head_lr=0.02, backbone_lr=0.02, precision="float32", target="target", ema=0.9
)
Distance = Callable[[Tensor, Tensor], Tensor]


def gaussians(n: int, dimensions: int, shift: float = 0.0, seed: int = 0, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * scale + shift


def write(write_split: WriteSplit, folder: Path, split: str, greys: list[int], labels: list[int], *names: str) -> None:
    write_split(folder, split, [png(grey) for grey in greys], labels, names or CLASSES)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_split: WriteSplit) -> Path:
    """`source`: 60 dark and bright pictures; `target`: 41 lighter ones, and 20 to test on."""
    folder = tmp_path / "data"
    random = np.random.default_rng(0)
    for name, split, count, shift in (
        ("source", "train", 60, 0),
        ("source", "test", 12, 0),
        ("target", "train", 41, 60),
        ("target", "test", 20, 60),
    ):
        labels = [i % 2 for i in range(count)]
        greys = [int(80 * label + shift + random.integers(0, 60)) for label in labels]
        write(write_split, folder / name, split, greys, labels)
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(folder))
    return folder


def trained(path: Path, objective: str, interval: int | None = None, **settings: Any) -> tuple[Run, list[Metric]]:
    """A run after its training, interrupted after every so many metrics."""
    run = Run.create(path, RunConfig(MODEL, replace(TRAINING, objective=objective, **settings)))
    begun = over = False
    while not over:
        with closing(train(run, resume=begun, device=CPU)) as metrics:
            begun = True
            over = interval is None
            for count, _ in enumerate(metrics, 1):
                if count == interval:
                    break
            else:
                over = True
    return run, run.metrics()


# The distances


@pytest.mark.parametrize("distance", [linear_mmd2, gaussian_mmd2])
def test_of_equal_distributions_the_mean_of_a_thousand_mmds_is_zero_within_its_standard_error(
    distance: Distance,
) -> None:
    drawn = [float(distance(gaussians(8, 3, seed=2 * i), gaussians(12, 3, seed=2 * i + 1))) for i in range(1_000)]
    assert abs(np.mean(drawn)) < 3 * np.std(drawn) / math.sqrt(len(drawn))
    assert min(drawn) < 0 < max(drawn)


def test_the_mmds_of_shifted_gaussians_are_those_of_the_closed_form() -> None:
    dimensions, shift, scale, variance = 4, 0.7, 0.8, 1.5
    between = dimensions * shift**2
    wide = variance + 2 * scale**2
    expected = 2 * (variance / wide) ** (dimensions / 2) * (1 - math.exp(-between / (2 * wide)))
    pairs = [
        (gaussians(200, dimensions, 0, 2 * i, scale), gaussians(150, dimensions, shift, 2 * i + 1, scale))
        for i in range(100)
    ]
    for distance, truth in (
        (lambda x, y: gaussian_mmd2(x, y, [variance]), expected),
        (linear_mmd2, between),
    ):
        drawn = [float(distance(x, y)) for x, y in pairs]
        assert abs(np.mean(drawn) - truth) < 3 * np.std(drawn) / math.sqrt(len(drawn))
        assert np.std(drawn) < truth  # so that a wrong value would be noticed


def test_the_unbiased_mmd_is_the_mean_over_all_pairs_of_different_images() -> None:
    x, y = gaussians(3, 2), gaussians(4, 2, 1.0, 1)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float(np.mean([math.exp(-float((a - b).pow(2).sum()) / (2 * v)) for v in (0.5, 2.0)]))

    def mean(first: Tensor, second: Tensor, same: bool) -> float:
        pairs = [(i, j) for i in range(len(first)) for j in range(len(second)) if not same or i != j]
        return float(np.mean([kernel(first[i], second[j]) for i, j in pairs]))

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert float(gaussian_mmd2(x, y, [0.5, 2.0])) == pytest.approx(expected)


def test_the_kernels_follow_the_scale_of_the_features() -> None:
    x, y = gaussians(20, 3), gaussians(30, 3, 1.0, 1)
    assert float(gaussian_mmd2(100 * x, 100 * y)) == pytest.approx(float(gaussian_mmd2(x, y)))
    assert float(gaussian_mmd2(torch.ones(4, 3), torch.ones(5, 3))) == 0


def test_coral_is_the_distance_of_numpys_covariances() -> None:
    x, y = gaussians(20, 5), gaussians(30, 5, 3.0, 1, scale=2.0)
    expected = ((np.cov(x.numpy().T) - np.cov(y.numpy().T)) ** 2).sum() / (4 * 5**2)
    assert float(coral_loss(x, y)) == pytest.approx(expected)
    assert float(coral_loss(x, x + 7)) == pytest.approx(0, abs=1e-12)  # it sees no shift


def test_the_reversed_gradient_has_the_opposite_sign_and_the_weights_scale_and_the_values_stay() -> None:
    x = gaussians(4, 3).requires_grad_()
    y = x.clone().detach().requires_grad_()
    passed = reversed_gradient(x, 0.3)
    assert torch.equal(passed, x)
    passed.pow(3).sum().backward()
    y.pow(3).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(x.grad, -0.3 * y.grad)
    assert torch.equal(reversed_gradient(x.detach(), 0.3), x)


@pytest.mark.parametrize("distance", [linear_mmd2, gaussian_mmd2, coral_loss])
@pytest.mark.parametrize(("ours", "theirs"), [(1, 5), (5, 1), (5, 0)])
def test_a_batch_with_fewer_than_two_images_of_a_domain_is_refused(distance: Distance, ours: int, theirs: int) -> None:
    with pytest.raises(UserError, match=f"at least 2 images of each domain .* not {ours} .* and {theirs} of"):
        distance(gaussians(ours, 3), gaussians(theirs, 3))


def test_the_weight_rises_as_in_the_paper_or_stays() -> None:
    training = replace(TRAINING, domain_weight=2.0)
    assert weight_at(training, 0) == 0
    assert weight_at(training, 0.3) == pytest.approx(2 * (2 / (1 + math.exp(-3)) - 1))
    assert weight_at(replace(training, domain_schedule="constant"), 0.3) == 2.0


# The objectives


def test_the_adversarial_part_trains_the_discriminator_and_opposes_it_in_the_features() -> None:
    config = RunConfig(MODEL, replace(TRAINING, objective="dann", domain_schedule="constant", domain_weight=0.5))
    objective = objective_of(config)
    model = MODEL.build(seed=0)
    objective.attach(model)
    assert isinstance(objective, DomainObjective)
    assert isinstance(objective.module, nn.Module)
    x, y = gaussians(6, 64).float().requires_grad_(), gaussians(4, 64, 1.0, 1).float()
    loss, measures = objective.domain_loss(x, y, 0.5)
    logits = objective.module(torch.cat([x, y])).flatten()
    is_source = torch.tensor([1.0] * 6 + [0.0] * 4)
    each = nn.functional.binary_cross_entropy_with_logits(logits, is_source, reduction="none")
    expected = (each[:6].mean() + each[6:].mean()) / 2
    assert float(loss.detach()) == pytest.approx(float(expected.detach()))
    right = ((logits > 0) == is_source.bool()).float()
    assert float(measures["domain-accuracy"]) == pytest.approx(float((right[:6].mean() + right[6:].mean()) / 2))
    names = dict(objective.module.named_parameters())
    plain = torch.autograd.grad(expected, [x, *names.values()])
    turned = torch.autograd.grad(loss, [x, *names.values()])
    assert torch.allclose(turned[0], -0.5 * plain[0], atol=1e-7)
    for one, other in zip(turned[1:], plain[1:], strict=True):
        assert torch.allclose(one, other, atol=1e-7)


FROZEN = {"strategy": "last-stage", "crop_padding": 0, "flip": False}  # the features before it are cached


@pytest.mark.parametrize(
    ("objective", "settings", "interval"),
    [
        ("mmd-linear", {"strategy": "probe-then-fine-tune", "epochs": 2}, 0),
        ("mmd-gaussian", {"epochs": 2}, 3),
        ("coral", FROZEN, 3),
        ("dann", {"epochs": 2}, 3),
    ],
)
def test_a_training_with_a_target_goes_on_to_the_bit_after_any_interruption(
    objective: str, settings: dict[str, Any], interval: int, data: Path, tmp_path: Path
) -> None:
    settings = {"epochs": 1} | settings
    expected, metrics = trained(tmp_path / "whole", objective, **settings)
    if interval:
        found, again = trained(tmp_path / "run", objective, interval, **settings)
        assert without_times(again) == without_times(metrics)
        assert (found.path / WEIGHTS).read_bytes() == (expected.path / WEIGHTS).read_bytes()
        states = [torch.load(run.path / STATE, weights_only=True) for run in (found, expected)]
        for name in ("model", "beside"):
            one, other = (state[name] or {} for state in states)
            assert all(torch.equal(one[key], other[key]) for key in one)
        assert bool(states[0]["beside"]) == (objective == "dann")
    model = expected.load_model()  # strict: the discriminator is no part of it
    assert isinstance(model, nn.Module)
    solved = [metric for metric in metrics if metric.get("phase") == 1 and metrics[0]["phases"][0].get("solved")]
    assert len(solved) == (objective == "mmd-linear")
    assert not any("losses" in metric for metric in solved)
    learned = metrics[metrics.index(solved[0]) + 1 :] if solved else metrics
    for metric in (metric for metric in learned if metric["event"] in ("step", "epoch")):
        assert list(metric["losses"]) == ["task", "domain"]
        assert list(metric.get("measures", {})) == (["domain-accuracy"] if objective == "dann" else [])
        assert ("discriminator" in metric.get("rates", {})) == (objective == "dann" and metric["event"] == "step")
    epochs = [metric for metric in metrics if metric["event"] == "epoch"]
    assert all(metric["best"] and 0 <= metric["target_accuracy"] <= 1 for metric in epochs)
    test = last_metric(metrics, "test")
    assert test
    assert (test["target"], test["target_images"]) == ("test", 20)


def test_wrong_labels_of_the_target_give_the_same_weights_and_another_test(
    data: Path, tmp_path: Path, write_split: WriteSplit
) -> None:
    first, before = trained(tmp_path / "first", "mmd-gaussian", epochs=1)
    for split, count in (("train", 41), ("test", 20)):
        images = open_dataset_bytes("target", split)
        labels = [1 - i % 2 for i in range(count)]
        write_split(data / "target", split, images, labels, CLASSES)
    second, after = trained(tmp_path / "second", "mmd-gaussian", epochs=1)
    assert (first.path / WEIGHTS).read_bytes() == (second.path / WEIGHTS).read_bytes()
    accuracies = [(last_metric(metrics, "test") or {})["target_accuracy"] for metrics in (before, after)]
    assert sum(accuracies) == pytest.approx(1)


def open_dataset_bytes(name: str, split: str) -> list[bytes]:
    import pyarrow.parquet as pq

    from resnet_space.data.reference import DatasetRef

    (file,) = open_dataset(DatasetRef(name)).files[split]
    return [value["bytes"] for value in pq.read_table(file)["img"].to_pylist()]


@pytest.mark.parametrize("grouped", [False, True])
def test_without_a_test_split_the_targets_images_are_divided_whatever_the_labels_are(
    data: Path, write_split: WriteSplit, grouped: bool
) -> None:
    def divided(labels: list[int]) -> tuple[list[Any], int]:
        write(write_split, data / "lone", "train", [5 * i for i in range(40)], labels)
        training = replace(TRAINING, target="lone", grouped_split=grouped)
        learned, tested = Target(training, 8).images, Target(training, 8).test(CLASSES)
        assert tested is not None
        assert tested[1] == "train"
        assert grouped or len(learned) == 32
        assert set(learned.labels.tolist()) == {-1}
        assert learned.source is not None
        assert tested[0].source is not None
        assert sorted([*learned.source.tolist(), *tested[0].source.tolist()]) == list(range(40))
        return learned.source.tolist(), int(tested[0].labels.sum())

    (one, _), (other, _) = divided([i % 2 for i in range(40)]), divided([int(i < 30) for i in range(40)])
    assert one == other


def test_the_targets_labels_are_matched_by_name_and_others_are_not_tested(data: Path, write_split: WriteSplit) -> None:
    write(write_split, data / "other", "train", [10, 20, 30], [0, 1, 2], "Bright", "grey", "dark")
    write(write_split, data / "other", "test", [10, 20, 30], [0, 1, 2], "Bright", "grey", "dark")
    training = replace(TRAINING, target="other")
    found = Target(training, 8).test(CLASSES)
    assert found is not None
    assert found[0].labels.tolist() == [1, 0]
    assert len(Target(training, 8).images) == 3
    write(write_split, data / "other", "test", [10, 20], [0, 1], "cat", "dog")
    assert Target(training, 8).test(CLASSES) is None


def test_the_pace_of_two_streams_is_not_the_machines_speed(data: Path, tmp_path: Path) -> None:
    run, metrics = trained(tmp_path / "run", "coral", epochs=1)
    assert steps_of(run.config, metrics) is None
    alone = replace(run.config, training=replace(run.config.training, objective="adabn"))
    assert steps_of(alone, metrics) is not None


# AdaBN


def test_adabn_learns_as_the_source_alone_and_then_has_the_targets_statistics(data: Path, tmp_path: Path) -> None:
    plain, before = trained(tmp_path / "plain", "cross-entropy", epochs=1)
    run, metrics = trained(tmp_path / "run", "adabn", epochs=1)
    losses = [[m["train_loss"] for m in found if m["event"] == "epoch"] for found in (before, metrics)]
    assert losses[0] == losses[1]
    old, new = plain.load_weights(), run.load_weights()
    statistics = [name for name in old if "running_" in name]
    assert statistics
    for name in old:
        if "running_" not in name and "num_batches" not in name:
            assert torch.equal(old[name], new[name])
    # The first layer's, by hand: what it sees of the target's images, with the variance of n - 1.
    data_set = Target(run.config.training, 8).images
    model = run.load_model()
    pixels = data_set.images.float().permute(0, 3, 1, 2) / 255
    images = (pixels - torch.tensor(MODEL.mean)[:, None, None]) / torch.tensor(MODEL.std)[:, None, None]
    with torch.inference_mode():
        seen = model.conv1(images)
    assert torch.allclose(new["bn1.running_mean"], seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(new["bn1.running_var"], seen.var((0, 2, 3)), rtol=1e-4)
    assert not torch.allclose(old["bn1.running_mean"], new["bn1.running_mean"], atol=1e-3)


# Refusals


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"objective": "coral", "target": ""}, r"^The objective 'coral' needs images of another domain: choose a"),
        ({"domain_weight": -1}, r"^The weight of the domain loss must be from 0"),
        ({"domain_weight": math.nan}, r"^The weight of the domain loss must be from 0"),
        ({"domain_schedule": "steep"}, r"^The schedule of the domain loss must be one of constant, ramp"),
        ({"target": 3}, r"^The target must be a dataset, not 3\.$"),
    ],
)
def test_a_configuration_with_an_impossible_target_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        replace(TRAINING, **settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"target": "source"}, r"^The target source is the dataset with the labels itself: choose another"),
        ({"target": "nowhere"}, r"^There is no dataset named 'nowhere'"),
        ({"target": "alone"}, r"^The target 'alone' has only one image to learn from: at least 2 are needed\.$"),
        ({"target": "blind"}, r"^The target 'blind' has no image to learn from"),
        ({"strategy": "linear-probe"}, r"^This training changes only the head, but the domain loss of 'mmd-gaussian'"),
        ({"strategy": "probe-then-fine-tune", "epochs": 1}, r"^This training changes only the head"),
        (
            {"strategy": "linear-probe", "optimizer": "l-bfgs"},
            r"^This training changes only the head, but the domain loss of 'mmd-gaussian'",
        ),
    ],
)
def test_a_training_that_cannot_be_adapted_is_refused_before_it_starts(
    settings: dict[str, Any], why: str, data: Path, tmp_path: Path, write_split: WriteSplit
) -> None:
    write(write_split, data / "alone", "train", [10], [0])
    write_split(data / "blind", "train", [b"no picture", b"none"], [0, 1], CLASSES)
    with pytest.raises(UserError, match=why):
        trained(tmp_path / "run", "mmd-gaussian", **settings)
    assert not Run.open(tmp_path / "run").metrics()


def test_adabn_of_a_network_without_batch_norm_is_refused_in_a_sentence(tmp_path: Path) -> None:
    config = RunConfig(ModelConfig("lenet5", CLASSES, image_size=32), replace(TRAINING, objective="adabn"))
    with pytest.raises(UserError, match=r"^AdaBN replaces the statistics of batch normalisation, which lenet5 lacks"):
        Training(Run.create(tmp_path / "run", config), CPU, 32)


def test_features_that_are_not_numbers_end_the_training_with_one_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: GaussianMMD, source: Tensor, target: Tensor, weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        return gaussian_mmd2(source * math.nan, target), {}

    monkeypatch.setattr(GaussianMMD, "domain_loss", broken)
    with pytest.raises(TrainingError, match=r"^The loss became NaN or infinite in epoch 1"):
        trained(tmp_path / "run", "mmd-gaussian")


# The bundled dataset in other styles


def test_the_bundled_dataset_is_restyled_when_it_is_first_opened(data: Path) -> None:
    from resnet_space.data.reference import DatasetRef

    original = open_dataset(DatasetRef("cifar10-mini"))
    name = next(iter(RESTYLED))
    made = open_dataset(DatasetRef(name))
    assert made.columns == original.columns
    assert {split: len(files) for split, files in made.files.items()} == {"train": 1, "test": 1}
    stamp = made.files["train"][0].stat().st_mtime_ns
    assert open_dataset(DatasetRef(name)).files["train"][0].stat().st_mtime_ns == stamp
    training = replace(TRAINING, dataset="cifar10-mini", target=name)
    found = Target(training, 32).test(original.columns.classes)
    plain = Target(replace(training, target="cifar10-mini"), 32).test(original.columns.classes)
    assert found is not None
    assert plain is not None
    assert torch.equal(found[0].labels, plain[0].labels)
    assert not torch.equal(found[0].images, plain[0].images)
