"""What to train for some data, and how: a function of the data, the weights at hand and this machine's speed.

It aims at the best accuracy within about a minute. Photographs go once through a network that knows ImageNet, and a new
head is solved on its features; small images go to the backbone for them, which is then fine-tuned where there is time.
The accuracies that this rests on are in docs/measurements.md, "What the form proposes".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data.summary import SMALL_IMAGE, DatasetSummary, image_settings, learned_images, suited
from resnet_space.models.registry import HEAD, entry_of
from resnet_space.training.speeds import CPU, Speeds
from resnet_space.training.strategies import STRATEGIES, Phase, backbone_parts, plan, recipe

BUDGET_SECONDS = 75.0  # that a proposed training is to take: about a minute
MOST_SECONDS = 180.0  # that fine-tuning may take where its first result, the solved head, is there long before
LEAST_EPOCHS = 5  # of fine-tuning: with fewer there is little to gain
LONG_SECONDS = 300.0  # from which on it is said where the time goes
UNMEASURED_IMAGES = 5_000  # to learn from, up to which fine-tuning is proposed before its pace is known
FEW_OF_A_CLASS = 20  # photographs in the mean, below which more of them were measured to help
SCRATCH = "resnet20"  # from random initialisation, where no weights are at hand
FROZEN, SMALL, FULL = "linear-probe", "probe-then-fine-tune", "full"  # for photographs, small images, random weights

# What a strategy sets when it is chosen, what the data and the start set, and what a proposal sets besides.
STRATEGY_SETTINGS = tuple(dict.fromkeys(name for strategy in STRATEGIES.values() for name in strategy.settings))
DATA_SETTINGS = ("image_size", "crop", "batch_size")
CHOICES = ("start", "architecture", "cbam", "strategy")


@dataclass(frozen=True)
class Proposal:
    """A training that suits the data.

    Attributes:
        start: the run whose weights to start from; None for random initialisation.
        architecture: of the network.
        cbam: where a CBAM is added; "" leaves the start's.
        strategy: what trains when.
        settings: values of TrainConfig's fields, and `image_size`.
        seconds: until the test accuracy is there; None where this machine's speed was not measured yet.
        reason: the data, the training and its time, in a sentence.
        more: what a longer training would do, or where the time goes, in a sentence; "" where there is nothing to say.
        time: how long it takes, in a clause.
    """

    start: str | None
    architecture: str
    cbam: str
    strategy: str
    settings: Mapping[str, Any]
    seconds: float | None
    reason: str
    more: str = ""
    time: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """All that it sets, by the names of the form's fields."""
        return {name: getattr(self, name) for name in CHOICES} | dict(self.settings)

    def to_json(self) -> dict[str, Any]:
        seconds = None if self.seconds is None else round(self.seconds, 1)
        return self.values | {"seconds": seconds, "reason": self.reason, "more": self.more}


def propose(
    data: DatasetSummary,
    starts: Mapping[str, ModelConfig],
    speeds: Speeds,
    *,
    chosen: Mapping[str, Any] | None = None,
    most_epochs: int | None = None,
) -> Proposal:
    """What to train for some data.

    Args:
        data: what it has.
        starts: the weights at hand, by the names of their runs, the best first.
        speeds: of this machine.
        chosen: what is settled already, of `CHOICES` and "epochs"; a start of it has to be among `starts`.
        most_epochs: that a training may have here.

    Raises:
        UserError: for something chosen that there is not, or that does not go together.
    """
    chosen = chosen or {}
    start = chosen["start"] if "start" in chosen else best_start(data, starts)
    model = _model(data, starts, start, chosen)
    cbam = chosen.get("cbam") or ("" if start is not None or "cbam" not in model.entry.options else "stage")
    added = cbam if cbam not in ("", "none") and not model.added_parts else None
    model = model if added is None else model.with_options(cbam=added)
    new_cbam = added is not None and start is not None
    work = _Work(data, model, speeds, new_cbam=new_cbam, most_epochs=most_epochs)
    adapted = (
        start is not None and model.entry.suits_small_images(model.options) and starts[start].image_size > SMALL_IMAGE
    )
    strategy = chosen.get("strategy") or _best_strategy(work, start, adapted=adapted)
    settings = work.settings(strategy)
    settings |= {"epochs": chosen["epochs"]} if "epochs" in chosen else {}
    seconds = work.seconds(strategy, settings["epochs"])
    training = _training_words(work.model, start, strategy, settings["epochs"], adapted=adapted)
    time = _time_words(seconds, speeds)
    reason = f"{_data_words(data)}: {training}. {time[0].upper()}{time[1:]}."
    more = _more_words(work, strategy, seconds)
    return Proposal(start, work.model.architecture, cbam, strategy, settings, seconds, reason, more, time)


