"""The catalogue: every architecture by its name."""

from typing import Any

from resnet_space.config import ARCHITECTURES, ModelConfig
from resnet_space.models.cbam import CBAM, ChannelAttention, SpatialAttention
from resnet_space.models.resnet import Add, BasicBlock, Bottleneck, NoShortcut, ResidualBlock, ResNet

__all__ = [
    "CBAM",
    "MODELS",
    "Add",
    "BasicBlock",
    "Bottleneck",
    "ChannelAttention",
    "NoShortcut",
    "ResNet",
    "ResidualBlock",
    "SpatialAttention",
    "create_model",
    "list_models",
    "model_from_config",
]


MODELS = ARCHITECTURES
_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def list_models() -> list[str]:
    """The names that `create_model` takes."""
    return list(MODELS)


def create_model(name: str, num_classes: int = 1000, **options: Any) -> ResNet:
    """Build a model with random weights.

    The CIFAR family (resnet20 to 110) always has the 3x3 stem and, unless told otherwise, the parameter-free "pad"
    shortcut; resnet18 to 152 have the ImageNet stem and projections unless told otherwise.

    Args:
        name: one of `list_models()`.
        num_classes: logits of the head.
        options: keyword arguments of `ResNet`: stem, shortcut, cbam, zero_init_residual, kaiming_mode.

    Raises:
        ValueError: for an unknown name or a value that is not allowed, saying what is.
    """
    if name not in MODELS:
        raise ValueError(f"Unknown architecture {name!r}: choose one of {', '.join(MODELS)}.")
    architecture = MODELS[name]
    if architecture.is_cifar_family:
        if options.setdefault("stem", "cifar") != "cifar":
            raise ValueError(f"{name} is made for small images and has the CIFAR stem only.")
        options.setdefault("shortcut", "pad")
    allowed = {
        "stem": ("imagenet", "cifar"),
        "shortcut": ("pad", "projection", "none"),
        "cbam": (None, "stage", "block"),
        "kaiming_mode": ("fan_in", "fan_out"),
    }
    for option, values in allowed.items():
        if option in options and options[option] not in values:
            raise ValueError(f"{option} is {options[option]!r}, but must be one of {', '.join(map(repr, values))}.")
    if options.get("shortcut") == "none" and options.get("zero_init_residual"):
        raise ValueError("A plain network (shortcut='none') cannot start with F(x) = 0: nothing would come out of it.")
    return ResNet(
        _BLOCKS[architecture.block], architecture.depths, architecture.widths, num_classes=num_classes, **options
    )


def model_from_config(config: ModelConfig) -> ResNet:
    """The model that a run's configuration describes, with random weights."""
    return create_model(
        config.architecture, len(config.classes), stem=config.stem, cbam=config.cbam, shortcut=config.shortcut
    )
