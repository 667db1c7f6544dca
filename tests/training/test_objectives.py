import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_space.config import OBJECTIVES, ModelConfig, RunConfig, TrainConfig
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.models import create_model
from resnet_space.plots import loss_chart
from resnet_space.runs import STATE, WEIGHTS, Metric, Run
from resnet_space.runs.metrics import metric_of
from resnet_space.training import range_test as range_module
from resnet_space.training.batches import second_stream
from resnet_space.training.loop import train
from resnet_space.training.objectives import Batch, Losses, Objective, objective_of, register_objective
from resnet_space.training.range_test import range_test
from tests.trainings import without_times

CPU = torch.device("cpu")
MODEL = ModelConfig("resnet20", ("a", "b", "c"), {"cbam": "stage"}, image_size=8)
CONFIG = RunConfig(
    MODEL, TrainConfig(dataset="-", epochs=3, batch_size=16, head_lr=0.01, backbone_lr=0.01, precision="float32")
)


def image_set(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % 3, MODEL.classes)


SPLITS = Splits(image_set(52, 0), image_set(30, 1), image_set(9, 2), "test")  # 3 steps of 16 images and 4 left over
UNLABELLED = image_set(41, 3)  # 2 steps of 16 and 9 left over


class EntropyToo(Objective):
    """Cross-entropy, and the entropy of predictions for unlabelled images of another set (Grandvalet & Bengio 2004)."""

    id = "entropy-too"
    parts = ("cross-entropy", "entropy")

    def second_set(self) -> ImageSet:
        return UNLABELLED

    def __call__(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Losses:
        assert batch.second is not None
        logits = model(batch.inputs)
        chances = model(batch.second.inputs).softmax(1)
        entropy = -(chances * chances.clamp(min=1e-6).log()).sum(1).mean()
        return Losses({"cross-entropy": F.cross_entropy(logits, batch.targets), "entropy": 0.5 * entropy}, logits)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register_objective(EntropyToo)
    yield
    del OBJECTIVES[EntropyToo.id]


def trained(path: Path, interval: int | None = None, **settings: Any) -> tuple[Run, list[Metric]]:
    """A run after its training with `EntropyToo`, which is interrupted after every so many metrics."""
    training = replace(CONFIG.training, objective="entropy-too", **settings)
    run = Run.create(path, replace(CONFIG, training=training))
    found: list[Metric] = []
    over = False
    while not over:
        with closing(train(run, resume=bool(found), device=CPU, splits=SPLITS)) as metrics:
            for count, metric in enumerate(metrics, 1):
                found.append(metric)
                if count == interval:
                    break
            else:
                over = True
    return run, run.metrics()


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": "linear-probe", "crop_padding": 0, "flip": False}],
    ids=["augmented", "known features"],
)
def test_an_objective_with_a_second_stream_of_another_length_goes_on_to_the_bit_and_tells_its_parts(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole, expected = trained(tmp_path / "whole", **settings)
    run, found = trained(tmp_path / "run", 5, **settings)
    assert without_times(found) == without_times(expected)
    assert (run.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()
    one, other = (torch.load(each.path / STATE, weights_only=True)["model"] for each in (run, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)

    steps, epochs = ([m for m in expected if m["event"] == event] for event in ("step", "epoch"))
    for metric in steps:
        assert list(metric["losses"]) == ["cross-entropy", "entropy"]
        assert sum(metric["losses"].values()) == pytest.approx(metric["loss"], abs=2e-5)
        assert 0 < metric["losses"]["entropy"] <= 0.5 * math.log(3)
    for i, metric in enumerate(epochs):
        for name, value in metric["losses"].items():
            mean = sum(step["losses"][name] for step in steps[3 * i : 3 * i + 3]) / 3
            assert value == pytest.approx(mean, abs=2e-5)
    for metric in (*steps, *epochs):
        assert metric_of(json.dumps(metric).encode(), whole=True) == metric


def test_each_part_of_a_loss_is_drawn_by_its_name(tmp_path: Path) -> None:
    _, metrics = trained(tmp_path / "run")
    traces = {trace["name"]: trace for trace in loss_chart({"run": metrics})["data"]}
    assert list(traces) == ["run", "run, cross-entropy", "run, entropy"]
    steps = [metric for metric in metrics if metric["event"] == "step"]
    assert traces["run, entropy"]["x"] == [metric["step"] for metric in steps]
    assert traces["run, entropy"]["y"] == pytest.approx([m["losses"]["entropy"] for m in steps], rel=1e-3)
    assert len({trace["line"].get("dash") for trace in traces.values()}) == 3


def test_a_second_stream_goes_around_in_epochs_of_its_own_and_can_begin_at_any_step() -> None:
    objective = EntropyToo(CONFIG)

    def batches(first: int, count: int) -> list[Batch]:
        return [
            batch
            for batch, _ in zip(second_stream(objective, UNLABELLED, first, CPU), range(count), strict=False)
            if batch
        ]

    whole = batches(0, 7)
    for first in range(1, 7):
        later = batches(first, 7 - first)
        assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(later, whole[first:], strict=True))
    seen = torch.cat([batch.targets for batch in whole])
    assert len(seen) == 7 * 16
    assert not torch.equal(whole[0].inputs, whole[2].inputs)  # shuffled anew


def test_the_range_test_learns_the_same_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_module, "choose_device", lambda: CPU)
    config = replace(CONFIG, training=replace(CONFIG.training, objective="entropy-too"))
    ours, plain = (list(range_test(each, None, SPLITS.train, 5)) for each in (config, CONFIG))
    assert len(ours) == len(plain) == 5
    assert plain[0].loss < ours[0].loss <= plain[0].loss + 0.5 * math.log(3) + 1e-4


def test_cross_entropy_is_torchs_of_mixed_and_smoothed_targets_and_is_told_as_one_loss(tmp_path: Path) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, mixup=0.4, label_smoothing=0.1, epochs=1))
    objective = objective_of(config)
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    mixed, shares = objective.mix(images, labels, 0, 0)
    assert shares.shape == (6, 3)
    assert not torch.equal(mixed, images)
    assert all(torch.equal(a, b) for a, b in zip(objective.mix(images, labels, 0, 0), (mixed, shares), strict=True))
    model = create_model("resnet20", 3)
    losses = objective(model, Batch(mixed, shares))
    assert torch.equal(losses.total, F.cross_entropy(losses.logits, shares, label_smoothing=0.1))
    run = Run.create(tmp_path / "run", config)
    list(train(run, device=CPU, splits=SPLITS))
    assert not any("losses" in metric for metric in run.metrics())


def test_an_unknown_objective_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"^The objective must be .* cross-entropy, .*, entropy-too, not 'magic'\.$"):
        TrainConfig(dataset="-", objective="magic")
    with pytest.raises(ValueError, match="An objective 'entropy-too' already exists"):
        register_objective(EntropyToo)


def test_a_configuration_from_before_there_were_objectives_opens() -> None:
    data = CONFIG.to_json()
    del data["training"]["objective"]
    assert RunConfig.from_json(data) == CONFIG


def test_a_configuration_is_checked_without_torch() -> None:
    code = "import sys, resnet_space.config as c; c.TrainConfig('-'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
