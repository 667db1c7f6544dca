"""What arrives at each residual block on the way back: the gradient of the loss, with and without the shortcuts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Gradients:
    """Of the cross-entropy L of each image by itself, one row a block in forward order; float64, on the CPU.

    Attributes:
        blocks: B names.
        norm: [B, N] ||dL/dx||.
        alignment: [B, N] cos(F(x), dL/dx): negative where the block moves x downhill (Jastrzebski et al. 2018,
            arXiv:1710.04773, section 4.1); not a number where F(x) and x differ in shape.
        branches: [B, N] ||dL/dx|| through the branches only: the same activations, but the shortcuts pass nothing back.
        plain: [B, N] ||dL/dx|| in the plain network of the same weights: no shortcut forward or back. Its activations
            are not those that the weights were trained for.
    """

    blocks: list[str]
    norm: Tensor
    alignment: Tensor
    branches: Tensor
    plain: Tensor

    @property
    def images(self) -> int:
        return self.norm.shape[1]


def gradients(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, contrast: bool = True
) -> Iterator[Gradients]:
    """Measure batch by batch; each yield has all images so far. Stop whenever you like.

    Args:
        model: left as it was.
        batches: (images float [n, 3, H, W] already normalised, labels int64 [n]).
        contrast: measure `branches` and `plain` too, at three times the cost; without it both are not numbers.

    Raises:
        NoResidualBlocksError: see `additions`.
        ValueError: for no images.
    """
    raise NotImplementedError
