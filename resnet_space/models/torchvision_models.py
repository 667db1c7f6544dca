"""Networks of torchvision with random weights, to look into beside this package's own."""

from typing import TYPE_CHECKING

from resnet_space.common.imagenet import imagenet_classes
from resnet_space.config import ModelConfig

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import nn

SEED = 0
# One of each kind of residual network, and two in which nothing is added to its input.
ARCHITECTURES = (
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "alexnet",
    "vgg16",
)


def torchvision_network(name: str) -> "tuple[nn.Module, ModelConfig]":
    """The network in eval mode, its random weights by `SEED`, and how images are prepared for it.

    The process's random state is left as it was.

    Raises:
        ValueError: for a name that is not one of `ARCHITECTURES`.
    """
    import torch
    from torchvision import models

    if name not in ARCHITECTURES:
        raise ValueError(f"There is no architecture {name!r} here: choose one of {', '.join(ARCHITECTURES)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = models.get_model(name, weights=None).eval()
    # The architecture in it is a stand-in, as it has to be one of this package's: what counts is the preprocessing.
    return model, ModelConfig("resnet50", imagenet_classes(), stem="imagenet", image_size=224, resize=256)
