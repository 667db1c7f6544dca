"""Networks without shortcuts: LeNet-5, and AlexNet and GoogLeNet, whose weights torchvision has and the Hub lacks
as safetensors.

Accuracies, sizes and licence of the weights are torchvision's. GoogLeNet's were trained on images that are normalised
by a mean and standard deviation of 0.5.
"""

from typing import TYPE_CHECKING

from resnet_space.models.registry import STEM_SIZE, Entry, Pretrained, register

if TYPE_CHECKING:
    from torch import nn


def _lenet5(num_classes: int) -> "nn.Module":
    from resnet_space.models.in_turn import LeNet5

    return LeNet5(num_classes)


def _alexnet(num_classes: int, stem: str) -> "nn.Module":
    from resnet_space.models.in_turn import AlexNet

    return AlexNet(num_classes, stem)


def _googlenet(num_classes: int) -> "nn.Module":
    from resnet_space.models.in_turn import GoogLeNet

    return GoogLeNet(num_classes)


_HALF = (0.5, 0.5, 0.5)
_LICENCE = "bsd-3-clause"

register(
    Entry(
        "lenet5",
        "lenet",
        _lenet5,
        "resnet_space",
        1998,
        "https://doi.org/10.1109/5.726791",
        5,
        146_156,
        734_880,
        head="output",
        blocks=(1, 2),
        label="LeNet-5",
        pixels=32,
        least=32,
    )
)
register(
    Entry(
        "alexnet",
        "alexnet",
        _alexnet,
        "torchvision",
        2012,
        "https://doi.org/10.1145/3065386",
        8,
        61_100_840,
        714_188_480,
        head="classifier.6",
        blocks=(1, 1, 1, 1, 2),
        options={"stem": STEM_SIZE},
        pretrained=(
            Pretrained("alexnet.tv_in1k", "torchvision:AlexNet_Weights.IMAGENET1K_V1", 256, _LICENCE, accuracy=0.56522),
        ),
        small_images={"stem": "cifar"},
        label="AlexNet",
        least=63,
    )
)
register(
    Entry(
        "googlenet",
        "googlenet",
        _googlenet,
        "torchvision",
        2014,
        "https://arxiv.org/abs/1409.4842",
        58,
        6_624_904,
        1_498_376_192,
        head="fc",
        blocks=(2, 2, 5, 2),
        pretrained=(
            Pretrained(
                "googlenet.tv_in1k",
                "torchvision:GoogLeNet_Weights.IMAGENET1K_V1",
                256,
                _LICENCE,
                accuracy=0.69778,
                mean=_HALF,
                std=_HALF,
            ),
        ),
        label="GoogLeNet",
    )
)
