import inspect
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnet_space.config import STRATEGIES, ModelConfig, TrainConfig
from resnet_space.models import ResNet, create_model
from resnet_space.training.optim import (
    SGD,
    AdamW,
    create_optimizer,
    create_schedule,
    current_rates,
    freeze_all_but,
    moving_average,
    parameter_groups,
    set_training_mode,
    trained_at,
)
from resnet_space.training.strategies import Phase, recipe
from tests.trainings import phases

RESNET20 = ModelConfig("resnet20", ("cat", "dog"), options={"cbam": "stage", "shortcut": "projection"}, image_size=8)
RESNET18 = ModelConfig("resnet18", ("cat", "dog"), options={"stem": "cifar", "cbam": "block"}, image_size=32)


def owner(name: str) -> str:
    """The part that a parameter's name says, worked out independently of the product."""
    module = name.split(".")
    if "cbam" in name:
        return "spatial attention" if "spatial" in module else "channel attention"
    return {"conv1": "stem", "bn1": "stem", "fc": "head"}.get(module[0], module[0])


def batch(config: ModelConfig) -> Tensor:
    return torch.randn(4, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(0))


# Every phase of every strategy


@pytest.mark.parametrize("config", [RESNET20, RESNET18], ids=["resnet20", "resnet18"])
@pytest.mark.parametrize("new_cbam", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_optimizer_has_exactly_what_the_phase_trains_at_exactly_its_rates(
    strategy: str, new_cbam: bool, config: ModelConfig
) -> None:
    training = recipe(strategy, "any", weight_decay=0.03)
    for phase in phases(strategy, 10, config, new_cbam=new_cbam):
        model = config.build()
        freeze_all_but(model, phase.rates)
        optimizer = create_optimizer(model, phase, training)
        settings = {
            id(parameter): (group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        assert len(settings) == sum(len(group["params"]) for group in optimizer.param_groups)  # none twice
        for name, parameter in model.named_parameters():
            rate = phase.rates.get(owner(name))
            assert parameter.requires_grad == (rate is not None), name
            if rate is None:
                assert id(parameter) not in settings, name
                continue
            is_norm_or_bias = name.endswith(".bias") or ".bn" in f".{name}" or "downsample.1." in name
            assert settings[id(parameter)] == (rate, 0 if is_norm_or_bias else 0.03), name


@pytest.mark.parametrize("config", [RESNET20, RESNET18], ids=["resnet20", "resnet18"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_phase_freezes_is_bit_identical_after_it_and_all_else_has_changed(
    strategy: str, config: ModelConfig
) -> None:
    """Running statistics included: in train mode those of a frozen BatchNorm would drift."""
    for phase in phases(strategy, 10, config):
        torch.manual_seed(0)
        model = config.build()
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.1)  # CBAM's zeros would hold back the gradient of its first layer
        before = {name: value.clone() for name, value in model.state_dict().items()}
        freeze_all_but(model, phase.rates)
        set_training_mode(model)
        optimizer = create_optimizer(model, phase, recipe(strategy, "any"))
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch(config)), torch.tensor([0, 1, 0, 1])).backward()
            optimizer.step()
        for name, value in model.state_dict().items():
            changed = not torch.equal(value, before[name])
            assert changed == (owner(name) in phase.rates), name


def test_the_faulty_ways_of_the_tutorials_are_told_apart_by_these_tests() -> None:
    """model.train() alone moves the statistics of frozen layers; unfreezing alone trains nothing new."""
    model = RESNET20.build()
    freeze_all_but(model, {"head": 0.1})
    before = model.bn1.running_mean.clone()
    model.train()(batch(RESNET20))
    assert not torch.equal(model.bn1.running_mean, before)

    set_training_mode(model)
    before = model.bn1.running_mean.clone()
    model(batch(RESNET20))
    assert torch.equal(model.bn1.running_mean, before)

    optimizer = create_optimizer(model, Phase(1, {"head": 0.1}), TrainConfig(dataset="any"))
    freeze_all_but(model, {"head": 0.1, "layer3": 0.1})  # without a new optimizer
    before_weight = model.layer3[0].conv1.weight.clone()
    model(batch(RESNET20)).sum().backward()
    optimizer.step()
    assert torch.equal(model.layer3[0].conv1.weight, before_weight)


def test_with_layer_decay_every_block_is_a_group_of_its_own() -> None:
    model = RESNET20.with_options(cbam=None).build()
    (phase,) = phases("discriminative", 10, RESNET20.with_options(cbam=None), layer_decay=0.5)
    groups = parameter_groups(model, phase, 0.0)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rates[id(model.fc.weight)] == 1e-3
    assert rates[id(model.layer3[2].conv2.weight)] == pytest.approx(5e-4)
    assert rates[id(model.layer1[0].bn2.bias)] == pytest.approx(1e-3 * 0.5**9)
    assert rates[id(model.conv1.weight)] == pytest.approx(1e-3 * 0.5**10)
    optimizer = create_optimizer(model, phase, TrainConfig(dataset="any"))
    # What is written to the metrics: one rate a stage, its last block's.
    assert current_rates(optimizer) == pytest.approx(
        {"stem": 1e-3 * 0.5**10, "layer1": 1e-3 * 0.5**7, "layer2": 1e-3 * 0.5**4, "layer3": 5e-4, "head": 1e-3}
    )


def test_a_part_is_found_by_its_most_special_name() -> None:
    model = create_model("resnet110", cbam="block")
    trained = trained_at(model, {"layer1", "layer1.1", "stem", "head"})
    assert trained["layer1.0.conv1.weight"] == "layer1"
    assert trained["layer1.1.conv1.weight"] == "layer1.1"
    assert trained["layer1.10.conv1.weight"] == "layer1"
    assert trained["bn1.weight"] == "stem"
    assert trained["fc.bias"] == "head"
    assert "layer2.0.conv1.weight" not in trained
    assert "layer1.0.cbam.spatial.conv.weight" not in trained


# Schedules


def trained_rates(training: TrainConfig, steps: int) -> list[dict[str, float]]:
    """The rates at every step, and after the last."""
    model = RESNET20.build()
    optimizer = create_optimizer(model, Phase(1, {"stem": 0.1, "head": 0.4}), training)
    schedule = create_schedule(optimizer, training, steps)
    found = []
    for _ in range(steps):
        found.append(current_rates(optimizer))
        optimizer.step()
        if training.schedule != "plateau":
            schedule.step()  # pyrefly: ignore[missing-argument]
    return [*found, current_rates(optimizer)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "plateau", "constant"])
def test_every_part_peaks_at_its_own_rate(schedule: Any, optimizer: Any) -> None:
    rates = trained_rates(TrainConfig(dataset="any", schedule=schedule, optimizer=optimizer, warmup=0.3), 20)
    assert max(rate["stem"] for rate in rates) == pytest.approx(0.1, rel=0.02)
    assert max(rate["head"] for rate in rates) == pytest.approx(0.4, rel=0.02)
    if schedule in ("plateau", "constant"):
        assert all(rate == rates[0] for rate in rates)
    else:
        assert rates[0]["head"] < 0.2
        assert rates[-1]["head"] < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "plateau", "constant"])
