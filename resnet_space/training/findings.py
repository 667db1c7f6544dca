"""What the pictures, copies and features of a dataset say about it, as findings of a report."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.common.text import percent
from resnet_space.data.checks.copies import Pair
from resnet_space.data.checks.items import ClassFinding, LabelIssue, NearDuplicate, Outlier, Where
from resnet_space.data.checks.quality import DEVIATIONS, Looks, deviations, find_problems
from resnet_space.data.reference import SPLITS
from resnet_space.data.summary import MAX_IMBALANCE
from resnet_space.training.cross_validation import Examples, OutOfFold, solved_out_of_fold
from resnet_space.training.data_report import DataReport
from resnet_space.training.label_issues import find_label_noise

NEIGHBOURS = 5  # of its class, from which an odd picture is far
CONFUSED = 0.35  # of two classes' pictures that are taken for one another, from which on they are not told apart
SHIFTED = 0.75  # of the pairs of a training and a test picture that a head puts in order; 0.5 is chance
LEAST_OF_SPLIT = 20  # pictures, below which a split is not compared with another
PROBABLE = 0.5  # that a label is wrong, from which on it is an issue


@dataclass(frozen=True)
class Pictures:
    """All pictures that were read: of each its split, its row there, and its file's name; N of them."""

    where: list[tuple[str, int, str]]
    labels: Tensor
    classes: tuple[str, ...]
    looks: list[Looks]
    thumbnails: Tensor
    features: Tensor

    def at(self, i: int) -> Where:
        split, row, file = self.where[i]
        return Where(split, row, file, self.classes[int(self.labels[i])])


def near_duplicates(pictures: Pictures, pairs: Sequence[Pair]) -> tuple[NearDuplicate, ...]:
    """Each copy once, beside the surest of those that came before it; across splits and contradictions first."""
    best: dict[int, tuple[int, Pair]] = {}
    for pair in pairs:
        first, second = sorted((pair.first, pair.second), key=lambda i: (SPLITS.index(pictures.where[i][0]), i))
        if second not in best:
            best[second] = first, pair
    found = []
    for i, (of, pair) in best.items():
        original = {f"of_{name}": value for name, value in vars(pictures.at(of)).items()}
        found.append(NearDuplicate(**vars(pictures.at(i)), score=pair.score, mirrored=pair.mirrored, **original))
    return tuple(sorted(found, key=lambda one: (not one.contradicts, not one.across, -one.score)))


