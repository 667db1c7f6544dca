"""Deep CORAL (Sun & Saenko 2016, arXiv:1607.01719, section 3.1): equal covariances of the features."""

from typing import TYPE_CHECKING

from resnet_space.training.objectives.base import register_objective
from resnet_space.training.objectives.domain import DomainObjective, require_pairs

if TYPE_CHECKING:
    from torch import Tensor


def coral_loss(source: "Tensor", target: "Tensor") -> "Tensor":
    """|C_s - C_t|²_F / 4D² of the covariances with n - 1. [n, D], [m, D] -> scalar."""
    require_pairs(source, target)

    def covariance(x: "Tensor") -> "Tensor":
        centred = x - x.mean(0)
        return centred.T @ centred / (len(x) - 1)

    return (covariance(source) - covariance(target)).pow(2).sum() / (4 * source.shape[1] ** 2)


@register_objective
class Coral(DomainObjective):
    """The CORAL loss."""

    id = "coral"
    label = "CORAL"
    hint = "Gives the features of source and target the same covariances. Its loss is small: try λ of 10 to 1,000."

    def domain_loss(self, source: "Tensor", target: "Tensor", weight: float) -> tuple["Tensor", dict[str, "Tensor"]]:
        return weight * coral_loss(source, target), {}
