"""How a prediction forms: the head applied to the state after each block of the last stage.

If a stage refines one estimate step by step (Greff et al. 2017, arXiv:1612.07771), the head can read it early.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Readings:
    """What the head says after each block of the last stage, which all have one shape; on the CPU.

    Attributes:
        blocks: K names; the last reading is the network's own.
        top: int64 [K, N], the most probable class.
        probability: float32 [K, N], its probability.
        final: float32 [K, N], the probability of the class that the network ends with.
        labels: int64 [N].
    """

    blocks: list[str]
    top: Tensor
    probability: Tensor
    final: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> Tensor:
        """[K] float64: the share of images whose label is read."""
        return (self.top == self.labels).double().mean(1)

    @property
    def agreement(self) -> Tensor:
        """[K] float64: the share of images for which the class that the network ends with is read."""
        return (self.top == self.top[-1]).double().mean(1)


def early_readings(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Readings]:
    """Read batch by batch; each yield has all images so far. Stop whenever you like.

    A CBAM after the last stage is applied before each reading, as the network does at its end.

    Args:
        model: a ResNet of this package, of torchvision or of timm; left as it was.
        batches: (images float [n, 3, H, W] already normalised, labels int64 [n]).

    Raises:
        NoResidualBlocksError: see `additions`.
        ValueError: for no images, or a network whose head cannot read a block's output.
    """
    raise NotImplementedError
