"""What a network can do without: its accuracy with blocks dropped or swapped (Veit et al. 2016, arXiv:1605.06431)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class Lesion:
    """What is done to a network.

    Attributes:
        kind: "drop": F(x) := 0 in these blocks, which leaves relu(shortcut(x)) (in a plain network, x); "swap": the two
            blocks change places.
        blocks: names of blocks as `additions` has them.
    """

    kind: Literal["drop", "swap"]
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Lesioned:
    """How well it does, on the images so far; float64 on the CPU.

    Attributes:
        images: how many N.
        lesions: L of them, as they were asked for.
        accuracy: [L], of N images.
        loss: [L] mean cross-entropy in nats.
        base_accuracy, base_loss: of the network as it is, on the same images.
    """

    images: int
    lesions: tuple[Lesion, ...]
    accuracy: Tensor
    loss: Tensor
    base_accuracy: float
    base_loss: float


def single_drops(model: nn.Module) -> list[Lesion]:
    """Every block by itself, in forward order; of a plain network those that keep the shape."""
    raise NotImplementedError


def random_drops(model: nn.Module, counts: Sequence[int], *, draws: int = 5, seed: int = 0) -> list[Lesion]:
    """For each count, so many blocks at random, `draws` times over: count by count, each draw without repetition."""
    raise NotImplementedError


def swaps(model: nn.Module) -> list[Lesion]:
    """Every two blocks that can change places: of the same shape in and out, in the same stage."""
    raise NotImplementedError


def lesioned(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lesions: Sequence[Lesion]
) -> Iterator[Lesioned]:
    """Judge all the lesions batch by batch; each yield has every lesion, on all images so far. Stop whenever you like.

    Of this package's networks only what follows the first lesioned block is computed again.

    Args:
        model: left as it was.
        batches: (images float [n, 3, H, W] already normalised, labels int64 [n]).
        lesions: see `single_drops`, `random_drops`, `swaps`; or your own.

    Raises:
        NoResidualBlocksError: see `additions`.
        ValueError: for no images, an unknown block, or two that cannot be swapped.
    """
    raise NotImplementedError
