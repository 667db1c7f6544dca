"""Which positions and channels a CBAM model attends to (Woo et al. 2018, arXiv:1807.06521)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from resnet_space.models.cbam import cbams
from resnet_space.models.hooks import eval_mode, recorded


@dataclass(frozen=True)
class AttentionMaps:
    """The gates of every CBAM by its module name, in forward order; empty for a model without CBAM.

    A CBAM multiplies its input by `gain * gate`. With the gain of 2 that models here have, a gate of 0.5 leaves a
    position or channel unchanged; higher gates amplify, lower gates damp.

    Attributes:
        spatial: [N, h, w] in 0..1, at the resolution of the features.
        channel: [N, C] in 0..1.
        gain: what a gate is multiplied by.
    """

    spatial: dict[str, Tensor] = field(default_factory=dict)
    channel: dict[str, Tensor] = field(default_factory=dict)
    gain: dict[str, float] = field(default_factory=dict)


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[AttentionMaps]:
    """Fill an AttentionMaps from the forward passes inside the `with`; readable once it has ended."""
    modules = cbams(model)
    measures = {}
    for name in modules:
        measures[f"{name}.channel.gate"] = lambda _inputs, gate: gate.float().cpu()
        measures[f"{name}.spatial.gate"] = lambda _inputs, gate: gate[:, 0].float().cpu()
    maps = AttentionMaps()
    with recorded(model, measures) as gates:
        yield maps
    for name, module in modules.items():
        if gates[f"{name}.channel.gate"]:
            maps.channel[name] = torch.cat(gates[f"{name}.channel.gate"])
            maps.spatial[name] = torch.cat(gates[f"{name}.spatial.gate"])
            maps.gain[name] = module.spatial.gain


def attention_maps(model: nn.Module, images: Tensor) -> AttentionMaps:
    """The gates of every CBAM for images float [N, 3, H, W], already normalised, from one forward pass."""
    with torch.inference_mode(), eval_mode(model), recorded_attention(model) as maps:
        model(images)
    return maps
