"""Networks that look trained, for the tests that look inside them."""

from typing import TypeVar

import torch
from torch import nn

from resnet_space.models import CBAM

M = TypeVar("M", bound=nn.Module)


def alive(model: M, size: int = 32) -> M:
    """As after a training: norm layers with scales of their own that fit the data, gates that differ between images."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.momentum = None  # the plain mean over the batches below
        if isinstance(module, CBAM):
            for parameter in module.parameters():
                # The spatial gate sums 98 inputs: with larger weights it would be all open or all closed.
                parameter.data.normal_(0, 0.05 if parameter.ndim == 4 else 0.3, generator=generator)
    with torch.no_grad():
        model.train()(torch.randn(8, 3, size, size, generator=generator))
    return model.eval()
