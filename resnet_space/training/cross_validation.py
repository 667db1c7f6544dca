"""Cross-validation of solved heads: each image is held out once (Stone 1974), with what belongs to it.

Copies of an image, or the frames of a recording, are held out together, as they would give one another's class away. Up
to `LEAVE_ONE_OUT` of such units are held out one at a time, more in folds with the same share of each class.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.training.calibration import fit_temperature
from resnet_space.training.comparison import FOLDS
from resnet_space.training.solver import PENALTIES, solve

LEAVE_ONE_OUT = 30  # images, or recordings, up to which each is left out alone
MOST_FOLDS = 10
BLOCKS = 4  # parts of a recording that is all that a class has
TRIED = PENALTIES[::2]  # of which the images choose

Tell = Callable[[int, int], None]  # (heads done, all)


@dataclass(frozen=True, eq=False)
class Examples:
    """n images to learn from, and to be judged on.

    Attributes:
        features: float32 [n, D].
        labels: int64 [n].
        classes: C.
        copies: of each image, what it shares with those that are held out with it; () where each is held out alone.
    """

    features: Tensor
    labels: Tensor
    classes: int
    copies: Sequence[int] = ()

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """In which of `FOLDS` folds each is held out, int64 [n]; -1 for the only one of a class, which never is."""
        return folds_of(self.labels.tolist(), self.copies or [None] * len(self.labels), FOLDS)[0]

    @cached_property
    def judged(self) -> Tensor:
        """Which are held out: bool [n]."""
        return torch.from_numpy(self.folds >= 0)

    def best_penalties(self, logits: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Of each fold: what is held out, the others, and the position of the penalty that suits these best.

        So no image has a say in how it is judged itself. The logits [penalties, n, C] are those of `held_out_logits`.
        """
        for left_out in each_fold(self.folds):
            others = self.judged & ~left_out
            losses = [float(F.cross_entropy(own[others], self.labels[others])) for own in logits]
            yield left_out, others, int(np.argmin(losses))


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What heads that have not seen an image make of it.

    Attributes:
        logits: float32 [n, C], divided by their temperature; of those that are `judged`.
        judged: bool [n].
        penalties: of each fold.
    """

    logits: Tensor
    judged: Tensor
    penalties: Sequence[float]


def solved_out_of_fold(examples: Examples, tell: Tell = lambda *_: None) -> OutOfFold:
    """Hold each image out once. Raises UserError for fewer than two classes with two images each."""
    if len(examples.labels[examples.judged].unique()) < 2:
        raise UserError("This needs at least two classes with two images each: add images.")
    small, penalties = in_few_numbers(examples.features)
    logits = held_out_logits(small, examples.labels, examples.classes, examples.folds, penalties, tell)
    own = torch.empty(len(examples.labels), examples.classes)
    chosen = []
    for left_out, others, best in examples.best_penalties(logits):
        chosen.append(TRIED[best])
        own[left_out] = logits[best, left_out] / fit_temperature(logits[best, others], examples.labels[others])
    return OutOfFold(own, examples.judged, chosen)


def in_few_numbers(features: Tensor) -> tuple[Tensor, Sequence[float]]:
    """Features by which the same heads are found in less time, and the penalties `TRIED` that mean the same there."""
    width = features.shape[1]
    if len(features) >= width:
        return features, TRIED
    small, _ = in_their_span(features)
    return small, [penalty * small.shape[1] / width for penalty in TRIED]


def folds_of(
    labels: Sequence[int], recordings: Sequence[int | None], most: int = MOST_FOLDS
) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """In which of `most` folds every picture is left out, int64 [n], -1 for the only one of a class, which never is;
    and the classes that have but one recording. Of up to `LEAVE_ONE_OUT` pictures each has a fold of its own.
    """
    units: dict[int, dict[object, list[int]]] = {}  # of each class, what is left out together
    for row, (label, recording) in enumerate(zip(labels, recordings, strict=True)):
        units.setdefault(label, {}).setdefault(("alone", row) if recording is None else recording, []).append(row)
    alike = []
    parted: list[list[list[int]]] = []
    for label, own in units.items():
        parts = list(own.values())
        if len(parts) == 1 and len(parts[0]) > 1:
            alike.append(label)
            parts = [part.tolist() for part in np.array_split(parts[0], min(BLOCKS, len(parts[0])))]
        parted.append(parts)
    # Class by class, so that each is spread evenly.
    together = [rows for parts in parted if len(parts) > 1 for rows in parts]
    count = len(together) if len(together) <= LEAVE_ONE_OUT else most
    folds = np.full(len(labels), -1)
    for i, rows in enumerate(together):
        folds[rows] = i % count
    return folds, tuple(sorted(alike))


def each_fold(folds: NDArray[np.int64]) -> Iterator[Tensor]:
    """Masks [n] of the held-out pictures."""
    for fold in range(folds.max() + 1):
        yield torch.from_numpy(folds == fold)


def held_out_logits(
    features: Tensor,
    labels: Tensor,
    classes: int,
    folds: NDArray[np.int64],
    penalties: Sequence[float],
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Tensor:
    """[penalties, n, C]: of heads that have not learned from the picture; NaN for pictures that are never held out.

    Args:
        features: float32 [n, D].
        labels: int64 [n].
        classes: C.
        folds: of each picture, see `folds_of`.
        penalties: of the heads, as `solve` takes them.
        tell: called with (heads done, all).
    """
    logits = torch.full((len(penalties), len(labels), classes), torch.nan)
    count = (int(folds.max()) + 1) * len(penalties)
    done = 0
    for left_out in each_fold(folds):
        for i, head in enumerate(solve(features[~left_out], labels[~left_out], classes, penalties)):
            logits[i, left_out] = head.logits(features[left_out])
            done += 1
            tell(done, count)
    return logits


def in_their_span(features: Tensor) -> tuple[Tensor, Tensor]:
    """n pictures' features [n, D] as [n, r] with r < n, and what takes a head's weights [C, r] back to [C, D].

    Every best head lies in the span of the differences from the mean, as the penalty would only grow beside it. So
    nothing is lost, and it is found in a fraction of the time.
    """
    centred = features - features.mean(0)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    back = directions[singular > 1e-5 * singular[0]] if singular[0] > 0 else directions[:1]
    return centred @ back.T, back