def groups_of(count: int, pairs: Sequence[Pair]) -> list[int]:
    """Of each picture, a number that it shares with its copies."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = [pair.first for pair in pairs], [pair.second for pair in pairs]
    _, groups = connected_components(coo_array((np.ones(len(pairs)), ends), shape=(count, count)), directed=False)
    numbers: list[int] = groups.tolist()
    return numbers


def outliers(pictures: Pictures) -> tuple[Outlier, ...]:
    found = [
        Outlier(**vars(pictures.at(i)), score=score, problem=problem)
        for i, problem, score in find_problems(pictures.looks)
    ]
    known = {(one.split, one.index) for one in found}
    for i, score in _unlike(pictures.features, pictures.labels):
        where = pictures.at(i)
        if (where.split, where.index) not in known:
            found.append(Outlier(**vars(where), score=score, problem="unlike"))
    return tuple(sorted(found, key=lambda one: -one.score))


def _unlike(features: Tensor, labels: Tensor) -> list[tuple[int, float]]:
    """(position, score) of the pictures that are far from all of their class: beyond `DEVIATIONS` of the class."""
    directions = F.normalize(features, dim=1)
    found: list[tuple[int, float]] = []
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        if len(rows) <= 2 * NEIGHBOURS:
            continue
        near = torch.cat([_nearest(directions[some], directions[rows]) for some in rows.split(1_000)])
        scores = deviations(near.clamp_min(1e-6).log().numpy()) / DEVIATIONS
        found += [(int(rows[i]), round(float(scores[i]), 3)) for i in np.flatnonzero(scores > 1)]
    return found


def _nearest(some: Tensor, others: Tensor) -> Tensor:
    """The mean cosine distance of each row to its nearest among `others`, of which it is one."""
    return (1 - (some @ others.T).topk(NEIGHBOURS + 1, dim=1).values[:, 1:]).mean(1)


def with_labels(now: DataReport, pictures: Pictures, found: OutOfFold) -> DataReport:
    rows = found.judged.nonzero().flatten()
    logits, labels = found.logits[rows], pictures.labels[rows]
    noise = find_label_noise(logits, labels)
    order = np.argsort(-noise.wrong, kind="stable")
    issues = tuple(
        LabelIssue(
            **vars(pictures.at(int(rows[i]))),
            score=round(float(noise.wrong[i]), 4),
            suggested=pictures.classes[noise.suggested[i]],
        )
        for i in order[: _queue(noise.wrong, noise.interval[1] * len(rows))]
    )
    low, high = noise.interval
    count = len(rows)
    return replace(
        now,
        expected=round(noise.share * count, 1),
        interval=(round(low * count, 1), round(high * count, 1)),
        label_issues=issues,
        classes=_between_classes(pictures, logits, rows),
    )


def _queue(wrong: NDArray[np.float64], most: float) -> int:
    """How many pictures are worth a look: as many as may be wrong, and all that probably are."""
    return min(max(round(most), int((wrong > PROBABLE).sum())), len(wrong))


def _between_classes(pictures: Pictures, logits: Tensor, rows: Tensor) -> tuple[ClassFinding, ...]:
    labels, predicted = pictures.labels[rows], logits.argmax(1)
    found = []
    sizes = torch.bincount(labels, minlength=len(pictures.classes))
    for one in range(len(pictures.classes)):
        for other in range(one + 1, len(pictures.classes)):
            pair = ((labels == one) | (labels == other)) & ((predicted == one) | (predicted == other))
            wrong = pair & (predicted != labels)
            if not int(pair.sum()):
                continue
            share = int(wrong.sum()) / int(pair.sum())
            if share < CONFUSED:
                continue
            names = (pictures.classes[one], pictures.classes[other])
            example = int(rows[wrong.nonzero()[0, 0]])
            where = pictures.at(example)
            taken = f"{percent(share)} of their pictures are taken for the other"
            words = f"The features cannot tell {names[0]} and {names[1]} apart: {taken}."
            score = round(2 * share, 3)
            found.append(ClassFinding("confused", names, where.split, score, words, where.index, where.file))
    few, many = int(sizes[sizes > 0].min()), int(sizes.max())
    if many > MAX_IMBALANCE * few:
        names = (
            pictures.classes[int(sizes.argmax())],
            pictures.classes[int(torch.where(sizes > 0, sizes, many).argmin())],
        )
        words = f"{names[0]} has {many / few:.0f} times the pictures of {names[1]}."
        found.append(ClassFinding("imbalanced", names, "", round(1 - MAX_IMBALANCE * few / many, 3), words))
    counts = Counter(pictures.labels.tolist())
    alone = [pictures.classes[label] for label, count in counts.items() if count == 1]
    if alone:
        words = f"There is one picture only of {', '.join(alone[:5])}{' and others' if len(alone) > 5 else ''}."
        found.append(ClassFinding("single", tuple(alone), "", 1.0, words))
    return tuple(sorted(found, key=lambda one: -one.score))


def between_splits(pictures: Pictures, tell: Callable[[int, int], None] = lambda *_: None) -> tuple[ClassFinding, ...]:
    """Whether a head can tell the pictures of another split from the training pictures."""
    rows = defaultdict(list)
    for i, (split, *_) in enumerate(pictures.where):
        rows[split].append(i)
    found = []
    for split, own in rows.items():
        if split == "train" or min(len(own), len(rows["train"])) < LEAST_OF_SPLIT:
            continue
        both = torch.tensor(rows["train"] + own)
        other = (torch.arange(len(both)) >= len(rows["train"])).long()
        found_out = solved_out_of_fold(Examples(pictures.features[both], other, 2), tell)
        logits = found_out.logits[found_out.judged]
        apart = _ordered(logits[:, 1] - logits[:, 0], other[found_out.judged])
        if apart < SHIFTED:
            continue
        told = f"a head tells {percent(apart)} of the pairs apart, where {percent(0.5)} is chance"
        words = f"The pictures of {split} differ from those of train: {told}."
        found.append(ClassFinding("shifted", (), split, round(2 * apart - 1, 3), words))
    return tuple(found)


def _ordered(scores: Tensor, positive: Tensor) -> float:
    """The share of pairs of a positive and a negative in which the positive has the larger score: the area under the
    ROC curve, by ranks (Mann & Whitney 1947).
    """
    from scipy.stats import rankdata

    ranks = rankdata(scores.numpy())
    own = int(positive.sum())
    others = len(positive) - own
    return float((ranks[positive.bool().numpy()].sum() - own * (own + 1) / 2) / (own * others))
