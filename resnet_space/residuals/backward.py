"""What arrives at each residual block on the way back: the gradient of the loss, with and without the shortcuts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_space.models.additions import Addition
from resnet_space.models.hooks import Hook, eval_mode, hooked
from resnet_space.residuals.adapters import additions
from resnet_space.residuals.norms import lengths
from resnet_space.residuals.parts import Parts, parts_hooks
from resnet_space.residuals.probes import labelled


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
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, contrast: bool = True, plain: bool = False
) -> Iterator[Gradients]:
    """Measure batch by batch; each yield has all images so far. Stop whenever you like.

    Args:
        model: left as it was.
        batches: (images float [n, 3, H, W] already normalised, labels int64 [n]).
        contrast: measure `branches` and `plain` too, at three times the cost; without it both are NaN.
        plain: accept a plain network, which has no shortcuts to leave out: `contrast` must be false.

    Raises:
        NoResidualBlocksError: see `additions`.
        UserError: for no images, or labels that the model does not know.
    """
    found = additions(model, plain=plain)
    measured: list[Tensor] = []  # of each batch: [4, B, n]
    for images, labels in labelled(batches):
        norm, alignment = _of_batch(model, found, images, labels, "whole")
        others = [torch.full_like(norm, torch.nan)] * 2
        if contrast:
            others = [_of_batch(model, found, images, labels, path)[0] for path in ("branches", "plain")]
        measured.append(torch.stack([norm, alignment, *others]).cpu())
        yield Gradients([addition.name for addition in found], *torch.cat(measured, dim=2))


Path = Literal["whole", "branches", "plain"]  # which way the gradient takes


def _of_batch(
    model: nn.Module, found: list[Addition], images: Tensor, labels: Tensor, path: Path
) -> tuple[Tensor, Tensor]:
    """||dL/dx|| and cos(F(x), dL/dx): float64 [B, n] each."""
    parts: dict[int, Parts] = {}

    def see(i: int) -> Callable[[Parts], None]:
        # Some networks add into F(x), but none changes x.
        return lambda found: parts.update({i: Parts(found.x, found.residual.detach().clone(), None)})

    with torch.inference_mode(False), torch.enable_grad(), eval_mode(model):
        hooks = [hook for i, addition in enumerate(found) for hook in parts_hooks(addition, see(i))]
        if path != "whole":
            hooks += [hook for addition in found for hook in _without_shortcut(addition, path)]
        with hooked(model, hooks):
            # Weights may be frozen; what is asked for is the way to the activations.
            logits = model(images.detach().clone().requires_grad_())
        loss = F.cross_entropy(logits.float(), labels, reduction="sum")  # each image has its own
        gradients = torch.autograd.grad(loss, [parts[i].x for i in range(len(found))])
    norm = torch.stack([lengths(gradient) for gradient in gradients])
    cosines = [_cosine(parts[i].residual, gradient) for i, gradient in enumerate(gradients)]
    return norm, torch.stack(cosines)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """[n, ...] twice -> float64 [n], the cosine of the angle between them; not a number where their shapes differ."""
    if a.shape != b.shape:
        return torch.full((len(a),), torch.nan, dtype=torch.float64, device=a.device)
    product = (a.double() * b.double()).flatten(1).sum(1)
    return product / (lengths(a) * lengths(b))


def _without_shortcut(addition: Addition, path: Path) -> list[tuple[str, Hook]]:
    """Hooks by which the shortcut passes nothing back ("branches"), or does not exist ("plain")."""
    plain = path == "plain"

    def at_sum(_module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> Tensor:
        residual, shortcut = inputs
        total: Tensor = residual if plain else residual + shortcut.detach()
        return total

    def at_shortcut(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return torch.zeros_like(output) if plain else output.detach()

    seen: dict[str, Tensor] = {}

    def at_x(_module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        seen["x"] = inputs[0]

    def at_residual(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        # The network will add x: this takes it away before, or its way back only.
        x = seen.pop("x")
        return output - (x if plain else x - x.detach())

    if addition.gives_sum:
        return [(addition.gives_sum, at_sum)]
    if addition.gives_shortcut:
        return [(addition.gives_shortcut, at_shortcut)]
    return [(addition.sees_x, at_x), (addition.gives_residual, at_residual)]
