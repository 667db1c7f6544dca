"""Which pictures of a dataset are held out: near-duplicates together, and those to test on for good.

Whether a picture is one to test on follows from its own content: a digest of its file, read as a number from 0 to 1, is
below a limit or not. So a dataset that grows, or loses pictures, or whose labels are corrected, keeps who is test, and
no picture that was learned from is tested on later. A near-duplicate goes where the first of its kind is.

A class may have no picture below the limit (of 10 pictures, one class in nine). Then one stands in, so that there is a
test of every class of two or more. In a dataset that grows picture by picture, the first two of a class are always on
different sides, and that is never changed. Elsewhere the order of the rows means nothing, and the picture with the
smallest number stands in, as long as there is no other: it may be learned from later. What was learned from is not
tested on later there, either, but for a class that had one picture, or none above the limit.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_test_on(
    contents: Tensor, labels: Tensor, first: Tensor, share: float, *, grows: bool = False
) -> NDArray[np.bool_]:
    """Which of N pictures are for the test, bool [N].

    Args:
        contents: int64 [N], digests of the files.
        labels: int64 [N].
        first: int64 [N], of each picture the first that it is a near-duplicate of, or itself.
        share: about which of the pictures are wanted.
        grows: whether the pictures are in the order in which they came.
    """
    numbers = contents.numpy().view(np.uint64) / 2.0**64
    own = (first == torch.arange(len(first))).nonzero().flatten().tolist()  # the others go where these go
    tests: NDArray[np.bool_] = numbers < share
    of_class: dict[int, list[int]] = defaultdict(list)
    for row in own:
        of_class[int(labels[row])].append(row)
    if grows:
        _in_order(tests, own, labels)
    else:
        for rows in (*of_class.values(), own):
            _with_stand_in(tests, numbers, rows)
    found: NDArray[np.bool_] = tests[first.numpy()]
    return found


def _in_order(tests: NDArray[np.bool_], own: Sequence[int], labels: Tensor) -> None:
    """Of each class, the second is on the other side from the first; so is the second of all, if it is its class's
    first.
    """
    of_class: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(own):
        before = of_class[int(labels[row])]
        if len(before) == 1 or (i == 1 and not before):
            tests[row] = not tests[own[0] if not before else before[0]]
        before.append(row)


def _with_stand_in(tests: NDArray[np.bool_], numbers: NDArray[np.float64], rows: Sequence[int]) -> None:
    """Of two or more, one is for the test, and one is not."""
    if len(rows) > 1 and not tests[rows].any():
        tests[min(rows, key=lambda row: numbers[row])] = True
    elif len(rows) > 1 and tests[rows].all():
        tests[max(rows, key=lambda row: numbers[row])] = False


def class_quantiles(labels: Tensor, seed: int) -> Tensor:
    """Of each picture a quantile within its class, shuffled by `seed`: float64 [N].

    The lowest so many are spread evenly over the classes.
    """
    generator = torch.Generator().manual_seed(seed)
    quantile = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        quantile[members[order]] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return quantile


def stratified_indices(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions 0..N-1 into `count` and N - count, each class in its share (to within one), shuffled by `seed`.

    Returns:
        The positions that were taken and the rest, both sorted.
    """
    ranked = class_quantiles(labels, seed).argsort(stable=True)
    return ranked[:count].sort().values, ranked[count:].sort().values


def subset_indices(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Positions of `per_class` images of each class, or of all where it has fewer, sorted.

    With the same seed, a smaller subset is part of every larger one.
    """
    places = class_quantiles(labels, seed) * labels.bincount()[labels]  # 0.5, 1.5, ... in each class
    return (places < per_class).nonzero().flatten()


def drawn_together(labels: Tensor, copies: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """As `stratified_indices`, but near-duplicates are drawn together, so it may be a few fewer than `count`.

    Args:
        labels: int64 [N].
        copies: int64 [N], a number that near-duplicates share.
        count: pictures to draw.
        seed: of the draw.
    """
    _, group = copies.unique(return_inverse=True)
    sizes = group.bincount()
    leaders = torch.full((len(sizes),), len(labels)).scatter_reduce(0, group, torch.arange(len(labels)), "amin")
    order = class_quantiles(labels[leaders.sort().values], seed).argsort(stable=True)
    order = group[leaders.sort().values][order]
    chosen, left = list[int](), count
    for one in order.tolist():
        if int(sizes[one]) <= left:
            chosen.append(one)
            left -= int(sizes[one])
    if not chosen:  # the smallest is too large
        chosen = [int(sizes.argmin())]
    taken = torch.isin(group, torch.tensor(chosen))
    return taken.nonzero().flatten(), (~taken).nonzero().flatten()


def told_of_copies(count: int) -> list[str]:
    """What became of the near-duplicates among the images that were divided, in a sentence."""
    if not count:
        return []
    were = "1 near-duplicate was" if count == 1 else f"{count:,} near-duplicates were"
    return [f"{were} kept on one side of the split."]


def told_of_tests(count: int, of: int) -> list[str]:
    """How many of the dataset's own test images were seen in training, in a sentence."""
    if not count:
        return []
    have = "has" if count == 1 else "have"
    return [
        f"At least {count:,} of the {of:,} test images {have} a near-duplicate among the training images, which makes "
        "the test accuracy too high."
    ]
