"""What training changed, layer by layer: how far the weights moved, and how alike the features still are.

Features are compared by linear CKA (Kornblith et al. 2019, arXiv:1905.00414): 1 for features that differ only by a
rotation and a scale, 0 for unrelated ones. Its HSIC is the unbiased estimate (Song et al. 2012), summed over batches
(Nguyen et al. 2021, arXiv:2010.15327), so that no more than one batch of features is in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.models.contract import Backbone, Part
from resnet_space.models.hooks import eval_mode, recorded

LEAST_IMAGES = 4  # of a batch, for the unbiased HSIC
DRAWS = 9_999  # permutations
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Trend:
    """Whether something rises with depth: Spearman's rank correlation, and the two-sided p-value by permutations."""

    correlation: float
    p_value: float

    @property
    def is_clear(self) -> bool:
        return self.p_value < SIGNIFICANCE


@dataclass(frozen=True)
class Changes:
    """What N images tell of a network before and after a training.

    Attributes:
        parts: P names in forward order, without the head; added ones at the end, with their stage.
        weights: P relative distances ||after - before|| / ||before|| of all of a part's parameters together.
        added: how many parts, the last ones, were added to the network, such as CBAM's gates.
        layers: L layers whose outputs were compared, in forward order.
        cka: float64 [L], from about 0 to 1.
        images: N.
    """

    parts: list[str]
    weights: list[float]
    added: int
    layers: list[str]
    cka: Tensor
    images: int

    @property
    def trend(self) -> Trend:
        """Of 1 - CKA with depth: do later layers change more?"""
        return rank_trend((1 - self.cka).tolist())

    @property
    def weight_trend(self) -> Trend:
        """Of the weights' distance with depth, without the added parts, which are at several depths."""
        return rank_trend(self.weights[: len(self.weights) - self.added])


def changes(before: Backbone, after: Backbone, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Changes]:
    """Compare batch by batch; each yield has all images so far. Batches of fewer than four images are left out.

    Args:
        before, after: two networks of one architecture and options; left as they were, at every yield.
        batches: (images float [n, 3, H, W] already normalised, labels).

    Raises:
        UserError: for networks of different architectures, or no batch that is large enough.
    """
    parts = sorted((part for part in after.parts() if part.stage != "head"), key=lambda part: part.added)
    added = sum(part.added for part in parts)
    names = [f"{part.stage} {part.name}" if part.added else part.name for part in parts]
    weights = [_distance(before, after, part) for part in parts]
    layers = layers_of(after)
    sums = torch.zeros(3, len(layers), dtype=torch.float64)  # HSIC of both, of before, of after
    images = 0
    for batch, _ in batches:
        if len(batch) < LEAST_IMAGES:
            continue
        grams = [_grams(model, list(layers.values()), batch) for model in (before, after)]
        for i, (own, other) in enumerate(zip(*grams, strict=True)):
            sums[:, i] += torch.stack([hsic(own, other), hsic(own, own), hsic(other, other)])
        images += len(batch)
        cka = sums[0] / (sums[1] * sums[2]).clamp(min=0).sqrt()
        yield Changes(names, weights, added, list(layers), cka, images)
    if not images:
        raise UserError(f"To compare features, there must be at least {LEAST_IMAGES} images.")


def layers_of(model: Backbone) -> dict[str, str]:
    """The modules whose outputs are compared, by layer: the first observed one, the blocks, and stages without any."""
    modules = dict(model.named_modules())
    segments = [segment for segment in model.segments() if segment.block in modules]
    blocks = [str(segment.block) for segment in segments]
    inside = {segment.stage for segment in segments}
    stages = [module for stage, module in model.stages().items() if stage not in inside]
    first = model.observed()[0]
    wanted = {*blocks, *stages}
    found = {name: name for name in modules if name in wanted and not any(w.startswith(f"{name}.") for w in wanted)}
    return found if first in wanted else {"stem": first} | found


def _distance(before: Backbone, after: Backbone, part: Part) -> float:
    own, others = dict(after.named_parameters()), dict(before.named_parameters())
    moved = start = 0.0
    for name in part.parameters:
        if name not in others or others[name].shape != own[name].shape:
            raise UserError("The two networks differ in their parameters, so it cannot be said what changed.")
        was, now = (weights[name].detach().double().cpu() for weights in (others, own))
        moved, start = moved + float((now - was).square().sum()), start + float(was.square().sum())
    return (moved / start) ** 0.5 if start else 0.0


def _grams(model: Backbone, layers: Sequence[str], batch: Tensor) -> list[Tensor]:
    """Of each layer, the inner products of the images' features: float64 [n, n]."""

    def gram(_inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        flat = output.flatten(1).float()
        return (flat @ flat.T).double().cpu()

    with torch.inference_mode(), eval_mode(model), recorded(model, dict.fromkeys(layers, gram)) as found:
        model(batch.to(next(model.parameters()).device))
    return [found[name][0] for name in layers]


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741  # as in the literature
    """The unbiased Hilbert-Schmidt independence criterion of two Gram matrices [n, n], n > 3 (Song et al. 2012)."""
    n = len(k)
    k, l = (gram - gram.diag().diag() for gram in (k, l))  # noqa: E741
    both = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ l.sum(0))
    return both / (n * (n - 3))


def rank_trend(values: Sequence[float]) -> Trend:
    """Of values in their order."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float)
    n = len(ranks)
    if n < 3:
        return Trend(0.0, 1.0)
    order = np.arange(n, dtype=float)

    def correlation(drawn: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Any:
        return 1 - 6 * ((drawn - order) ** 2).sum(-1) / (n * (n * n - 1))

    own = float(correlation(ranks))
    random = np.random.default_rng(0)
    others = correlation(random.permuted(np.tile(ranks, (DRAWS, 1)), axis=1))
    return Trend(own, float((1 + (np.abs(others) >= abs(own) - 1e-12).sum()) / (DRAWS + 1)))
