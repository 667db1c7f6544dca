"""ImageNet-1k, which most pretrained weights were trained on."""

from functools import cache

IMAGENET = "ILSVRC/imagenet-1k"  # on the Hub
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue, as most weights take them
IMAGENET_STD = (0.229, 0.224, 0.225)


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of its 1,000 classes, in the order that torchvision and timm have."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