def test_a_phase_may_be_a_few_steps_long(schedule: Any, steps: int) -> None:
    for warmup in (0.0, 0.25, 1.0):
        rates = trained_rates(TrainConfig(dataset="any", schedule=schedule, warmup=warmup), steps)
        assert all(0 <= rate["head"] <= 0.4 for rate in rates)


def test_plateau_halves_the_rates_after_three_epochs_that_are_no_better() -> None:
    training = TrainConfig(dataset="any", schedule="plateau")
    optimizer = create_optimizer(RESNET20.build(), Phase(1, {"head": 0.4}), training)
    schedule = create_schedule(optimizer, training, 10)
    found = []
    for loss in (1.0, 0.9, 0.95, 0.95, 0.95, 0.8):
        schedule.step(loss)
        found.append(current_rates(optimizer)["head"])
    assert found == [0.4, 0.4, 0.4, 0.4, 0.2, 0.2]


# Moving average


def test_the_moving_average_follows_the_formula_and_forgets_the_beginning_sooner() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = moving_average(model, 0.9)
    expected = None
    for update in range(30):
        model[0].weight.data.fill_(update)
        model[1].running_mean.fill_(10 * update)
        model[1].num_batches_tracked.fill_(update)
        average.update_parameters(model)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = float(update) if expected is None else decay * expected + (1 - decay) * update
        assert average.module[0].weight.item() == pytest.approx(expected)
        assert average.module[1].running_mean.item() == pytest.approx(10 * expected)
        assert average.module[1].num_batches_tracked.item() == update


def test_a_models_moving_average_is_a_model_of_its_own() -> None:
    model = RESNET20.build()
    average = moving_average(model, 0.9)
    assert isinstance(average.module, ResNet)
    average.update_parameters(model)
    assert average.module.state_dict().keys() == model.state_dict().keys()
    assert average.module.conv1.weight is not model.conv1.weight


# PyTorch's own optimizers, without its compiler


SETTINGS: dict[type[torch.optim.Optimizer], dict[str, Any]] = {
    SGD: {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    AdamW: {"lr": 0.1, "weight_decay": 0.01},
}


def stepped(kind: type[torch.optim.Optimizer], settings: dict[str, Any], state: Any = None) -> tuple[Tensor, Any]:
    """A weight after three steps, and the optimizer's state; from the state of another, if there is one."""
    weight = nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = kind([weight], **settings)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(3):
        optimizer.zero_grad()
        weight.pow(3).sum().backward()
        optimizer.step()
    return weight.detach(), optimizer.state_dict()


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_optimizer_steps_to_the_bit_as_pytorchs(kind: type[torch.optim.Optimizer]) -> None:
    original, settings = kind.__mro__[1], SETTINGS[kind]
    weight, state = stepped(kind, settings)
    expected, expected_state = stepped(original, settings)
    assert torch.equal(weight, expected)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=0)
    assert torch.equal(stepped(kind, settings, expected_state)[0], stepped(original, settings, state)[0])


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_optimizer_does_not_import_pytorchs_compiler(
    kind: type[torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):  # as if not called so far
        method = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        monkeypatch.delattr(method, "__dynamo_disable", raising=False)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # which makes its import an error
    _, state = stepped(kind, SETTINGS[kind])
    stepped(kind, SETTINGS[kind], state)
    with pytest.raises(ImportError):
        stepped(kind.__mro__[1], SETTINGS[kind])
