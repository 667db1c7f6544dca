"""Networks of torchvision that can be explored with random weights: one of each type of residual network, and two
without residual additions.
"""

from functools import partial
from typing import TYPE_CHECKING

from resnet_space.models.registry import Entry, register

if TYPE_CHECKING:
    from torch import nn


def _build(name: str, num_classes: int) -> "nn.Module":
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return model


for _name, _family, _year, _paper, _depth, _parameters in (
    ("wide_resnet50_2", "resnet", 2016, "1605.07146", 50, 68_883_240),
    ("resnext50_32x4d", "resnet", 2016, "1611.05431", 50, 25_028_904),
    ("mobilenet_v2", "mobilenet", 2018, "1801.04381", 53, 3_504_872),
    ("mobilenet_v3_large", "mobilenet", 2019, "1905.02244", 0, 5_483_032),
    ("convnext_tiny", "convnext", 2022, "2201.03545", 0, 28_589_128),
    ("vit_b_16", "vit", 2020, "2010.11929", 0, 86_567_656),
    ("swin_t", "swin", 2021, "2103.14030", 0, 28_288_354),
    ("alexnet", "alexnet", 2014, "1404.5997", 8, 61_100_840),
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
            trains=False,
        )
    )
