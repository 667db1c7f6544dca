"""Find pictures that are copies of one another: recompressed, resized, mirrored, or cropped a little.

Pictures that could be copies are found by tiny versions of them, and by a network's features. Each such pair is then
laid over one another: in whichever orientation fits better, Gauss-Newton steps (Lucas & Kanade 1981) find the shift and
the scale of each axis by which the brightness of one fits that of the other. What decides is how the details of the two
correlate where they overlap: of a copy nearly perfectly; of two pictures of one scene, or of one kind, they do not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SIDE = 32  # pixels of a thumbnail
TINY = 8  # pixels by which pairs are proposed
NEIGHBOURS = 3  # that are proposed for each picture, by tiny versions and by features
LIKELY = 0.6  # correlation of the tiny versions, below which a pair is not laid over one another
FITTING = 0.75  # correlation of pairs laid over one another at half the size, below which it is not done exactly
COPY = 0.9  # correlation of the details, from which on two pictures are copies
EARLIER, ALIKE = 2, 0.85  # as NEIGHBOURS and LIKELY where pictures are only grouped, which takes a tenth of the time
DETAILS = (
    3,
    9,
)  # pixels: finer ones are lost in a copy that is smaller, coarser ones are those of any sky above a field
BLURS_ROUGHLY, BLURS = (3, 3, 3, 1), (5, 5, 5, 3, 3, 3, 1, 1, 1)  # of the steps: far shifts are found first
LEAST_SCALE = 0.75  # of an axis: a crop that leaves less is no slight one
AT_ONCE = 2_000  # pairs, or pictures


@dataclass(frozen=True)
class Pair:
    """Two pictures by their positions, and how well one correlates with the other where they overlap, up to 1."""

    first: int
    second: int
    score: float
    mirrored: bool


class Thumbnails:
    """Collects those of whole splits while they are decoded, as long as there are at most so many pictures."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.found: dict[str, NDArray[np.uint8]] = {}  # [rows, SIDE, SIDE] by split

    def of(self, split: str, count: int, *, rows: int | None = None) -> Callable[[int, Image.Image], None] | None:
        """What `load_split` shows the split's `count` pictures, by row; None where they are too many."""
        if count > self.left:
            return None
        self.left -= count
        kept = self.found[split] = np.zeros((count if rows is None else rows, SIDE, SIDE), dtype=np.uint8)

        def look(row: int, image: Image.Image) -> None:
            kept[row] = thumbnail(image).numpy()

        return look


