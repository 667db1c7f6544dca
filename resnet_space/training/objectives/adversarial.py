"""Domain-adversarial training (Ganin & Lempitsky 2015, arXiv:1409.7495).

A discriminator learns to tell source from target by the features; the features learn the opposite, because its gradient
is reversed on its way to them.
"""

from typing import TYPE_CHECKING, Any

from resnet_space.training.objectives.base import register_objective
from resnet_space.training.objectives.domain import DomainObjective, require_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.models import Backbone

HIDDEN = 256  # units of each of the discriminator's two hidden layers


def reversed_gradient(features: "Tensor", weight: float) -> "Tensor":
    """The same values; the gradient on its way back is multiplied by -`weight`."""
    if not features.requires_grad:  # all before the head is frozen
        return features
    passed = features.view_as(features)
    passed.register_hook(lambda gradient: -weight * gradient)
    return passed


@register_objective
class Adversarial(DomainObjective):
    """A discriminator behind a gradient reversal. λ weights the reversed gradient alone; the discriminator learns at
    the head's rate from the whole of its loss, the mean binary cross-entropy of both domains.
    """

    id = "dann"
    label = "Adversarial (DANN)"
    hint = "Trains a discriminator of the domains, and features that it cannot tell apart: its accuracy falls to 50 %."
    measures = ("domain-accuracy",)

    def attach(self, model: "Backbone") -> None:
        import torch
        from torch import nn

        weight: Any = model.get_classifier().weight  # [C, D], of a convolution [C, D, 1, 1]
        width = int(weight.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            layers = (nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
            self.module = nn.Sequential(*layers).to(weight.device)

    def domain_loss(self, source: "Tensor", target: "Tensor", weight: float) -> tuple["Tensor", dict[str, "Tensor"]]:
        import torch
        import torch.nn.functional as F

        require_pairs(source, target)
        assert self.module is not None
        logits = self.module(reversed_gradient(torch.cat([source, target]), weight)).flatten()
        ours, theirs = logits[: len(source)], logits[len(source) :]
        # log(1 + exp(-z)) of a domain's own sign is its binary cross-entropy.
        loss = (F.softplus(-ours).mean() + F.softplus(theirs).mean()) / 2
        accuracy = ((ours > 0).float().mean() + (theirs <= 0).float().mean()) / 2
        return loss, {"domain-accuracy": accuracy.detach()}
