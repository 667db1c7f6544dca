"""What one block does to one image, as pictures."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.models.hooks import eval_mode, hooked
from resnet_space.residuals.adapters import additions
from resnet_space.residuals.parts import Parts, parts_hooks


@dataclass(frozen=True, eq=False)
class BlockPictures:
    """Maps of one block for one image, each the mean over the channels, or one channel.

    All four are meant to be drawn with one colour scale, from `low` to `high`.

    Attributes:
        block: its name.
        channel: which, or None for the mean.
        channels: how many the block's output has.
        x: float32 [H, W], the block's input; at a projection it has another size and other channels than the rest.
        shortcut: float32 [h, w], shortcut(x): the same as x at an identity.
        residual: float32 [h, w], F(x).
        sum: float32 [h, w], F(x) + shortcut(x), before the last ReLU.
    """

    block: str
    channel: int | None
    channels: int
    x: NDArray[np.float32]
    shortcut: NDArray[np.float32]
    residual: NDArray[np.float32]
    sum: NDArray[np.float32]

    @property
    def low(self) -> float:
        return min(float(part.min()) for part in (self.shortcut, self.residual, self.sum))

    @property
    def high(self) -> float:
        return max(float(part.max()) for part in (self.shortcut, self.residual, self.sum))


def block_pictures(model: nn.Module, image: Tensor, block: str, channel: int | None = None) -> BlockPictures:
    """Look at one block.

    Args:
        model: left as it was.
        image: float [1, 3, H, W], already normalised.
        block: its name, as `additions` has it.
        channel: of the block's output; None for the mean over all. x has its mean where it lacks this channel.

    Raises:
        NoResidualBlocksError: see `additions`.
        UserError: for an unknown block or channel, or a block whose x is no map.
    """
    found = {addition.name: addition for addition in additions(model)}
    if block not in found:
        raise UserError(f"There is no block {block!r}: choose one of {', '.join(found)}.")
    if not found[block].maps:
        raise UserError(f"{block} works on tokens, so it has no feature maps.")
    if len(image) != 1:
        raise ValueError(f"There are {len(image)} images, but only one has pictures.")
    seen: list[BlockPictures] = []

    def see(parts: Parts) -> None:
        channels = parts.residual.shape[1]
        if channel is not None and not 0 <= channel < channels:
            raise UserError(f"The channel is {channel}, but must be from 0 to {channels - 1}.")
        shortcut = parts.x if parts.shortcut is None else parts.shortcut
        four = (parts.x, shortcut, parts.residual, parts.residual + shortcut)
        seen.append(BlockPictures(block, channel, channels, *(_map(part, channel) for part in four)))

    with torch.inference_mode(), eval_mode(model), hooked(model, parts_hooks(found[block], see)):
        model(image)
    return seen[0]


def _map(features: Tensor, channel: int | None) -> NDArray[np.float32]:
    """[1, C, h, w] -> [h, w], a copy."""
    one = features[0].float()
    has_it = channel is not None and channel < len(one)
    return (one[channel] if has_it else one.mean(0)).cpu().numpy().copy()