def settings_for(data: DatasetSummary, model: ModelConfig, strategy: str) -> dict[str, Any]:
    """What TrainConfig's fields and `image_size` become for a strategy, this model and data.

    Raises:
        UserError: for a strategy that there is not.
    """
    training = recipe(strategy, "-")
    sized, suited = image_settings(data.side, model)
    settings: dict[str, Any] = {name: getattr(training, name) for name in STRATEGY_SETTINGS}
    settings |= {"epochs": training.epochs, "image_size": sized.image_size, **suited}
    if not (training.crop_padding or training.flip):  # images that are the same in every epoch are computed once
        settings["crop"] = "padded"
    fits = 2 ** int(math.log2(max(learned_images(data, training.validation_fraction), 2)))
    settings["batch_size"] = min(int(settings["batch_size"]), fits)
    return settings


def best_start(data: DatasetSummary, starts: Mapping[str, ModelConfig]) -> str | None:
    """The first at hand that was made for images of this size; else, for photographs, any."""
    small = data.side <= SMALL_IMAGE
    fitting = (name for name, model in starts.items() if (model.input_size <= SMALL_IMAGE) == small)
    return next(fitting, None if small else next(iter(starts), None))


def _model(
    data: DatasetSummary, starts: Mapping[str, ModelConfig], start: str | None, chosen: Mapping[str, Any]
) -> ModelConfig:
    if start is None:
        entry = entry_of(chosen.get("architecture", SCRATCH))
        model = ModelConfig(entry.name, data.classes, entry.small_images)
    else:
        model = suited(data.side, replace(starts[start], classes=data.classes))
    return image_settings(data.side, model)[0]


def _best_strategy(work: "_Work", start: str | None, *, adapted: bool) -> str:
    """`adapted`: the start's first layers are new to small images, so its features are of no use before training."""
    if start is None:
        return FULL
    if adapted:
        return work.model.entry.small_strategy or SMALL
    if work.model.input_size > SMALL_IMAGE:
        return FROZEN
    seconds = work.seconds(SMALL, work.epochs(SMALL))
    if seconds is None:
        return SMALL if work.learned <= UNMEASURED_IMAGES else FROZEN
    return SMALL if seconds <= MOST_SECONDS else FROZEN