def thumbnail(image: Image.Image) -> Tensor:
    """The picture's brightness, squeezed to a square: uint8 [SIDE, SIDE]."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None)
    return torch.from_numpy(np.asarray(small).copy())


def find_copies(
    thumbnails: Tensor,
    features: Tensor | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> list[Pair]:
    """The pairs of pictures that are copies of one another, the surest first.

    Args:
        thumbnails: uint8 [N, SIDE, SIDE].
        features: float32 [N, D], of any network; without them, pairs are proposed by tiny versions alone.
        tell: called with (pairs done, all).
    """
    pictures = thumbnails.float() / 255
    pairs, mirrored = _proposed(pictures, features)
    return sorted(_laid_over(pictures, pairs, mirrored, tell), key=lambda pair: -pair.score)


def first_copies(thumbnails: Tensor) -> Tensor:
    """Of each picture, the position of the first that it is a copy of, itself where it is none: int64 [N].

    Only earlier pictures are looked at, so those that come later change nothing. A copy of a copy is one of the first,
    too; a copy of two pictures that are none of one another is one of the earlier. Slight crops are missed more often
    than by `find_copies`.

    Args:
        thumbnails: uint8 [N, SIDE, SIDE].
    """
    pictures = thumbnails.float() / 255
    own, turned = _directions(pictures)
    best: dict[int, int] = {}
    for pair in _laid_over(pictures, *_likely([_earlier(own, turned)], own, turned, ALIKE)):
        best[pair.second] = min(pair.first, best.get(pair.second, pair.first))
    first = torch.arange(len(thumbnails))
    for later in sorted(best):
        first[later] = first[best[later]]
    return first


def _laid_over(
    pictures: Tensor, pairs: Tensor, mirrored: Tensor, tell: Callable[[int, int], None] = lambda *_: None
) -> Iterator[Pair]:
    """Those of the proposed pairs that are copies."""
    for first in range(0, len(pairs), AT_ONCE):
        tell(first, len(pairs))
        rows, flip = pairs[first : first + AT_ONCE], mirrored[first : first + AT_ONCE]
        own, other = pictures[rows[:, 0]], pictures[rows[:, 1]]
        other = torch.where(flip[:, None, None], other.flip(2), other)
        fitting = overlaid(_half(own), _half(other), BLURS_ROUGHLY)[0] >= FITTING
        scores = overlaid(own[fitting], other[fitting])[1]
        for (one, two), turned, score in zip(
            rows[fitting].tolist(), flip[fitting].tolist(), scores.tolist(), strict=True
        ):
            if score >= COPY:
                yield Pair(one, two, round(score, 4), turned)
    tell(len(pairs), len(pairs))


def _proposed(pictures: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
    """Pairs int64 [M, 2] worth a closer look, and whether the second is to be mirrored, bool [M]."""
    own, turned = _directions(pictures)
    near = [_nearest(own, own), _nearest(own, turned)]
    if features is not None:
        directions = F.normalize(features.float(), dim=1)
        near.append(_nearest(directions, directions))
    return _likely(near, own, turned, LIKELY)


def _directions(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Of tiny versions, as they are and mirrored, float32 [N, TINY * TINY] each."""
    tiny = F.adaptive_avg_pool2d(pictures[:, None], TINY)[:, 0]
    return _unit(tiny.flatten(1)), _unit(tiny.flip(2).flatten(1))


