"""Fine-tuning strategies: a strategy is a list of phases, each with the parts that train and their learning rates.

To add a strategy, write a function that returns its phases and decorate it with `@register_strategy(...)`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from resnet_space import config
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.models.registry import CHANNEL_ATTENTION, HEAD, SPATIAL_ATTENTION, STEM

# CBAM's learning rates as shares of its part's. A spatial gate sums 2 x 7 x 7 inputs that are never negative, so its
# weights all pull one way: at the full rate the gates of a network with random weights close for good within 30 steps
# (the loss stays at ln 10); at 1/98 of it they learn.
CBAM_RATES = {CHANNEL_ATTENTION: 0.1, SPATIAL_ATTENTION: 0.01}


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs with the same trainable parts.

    `rates` has the peak learning rate of every part that trains, by its name: "stem", "layer1" or a single block as
    "layer1.0", "channel attention", "spatial attention", "head". What is not there is frozen, BatchNorm's running
    statistics included. A `solved` phase is one epoch, in which the head is solved on the images as they are.
    """

    epochs: int
    rates: dict[str, float]
    solved: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it is logged: `solved` only where it is, as versions before know no more."""
        return {"epochs": self.epochs, "rates": self.rates} | ({"solved": True} if self.solved else {})


Phases = Callable[[TrainConfig, ModelConfig, bool], list[Phase]]


@dataclass(frozen=True)
class Strategy:
    """A fine-tuning strategy.

    Attributes:
        id: what `TrainConfig.strategy` says.
        summary: what trains when, in a clause.
        source: its origin.
        phases: gives the phases for (training, model, whether CBAM has random weights in a trained network); those
            without epochs are left out.
        label: display name.
        start: whether it is meant for trained weights ("needed"), for random ones ("none") or for both ("optional").
        settings: the values of TrainConfig's fields that it is meant to be used with.
        own_fields: the fields of TrainConfig that only it reads, each with a hint.
        suits: what it is for, in a clause.
    """

    id: str
    summary: str
    source: str
    phases: Phases
    label: str
    start: Literal["needed", "optional", "none"] = "needed"
    settings: Mapping[str, Any] = field(default_factory=dict)
    own_fields: Mapping[str, str] = field(default_factory=dict)
    suits: str = ""


STRATEGIES: dict[str, Strategy] = config.STRATEGIES


def register_strategy(
    id: str, summary: str, source: str, *, label: str = "", **more: Any
) -> Callable[[Phases], Phases]:
    """Register the decorated function as the phases of a new `Strategy`, which may have `more` of its fields.

    Raises ValueError if the id is taken.
    """

    def register(phases: Phases) -> Phases:
        if id in STRATEGIES:
            raise ValueError(f"A strategy {id!r} already exists.")
        STRATEGIES[id] = Strategy(id, summary, source, phases, label or id, **more)
        return phases

    return register


def from_random_weights() -> Strategy:
    """The strategy for networks that start with random weights."""
    return next(strategy for strategy in STRATEGIES.values() if strategy.start == "none")


def own_field_hint(field: str) -> str:
    """A hint for a field of TrainConfig that only some strategies use."""
    readers = [strategy for strategy in STRATEGIES.values() if field in strategy.own_fields]
    return f"{', '.join(reader.label for reader in readers)} only; {readers[0].own_fields[field]}"


def recipe(strategy: str, dataset: str, **settings: Any) -> TrainConfig:
    """A strategy's default settings, with overrides. Raises UserError for invalid values."""
    own = STRATEGIES[strategy].settings if strategy in STRATEGIES else {}
    return TrainConfig(dataset=dataset, strategy=strategy, **{**own, **settings})


def strategy_values(strategy: str) -> dict[str, Any]:
    """The settings that a strategy is meant to be used with, whatever the data."""
    names = dict.fromkeys(name for known in STRATEGIES.values() for name in known.settings)
    training = recipe(strategy, "-")
    return {name: getattr(training, name) for name in names}


