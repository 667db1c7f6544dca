"""Networks of torchvision that can be explored with random weights: residual blocks that no other entry has."""

from functools import partial
from typing import TYPE_CHECKING

from resnet_space.models.registry import Entry, register

if TYPE_CHECKING:
    from torch import nn


def _build(name: str, num_classes: int) -> "nn.Module":
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return model


for _name, _label, _family, _year, _paper, _depth, _parameters, _multiply_adds in (
    ("wide_resnet50_2", "Wide ResNet-50-2", "resnet", 2016, "1605.07146", 50, 68_883_240, 11_398_021_120),
    ("resnext50_32x4d", "ResNeXt-50", "resnet", 2016, "1611.05431", 50, 25_028_904, 4_230_479_872),
    ("convnext_tiny", "ConvNeXt-Tiny", "convnext", 2022, "2201.03545", 0, 28_589_128, 4_455_531_264),
):
    register(
        Entry(
            _name,
            _family,
            partial(_build, _name),
            "torchvision",
            _year,
            f"https://arxiv.org/abs/{_paper}",
            _depth,
            _parameters,
            _multiply_adds,
            trains=False,
            label=_label,
        )
    )
