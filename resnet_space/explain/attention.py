"""Where a model attends: the gates of its CBAMs (Woo et al. 2018, arXiv:1807.06521), the heads of a transformer and
their rollout (Abnar & Zuidema 2020, arXiv:2005.00928).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.models.cbam import cbams
from resnet_space.models.contract import Backbone
from resnet_space.models.hooks import Measure, eval_mode, recorded, unfused

Patch = tuple[int, int]  # row and column, from 0


@dataclass(frozen=True)
class AttentionMaps:
    """The gates of every CBAM by its module name, and the attention weights of every transformer block by its name, in
    forward order; empty for a model without.

    A CBAM multiplies its input by `gain * gate`. With the gain of 2 that models here have, a gate of 0.5 leaves a
    position or channel unchanged; higher gates amplify, lower gates damp.

    Attributes:
        spatial: [N, h, w] in 0..1, at the resolution of the features.
        channel: [N, C] in 0..1.
        gain: what a gate is multiplied by.
        heads: [N, heads, T, T]: softmax(Q Kᵀ / √d). Row q has the shares that token q takes from each token.
    """

    spatial: dict[str, Tensor] = field(default_factory=dict)
    channel: dict[str, Tensor] = field(default_factory=dict)
    gain: dict[str, float] = field(default_factory=dict)
    heads: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def recorded_attention(model: nn.Module) -> Generator[AttentionMaps]:
    """Fill an AttentionMaps from the forward passes inside the `with`; readable once it has ended."""
    modules = cbams(model)
    weights = model.attention_weights() if isinstance(model, Backbone) else {}
    measures: dict[str, Measure[Tensor]] = {}
    for name in modules:
        measures[f"{name}.channel.gate"] = lambda _inputs, gate: gate.float().cpu()
        measures[f"{name}.spatial.gate"] = lambda _inputs, gate: gate[:, 0].float().cpu()
    for name in weights.values():
        measures[name] = lambda _inputs, shares: shares.float().cpu()
    maps = AttentionMaps()
    with unfused(model, weights.values()), recorded(model, measures) as found:
        yield maps
    for name, module in modules.items():
        if found[f"{name}.channel.gate"]:
            maps.channel[name] = torch.cat(found[f"{name}.channel.gate"])
            maps.spatial[name] = torch.cat(found[f"{name}.spatial.gate"])
            maps.gain[name] = module.spatial.gain
    for block, name in weights.items():
        if found[name]:
            maps.heads[block] = torch.cat(found[name])


def attention_maps(model: nn.Module, images: Tensor) -> AttentionMaps:
    """Gates and heads for images float [N, 3, H, W], already normalised, from one forward pass."""
    with torch.inference_mode(), eval_mode(model), recorded_attention(model) as maps:
        model(images)
    return maps


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """How much of each token of the input arrives in each token after these layers: [N, T, T], each row summing to 1.

    Every layer is 0.5 W + 0.5 I, with W the mean of its heads and I for its shortcut; their product follows all paths
    (section 3).

    Args:
        layers: attention weights [N, heads, T, T], from the first layer on.
    """
    total = torch.eye(layers[0].shape[-1])
    for weights in layers:
        total = (weights.mean(1) @ total + total) / 2
    return total


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """What a query, the class token or a patch, takes from each patch of one image in one layer. What is missing of 1,
    it takes from the class token.

    Attributes:
        block: the layer's module name.
        heads: float32 [heads, h, w], shares of at most 1.
        rollout: float32 [h, w]: the same through all layers up to this one.
    """

    block: str
    heads: NDArray[np.float32]
    rollout: NDArray[np.float32]

    @property
    def mean(self) -> NDArray[np.float32]:
        """[h, w] of the heads."""
        mean: NDArray[np.float32] = self.heads.mean(0)
        return mean


def head_maps(model: Backbone, maps: AttentionMaps, layer: int, query: Patch | None = None) -> HeadMaps:
    """The heads of one layer for the first image.

    Args:
        model: for the order of its tokens.
        maps: of its forward pass.
        layer: from 0.
        query: a patch; None for the class token, or where there is none for the mean of all patches.

    Raises:
        UserError: for a layer or patch that does not exist.
    """
    if not 0 <= layer < len(maps.heads):
        raise UserError(f"The layer must be from 1 to {len(maps.heads)}, not {layer + 1}.")
    block = list(maps.heads)[layer]
    through = rollout([weights[:1] for weights in list(maps.heads.values())[: layer + 1]])
    rows = torch.cat([maps.heads[block][0], through])  # [heads + 1, query, T]
    height, width = model.to_map(rows[:1, :1].transpose(1, 2)).shape[-2:]
    others = rows.shape[-1] - height * width
    if query is None:
        taken = rows[:, 0] if others else rows.mean(1)
    elif 0 <= query[0] < height and 0 <= query[1] < width:
        taken = rows[:, others + query[0] * width + query[1]]
    else:
        raise UserError(f"The patch must be in rows 1 to {height} and columns 1 to {width}.")
    shares = model.to_map(taken.T[None])[0].numpy()
    return HeadMaps(block, shares[:-1], shares[-1])
