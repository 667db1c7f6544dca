"""Unsupervised domain adaptation: L = L_task + λ L_domain, on the input of the head.

The source has labels, the target has none. Both go through the network in one batch, so that BatchNorm normalises them
together, in training as with the running statistics later.
"""

import math
from typing import TYPE_CHECKING

from resnet_space.common.errors import UserError
from resnet_space.config import RunConfig, TrainConfig
from resnet_space.models.registry import HEAD
from resnet_space.training.objectives.base import Batch, Losses
from resnet_space.training.objectives.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.data.splits import ImageSet
    from resnet_space.training.features import CutModel


def weight_at(training: TrainConfig, progress: float) -> float:
    """λ after a share of the training's steps, 0..1.

    "ramp" is 2 / (1 + exp(-10 p)) - 1 of `domain_weight` (Ganin & Lempitsky 2015, section 4): 0 at first, when the
    features are noise, and 99 % of it at half the training.
    """
    ramp = 2 / (1 + math.exp(-10 * progress)) - 1 if training.domain_schedule == "ramp" else 1.0
    return training.domain_weight * ramp


def require_pairs(source: "Tensor", target: "Tensor") -> None:
    """Refuse a batch of which no estimate can be made. Raises UserError."""
    if min(len(source), len(target)) < 2:
        raise UserError(
            "The domain loss needs at least 2 images of each domain in a batch, not "
            f"{len(source)} of the source and {len(target)} of the target: add images."
        )


class DomainObjective(CrossEntropy):
    """Base of the objectives with a domain loss; a subclass says what that is."""

    parts = ("task", "domain")
    needs_target = True
    has_second_stream = True

    @classmethod
    def check(cls, config: RunConfig) -> None:
        from resnet_space.training.strategies import plan

        if all(set(phase.rates) <= {HEAD} for phase in plan(config.training, config.model)):
            raise UserError(
                f"This training changes only the head, but the domain loss of {config.training.objective!r} changes "
                "the features before it: choose another strategy than linear-probe, or more epochs."
            )

    def second_set(self) -> "ImageSet":
        return self.target.images

    def domain_loss(self, source: "Tensor", target: "Tensor", weight: float) -> tuple["Tensor", dict[str, "Tensor"]]:
        """The loss, weighted by λ, and the `measures`, of head inputs float32 [n, D] and [m, D]."""
        raise NotImplementedError

    def __call__(self, model: "CutModel", batch: Batch) -> Losses:
        import torch

        assert batch.second is not None
        images = len(batch.inputs)
        logits, features = model.with_head_input(torch.cat([batch.inputs, batch.second.inputs]))
        weight = weight_at(self.config.training, batch.progress)
        with torch.autocast(features.device.type, enabled=False):  # differences of means vanish in bfloat16
            features = features.float()
            domain, measures = self.domain_loss(features[:images], features[images:], weight)
        return Losses(
            {"task": self.task_loss(logits[:images], batch.targets), "domain": domain}, logits[:images], measures
        )
