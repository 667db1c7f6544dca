"""What an objective is, and how it registers itself."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from resnet_space.config import OBJECTIVES, RunConfig

if TYPE_CHECKING:  # a configuration is checked without torch, which takes seconds to import
    import torch
    from torch import Tensor, nn

    from resnet_space.data.splits import ImageSet
    from resnet_space.data.target import Target
    from resnet_space.models import Backbone
    from resnet_space.runs import Run
    from resnet_space.training.features import CutModel


class Batch(NamedTuple):
    """The data of one training step.

    Attributes:
        inputs: images [n, 3, H, W], or where a phase freezes the model's beginning, the features it makes of them.
        targets: labels int64 [n], or shares of the classes float32 [n, C].
        second: of the objective's second stream, whose n may differ.
        progress: the share of the training's steps that are done, 0..1.
    """

    inputs: "Tensor"
    targets: "Tensor"
    second: "Batch | None" = None
    progress: float = 1.0


class Losses(NamedTuple):
    """The parts of the loss by their names, which are scalars, and the logits [n, C] of the first stream; `measures`
    are scalars that are logged and drawn, but not minimised.
    """

    parts: dict[str, "Tensor"]
    logits: "Tensor"
    measures: Mapping[str, "Tensor"] = {}

    @property
    def total(self) -> "Tensor":
        """The minimised loss: the sum of the parts."""
        first, *others = self.parts.values()
        return sum(others, first)


class Objective:
    """Base of all objectives.

    Attributes:
        id: what `TrainConfig.objective` says.
        label: display name.
        hint: what it is for and what it needs, in a sentence.
        parts: the names of the loss's parts, as they are logged and drawn: lower-case letters, digits, - and _.
        measures: the names of what is logged besides.
        solvable: whether L-BFGS finds its best head: with the features fixed, it is the cross-entropy.
        needs_target: whether `TrainConfig.target` must name a dataset.
        has_second_stream: whether each step also takes a batch of that dataset; then the last epoch's weights are kept.
        mixes: whether `mix` gives an image something of the one before it in its batch.
        module: what is trained beside the model, and is no part of it; None without.
        folder: for images that memory has no room for.
    """

    id: ClassVar[str]
    label: ClassVar[str] = ""
    hint: ClassVar[str] = ""
    parts: ClassVar[tuple[str, ...]]
    measures: ClassVar[tuple[str, ...]] = ()
    solvable: ClassVar[bool] = False
    needs_target: ClassVar[bool] = False
    has_second_stream: ClassVar[bool] = False
    mixes: bool = False
    module: "nn.Module | None" = None
    folder: Path | None = None

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse a training for which this objective makes no sense. Raises UserError."""

    @cached_property
    def target(self) -> "Target":
        """The images of `TrainConfig.target`."""
        from resnet_space.data.target import Target

        return Target(self.config.training, self.config.model.stored_size, self.folder)

    def attach(self, model: "Backbone") -> None:
        """Make the `module` for a model, on its device, if there is one. Whatever is random depends on the seed."""

    def second_set(self) -> "ImageSet | None":
        """Additional images to learn from, for instance unlabelled ones of another dataset; None without.

        They are batched, shuffled and augmented as the first, around and around, however many there are.
        """
        return None

    def mix(self, images: "Tensor", labels: "Tensor", epoch: int, step: int) -> tuple["Tensor", "Tensor"]:
        """A batch of the first stream as (images, targets). Whatever is random in it depends on the arguments alone."""
        return images, labels

    def __call__(self, model: "CutModel", batch: Batch) -> Losses:
        """The loss of one batch; `model` gives logits for `batch.inputs`."""
        raise NotImplementedError

    def finish(self, run: "Run", device: "torch.device") -> bool:
        """Change the saved weights after the last epoch, before they are tested. Returns whether it did so."""
        return False


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