def _likely(near: Sequence[Tensor], own: Tensor, turned: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Each pair once whose tiny versions correlate by `least`, in one orientation, and whether that is the mirrored."""
    pairs = torch.cat(list(near)).sort(1).values.unique(dim=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    straight = (own[pairs[:, 0]] * own[pairs[:, 1]]).sum(1)
    crossed = (own[pairs[:, 0]] * turned[pairs[:, 1]]).sum(1)
    likely = torch.maximum(straight, crossed) >= least
    return pairs[likely], (crossed > straight)[likely]


def _unit(values: Tensor) -> Tensor:
    """Rows of mean 0 and length 1, so that their products are correlations; a row without contrast is all 0."""
    return F.normalize(values - values.mean(1, keepdim=True), dim=1)


def _nearest(rows: Tensor, others: Tensor) -> Tensor:
    """(row, its nearest) int64 [N * NEIGHBOURS, 2]; a row is not its own neighbour."""
    found = []
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        products = some @ others.T
        index = torch.arange(len(some))
        products[index, first + index] = -2
        nearest = products.topk(min(NEIGHBOURS, max(len(rows) - 1, 1)), dim=1).indices
        found.append(torch.stack([(first + index)[:, None].expand_as(nearest), nearest], 2).flatten(0, 1))
    return torch.cat(found)


def _earlier(own: Tensor, turned: Tensor) -> Tensor:
    """(row, one of the `EARLIER` nearest of those before it, if it is `ALIKE`) int64 [M, 2]."""
    found = [torch.zeros(0, 2, dtype=torch.int64)]
    for first in range(0, len(own), AT_ONCE):
        some = own[first : first + AT_ONCE]
        last = first + len(some)
        products = torch.maximum(some @ own[:last].T, some @ turned[:last].T)
        products[:, first:].masked_fill_(torch.ones(len(some), len(some), dtype=torch.bool).triu(), -2)
        rows = torch.arange(first, last)
        for _ in range(EARLIER):  # faster than topk
            values, nearest = products.max(1)
            near = values >= ALIKE
            rows, nearest, products = rows[near], nearest[near], products[near]
            found.append(torch.stack([rows, nearest], 1))
            products.scatter_(1, nearest[:, None], -2)
    return torch.cat(found)


def overlaid(first: Tensor, second: Tensor, blurs: Sequence[int] = BLURS) -> tuple[Tensor, Tensor]:
    """How pictures float32 [M, S, S] correlate with others, shifted and scaled to fit: (all, details), each [M].

    Only contrast counts: brighter and darker copies are copies. It is 0 for a picture without any.

    Args:
        first: stays as it is.
        second: is moved.
        blurs: pixels, odd, by which both are blurred at each step.
    """
    line = torch.linspace(-1, 1, first.shape[1])
    y, x = torch.meshgrid(line, line, indexing="ij")
    moved = torch.zeros(len(first), 4)  # the second is looked up at (x + m0 + m1 x, y + m2 + m3 y)
    for blur in blurs:
        at, weight = _looked_up(_blurred(second, blur), moved, x, y)
        slopes = at[:, 1:] / _deviation(at[:, :1], weight[:, None]).clamp_min(1e-3)
        steepest = torch.stack([slopes[:, 0], slopes[:, 0] * x, slopes[:, 1], slopes[:, 1] * y], 1)
        weighted = steepest * weight[:, None]
        left = _normalised(_blurred(first, blur), weight) - _normalised(at[:, 0], weight)
        curvature = torch.einsum("mihw,mjhw->mij", weighted, steepest) + 1e-3 * torch.eye(4)
        step = torch.linalg.solve(curvature, torch.einsum("mihw,mhw->mi", weighted, left))
        moved = (moved + step).clamp(LEAST_SCALE - 1, 1 / LEAST_SCALE - 1)
    at, weight = _looked_up(second, moved, x, y)
    return _correlation(first, at[:, 0], weight), _correlation(_details(first), _details(at[:, 0]), weight)


def _correlation(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    return (_normalised(first, weight) * _normalised(second, weight) * weight).sum((1, 2))


def _details(pictures: Tensor) -> Tensor:
    fine, coarse = DETAILS
    return _blurred(pictures, fine) - _blurred(pictures, coarse)


def _half(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures[:, None], 2)[:, 0]


def _blurred(pictures: Tensor, width: int) -> Tensor:
    if width == 1:
        return pictures
    padded = F.pad(pictures[:, None], [width // 2] * 4, mode="replicate")
    return F.avg_pool2d(padded, width, stride=1)[:, 0]


def _looked_up(pictures: Tensor, p: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures and their slopes along x and y at the moved positions [M, 3, S, S], and these' weights [M, S, S]."""
    grid_x = x + p[:, 0, None, None] + p[:, 1, None, None] * x
    grid_y = y + p[:, 2, None, None] + p[:, 3, None, None] * y
    step = 2 / (pictures.shape[-1] - 1)
    down, right = torch.gradient(pictures, spacing=step, dim=(1, 2))
    stacked = torch.stack([pictures, right, down], 1)
    at = F.grid_sample(
        stacked, torch.stack([grid_x, grid_y], -1), mode="bilinear", padding_mode="border", align_corners=True
    )
    inside = ((grid_x.abs() <= 1 + step / 2) & (grid_y.abs() <= 1 + step / 2)).float()
    return at, inside / inside.sum((1, 2), keepdim=True).clamp_min(1)


def _deviation(pictures: Tensor, weight: Tensor) -> Tensor:
    mean = (pictures * weight).sum((-2, -1), keepdim=True)
    return (((pictures - mean) ** 2) * weight).sum((-2, -1), keepdim=True).sqrt()


def _normalised(pictures: Tensor, weight: Tensor) -> Tensor:
    mean = (pictures * weight).sum((1, 2), keepdim=True)
    return (pictures - mean) / _deviation(pictures, weight).clamp_min(1e-3)
