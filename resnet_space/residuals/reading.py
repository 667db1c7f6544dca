"""How a prediction forms: the head applied to the state after each block of the last stage.

If a stage refines one estimate step by step (Greff et al. 2017, arXiv:1612.07771), the head can read it early.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnet_space.models.hooks import Hook, eval_mode, hooked
from resnet_space.residuals.adapters import additions, read_early
from resnet_space.residuals.probes import labelled


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
    def images(self) -> int:
        return len(self.labels)

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
        model: a ResNet of this package, plain ones too, or a ResNet or VisionTransformer of torchvision or timm; left
            as it was, at every yield.
        batches: (images float [n, 3, H, W] already normalised, labels int64 [n]).

    Raises:
        NoResidualBlocksError: see `additions`.
        UserError: for no images, labels that the model does not know, or a head that cannot read a block's output.
    """
    blocks = list(dict.fromkeys(addition.block for addition in additions(model, plain=True)))
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # of each batch
    read: list[str] = []
    for images, labels in labelled(batches):
        states: dict[str, Tensor] = {}
        with torch.inference_mode(), eval_mode(model):
            with hooked(model, [(name, _of_last_stage(states, name)) for name in blocks]):
                model(images)
            logits = [read_early(model, state).float() for state in states.values()]
            probabilities = torch.stack(logits).softmax(2)  # [K, n, C]
        read = list(states)
        probability, top = probabilities.max(2)
        ends_with = top[-1].expand(len(read), -1)[..., None]
        final = probabilities.gather(2, ends_with).squeeze(2)
        found.append((top.cpu(), probability.cpu(), final.cpu(), labels.cpu()))
        parts = zip(*found, strict=True)
        yield Readings(read, *(torch.cat(part, dim=-1) for part in parts))


def _of_last_stage(states: dict[str, Tensor], name: str) -> Hook:
    """Keeps the states after the last blocks, as long as they have one shape."""

    def see(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        if states and next(iter(states.values())).shape != output.shape:
            states.clear()
        states[name] = output

    return see
