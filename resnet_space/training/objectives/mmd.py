"""Maximum mean discrepancy (Gretton et al. 2012; for deep networks Long et al. 2015, arXiv:1502.02791).

MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y) for x of the source and y of the target. The estimates leave out the pairs
of an image with itself, so they are unbiased (Gretton et al. 2012, lemma 6), and may be below 0.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_space.training.objectives.base import register_objective
from resnet_space.training.objectives.domain import DomainObjective, require_pairs

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the Gaussians, as multiples of the median


def linear_mmd2(source: "Tensor", target: "Tensor") -> "Tensor":
    """Unbiased MMD² with k(x, y) = x · y: the squared distance of the means. [n, D], [m, D] -> scalar."""
    require_pairs(source, target)

    def within(x: "Tensor") -> "Tensor":
        return (x.sum(0).pow(2).sum() - x.pow(2).sum()) / (len(x) * (len(x) - 1))

    return within(source) + within(target) - 2 * source.mean(0) @ target.mean(0)


def gaussian_mmd2(source: "Tensor", target: "Tensor", variances: Sequence[float] | None = None) -> "Tensor":
    """Unbiased MMD² with the mean of Gaussian kernels exp(-|x - y|² / 2v). [n, D], [m, D] -> scalar.

    The kernels have the variances v. By default, 2v are multiples of the median squared distance of all pairs in the
    batch, whatever their domains: so the estimate remains unbiased where both have the same distribution.
    """
    import torch

    require_pairs(source, target)
    n, both = len(source), torch.cat([source, target])
    norms = both.pow(2).sum(1)
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    distances = (norms[:, None] + norms - 2 * both @ both.T).clamp(min=0).masked_fill(itself, 0)
    if variances is None:
        median = distances.detach()[~itself].median().clamp(min=1e-12)
        doubled = [median * width for width in WIDTHS]
    else:
        doubled = [distances.new_tensor(2 * variance) for variance in variances]
    kernel = torch.stack([(-distances / width).exp() for width in doubled]).mean(0)

    def within(k: "Tensor") -> "Tensor":
        return (k.sum() - len(k)) / (len(k) * (len(k) - 1))  # the diagonal is 1

    return within(kernel[:n, :n]) + within(kernel[n:, n:]) - 2 * kernel[:n, n:].mean()


@register_objective
class LinearMMD(DomainObjective):
    """MMD² with a linear kernel."""

    id = "mmd-linear"
    label = "MMD, linear kernel"
    hint = "Moves the means of the features of source and target together."

    def domain_loss(self, source: "Tensor", target: "Tensor", weight: float) -> tuple["Tensor", dict[str, "Tensor"]]:
        return weight * linear_mmd2(source, target), {}


@register_objective
class GaussianMMD(DomainObjective):
    """MMD² with a mixture of Gaussian kernels."""

    id = "mmd-gaussian"
    label = "MMD, Gaussian kernels"
    hint = "Moves the distributions of the features together, not only their means."

    def domain_loss(self, source: "Tensor", target: "Tensor", weight: float) -> tuple["Tensor", dict[str, "Tensor"]]:
        return weight * gaussian_mmd2(source, target), {}
