"""Train and evaluate a head on features of a frozen network from pictures that a visitor shows.

The head is solved (see `solver`) on all pictures. Its accuracy cannot be measured on the pictures that it was trained
on, of which there may be ten per class and which it always recognises. So every picture is held out once (see
`cross_validation`). What heads that have not seen a picture make of it gives the accuracy, the strength of the penalty
and the temperature (see `calibration`).

Whether a picture is unlike all that were shown is told by the cosine distance of its features to the nearest of them
(Sun et al. 2022, arXiv:2204.06507, with k = 1); the limit is one within which 95 % of the pictures lie, each from those
that were not left out with it. The Gaussian of `explain.ood` takes some hundred pictures to be of use
(`benchmarks/teach.py` has both), so the run has one from `STATISTICS_LEAST` pictures on.

The frames of one recording look alike, and would give one another's class away. So a recording is left out as a whole.
Where a class has no other pictures than those of one recording, its beginning and end are told apart instead, which is
likely to say too much: `Lesson.alike` names such classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.explain.ood import FeatureStatistics, conformal_limit, fit_feature_statistics
from resnet_space.training.calibration import fit_temperature
from resnet_space.training.cross_validation import folds_of, held_out_logits, in_their_span
from resnet_space.training.evaluation import Evaluation, evaluation_of
from resnet_space.training.extraction import Extracted
from resnet_space.training.solver import SolvedHead, solve

PENALTIES = (10.0, 1.0, 0.1, 0.01)  # of which the pictures that are left out choose
STATISTICS_LEAST, STATISTICS_MOST = 100, 300  # pictures that feature statistics are fitted to
STATISTICS_FOLDS = 5
NEAR = 0.3  # a distance that is never unlike: of one recording alone the limit would be next to nothing


@dataclass(frozen=True, eq=False)
class Look:
    """The prediction for one picture.

    Attributes:
        probabilities: of every class.
        nearest: the position of the picture that is most alike among those that were shown.
        unlike: its distance as a multiple of the limit: above 1, the picture is unlike all that were shown.
    """

    probabilities: list[float]
    nearest: int
    unlike: float


@dataclass(frozen=True, eq=False)
class Lesson:
    """The result of training on n pictures.

    Attributes:
        head: of all pictures.
        temperature: by which its logits are divided.
        held_out: the predictions for the m pictures that were left out; its rows are their positions. A class with only
            one picture is not in it.
        logits: float32 [m, C], theirs, not divided by the temperature.
        alike: the positions of classes whose pictures are all of one recording.
        directions: float32 [n, D], the pictures' features, each of length 1.
        limit: the distance from which on a picture is unlike them.
        statistics: for the run; None of few pictures.
        accuracy: share of the pictures that the head is right for, which it learned from.
    """

    head: SolvedHead
    temperature: float
    held_out: Evaluation
    logits: Tensor
    alike: tuple[int, ...]
    directions: Tensor
    limit: float
    statistics: FeatureStatistics | None
    accuracy: float

    @property
    def right(self) -> int:
        """Number of held-out pictures that were classified correctly."""
        return int(self.held_out.correct.sum())

    def look(self, features: Tensor) -> Look:
        """Classify the features [1, D] of a picture."""
        probabilities = (self.head.logits(features) / self.temperature).softmax(1)
        distance, nearest = (1 - F.normalize(features, dim=1) @ self.directions.T)[0].min(0)
        return Look(probabilities[0].tolist(), int(nearest), float(distance) / self.limit)


def learn(known: Extracted, labels: Sequence[int], recordings: Sequence[int | None], classes: Sequence[str]) -> Lesson:
    """Train on n pictures.

    Args:
        known: their features and channel means.
        labels: of each, positions in `classes`; at least two classes have two pictures.
        recordings: which recording each is of, None for a picture by itself.
        classes: their names; each has a picture.
    """
    truth = torch.tensor(labels)
    folds, alike = folds_of(labels, recordings)
    small, back = in_their_span(known.features)
    # The mean square of fewer numbers is larger, by which the solver scales: so the penalties are the same as of all.
    penalties = [penalty * small.shape[1] / known.features.shape[1] for penalty in PENALTIES]
    logits = held_out_logits(small, truth, len(classes), folds, penalties)
    judged = torch.from_numpy(folds >= 0)
    chosen = min(range(len(PENALTIES)), key=lambda i: float(F.cross_entropy(logits[i, judged], truth[judged])))
    temperature = fit_temperature(logits[chosen, judged], truth[judged])
    *_, solved = solve(small, truth, len(classes), penalties[: chosen + 1])
    head = replace(solved, weight=solved.weight @ back, penalty=PENALTIES[chosen])
    head = replace(head, bias=solved.bias - head.weight @ known.features.mean(0))
    directions = F.normalize(known.features, dim=1)
    return Lesson(
        head,
        temperature,
        evaluation_of(logits[chosen, judged] / temperature, truth[judged], judged.nonzero().flatten(), tuple(classes)),
        logits[chosen, judged],
        alike,
        directions,
        _limit(directions, torch.from_numpy(folds)),
        _statistics(known.means.numpy(), folds),
        float((head.logits(known.features).argmax(1) == truth).float().mean()),
    )


def _limit(directions: Tensor, folds: Tensor) -> float:
    """The distance within which 95 % of the pictures lie from the nearest that is not of their fold."""
    distances = 1 - directions @ directions.T
    distances[folds[:, None] == folds] = torch.inf
    return max(conformal_limit(distances.min(1).values[folds >= 0].numpy()), NEAR)


def _statistics(means: NDArray[np.float32], folds: NDArray[np.int64]) -> FeatureStatistics | None:
    """Fitted to all, with the limit that pictures keep which were left out."""
    if len(means) < STATISTICS_LEAST:
        return None
    chosen = np.linspace(0, len(means) - 1, min(len(means), STATISTICS_MOST)).astype(int)
    means, folds = means[chosen], folds[chosen] % STATISTICS_FOLDS
    distances = []
    for fold in np.unique(folds):
        others = fit_feature_statistics(means[folds != fold], means[folds == fold])
        if others is not None:
            distances.append(others.ood_score(means[folds == fold]) * others.limit)
    fitted = fit_feature_statistics(means, means)
    return fitted and replace(fitted, limit=np.array([conformal_limit(np.concatenate(distances))], np.float32))
