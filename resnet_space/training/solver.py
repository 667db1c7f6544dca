"""A linear classifier solved on features instead of trained in steps: multinomial logistic regression by L-BFGS.

The loss is convex, so there is one best head for every strength of the l2 penalty. A path of heads is solved from the
strongest penalty on, each initialised from the previous one (Friedman et al. 2010, section 2.5); the validation images
choose the best.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PENALTIES = tuple(float(10.0**exponent) for exponent in np.arange(1, -3.5, -0.5))  # 10 to 1e-3
MAX_ITERATIONS = 200  # of each; a warm start takes some ten
TOLERANCE = 1e-4  # of the gradient's largest component


@dataclass(frozen=True, eq=False)
class SolvedHead:
    """The weights of a linear layer, float32 weight [C, D] and bias [C].

    Attributes:
        penalty: of the weights, for features of unit mean square.
        loss: mean cross-entropy in nats on the images that it was solved with, without the penalty.
        accuracy: share of these that are right.
        iterations: of L-BFGS, from the head before it.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    loss: float
    accuracy: float
    iterations: int

    def logits(self, features: Tensor) -> Tensor:
        """[n, D] -> [n, C]"""
        return F.linear(features, self.weight, self.bias)


def solve(
    features: Tensor,
    labels: Tensor,
    classes: int,
    penalties: Sequence[float] = PENALTIES,
    *,
    smoothing: float = 0.0,
) -> Iterator[SolvedHead]:
    """The heads with the least `mean cross-entropy + penalty / 2 * |weight|^2`, one after the other.

    Args:
        features: float [n, D], on the CPU.
        labels: int64 [n].
        classes: C; some of them may have no image.
        penalties: from the strongest to the weakest.
        smoothing: share of the target that is spread evenly over all classes.
    """
    from scipy.optimize import minimize  # a third of a second

    mean = features.mean(0)
    # One scale for all: the penalty then means the same for every network, and no direction is blown up.
    scale = float((features - mean).square().mean().sqrt()) or 1.0
    x = (features - mean) / scale
    n, d = x.shape
    targets = F.one_hot(labels, classes).to(x) * (1 - smoothing) + smoothing / classes

    def loss_and_slope(flat: "np.ndarray[tuple[int], np.dtype[np.float64]]", penalty: float) -> tuple[float, object]:
        weight, bias = _parts(torch.from_numpy(flat).float(), classes, d)
        log_probabilities = F.linear(x, weight, bias).log_softmax(1)
        error = (log_probabilities.exp() - targets) / n
        loss = -(targets * log_probabilities).sum() / n + penalty / 2 * weight.square().sum()
        slope = torch.cat([(error.T @ x + penalty * weight).flatten(), error.sum(0)])
        return float(loss), slope.double().numpy()

    flat = np.zeros(classes * (d + 1))
    flat[classes * d :] = np.log(np.bincount(labels.numpy(), minlength=classes) + 1.0)  # by how frequent each is
    flat[classes * d :] -= flat[classes * d :].mean()
    for penalty in penalties:
        options = {"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0}
        found = minimize(loss_and_slope, flat, args=(penalty,), jac=True, method="L-BFGS-B", options=options)
        flat = found.x
        weight, bias = _parts(torch.from_numpy(flat).float(), classes, d)
        own = F.linear(x, weight, bias)
        weight = weight / scale
        yield SolvedHead(
            weight,
            bias - weight @ mean,
            penalty,
            float(F.cross_entropy(own, labels)),
            float((own.argmax(1) == labels).float().mean()),
            int(found.nit),
        )


def _parts(flat: Tensor, classes: int, d: int) -> tuple[Tensor, Tensor]:
    return flat[: classes * d].view(classes, d), flat[classes * d :]


def best_head(heads: Sequence[SolvedHead], features: Tensor, labels: Tensor) -> SolvedHead:
    """The head with the lowest cross-entropy on other images: features [m, D], labels int64 [m]."""
    loss: Callable[[SolvedHead], float] = lambda head: float(F.cross_entropy(head.logits(features), labels))  # noqa: E731
    return min(heads, key=loss)
