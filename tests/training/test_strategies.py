import math
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.models.registry import HEAD
from resnet_space.runs import Run
from resnet_space.training.loop import train
from resnet_space.training.state import initial_model
from resnet_space.training.strategies import (
    CBAM_RATES,
    STRATEGIES,
    Phase,
    own_field_hint,
    phase_at,
    plan,
    planned_epochs,
    rate_at,
    recipe,
    register_strategy,
)
from tests.trainings import phases

RESNET20 = ModelConfig("resnet20", ("cat", "dog"))
WITH_CBAM = ModelConfig("resnet20", ("cat", "dog"), options={"cbam": "stage"})
RESNET18 = ModelConfig("resnet18", ("cat", "dog"), options={"shortcut": "pad", "cbam": "stage"}, image_size=224)
ALL = [
    "full",
    "scratch",
    "linear-probe",
    "probe-then-fine-tune",
    "last-stage",
    "freeze-unfreeze",
    "three-stage",
    "discriminative",
    "one-cycle",
    "attention",
]
EVERYTHING = {"stem", "layer1", "layer2", "layer3", "head"}


def gates(rate: float) -> dict[str, float]:
    return {part: rate * share for part, share in CBAM_RATES.items()}


def test_every_strategy_is_described_and_says_which_fields_of_a_configuration_it_sets_and_reads() -> None:
    assert list(STRATEGIES) == ALL
    for name, strategy in STRATEGIES.items():
        assert strategy.id == name
        assert strategy.label
        assert strategy.summary
        recipe(name, "-")
        assert {field.name for field in fields(TrainConfig)} >= {*strategy.settings, *strategy.own_fields}
    assert [strategy.id for strategy in STRATEGIES.values() if strategy.start == "none"] == ["scratch"]
    assert own_field_hint("layer_decay") == "discriminative only; 1 disables it"


