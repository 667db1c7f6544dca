"""Implements a phase: freezing, the optimizer's groups, the schedule, the moving average."""

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from resnet_space.config import TrainConfig
from resnet_space.models import Backbone
from resnet_space.training.strategies import Phase, rate_at

Schedule = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau
Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)
Groups = dict[tuple[str, bool], list[nn.Parameter]]  # (part, with weight decay)

BESIDE = "discriminator"  # the name of the rate of what an objective trains beside the model

_PLATEAU = {"factor": 0.5, "patience": 2}


def _eager(kind: type[Optimizer]) -> type[Optimizer]:
    """This optimizer of PyTorch without its calls of PyTorch's compiler. They only keep it away, yet import it, which
    takes half as long as PyTorch itself, and 0.1 GB.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), plain | {"step": torch.no_grad()(inspect.unwrap(kind.step))})


SGD, AdamW = _eager(torch.optim.SGD), _eager(torch.optim.AdamW)


def trained_at(model: Backbone, parts: Iterable[str]) -> dict[str, str]:
    """Parameter -> the one of `parts` it trains with: its own, else its stage. Other parameters are left out."""
    parts = set(parts)
    return {
        name: part.name if part.name in parts else part.stage
        for part in model.parts()
        for name in part.parameters
        if part.name in parts or (part.stage in parts and not part.added)
    }


def freeze_all_but(model: Backbone, parts: Iterable[str]) -> None:
    """Let only the parameters of these parts receive gradients from now on."""
    trained = trained_at(model, parts)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def set_training_mode(model: nn.Module, around: bool = True) -> None:
    """Train mode for what trains; what is frozen stays in eval mode: its BatchNorms' running statistics would drift,
    and its dropout would give another output each time. What has no parameters goes with what is `around` it.
    """
    trains = [parameter.requires_grad for parameter in model.parameters()]
    model.training = any(trains) if trains else around
    for child in model.children():
        set_training_mode(child, model.training)


def parameter_groups(model: Backbone, phase: Phase, weight_decay: float) -> list[dict[str, Any]]:
    """The phase's parts, each at its own rate; no weight decay on the network's exceptions."""
    groups: Groups = {(part, decay): [] for part in phase.rates for decay in (True, False)}
    trained, without_decay = trained_at(model, phase.rates), model.no_weight_decay()
    for name, parameter in model.named_parameters():
        if name in trained:
            groups[trained[name], name not in without_decay].append(parameter)
    return [
        {
            "name": part,
            "params": parameters,
            "lr": phase.rates[part],
            "weight_decay": weight_decay if decay else 0.0,
        }
        for (part, decay), parameters in groups.items()
        if parameters
    ]


def create_optimizer(
    model: Backbone, phase: Phase, training: TrainConfig, beside: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The configured optimizer over the phase's parts; "fused" updates every parameter in one pass.

    What an objective trains `beside` the model learns at the rate of a new head, without weight decay.
    """
    groups = parameter_groups(model, phase, training.weight_decay)
    if beside is not None:
        own = {"params": list(beside.parameters()), "lr": training.head_lr, "weight_decay": 0.0}
        groups.append({"name": BESIDE} | own)
    if training.optimizer != "sgd":
        return AdamW(groups, fused=True)
    return SGD(groups, lr=0.0, momentum=training.momentum, nesterov=training.momentum > 0, fused=True)


def create_schedule(optimizer: torch.optim.Optimizer, training: TrainConfig, steps: int) -> Schedule:
    """The learning-rate schedule over the `steps` of one phase; step "plateau" once per epoch, the others each step.

    "one-cycle" has fastai's numbers: from 1/25 of the peak to 1/100,000 of that, momentum between 0.95 and 0.85.
    """
    if training.schedule == "one-cycle":
        return lr_scheduler.OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=steps + 1,  # the scheduler is stepped after the last step too
            pct_start=max(training.warmup, 1.5 / (steps + 1)),
            div_factor=25,
            final_div_factor=1e5,
            cycle_momentum=True,
        )
    if training.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, **_PLATEAU)
    if training.schedule == "constant":
        return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
    return lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps, training.warmup))


def current_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The current learning rate of each part; for a stage with rates per block, that of its last block."""
    return {group["name"].split(".")[0]: group["lr"] for group in optimizer.param_groups}


def moving_average(model: Backbone, decay: float) -> AveragedModel:
    """An exponential moving average of weights and statistics, which forgets the random beginning sooner."""

    def average(mean: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        if not mean.is_floating_point():
            return value
        return mean.lerp(value, 1 - min(decay, (1 + float(updates)) / (10 + float(updates))))

    return AveragedModel(model, avg_fn=average, use_buffers=True)
