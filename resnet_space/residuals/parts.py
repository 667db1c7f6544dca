"""Hooks that see x, F(x) and shortcut(x) at an addition while a model runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from resnet_space.models.additions import Addition
from resnet_space.models.hooks import Hook


@dataclass(frozen=True)
class Parts:
    """What one addition is made of in one forward pass.

    Whoever wants them later must clone them: some networks add in place.
    """

    x: Tensor
    residual: Tensor
    shortcut: Tensor | None  # None in a plain network


def parts_hooks(addition: Addition, see: Callable[[Parts], None]) -> list[tuple[str, Hook]]:
    """Hooks that call `see` in each forward pass, as soon as all parts are there and before they are added."""
    seen: dict[str, Tensor] = {}

    def x(_module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        seen["x"] = inputs[0]

    def residual(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        seen["residual"] = output
        if addition.gives_shortcut is None:
            finish(None if addition.plain else seen["x"])
        elif "shortcut" in seen:
            finish(seen["shortcut"])

    def shortcut(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        seen["shortcut"] = output
        if "residual" in seen:
            finish(output)

    def finish(shortcut: Tensor | None) -> None:
        parts = Parts(seen["x"], seen["residual"], shortcut)
        seen.clear()  # nothing is kept alive for longer than the block itself keeps it
        see(parts)

    hooks: list[tuple[str, Hook]] = [(addition.sees_x, x), (addition.gives_residual, residual)]
    if addition.gives_shortcut is not None:
        hooks.append((addition.gives_shortcut, shortcut))
    return hooks