def test_a_strategy_from_outside_is_registered_and_trains(tmp_path: Path) -> None:
    @register_strategy("two-rates", "the head alone, then the last stage with it", "this test", start="optional")
    def two_rates(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
        head = {HEAD: training.head_lr}
        return [Phase(1, head), Phase(training.epochs - 1, head | {"layer3": training.backbone_lr})]

    try:
        with pytest.raises(ValueError, match="A strategy 'two-rates' already exists"):
            register_strategy("two-rates", "", "")(two_rates)
        config = RunConfig(
            ModelConfig("resnet20", ("a", "b"), image_size=8),
            TrainConfig("-", strategy="two-rates", epochs=2, batch_size=8, precision="float32"),
        )
        images = ImageSet(torch.randint(256, (16, 8, 8, 3), dtype=torch.uint8), torch.arange(16) % 2, ("a", "b"))
        run = Run.create(tmp_path / "run", config)
        metrics = list(train(run, device=torch.device("cpu"), splits=Splits(images, images, images, "test")))
        assert [phase["epochs"] for phase in metrics[0]["phases"]] == [1, 1]
        rates = [list(metric["rates"]) for metric in metrics if metric["event"] == "step"]
        assert rates == [["head"], ["head"], ["head", "layer3"], ["head", "layer3"]]
        before, after = initial_model(run)[0].state_dict(), run.load_weights()
        assert torch.equal(before["layer2.0.conv1.weight"], after["layer2.0.conv1.weight"])
        assert not torch.equal(before["fc.weight"], after["fc.weight"])
    finally:
        del STRATEGIES["two-rates"]


# What trains when: the tutorials' and fastai's numbers


def test_scratch_and_full_train_everything_at_once() -> None:
    for strategy in ("scratch", "full"):
        (phase,) = phases(strategy, 10, WITH_CBAM, backbone_lr=0.2, head_lr=0.3)
        backbone = dict.fromkeys(("stem", "layer1", "layer2", "layer3"), 0.2)
        assert phase.rates == pytest.approx(backbone | gates(0.2) | {"head": 0.3})
        assert phase.epochs == 10


def test_a_linear_probe_trains_the_head_and_a_new_cbam_only() -> None:
    (phase,) = phases("linear-probe", 10, WITH_CBAM)
    assert phase == Phase(1, {"head": 1e-2}, solved=True)
    (phase,) = phases("linear-probe", 10, WITH_CBAM, new_cbam=True)  # which no solver knows
    assert phase == Phase(10, pytest.approx({"head": 1e-2} | gates(1e-2)))
    (phase,) = phases("linear-probe", 10, RESNET20, new_cbam=True)  # new, but not there
    assert phase == Phase(1, {"head": 1e-2}, solved=True)
    (phase,) = phases("linear-probe", 10, WITH_CBAM, optimizer="adamw")
    assert phase == Phase(10, {"head": 1e-2})


def test_probe_then_fine_tune_solves_the_head_and_then_trains_everything() -> None:
    first, second = phases("probe-then-fine-tune", 6, WITH_CBAM, backbone_lr=0.2, head_lr=0.3)
    assert first == Phase(1, {"head": 0.3}, solved=True)
    assert second.epochs == 5
    assert set(second.rates) == {*EVERYTHING, *CBAM_RATES}
    assert phases("probe-then-fine-tune", 1, WITH_CBAM, head_lr=0.3) == [first]


@pytest.mark.parametrize(("model", "last"), [(RESNET20, "layer3"), (RESNET18, "layer4")])
def test_last_stage_trains_the_networks_last_stage_at_a_tenth_of_the_heads_rate(model: ModelConfig, last: str) -> None:
    (phase,) = phases("last-stage", 10, model)
    assert phase.rates == {last: 1e-4, "head": 1e-3}


@pytest.mark.parametrize(
    ("epochs", "lengths"), [(40, [5, 35]), (10, [5, 5]), (7, [3, 4]), (3, [1, 2]), (2, [1, 1]), (1, [1])]
)
def test_freeze_unfreeze_trains_the_head_for_five_epochs_or_half_of_a_short_training(
    epochs: int, lengths: list[int]
) -> None:
    found = phases("freeze-unfreeze", epochs, RESNET20)
    assert [phase.epochs for phase in found] == lengths
    assert found[-1].rates == dict.fromkeys(EVERYTHING, 1e-4)
    assert all(phase.rates == {"head": 1e-3} for phase in found[:-1])


@pytest.mark.parametrize(
    ("epochs", "lengths"),
    [(50, [5, 15, 30]), (100, [10, 30, 60]), (10, [1, 3, 6]), (4, [1, 1, 2]), (3, [1, 1, 1]), (2, [1, 1]), (1, [1])],
)
def test_three_stage_has_the_tutorials_boundaries_scaled_to_the_epochs(epochs: int, lengths: list[int]) -> None:
    found = phases("three-stage", epochs, RESNET20)
    assert [phase.epochs for phase in found] == lengths
    assert found[-1].rates == pytest.approx(dict.fromkeys(EVERYTHING, 1e-5))


def test_three_stage_unfreezes_from_the_head_down() -> None:
    head, top, everything = phases("three-stage", 50, RESNET18)
    assert head.rates == pytest.approx({"head": 1e-3} | gates(1e-3))
    assert top.rates == pytest.approx({"head": 1e-3, "layer3": 1e-4, "layer4": 1e-4} | gates(1e-3))
    assert everything.rates == pytest.approx(dict.fromkeys(EVERYTHING | {"layer4"}, 1e-5) | gates(1e-5))


def test_discriminative_gives_the_backbone_a_hundredth_of_the_heads_rate() -> None:
    (phase,) = phases("discriminative", 10, WITH_CBAM)
    backbone = dict.fromkeys(("stem", "layer1", "layer2", "layer3"), 1e-5)
    assert phase.rates == pytest.approx(backbone | gates(1e-3) | {"head": 1e-3})


def test_with_layer_decay_every_block_has_that_share_of_the_next_ones_rate() -> None:
    (phase,) = phases("discriminative", 10, RESNET20, layer_decay=0.9)
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    assert list(phase.rates) == ["stem", *blocks, "head"]
    assert phase.rates["head"] == 1e-3
    assert all(low / high == pytest.approx(0.9) for low, high in pairwise(phase.rates.values()))


@pytest.mark.parametrize(("epochs", "lengths"), [(10, [1, 9]), (2, [1, 1]), (1, [1])])
def test_one_cycle_is_fastais_fine_tune(epochs: int, lengths: list[int]) -> None:
    """fit_one_cycle(1, slice(2e-3)) with a frozen body, then unfrozen with slice(1e-3 / 100, 1e-3)."""
    found = phases("one-cycle", epochs, RESNET20)
    assert [phase.epochs for phase in found] == lengths
    assert all(phase.rates == {"head": 2e-3} for phase in found[:-1])
    rates = [found[-1].rates[part] for part in ("stem", "layer1", "layer2", "layer3", "head")]
    assert (rates[0], rates[-1]) == pytest.approx((1e-5, 1e-3))
    assert all(high / low == pytest.approx(100 ** (1 / 4)) for low, high in pairwise(rates))
    assert recipe("one-cycle", "cifar10-mini").schedule == "one-cycle"


@pytest.mark.parametrize("new", [False, True])
def test_attention_trains_cbam_and_the_head_at_their_own_rates(new: bool) -> None:
    (phase,) = phases("attention", 7, WITH_CBAM, new_cbam=new, head_lr=0.02)
    assert phase == Phase(7, gates(0.02) | {"head": 0.02})


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", [RESNET20, WITH_CBAM, RESNET18])
@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 10, 50, 1_000])
def test_the_phases_of_every_strategy_fill_the_epochs_and_train_the_head(
    strategy: str, model: ModelConfig, epochs: int
) -> None:
    if strategy == "attention" and model is RESNET20:
        with pytest.raises(UserError, match=r"^The strategy 'attention' trains CBAM, which this model lacks: .*\.$"):
            phases(strategy, epochs, model)
        return
    found = phases(strategy, epochs, model)
    assert planned_epochs(found) == (1 if all(phase.solved for phase in found) else epochs)
    assert all(phase.epochs > 0 for phase in found)
    assert all("head" in phase.rates for phase in found)
    assert all(0 < rate <= 1 for phase in found for rate in phase.rates.values())
    if model.options["cbam"] is None:
        assert not any(set(CBAM_RATES) & set(phase.rates) for phase in found)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_recipe_plans_what_the_strategy_says_by_itself(strategy: str) -> None:
    assert plan(recipe(strategy, "cifar10-mini", epochs=20), WITH_CBAM) == phases(strategy, 20, WITH_CBAM)


