"""Objectives: an objective receives the model and a batch, and returns the loss in named parts.

Each registers itself by its id, which `TrainConfig.objective` names. To add one, write a subclass of `Objective` with
`@register_objective`. The loop sums the parts, and if there are several, logs each by its name.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from resnet_space.config import OBJECTIVES, RunConfig

if TYPE_CHECKING:  # a configuration is checked without torch, which takes seconds to import
    from torch import Tensor

    from resnet_space.data.splits import ImageSet


class Batch(NamedTuple):
    """The data of one training step.

    Attributes:
        inputs: images [n, 3, H, W], or where a phase freezes the model's beginning, the features it makes of them.
        targets: labels int64 [n], or shares of the classes float32 [n, C].
        second: of the objective's second stream, whose n may differ.
    """

    inputs: "Tensor"
    targets: "Tensor"
    second: "Batch | None" = None


class Losses(NamedTuple):
    """The parts of the loss by their names, which are scalars, and the logits [n, C] of the first stream."""

    parts: dict[str, "Tensor"]
    logits: "Tensor"

    @property
    def total(self) -> "Tensor":
        """The minimised loss: the sum of the parts."""
        first, *others = self.parts.values()
        return sum(others, first)


class Objective:
    """Base of all objectives.

    Attributes:
        id: what `TrainConfig.objective` says.
        parts: the names of the loss's parts, as they are logged and drawn: lower-case letters, digits, - and _.
        mixes: whether `mix` gives an image something of the one before it in its batch.
    """

    id: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    mixes: bool = False

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def second_set(self) -> "ImageSet | None":
        """Additional images to learn from, for instance unlabelled ones of another dataset; None without.

        They are batched, shuffled and augmented as the first, around and around, however many there are.
        """
        return None

    def mix(self, images: "Tensor", labels: "Tensor", epoch: int, step: int) -> tuple["Tensor", "Tensor"]:
        """A batch of the first stream as (images, targets). Whatever is random in it depends on the arguments alone."""
        return images, labels

    def __call__(self, model: "Callable[[Tensor], Tensor]", batch: Batch) -> Losses:
        """The loss of one batch; `model` gives logits for `batch.inputs`."""
        raise NotImplementedError


O = TypeVar("O", bound=type[Objective])  # noqa: E741


def register_objective(objective: O) -> O:
    """Register an objective by its id. Raises ValueError if the id is taken."""
    if objective.id in OBJECTIVES:
        raise ValueError(f"An objective {objective.id!r} already exists.")
    OBJECTIVES[objective.id] = objective
    return objective


def objective_of(config: RunConfig) -> Objective:
    """The objective of a configuration's training."""
    kind: type[Objective] = OBJECTIVES[config.training.objective]
    return kind(config)


@register_objective
class CrossEntropy(Objective):
    """Classification, with label smoothing, MixUp and CutMix as configured."""

    id = "cross-entropy"
    parts = ("cross-entropy",)

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.mixes = bool(config.training.mixup or config.training.cutmix)

    def mix(self, images: "Tensor", labels: "Tensor", epoch: int, step: int) -> tuple["Tensor", "Tensor"]:
        from resnet_space.data.batches import mixed

        if not self.mixes:
            return images, labels
        return mixed(images, labels, len(self.config.model.classes), self.config.training, epoch, step)

    def __call__(self, model: "Callable[[Tensor], Tensor]", batch: Batch) -> Losses:
        import torch.nn.functional as F

        logits = model(batch.inputs)
        smoothing = self.config.training.label_smoothing
        return Losses({"cross-entropy": F.cross_entropy(logits, batch.targets, label_smoothing=smoothing)}, logits)
