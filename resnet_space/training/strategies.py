"""How a network is fine-tuned: a strategy is a list of phases, each with the parts that train and at which rates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.models.registry import CHANNEL_ATTENTION, HEAD, SPATIAL_ATTENTION, STEM

# CBAM's learning rates as shares of its part's. A spatial gate sums 2 x 7 x 7 inputs that are never negative, so its
# weights all pull one way: at the full rate the gates of a network with random weights close for good within 30 steps
# (the loss stays at ln 10); at 1/98 of it they learn.
CBAM_RATES = {CHANNEL_ATTENTION: 0.1, SPATIAL_ATTENTION: 0.01}


@dataclass(frozen=True)
class Strategy:
    """What the page says about a strategy, and the settings of TrainConfig that it is meant to be used with."""

    summary: str
    source: str
    settings: Mapping[str, Any]


_ADAMW = {"optimizer": "adamw", "weight_decay": 0.01, "warmup": 0.1}
_TUTORIAL = _ADAMW | {"head_lr": 1e-3, "backbone_lr": 1e-4}

STRATEGIES: dict[str, Strategy] = {
    "full": Strategy("everything trains at once, at high rates", "the ImageNet recipe, shortened", {}),
    "scratch": Strategy("the same from random initialisation", "tutorials", {}),
    "linear-probe": Strategy(
        "only the head trains (and CBAM, where it is new)",
        "standard",
        # Images that are the same in every epoch need the frozen layers once only, and the test accuracy is the same:
        # 70.4 ± 0.5 % instead of 70.3 ± 0.6 % on cifar10-mini (10 epochs, 3 seeds).
        _ADAMW | {"head_lr": 1e-2, "backbone_lr": 1e-4, "crop_padding": 0, "flip": False},
    ),
    "last-stage": Strategy("the last stage and the head train", "tutorials", _TUTORIAL),
    "freeze-unfreeze": Strategy("the head for 5 epochs, then everything", "tutorials", _TUTORIAL),
    "three-stage": Strategy(
        "head and CBAM, then the last two stages too, then everything at a tenth", "tutorials", _TUTORIAL
    ),
    "discriminative": Strategy(
        "everything at once, the backbone at 1/100 of the head's rate", "tutorials", _TUTORIAL | {"backbone_lr": 1e-5}
    ),
    "one-cycle": Strategy(
        "one frozen epoch, then one cycle of rates that grow from the stem to the head",
        "fastai's fine_tune",
        _ADAMW | {"head_lr": 2e-3, "backbone_lr": 1e-5, "schedule": "one-cycle", "warmup": 0.25},
    ),
}


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one set of trainable parts.

    `rates` has the peak learning rate of every part that trains, by its name: "stem", "layer1" or a single block as
    "layer1.0", "channel attention", "spatial attention", "head". What is not there is frozen, BatchNorm's running
    statistics included.
    """

    epochs: int
    rates: dict[str, float]


def recipe(strategy: str, dataset: str, **settings: Any) -> TrainConfig:
    """A strategy's own settings, with others given. Raises UserError for what is not allowed."""
    own = STRATEGIES[strategy].settings if strategy in STRATEGIES else {}
    return TrainConfig(**{"dataset": dataset, "strategy": strategy} | dict(own) | settings)


def stage_names(model: ModelConfig) -> tuple[str, ...]:
    return tuple(model.entry.stages())


def backbone_parts(model: ModelConfig) -> tuple[str, ...]:
    """The parts before the head without CBAM, in forward order."""
    return STEM, *stage_names(model)


def plan(training: TrainConfig, model: ModelConfig, *, new_cbam: bool = False) -> list[Phase]:
    """The phases of a run's training; `new_cbam` where its start has weights for all but CBAM."""
    planned = phases(
        training.strategy,
        training.epochs,
        model,
        backbone_lr=training.backbone_lr,
        head_lr=training.head_lr,
        layer_decay=training.layer_decay,
        new_cbam=new_cbam,
    )
    return planned + [Phase(epochs, planned[-1].rates) for epochs in training.more_epochs]


