"""Which labels are probably wrong, and how many, from the logits of heads that have not seen the picture.

A label is modelled as the true class with probability 1 - ε, and as any other class with ε together. The class's own
probability is the softmax of the logits divided by a temperature. Both are found together by maximum likelihood: the
temperature takes up how sure a network may be, and ε what even a network that may be less sure cannot explain. So a
weak network's own mistakes are not counted as errors in the labels, as confident learning (Northcutt et al. 2021,
arXiv:1911.00068) does: docs/measurements.md has both. The order of the pictures is that of its "self-confidence".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

COLDEST, HOTTEST = np.log(0.05), np.log(20.0)  # temperatures that are tried
MOST_WRONG = 0.5  # of the labels: with more, nobody could say which are right
DROP = 1.92  # of the log-likelihood at the ends of a 95 % interval: half of chi-squared's 3.84


@dataclass(frozen=True)
class LabelNoise:
    """Labels that are probably wrong.

    Attributes:
        share: of the labels that are expected to be wrong, ε.
        interval: 95 % of it, from the profile likelihood (of pictures that are independent of one another).
        wrong: of each picture the probability that its label is wrong, float64 [N].
        suggested: of each picture the most probable class other than its label, int64 [N].
        temperature: by which the logits are divided.
    """

    share: float
    interval: tuple[float, float]
    wrong: NDArray[np.float64]
    suggested: NDArray[np.int64]
    temperature: float


def find_label_noise(logits: Tensor, labels: Tensor) -> LabelNoise:
    """Estimate which labels are wrong.

    Args:
        logits: [N, C] of heads that have not learned from the picture, C at least 2.
        labels: int64 [N].
    """
    rows = torch.arange(len(labels))
    scores = logits.double()
    others = scores.shape[1] - 1

    def own(log_temperature: float) -> NDArray[np.float64]:
        """The probability of each label."""
        probabilities: NDArray[np.float64] = (scores / np.exp(log_temperature)).softmax(1)[rows, labels].numpy()
        return probabilities

    def loss(log_temperature: float, share: float) -> float:
        right = own(log_temperature)
        return -float(np.log(np.maximum((1 - share) * right + share / others * (1 - right), 1e-300)).sum())

    def best(share: float) -> tuple[float, float]:
        """(log temperature, loss) for a share of wrong labels."""
        return _minimum(lambda log_temperature: loss(log_temperature, share), COLDEST, HOTTEST, 1e-3)

    share, least = _minimum(lambda share: best(share)[1], 0.0, MOST_WRONG, 1e-4)
    _, none_wrong = best(0.0)
    if least >= none_wrong:
        share, least = 0.0, none_wrong

    def above(other: float) -> float:
        return best(other)[1] - least - DROP

    low = brentq(above, 0.0, share, xtol=1e-4) if share > 0 and above(0.0) > 0 else 0.0
    high = brentq(above, share, MOST_WRONG, xtol=1e-4) if above(MOST_WRONG) > 0 else MOST_WRONG
    log_temperature, _ = best(share)
    right = own(log_temperature)
    wrong = share / others * (1 - right) / np.maximum((1 - share) * right + share / others * (1 - right), 1e-300)
    without = scores.clone()
    without[rows, labels] = -torch.inf
    return LabelNoise(
        share, (float(low), float(high)), wrong, without.argmax(1).numpy(), float(np.exp(log_temperature))
    )


def _minimum(function: Callable[[float], float], low: float, high: float, exact: float) -> tuple[float, float]:
    """(where, what) the smallest value between two ends is."""
    found = minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": exact})
    return float(found.x), float(found.fun)
