"""CBAM: Convolutional Block Attention Module (Woo et al. 2018, arXiv:1807.06521, section 3).

A CBAM multiplies its input by a channel gate and then by a spatial gate, both sigmoids in 0..1.

Two choices differ from the paper:

- `gain`. Each gate is multiplied by `gain` before it scales the input. With the paper's gain of 1 an untrained CBAM
  roughly quarters its input (0.5 x 0.5), which wrecks a pretrained network. With a gain of 2 and zero-initialised last
  layers, both defaults here, an untrained CBAM is exactly the identity: a gate of 0.5 changes nothing,
  higher gates amplify a channel or position, lower ones attenuate it.
- No BatchNorm after the spatial convolution (the authors' code and timm have one, the paper's equation 3 has none).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["zeros", "replicate"]


class ChannelAttention(nn.Module):
    """Gate over channels: `gain * sigmoid(mlp(mean over H, W) + mlp(max over H, W))` (section 3, equation 2).

    Args:
        channels: C of the input.
        reduction: the hidden layer has `channels // reduction` units.
        min_hidden: but never fewer than this, because 16 // 16 = 1 unit could only rank all channels along one line.
        gain: see the module docstring.
    """

    def __init__(self, channels: int, *, reduction: int = 16, min_hidden: int = 4, gain: float = 2.0) -> None:
        super().__init__()
        hidden = max(channels // reduction, min_hidden)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )
        self.gate = nn.Sigmoid()  # a submodule of its own, so that a hook finds it: [N, C] in 0..1
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, H, W] -> scale factors [N, C, 1, 1] in 0..gain."""
        pooled = torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)]).flatten(1)  # [2N, C]
        from_mean, from_max = self.mlp(pooled).chunk(2)
        gate: Tensor = self.gate(from_mean + from_max)
        return self.gain * gate[:, :, None, None]


class SpatialAttention(nn.Module):
    """Gate over positions: `gain * sigmoid(conv([mean over C, max over C]))` (section 3, equation 3).

    Args:
        kernel_size: odd.
        padding: as in `nn.Conv2d`.
        gain: see the module docstring.
    """

    def __init__(self, *, kernel_size: int = 7, padding: Padding = "zeros", gain: float = 2.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False, padding_mode=padding)
        self.gate = nn.Sigmoid()  # a submodule of its own, so that a hook finds it: [N, 1, H, W] in 0..1
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, H, W] -> scale factors [N, 1, H, W] in 0..gain."""
        # Reduced and stacked along the last axis, so that forward and backward stay in channels_last, which is faster.
        # `max` and not `amax`, whose backward compares every element with the maximum.
        last = x.permute(0, 2, 3, 1)
        pooled = torch.stack([last.mean(-1), last.max(-1).values], dim=-1).permute(0, 3, 1, 2)
        gate: Tensor = self.gate(self.conv(pooled))
        return self.gain * gate


class CBAM(nn.Module):
    """Channel attention, then spatial attention: x [N, C, H, W] -> [N, C, H, W].

    Args:
        channels: C of the input.
        reduction, min_hidden: of the channel attention's MLP.
        kernel_size, padding: of the spatial attention's convolution.
        gain: of both gates; 1 is the paper's.
        identity_init: start with all gates at 0.5 by zeroing the last layers; with `gain=2` that is the identity.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        min_hidden: int = 4,
        kernel_size: int = 7,
        padding: Padding = "zeros",
        gain: float = 2.0,
        identity_init: bool = True,
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction=reduction, min_hidden=min_hidden, gain=gain)
        self.spatial = SpatialAttention(kernel_size=kernel_size, padding=padding, gain=gain)
        if identity_init:
            nn.init.zeros_(self.channel.mlp[2].weight)  # pyrefly: ignore[bad-argument-type]
            nn.init.zeros_(self.spatial.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.channel(x)
        out: Tensor = x * self.spatial(x)
        return out


def cbams(model: nn.Module) -> dict[str, CBAM]:
    """A network's CBAMs by their module names, in forward order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, CBAM)}
