"""A study of what transfer is worth: a network from scratch, frozen, and fine-tuned, by images per class.

It is a folder with `study.json`, which the process that trains replaces as results come, and a run for each training.
`training.studying` trains. Every training of a study takes the same number of gradient steps, whatever its data: with
the same epochs, few images would mean few steps, and a network with random weights would stay untrained for that
reason alone. With the same minutes the result would depend on the machine.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.summary import SMALL_IMAGE, TEST_SHARE, DatasetSummary, image_settings, suited
from resnet_space.training.proposal import FROZEN, SMALL, rough_duration, settings_for
from resnet_space.training.speeds import Speeds
from resnet_space.training.strategies import STRATEGIES, from_scratch
from resnet_space.training.work import LeftOut, Work

Arm = Literal["scratch", "frozen", "fine-tuned"]
ARMS: Mapping[Arm, str] = {  # for display
    "scratch": "from scratch",
    "frozen": "frozen, solved head",
    "fine-tuned": "fine-tuned",
}
SIZES = (5, 10, 30, 100, 300, 1_000)
SEEDS, STEPS = 3, 300
MOST_SEEDS, MOST_STEPS, MOST_SIZES = 20, 100_000, 12
LEAST_MORE = 1.5  # times as many images as the largest size, for all images to be a size of their own
HELD_OUT = 0.2  # of a training's images, to choose the epoch: with 5 images per class, one of each
PHOTOGRAPHS = "one-cycle"  # how networks for photographs are fine-tuned
LEAST_BATCHES = 2  # in an epoch
EPOCH_SECONDS = 0.25  # to save the state, and to look at the blocks, whatever the images
TRAINING_SECONDS = 3.0  # to decode, calibrate and test


@dataclass(frozen=True)
class Point:
    """The result of a training.

    Attributes:
        arm: how it was trained.
        per_class: images of each class.
        seed: of the subset and of all else.
        correct: of `images` test images.
        images: that it was tested on.
        seconds: that it took.
        steps, epochs: of gradient descent; 0 for a solved head.
        problem: why it failed, in one sentence; then the numbers are 0.
    """

    arm: Arm
    per_class: int
    seed: int
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    steps: int = 0
    epochs: int = 0
    problem: str = ""

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


@dataclass(frozen=True)
class Mean:
    """Over seeds, with its 95 % interval (Student's t); None for a single seed."""

    value: float
    interval: tuple[float, float] | None
    seeds: int

    @property
    def low(self) -> float:
        return self.interval[0] if self.interval else self.value

    @property
    def high(self) -> float:
        return self.interval[1] if self.interval else self.value


@dataclass(frozen=True)
class Study(Work):
    """All of it; see `Work` for what it has besides.

    Attributes:
        start: the run whose weights are transferred.
        strategy: by which they are fine-tuned; "" for what suits the network.
        sizes: images per class, ascending.
        seeds: how many trainings there are of each kind and size.
        steps: of gradient descent in each training.
        budget: minutes that all may take, by which sizes are left out; None for no limit.
        most_epochs: that a training may have here.
        left_out: sizes that are not trained, with reasons.
        classes: how many the dataset has.
        expected: seconds that all will take, as far as it was known at the start.
        points: the results.
    """

    NOUN = "study"
    FILE = "study.json"
    FOLDER = ".studies"
    MODULE = "resnet_space.study"
    AT_ONCE = 4

    start: str = ""
    strategy: str = ""
    sizes: tuple[int, ...] = SIZES
    seeds: int = SEEDS
    steps: int = STEPS
    budget: float | None = None
    most_epochs: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    classes: int = 0
    expected: float | None = None
    points: tuple[Point, ...] = ()

    @property
    def results(self) -> int:
        return len(self.points)

    @property
    def trainings(self) -> list[tuple[Arm, int, int]]:
        """(arm, images per class, seed) of all, in their order: a seed after the other, so that a study that ends early
        has whole curves.
        """
        return [(arm, size, seed) for seed in range(self.seeds) for size in self.sizes for arm in ARMS]

    @property
    def done(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if not point.problem)

    def values(self, arm: Arm, size: int) -> dict[int, float]:
        """The accuracies by seed."""
        return {p.seed: p.accuracy for p in self.done if (p.arm, p.per_class) == (arm, size)}

    def mean(self, arm: Arm, size: int) -> Mean | None:
        """None before the first result."""
        found = list(self.values(arm, size).values())
        return mean_of(found) if found else None

    def ahead(self, arm: Arm, of: Arm, size: int) -> Mean | None:
        """The mean difference of two arms' accuracies, paired by seed: both have the same images."""
        own, others = self.values(arm, size), self.values(of, size)
        both = [own[seed] - others[seed] for seed in own if seed in others]
        return mean_of(both) if both else None

    def catches_up(self, arm: Arm, with_: Arm) -> int | None:
        """The smallest size from which on, at all sizes, an arm is not clearly behind another: the interval of their
        paired difference, or with one seed the difference, is not above 0. None if that is not within this data.
        """
        found = None
        for size in reversed(self.sizes):
            behind = self.ahead(with_, arm, size)
            if behind is None:
                continue
            if behind.low > 0:
                break
            found = size
        return found


def mean_of(values: Sequence[float]) -> Mean:
    """Of at least one value."""
    n = len(values)
    if n < 2:
        return Mean(values[0], None, n)
    from scipy.special import stdtrit  # late: a third of a second

    half = float(stdtrit(n - 1, 0.975)) * stdev(values) / math.sqrt(n)
    return Mean(fmean(values), (fmean(values) - half, fmean(values) + half), n)


# What is trained


def run_name(arm: Arm, size: int, seed: int) -> str:
    return f"{arm}-{size}-{seed}"


def fine_tuning(data: DatasetSummary, start: ModelConfig) -> str:
    """The strategy by which a network's weights are fine-tuned on such data, where nobody chooses one."""
    model = suited(data.side, replace(start, classes=data.classes))
    adapted = start.image_size > SMALL_IMAGE and model.entry.suits_small_images(model.options)
    own = model.entry.small_strategy if adapted and model.entry.small_strategy != FROZEN else ""
    small = adapted or model.input_size <= SMALL_IMAGE
    return own or (SMALL if small else PHOTOGRAPHS)


def config_of(study: Study, data: DatasetSummary, start: ModelConfig, arm: Arm, size: int, seed: int) -> RunConfig:
    """What a training of a study is configured as.

    Args:
        study: which.
        data: its dataset.
        start: the model whose weights are transferred.
        arm, size, seed: which training.
    """
    model = image_settings(data.side, suited(data.side, replace(start, classes=data.classes)))[0]
    strategy = FROZEN if arm == "frozen" else study.strategy or fine_tuning(data, start)
    settings = settings_for(data, model, strategy)
    settings.pop("image_size")
    training = TrainConfig(
        **settings
        | data.ref.settings
        | {
            "images_per_class": size,
            "subset_seed": seed,
            "seed": seed,
            "start": study.start,
            "strategy": strategy,
            "validation_fraction": HELD_OUT,
        }
    )
    if arm == "frozen":
        return RunConfig(model, training)
    learned = learned_of(data, size)
    batch = min(training.batch_size, max(2 ** int(math.log2(max(learned // LEAST_BATCHES, 2))), 2))
    per_epoch = max(learned // batch, 1)
    solved = strategy == SMALL  # an epoch without steps
    epochs = max(round(study.steps / per_epoch), 1)
    epochs = min(epochs, 999 if study.most_epochs is None else study.most_epochs - 1)
    training = replace(training, batch_size=batch, epochs=max(epochs, 1))
    if arm == "scratch":
        return RunConfig(model, from_scratch(replace(training, epochs=max(epochs, 2))))
    return RunConfig(model, replace(training, epochs=training.epochs + solved))


def learned_of(data: DatasetSummary, size: int) -> int:
    """Images that a training of this size takes steps on: all but those held out."""
    images = size * len(data.classes)
    return images if {"test", "validation"} <= set(data.counts) else images - max(round(images * HELD_OUT), 1)


def available(data: DatasetSummary) -> int:
    """Images per class that every class has to learn from."""
    least = min(data.counts["train"])
    return least if {"test", "validation"} & set(data.counts) else int(least * (1 - TEST_SHARE))


def planned(study: Study, data: DatasetSummary, start: ModelConfig, speeds: Speeds) -> Study:
    """A study with the sizes that the data and the minutes allow; `left_out` has the others, `expected` the time.

    Where all images are many more than the largest of its sizes, they are a size of their own.

    Raises:
        UserError: for settings that are not allowed, or if no size is left.
    """
    _check(study)
    most = available(data)
    asked = sorted({size for size in study.sizes if size <= most})
    left_out = [
        LeftOut(f"{size:,}", f"the smallest class has {most:,} images to train on")
        for size in sorted(set(study.sizes) - set(asked))
    ]
    if left_out and most >= max(LEAST_MORE * (asked or [0])[-1], 2):
        asked.append(most)
    if not asked:
        raise UserError(f"The smallest class has {most:,} images to train on, too few for a study: add images.")
    study = replace(study, sizes=tuple(asked), classes=len(data.classes))
    costs = {size: expected_seconds(study, data, start, speeds, size) for size in asked}
    spent, kept = 0.0, list[int]()
    for size, cost in costs.items():
        if cost is not None and study.budget is not None and spent + cost > 60 * study.budget:
            left_out.append(LeftOut(f"{size:,}", f"it would take about {rough_duration(cost)} more"))
            continue
        spent += cost or 0.0
        kept.append(size)
    if not kept:
        raise UserError(
            f"No size fits {study.budget:g} minutes, as {asked[0]} images per class already take about "
            f"{rough_duration(costs[asked[0]] or 0)}: allow more minutes, or fewer seeds or steps."
        )
    known = all(cost is not None for cost in costs.values())
    return replace(study, sizes=tuple(kept), left_out=tuple(left_out), expected=round(spent, 1) if known else None)


def _check(study: Study) -> None:
    def whole(value: object, most: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

    if not study.sizes or len(study.sizes) > MOST_SIZES or not all(whole(size, 1_000_000) for size in study.sizes):
        raise UserError(f"The images per class must be up to {MOST_SIZES} whole numbers above 0, such as 5, 10, 30.")
    if min(study.sizes) < 2:
        raise UserError("A study needs at least two images per class, one of them to choose the best epoch by.")
    for name, value, most in (("seeds", study.seeds, MOST_SEEDS), ("steps", study.steps, MOST_STEPS)):
        if not whole(value, most):
            raise UserError(f"The number of {name} must be a whole number from 1 to {most:,}, not {value!r}.")
    if study.strategy and (study.strategy not in STRATEGIES or STRATEGIES[study.strategy].start == "none"):
        raise UserError(f"Nothing can be fine-tuned by the strategy {study.strategy!r}: choose another one.")


def expected_seconds(study: Study, data: DatasetSummary, start: ModelConfig, speeds: Speeds, size: int) -> float | None:
    """Of all trainings of a size; None if this machine's speed with the network is not measured yet."""
    total = 0.0
    tests = sum(data.counts.get("test") or data.counts.get("validation") or data.counts["train"])
    for arm in ARMS:
        config = config_of(study, data, start, arm, size, 0)
        network = config.model.architecture, config.model.image_size
        features, steps = speeds.features.get(network), speeds.steps.get(network)
        if features is None or steps is None:
            return None
        learned = learned_of(data, size)
        held_out = size * len(data.classes) - learned
        seconds = TRAINING_SECONDS + tests * (data.decoding + 1 / features)
        if arm != "frozen":
            batches = max(learned // config.training.batch_size, 1) * config.training.batch_size
            seconds += config.training.epochs * (batches / steps + held_out / features + EPOCH_SECONDS)
        total += seconds
    return study.seeds * total
