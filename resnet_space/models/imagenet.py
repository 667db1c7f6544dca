"""The names of ImageNet-1k's classes."""


def imagenet_classes() -> tuple[str, ...]:
    """All 1,000, in the order that torchvision and timm have."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