class _Work:
    """What trainings of a model on some data take on this machine."""

    def __init__(
        self, data: DatasetSummary, model: ModelConfig, speeds: Speeds, *, new_cbam: bool, most_epochs: int | None
    ) -> None:
        self.data, self.model, self.speeds = data, model, speeds
        self.new_cbam, self.most_epochs = new_cbam, most_epochs
        self.network = (model.architecture, model.image_size)
        self.images = sum(sum(counts) for counts in data.counts.values())
        self.learned = learned_images(data, recipe(FULL, "-").validation_fraction)

    def settings(self, strategy: str) -> dict[str, Any]:
        return settings_for(self.data, self.model, strategy) | {"epochs": self.epochs(strategy)}

    def epochs(self, strategy: str) -> int:
        """As many of the strategy's as fit into the budget, but at least a few."""
        most = recipe(strategy, "-").epochs
        most = most if self.most_epochs is None else min(most, self.most_epochs)
        least = min(LEAST_EPOCHS, most)
        fitting = (
            epochs for epochs in range(most, least, -1) if (self.seconds(strategy, epochs) or 0) <= BUDGET_SECONDS
        )
        return next(fitting, least)

    def seconds(self, strategy: str, epochs: int) -> float | None:
        """Until the test accuracy is there: the process starts, decodes, trains and tests. None if not all is known."""
        training = recipe(strategy, "-", epochs=epochs)
        try:
            phases = [self._phase_seconds(phase) for phase in plan(training, self.model, new_cbam=self.new_cbam)]
        except UserError:  # it needs what this model lacks; whoever trains is told
            return None
        features = self.speeds.features.get(self.network)
        known = [seconds for seconds in phases if seconds is not None]
        if self.speeds.launch is None or features is None or len(known) < len(phases):
            return None
        # Each image is decoded once, and goes through the network once without a gradient. What a trainer loads and
        # writes besides takes about as long again as its launch (benchmarks/first_press.py).
        return 2 * self.speeds.launch + self.images * (self.data.decoding + 1 / features) + sum(known)

    def _phase_seconds(self, phase: Phase) -> float | None:
        """Besides one forward pass of each image."""
        if phase.solved:
            solving = self.speeds.solving.get(self.network)
            return None if solving is None else self.learned * len(self.data.classes) / solving
        features, steps = self.speeds.features.get(self.network), self.speeds.steps.get(self.network)
        if features is None or steps is None or not {*backbone_parts(self.model), HEAD} <= set(phase.rates):
            return None
        validation = max(sum(self.data.counts["train"]) - self.learned, 0)
        return phase.epochs * (self.learned / steps + validation / features)


def _data_words(data: DatasetSummary) -> str:
    count = sum(data.counts["train"])
    images = f"{count:,} images of {data.side} pixels" if data.side <= SMALL_IMAGE else f"{count:,} photographs"
    return f"{images}, {len(data.classes):,} classes"


def _training_words(model: ModelConfig, start: str | None, strategy: str, epochs: int, *, adapted: bool) -> str:
    name = model.entry.title + (", adapted to small images" if adapted else "")
    length = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    if start is None:
        return f"{name} from random initialisation, {length}"
    if strategy == FROZEN:
        why = ", as its features already suit photographs" if model.input_size > SMALL_IMAGE else ""
        return f"keep {name} frozen and fit a new head{why}"
    if strategy == SMALL:
        return f"fit a new head on {name}, then fine-tune all layers for {epochs - 1} epochs: small images train fast"
    return f"{name} with the strategy {STRATEGIES[strategy].label}, {length}"


def _time_words(seconds: float | None, speeds: Speeds) -> str:
    if seconds is None:
        return "the speed of this machine is not measured yet"
    return f"about {rough_duration(seconds)} on this {'CPU' if speeds.device == CPU else 'GPU'}"


def _more_words(work: _Work, strategy: str, seconds: float | None) -> str:
    if strategy != FROZEN:
        return ""
    words = []
    if seconds is not None and seconds > LONG_SECONDS:
        words.append(
            "Most of this is one pass over the images. Its features are cached: a second training takes seconds."
        )
    if work.model.input_size > SMALL_IMAGE:
        if sum(work.data.counts["train"]) < FEW_OF_A_CLASS * len(work.data.classes):
            words.append("More photographs per class would help more than a longer training.")
    else:
        longer = work.seconds(SMALL, recipe(SMALL, "-").epochs)
        if longer is not None and longer > MOST_SECONDS:
            words.append(f"Fine-tuning all layers would take about {rough_duration(longer)} and gain a few points.")
    return " ".join(words)


def rough_duration(seconds: float) -> str:
    """As exact as an estimate is: "20 s", "4 min", "2.5 h"."""
    if seconds < 100:
        return f"{max(5 * round(seconds / 5), 5)} s"
    if seconds < 5_400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3_600:.2g} h"