def test_a_recipes_settings_can_be_overridden() -> None:
    training = recipe("last-stage", "cifar10-mini", epochs=3, backbone_lr=0.5, optimizer="sgd")
    assert (training.strategy, training.head_lr, training.optimizer) == ("last-stage", 1e-3, "sgd")
    assert plan(training, RESNET20)[0].rates == {"layer3": 0.5, "head": 1e-3}


def test_an_unknown_strategy_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"^The strategy must be one of full, scratch, .*, not 'magic'\.$"):
        recipe("magic", "cifar10-mini")


def test_scratch_has_no_start() -> None:
    with pytest.raises(ValueError, match=r"^The strategy 'scratch' trains from random weights, not from a-run: .*\.$"):
        TrainConfig(dataset="cifar10-mini", strategy="scratch", start="a-run")


def test_an_epoch_knows_its_phase() -> None:
    found = phases("three-stage", 10, RESNET20)
    assert [phase_at(found, epoch) for epoch in range(10)] == [(0, 0)] + [(1, 1)] * 3 + [(2, 4)] * 6
    with pytest.raises(IndexError):
        phase_at(found, 10)


# Learning rates


@pytest.mark.parametrize(("total", "warmup"), [(100, 0.2), (1_000, 0.05), (7, 0.5), (3, 0.0)])
def test_the_rate_rises_linearly_to_its_peak_and_falls_to_zero(total: int, warmup: float) -> None:
    rise = math.ceil(warmup * total)
    rates = [rate_at(step, total, warmup) for step in range(total + 1)]
    assert rates[:rise] == pytest.approx([(step + 1) / (rise + 1) for step in range(rise)])
    assert all(0 < rate <= 1 for rate in rates[:-1])
    assert rates[total] == pytest.approx(0)
    assert rates[rise:] == sorted(rates[rise:], reverse=True)
    assert max(rates) == rates[rise]


def test_after_the_warm_up_the_rate_is_torchs_cosine_annealing() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=80)
    for step in range(20, 101):
        assert rate_at(step, 100, 0.2) == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        cosine.step()


def test_the_warm_up_may_be_nothing_or_everything() -> None:
    assert rate_at(0, 10, 0.0) == 1
    rates = [rate_at(step, 10, 1.0) for step in range(10)]
    assert rates == pytest.approx([step / 11 for step in range(1, 11)])
