"""Classification alone."""

from typing import TYPE_CHECKING, ClassVar

from resnet_space.config import RunConfig
from resnet_space.training.objectives.base import Batch, Losses, Objective, register_objective

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.training.features import CutModel


@register_objective
class CrossEntropy(Objective):
    """Classification, with label smoothing, MixUp and CutMix as configured."""

    id = "cross-entropy"
    label = "Cross-entropy"
    hint = "Learns the labels. If you name a target, its accuracy is measured too: the baseline for the others."
    parts: ClassVar[tuple[str, ...]] = ("cross-entropy",)
    solvable = True

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.mixes = bool(config.training.mixup or config.training.cutmix)

    def mix(self, images: "Tensor", labels: "Tensor", epoch: int, step: int) -> tuple["Tensor", "Tensor"]:
        from resnet_space.data.batches import mixed

        if not self.mixes:
            return images, labels
        return mixed(images, labels, len(self.config.model.classes), self.config.training, epoch, step)

    def task_loss(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        import torch.nn.functional as F

        return F.cross_entropy(logits, targets, label_smoothing=self.config.training.label_smoothing)

    def __call__(self, model: "CutModel", batch: Batch) -> Losses:
        logits = model(batch.inputs)
        return Losses({"cross-entropy": self.task_loss(logits, batch.targets)}, logits)
