import time
from pathlib import Path
from typing import Any

import pytest
import torch

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, imagenet_config
from resnet_space.data.reference import DatasetRef
from resnet_space.hub.pretrained import pretrained_model
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE, Run, Source
from resnet_space.serve import proposals as proposals_module
from resnet_space.serve.context import AppContext
from resnet_space.serve.proposals import measure_speeds, proposed, speeds_of, weights_at_hand
from resnet_space.training.speeds import Speeds
from resnet_space.training.strategies import recipe

RESNET18 = "resnet18.tv_in1k"
NETWORK = ("resnet20", 32)
MINI = DatasetRef("cifar10-mini")


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    return AppContext(tmp_path / "checkpoints")


def with_weights(context: AppContext, name: str, model: ModelConfig) -> Run:
    run = Run.create(context.library.root / name, RunConfig(model))
    run.save_weights({"x": torch.zeros(1)})  # nobody loads them
    return run


def test_weights_of_the_hub_are_at_hand_only_where_they_were_downloaded(context: AppContext) -> None:
    assert weights_at_hand(context) == {}
    for name, model in (
        (RESNET18, pretrained_model(RESNET18)),
        (BACKBONE, ModelConfig("resnet20", ("a", "b"))),
        (PHOTO_BACKBONE, imagenet_config("tf_efficientnet_lite0", resize=256)),
        ("my-own", ModelConfig("resnet20", ("a", "b"))),
    ):
        with_weights(context, name, model)
    assert list(weights_at_hand(context)) == [PHOTO_BACKBONE, BACKBONE, RESNET18]


def test_a_visitors_own_start_is_taken_where_they_chose_it(context: AppContext) -> None:
    with_weights(context, BACKBONE, ModelConfig("resnet20", ("a", "b")))
    with_weights(context, "my-own", ModelConfig("resnet32", ("a", "b")))
    summary = context.datasets.summary(MINI)
    assert proposed(context, summary).start == BACKBONE
    chosen = proposed(context, summary, {"start": "my-own"})
    assert (chosen.start, chosen.architecture) == ("my-own", "resnet32")
    assert proposed(context, summary, {"start": RESNET18}).start == RESNET18  # it is downloaded when it starts
    with pytest.raises(UserError, match="There is no run named gone"):
        proposed(context, summary, {"start": "gone"})


def trained(context: AppContext, name: str, pace: float) -> Run:
    config = RunConfig(ModelConfig("resnet20", ("a", "b")), recipe("full", "mine", epochs=1))
    run = Run.create(context.library.root / name, config)
    phases = [{"epochs": 1, "rates": dict.fromkeys(("stem", "layer1", "layer2", "layer3", "head"), 0.1)}]
    shape = {"epochs": 1, "steps_per_epoch": 1, "parameters": 1, "train_images": 1, "validation_images": 1}
    run.append_metric({"event": "start", "device": "cpu", "precision": "float32", "phases": phases} | shape)
    run.append_metric({"event": "step", "step": 1, "loss": 1.0, "images_per_second": pace, "seconds": 1.0})
    run.append_metric({"event": "end", "status": "finished"})
    return run


def test_the_newest_run_of_this_machine_tells_how_fast_it_is_and_one_from_elsewhere_does_not(
    context: AppContext,
) -> None:
    context.speeds.remember(Speeds("cpu", 5.0, {}, {NETWORK: 100.0}))
    assert speeds_of(context).steps == {NETWORK: 100.0}
    trained(context, "before", 200.0)
    time.sleep(0.02)  # the time of its configuration says which is newer
    trained(context, "now", 300.0)
    time.sleep(0.02)
    trained(context, "pulled", 9_000.0).write_source(Source("a/b", "0" * 40))
    trained(context, BACKBONE, 9_000.0)  # came with the app
    assert speeds_of(context).steps == {NETWORK: 300.0}


def test_the_machine_is_timed_once_and_not_beside_a_training(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[list[str]] = []

    def measured(runs: list[Run]) -> Speeds:
        timed.append([run.name for run in runs])
        return Speeds("cpu", 5.0)

    active: list[Any] = [None]
    monkeypatch.setattr(proposals_module, "measured", measured)
    monkeypatch.setattr(context.trainer, "active", lambda: active[0])
    assert measure_speeds(context)  # there is nothing to time it with
    with_weights(context, BACKBONE, ModelConfig("resnet20", ("a", "b")))
    with_weights(context, PHOTO_BACKBONE, imagenet_config("tf_efficientnet_lite0", resize=256))
    with_weights(context, RESNET18, pretrained_model(RESNET18))
    active[0] = "a-run"
    assert not measure_speeds(context)  # try again later
    active[0] = None
    assert measure_speeds(context)
    assert measure_speeds(context)
    assert timed == [[PHOTO_BACKBONE, BACKBONE]]
    assert AppContext(context.library.root).speeds.known() == Speeds("cpu", 5.0)


def test_a_machine_that_cannot_be_timed_is_not_tried_again_and_again(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: list[Run]) -> Speeds:
        raise RuntimeError("too slow")

    monkeypatch.setattr(proposals_module, "measured", fail)
    with_weights(context, BACKBONE, ModelConfig("resnet20", ("a", "b")))
    assert measure_speeds(context)
    assert context.speeds.known() is None
