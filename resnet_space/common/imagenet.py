"""ImageNet-1k, which most pretrained weights were trained on."""

from functools import cache

IMAGENET = "ILSVRC/imagenet-1k"  # on the Hub


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of its 1,000 classes, in the order that torchvision and timm have."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
