"""What one block does to one image, as pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


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
        ValueError: for an unknown block or channel, or a block whose x is no map.
    """
    raise NotImplementedError