def phases(
    strategy: str,
    epochs: int,
    model: ModelConfig,
    *,
    backbone_lr: float | None = None,
    head_lr: float | None = None,
    layer_decay: float = 1.0,
    new_cbam: bool = False,
) -> list[Phase]:
    """What trains when, and at which peak rates.

    Args:
        strategy: one of STRATEGIES.
        epochs: of the whole training; where there are fewer than phases, the middle ones are left out.
        model: what is trained.
        backbone_lr: of the parts before the head; the strategy's own where it is None.
        head_lr: of the head, and of CBAM where a strategy trains it with the head.
        layer_decay: "discriminative" only: below 1, each block has this share of the next one's rate.
        new_cbam: CBAM has random weights: then it trains wherever the head does.
    """
    own = TrainConfig(dataset="-", **STRATEGIES[strategy].settings)
    backbone = own.backbone_lr if backbone_lr is None else backbone_lr
    head = own.head_lr if head_lr is None else head_lr
    stages = stage_names(model)
    everything = backbone_parts(model)

    def at(parts: tuple[str, ...], rate: float) -> dict[str, float]:
        return dict.fromkeys(parts, rate)

    def cbam(rate: float) -> dict[str, float]:
        return {part: rate * CBAM_RATES.get(part, 1) for part in model.added_parts}

    only_head = (cbam(head) if new_cbam else {}) | {HEAD: head}
    if strategy in ("full", "scratch"):
        stretches = [(epochs, at(everything, backbone) | cbam(backbone) | {HEAD: head})]
    elif strategy == "linear-probe":
        stretches = [(epochs, only_head)]
    elif strategy == "last-stage":
        stretches = [(epochs, at(stages[-1:], backbone) | only_head)]
    elif strategy == "freeze-unfreeze":
        frozen = min(5, epochs // 2)
        later = at(everything, backbone) | cbam(backbone) | {HEAD: backbone}
        stretches = [(frozen, only_head), (epochs - frozen, later)]
    elif strategy == "three-stage":
        # Epochs 1-5, 6-20 and 21-50 in the tutorial.
        first = max(round(epochs * 5 / 50), int(epochs > 1))
        second = max(round(epochs * 20 / 50), first + int(epochs > 2))
        top = cbam(head) | {HEAD: head}
        stretches = [
            (first, top),
            (second - first, at(stages[-2:], backbone) | top),
            (epochs - second, at(everything, backbone / 10) | cbam(backbone / 10) | {HEAD: backbone / 10}),
        ]
    elif strategy == "discriminative":
        rates = at(everything, backbone) if layer_decay == 1 else _decayed(model, head, layer_decay)
        stretches = [(epochs, rates | cbam(head) | {HEAD: head})]
    else:
        assert strategy == "one-cycle", strategy
        frozen = int(epochs > 1)
        stretches = [(frozen, only_head), (epochs - frozen, _even_multiples(everything, head / 200, head / 2, model))]
    return [Phase(length, rates) for length, rates in stretches if length]


def _decayed(model: ModelConfig, head: float, decay: float) -> dict[str, float]:
    """Each block's rate is `decay` times that of the block after it; the head counts as the last."""
    blocks = [block for stage in model.entry.stages().values() for block in stage]
    return {part: head * decay ** (len(blocks) + 1 - i) for i, part in enumerate((STEM, *blocks))}


def _even_multiples(parts: tuple[str, ...], low: float, high: float, model: ModelConfig) -> dict[str, float]:
    """Rates from `low` at the stem to `high` at the head, each the same multiple of the one before.

    fastai cuts a ResNet into three such groups; here every part is one. CBAM learns with the last stage.
    """
    factor = (high / low) ** (1 / len(parts))
    rates = {part: low * factor**i for i, part in enumerate(parts)}
    gates = {part: rates[parts[-1]] * CBAM_RATES.get(part, 1) for part in model.added_parts}
    return rates | gates | {HEAD: high}


def phase_at(plan: list[Phase], epoch: int) -> tuple[int, int]:
    """(index of the phase that epoch 0, 1, ... belongs to, that phase's first epoch)."""
    first = 0
    for index, phase in enumerate(plan):
        if epoch < first + phase.epochs:
            return index, first
        first += phase.epochs
    raise IndexError(f"epoch {epoch} of {first}")


def rate_at(step: int, total_steps: int, warmup: float) -> float:
    """The share of the peak learning rate at a step: linear rise, half a cosine to zero (Loshchilov 2017)."""
    rise = warmup * total_steps
    if step < rise:
        return (step + 1) / (math.ceil(rise) + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total_steps - rise, 1)))
