"""EfficientNet (Tan & Le 2019, arXiv:1905.11946), as timm builds it."""

from resnet_space.models.registry import register
from resnet_space.models.timm_networks import timm_entry

register(
    timm_entry(
        "tf_efficientnet_lite0",
        family="efficientnet",
        year=2020,
        paper="https://arxiv.org/abs/1905.11946",
        depth=50,
        parameters=4_652_008,
        head="classifier",
        blocks=(1, 2, 2, 3, 3, 4, 1),
        label="EfficientNet-Lite0",
    )
)
