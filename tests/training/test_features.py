from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.models import create_model
from resnet_space.models.registry import HEAD
from resnet_space.runs import STATE, WEIGHTS, Run
from resnet_space.training import features as features_module
from resnet_space.training import state as training_module
from resnet_space.training.features import CutModel, frozen_segments
from resnet_space.training.optim import freeze_all_but, set_training_mode
from resnet_space.training.strategies import recipe
from tests.networks import alive
from tests.trainings import phases, train_to_the_end, without_times

CPU = torch.device("cpu")
MODEL = ModelConfig("resnet20", ("a", "b", "c"), options={"cbam": "stage"}, image_size=8)
UNAUGMENTED = {"crop_padding": 0, "flip": False}
STEPPED = {"optimizer": "adamw"}  # a linear probe that is not solved


def image_set(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % 3, MODEL.classes)


SPLITS = Splits(image_set(52, 0), image_set(30, 1), image_set(9, 2), "test")  # 3 steps of 16 images and 4 left over


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with weights that look trained."""
    run = Run.create(tmp_path_factory.mktemp("start") / "start", RunConfig(MODEL, TrainConfig(dataset="-")))
    run.save_weights(alive(create_model("resnet20", 3, cbam="stage")).state_dict())
    return run


def config(strategy: str, **settings: Any) -> RunConfig:
    settings = {"start": "start" if strategy != "scratch" else None, "epochs": 4, "batch_size": 16} | settings
    return RunConfig(MODEL, recipe(strategy, "-", **settings))


def trained(path: Path, config: RunConfig, start: Run, interval: int | None = None) -> Run:
    """A run after its training, which is interrupted after every so many metrics."""
    run = Run.create(path, config, start=start if config.training.start else None)
    return train_to_the_end(run, SPLITS, interval)


def assert_same(ours: Run, theirs: Run) -> None:
    """The same weights, metrics and last state, to the bit."""
    assert without_times(ours.metrics()) == without_times(theirs.metrics())
    assert (ours.path / WEIGHTS).read_bytes() == (theirs.path / WEIGHTS).read_bytes()
    one, other = (torch.load(run.path / STATE, weights_only=True)["model"] for run in (ours, theirs))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet20", {"cbam": "block"}),
        ("resnet18", {"cbam": "stage", "stem": "cifar"}),
        ("resnet50", {"stem": "imagenet"}),
    ],
)
def test_wherever_a_model_is_cut_both_parts_are_its_forward_pass(name: str, options: dict[str, Any]) -> None:
    model = alive(create_model(name, 5, **options))
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = model(images)
        for frozen in range(0, len(model.segments()), 3):
            cut = CutModel(model, frozen)
            assert torch.equal(cut(cut.features(images)), expected), frozen


@pytest.mark.parametrize(
    ("strategy", "new_cbam", "last"),
    [
        ("linear-probe", False, "fc"),
        ("linear-probe", True, "cbam1"),  # the first that trains
        ("last-stage", False, "layer3.0"),
        ("full", False, "conv1"),
    ],
)
def test_the_cut_is_right_before_the_first_segment_that_trains(strategy: str, new_cbam: bool, last: str) -> None:
    model = create_model("resnet20", 3, cbam="stage")
    freeze_all_but(model, phases(strategy, 4, MODEL, new_cbam=new_cbam, **STEPPED)[0].rates)
    assert model.segments()[frozen_segments(model)].modules == (model.get_submodule(last),)


def test_autograd_keeps_nothing_of_what_is_frozen() -> None:
    model = create_model("resnet20", 3)
    freeze_all_but(model, [HEAD])
    set_training_mode(model)
    cut = CutModel(model, frozen_segments(model))
    kept: list[Tensor] = []

    def noted(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
        cut(cut.features(torch.randn(4, 3, 8, 8))).sum().backward()
    assert sum(tensor.numel() for tensor in kept) <= 4 * 64 + 3 * 64  # the head's input and weights
    assert model.fc.weight.grad is not None


@pytest.mark.parametrize("strategy", ["last-stage", "three-stage", "freeze-unfreeze"])
def test_a_frozen_prefix_changes_no_bit_of_a_training(
    strategy: str, start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = config(strategy, epochs=3, ema=0.9, mixup=0.2, crop_padding=1)
    ours = trained(tmp_path / "ours", changed, start)
    monkeypatch.setattr(training_module, "frozen_segments", lambda model: 0)
    assert_same(ours, trained(tmp_path / "theirs", changed, start))


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [("linear-probe", {"ema": 0.9, "precision": "bfloat16", **STEPPED}), ("freeze-unfreeze", {"precision": "float32"})],
)
def test_features_that_are_computed_once_change_no_bit_either_not_even_of_an_interrupted_training(
    strategy: str, settings: dict[str, Any], start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = config(strategy, **UNAUGMENTED, **settings)
    whole, again = (trained(tmp_path / f"{strategy}-{i}", changed, start, i) for i in (None, 5))
    assert_same(again, whole)
    monkeypatch.setattr(training_module, "frozen_segments", lambda model: 0)
    assert_same(whole, trained(tmp_path / "plain", changed, start))


@pytest.mark.parametrize("share", [features_module.MEMORY_SHARE, 0.0])
def test_a_linear_probe_computes_the_features_of_each_image_once_where_memory_allows(
    share: float, start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    features = CutModel.features

    def counted(self: CutModel, images: Tensor) -> Tensor:
        computed.append(len(images))
        return features(self, images)

    monkeypatch.setattr(features_module, "MEMORY_SHARE", share)
    monkeypatch.setattr(CutModel, "features", counted)
    trained(tmp_path / "run", config("linear-probe", epochs=8, **UNAUGMENTED, **STEPPED), start)
    if share:
        # The validation images once, and those of the second epochs' batches that the first left out.
        assert 48 + 30 <= sum(computed) <= 48 + 30 + 4 * 16
    else:
        assert sum(computed) == 8 * (48 + 30)


def test_a_moving_average_that_is_behind_what_is_frozen_now_is_judged_by_its_own_weights(
    start: Run, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", config("linear-probe", ema=0.9, precision="float32", **STEPPED), start=start)
    training = training_module.Training(run, CPU, 52)
    with torch.no_grad():
        training.model.layer2[0].conv1.weight.mul_(0.5)
    expected = training_module.evaluate(training.evaluated_model, SPLITS.validation, MODEL)
    assert training.validate(SPLITS.validation, None) == expected
    assert training_module.evaluate(training.model, SPLITS.validation, MODEL) != expected