def from_scratch(training: TrainConfig) -> TrainConfig:
    """The same training from random weights.

    Everything trains, at the rates made for that where the strategy's own are for trained parts.
    """
    scratch = from_random_weights().id
    own = strategy_values(scratch) if STRATEGIES[training.strategy].start == "needed" else {}
    own.pop("crop", None)
    if training.epochs > 1:  # the budget stays; a head that is solved at once has none
        own.pop("epochs", None)
    return replace(training, start=None, strategy=scratch, **own)


def stage_names(model: ModelConfig) -> tuple[str, ...]:
    return tuple(model.entry.stages())


def backbone_parts(model: ModelConfig) -> tuple[str, ...]:
    """The parts before the head without CBAM, in forward order."""
    return STEM, *stage_names(model)


def plan(training: TrainConfig, model: ModelConfig, *, new_cbam: bool = False) -> list[Phase]:
    """The phases of a run's training: what trains when, and at which peak rates.

    Args:
        training: its strategy, epochs and rates. With fewer epochs than phases the middle ones are left out.
        model: what is trained.
        new_cbam: CBAM has random weights in a network that is trained: it learns wherever the head does.
    """
    phases = STRATEGIES[training.strategy].phases(training, model, new_cbam)
    planned = [phase for phase in phases if phase.epochs]
    return planned + [Phase(epochs, planned[-1].rates) for epochs in training.more_epochs]


def planned_epochs(plan: list[Phase]) -> int:
    return sum(phase.epochs for phase in plan)


# The strategies


def _is_solvable(training: TrainConfig) -> bool:
    """Whether L-BFGS finds the best head."""
    return bool(config.OBJECTIVES[training.objective].solvable)


def _cbam(model: ModelConfig, rate: float) -> dict[str, float]:
    return {part: rate * CBAM_RATES.get(part, 1) for part in model.added_parts}


def _everything(model: ModelConfig, rate: float, head: float) -> dict[str, float]:
    return dict.fromkeys(backbone_parts(model), rate) | _cbam(model, rate) | {HEAD: head}


