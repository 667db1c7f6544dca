"""How many pictures are enough: accuracy by the number of pictures to learn from, and a prediction for twice as many.

Each picture is held out once. From the others of its fold, nested subsets of every class's share are learned from: the
same heads as those that check the labels, on the same features. The error is fitted by an inverse power law with a
floor (Cortes et al. 1993; Hestness et al. 2017, arXiv:1712.00409): error(n) = floor + scale * n ** -decay. The interval
of the prediction is that of fits to pictures drawn again with replacement (Efron 1979).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.data.checks.items import CurvePoint
from resnet_space.data.held_out import stratified_indices
from resnet_space.training.cross_validation import Examples, OutOfFold, each_fold, in_few_numbers, solved_out_of_fold
from resnet_space.training.solver import solve

MOST_SIZES = 5  # each half of the next
LEAST_OF_A_CLASS = 2  # pictures in the mean, with which a size is worth a look
LEAST_SIZES = 3  # for a fit
DRAWS = 200  # of the pictures, for an interval
DECAYS = np.linspace(0.1, 1.5, 29)  # exponents that are tried

Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class LearningCurve:
    """The points that were measured, from few to many pictures, and the one that is predicted for twice as many."""

    points: tuple[CurvePoint, ...]
    predicted: CurvePoint


def learning_curve(
    examples: Examples, tell: Callable[[int, int], None] = lambda *_: None, solved: OutOfFold | None = None
) -> LearningCurve | None:
    """Measure and predict accuracies. None if there are too few pictures for `LEAST_SIZES` sizes.

    Args:
        examples: the pictures.
        tell: called with (heads done, all).
        solved: what heads on the largest size make of them, if that is known.
    """
    most = int(min((examples.judged & ~left_out).sum() for left_out in each_fold(examples.folds)))
    halves = (most >> halved for halved in range(MOST_SIZES))
    sizes = [size for size in halves if size >= LEAST_OF_A_CLASS * examples.classes][::-1]
    if len(sizes) < LEAST_SIZES:
        return None
    largest = (solved or solved_out_of_fold(examples)).logits.argmax(1) == examples.labels
    fewer = _correct(examples, sizes[:-1], tell)
    correct = np.vstack([fewer, largest.numpy()])[:, examples.judged.numpy()]
    counts = np.array(sizes, dtype=float)
    drawn = np.random.default_rng(0).integers(correct.shape[1], size=(DRAWS, correct.shape[1]))
    accuracies = np.stack([correct[:, rows].mean(1) for rows in drawn])
    twice = 2 * counts[-1]
    # A measurement with twice as many pictures would err, too, by less.
    noise = np.random.default_rng(1).normal(0, 1, DRAWS) * accuracies[:, -1].std() / np.sqrt(2)
    fits = np.array([_fitted(counts, errors, twice) for errors in 1 - accuracies]) + noise
    low, high = np.quantile(1 - fits, (0.025, 0.975)).clip(0, 1)
    predicted = float(np.clip(1 - _fitted(counts, 1 - correct.mean(1), twice), low, high))
    ends = np.quantile(accuracies, (0.025, 0.975), axis=0)
    points = zip(sizes, ends[0], correct.mean(1), ends[1], strict=True)
    return LearningCurve(
        tuple(CurvePoint(n, *(round(float(value), 5) for value in values)) for n, *values in points),
        CurvePoint(int(twice), round(float(low), 5), round(predicted, 5), round(float(high), 5)),
    )


def _correct(examples: Examples, sizes: Sequence[int], tell: Callable[[int, int], None]) -> Booleans:
    """Whether each picture is recognised by heads that learned from so many others: bool [sizes, n]."""
    labels = examples.labels
    small, penalties = in_few_numbers(examples.features)
    penalties = penalties[:-1]  # fewer pictures need no weaker one, which takes longest
    folds = list(each_fold(examples.folds))
    found = np.zeros((len(sizes), len(labels)), dtype=np.bool_)
    done, count = 0, len(sizes) * len(folds) * len(penalties)
    for at, size in enumerate(sizes):
        logits = torch.zeros(len(penalties), len(labels), examples.classes)
        for fold, left_out in enumerate(folds):
            others = (examples.judged & ~left_out).nonzero().flatten()
            chosen = _nested(others, labels[others], size, seed=fold)
            for i, head in enumerate(solve(small[chosen], labels[chosen], examples.classes, penalties)):
                logits[i, left_out] = head.logits(small[left_out])
                done += 1
                tell(done, count)
        for left_out, _, best in examples.best_penalties(logits):
            found[at, left_out.numpy()] = (logits[best, left_out].argmax(1) == labels[left_out]).numpy()
    return found


def _nested(rows: Tensor, labels: Tensor, size: int, seed: int) -> Tensor:
    """`size` of the rows, each class in its share; more of them contain fewer."""
    return rows[stratified_indices(labels, size, seed)[0]]


def _fitted(counts: NDArray[np.float64], errors: NDArray[np.float64], at: float) -> float:
    """The error at a count, by the inverse power law that fits best in least squares, with no part below zero."""
    fits = []
    for decay in DECAYS:
        falling = counts**-decay
        for uses in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0)):  # the floor and the power, or one of them
            design = np.stack([np.ones_like(counts), falling], 1) * uses
            floor, scale = np.linalg.lstsq(design, errors, rcond=None)[0]
            if min(floor, scale) >= 0:
                loss = float(((design @ (floor, scale) - errors) ** 2).sum())
                fits.append((loss, float(uses[0] * floor + uses[1] * scale * at**-decay)))
    return min(fits)[1]
