"""Networks without random weights, for those that get others at once: random numbers are most of a network's making."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# By name: of `torch.nn.init`, of tensors, and of timm, which has some of its own. "erfinv_" is a part of the truncated
# normal distribution.
_RANDOM = {"normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "trunc_normal_", "erfinv_"}


class Unfilled(TorchFunctionMode):
    """In this context, and in this thread alone, tensors are filled with zeros instead of random numbers.

    On PyTorch's meta device, random numbers would import its compiler, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if getattr(func, "__name__", "") not in _RANDOM:
            return func(*args, **named)
        with torch.no_grad():
            return (*args, *named.values())[0].zero_()