def _only_head(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> dict[str, float]:
    return (_cbam(model, training.head_lr) if new_cbam else {}) | {HEAD: training.head_lr}


_ADAMW = {"optimizer": "adamw", "weight_decay": 0.01, "warmup": 0.1}
_TUTORIAL = _ADAMW | {"head_lr": 1e-3, "backbone_lr": 1e-4}


# Decorators are called from the last to the first.
@register_strategy("scratch", "trains everything at once, from random initialisation", "tutorials", start="none")
@register_strategy(
    "full",
    "trains everything at once, at high learning rates",
    "the ImageNet recipe, shortened",
    start="optional",
    suits="many images, or random initialisation",
)
def full(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    return [Phase(training.epochs, _everything(model, training.backbone_lr, training.head_lr))]


@register_strategy(
    "linear-probe",
    "trains only the head, solved by L-BFGS on features computed once (a new CBAM is trained by gradient steps)",
    "Alain & Bengio 2016",
    # Images that are the same in every epoch need the frozen layers once only, and the test accuracy is the same:
    # 70.4 ± 0.5 % instead of 70.3 ± 0.6 % on cifar10-mini (10 epochs of AdamW, 3 seeds).
    settings=_ADAMW
    | {
        "optimizer": "l-bfgs",
        "epochs": 1,
        "head_lr": 1e-2,
        "backbone_lr": 1e-4,
        "crop_padding": 0,
        "flip": False,
    },
    suits="photographs, few images, or little time",
)
def linear_probe(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    head = _only_head(training, model, new_cbam)
    solved = training.optimizer == "l-bfgs" and set(head) == {HEAD} and _is_solvable(training)
    return [Phase(1, head, solved=True) if solved else Phase(training.epochs, head)]


@register_strategy(
    "probe-then-fine-tune",
    "solves the head first, then trains everything; keeps the best epoch",
    "Kumar et al. 2022, arXiv:2202.10054",
    # With the moving average 75.0 instead of 74.4 % on cifar10-mini (2 seeds).
    settings={"epochs": 10, "ema": 0.98},
    suits="small images and a backbone that was pretrained on others",
)
def probe_then_fine_tune(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    later = _everything(model, training.backbone_lr, training.head_lr)
    if not _is_solvable(training):
        return [Phase(training.epochs, later)]
    return [Phase(1, {HEAD: training.head_lr}, solved=True), Phase(training.epochs - 1, later)]


@register_strategy(
    "last-stage",
    "trains the last stage and the head",
    "tutorials",
    settings=_TUTORIAL,
    suits="data that resembles what the backbone was pretrained on",
)
def last_stage(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    last = dict.fromkeys(stage_names(model)[-1:], training.backbone_lr)
    return [Phase(training.epochs, last | _only_head(training, model, new_cbam))]


@register_strategy(
    "freeze-unfreeze",
    "trains the head for 5 epochs, then everything",
    "tutorials",
    settings=_TUTORIAL,
    suits="data that differs from what the backbone was pretrained on",
)
def freeze_unfreeze(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    frozen = min(5, training.epochs // 2)
    later = _everything(model, training.backbone_lr, training.backbone_lr)
    return [Phase(frozen, _only_head(training, model, new_cbam)), Phase(training.epochs - frozen, later)]


@register_strategy(
    "three-stage",
    "trains head and CBAM, then also the last two stages, then everything at a tenth of the rate",
    "tutorials",
    settings=_TUTORIAL,
    suits="long trainings of a network with CBAM",
)
def three_stage(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    # Epochs 1-5, 6-20 and 21-50 in the tutorial.
    epochs, low = training.epochs, training.backbone_lr / 10
    first = max(round(epochs * 5 / 50), int(epochs > 1))
    second = max(round(epochs * 20 / 50), first + int(epochs > 2))
    top = _cbam(model, training.head_lr) | {HEAD: training.head_lr}
    stages = dict.fromkeys(stage_names(model)[-2:], training.backbone_lr)
    return [
        Phase(first, top),
        Phase(second - first, stages | top),
        Phase(epochs - second, _everything(model, low, low)),
    ]


@register_strategy(
    "discriminative",
    "trains everything at once, the backbone at 1/100 of the head's rate",
    "tutorials",
    settings=_TUTORIAL | {"backbone_lr": 1e-5},
    own_fields={"layer_decay": "1 disables it"},
    suits="few images: the backbone changes little",
)
def discriminative(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    if training.layer_decay == 1:
        rates = dict.fromkeys(backbone_parts(model), training.backbone_lr)
    else:
        rates = _decayed(model, training.head_lr, training.layer_decay)
    return [Phase(training.epochs, rates | _cbam(model, training.head_lr) | {HEAD: training.head_lr})]


@register_strategy(
    "one-cycle",
    "trains the head for one epoch, then everything in one cycle, with rates that increase from stem to head",
    "fastai's fine_tune",
    settings=_ADAMW | {"head_lr": 2e-3, "backbone_lr": 1e-5, "schedule": "one-cycle", "warmup": 0.25},
    suits="short trainings of all layers",
)
def one_cycle(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    frozen, head = int(training.epochs > 1), training.head_lr
    return [
        Phase(frozen, _only_head(training, model, new_cbam)),
        Phase(training.epochs - frozen, _even_multiples(backbone_parts(model), head / 200, head / 2, model)),
    ]


@register_strategy(
    "attention",
    "trains CBAM and the head, everything else stays frozen",
    "Woo et al. 2018, on trained weights",
    label="Attention only",
    # Where CBAM follows the last stage only, all before it runs once for images that are the same in every epoch.
    settings=_ADAMW | {"head_lr": 1e-2, "backbone_lr": 1e-4, "crop": "padded", "crop_padding": 0, "flip": False},
    suits="measuring what CBAM adds to a fixed backbone",
)
def attention(training: TrainConfig, model: ModelConfig, new_cbam: bool) -> list[Phase]:
    if not model.added_parts:
        raise UserError(
            "The strategy 'attention' trains CBAM, which this model lacks: add CBAM, or choose another strategy."
        )
    return [Phase(training.epochs, _cbam(model, training.head_lr) | {HEAD: training.head_lr})]


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
    return rates | _cbam(model, rates[parts[-1]]) | {HEAD: high}


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
