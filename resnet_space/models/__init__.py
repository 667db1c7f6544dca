"""The networks: their registry (registry.py), their interface (contract.py), and the implementations."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from resnet_space.models.registry import Entry, create_model, list_models, register

if TYPE_CHECKING:
    from resnet_space.models.cbam import CBAM, ChannelAttention, SpatialAttention
    from resnet_space.models.contract import Backbone
    from resnet_space.models.resnet import Add, BasicBlock, Bottleneck, NoShortcut, ResidualBlock, ResNet

# These take torch, which takes seconds to import, with the first use.
_WITH_TORCH = {
    "CBAM": "cbam",
    "ChannelAttention": "cbam",
    "SpatialAttention": "cbam",
    "Backbone": "contract",
    "Add": "resnet",
    "BasicBlock": "resnet",
    "Bottleneck": "resnet",
    "NoShortcut": "resnet",
    "ResNet": "resnet",
    "ResidualBlock": "resnet",
}

__all__ = [
    "CBAM",
    "Add",
    "Backbone",
    "BasicBlock",
    "Bottleneck",
    "ChannelAttention",
    "Entry",
    "NoShortcut",
    "ResNet",
    "ResidualBlock",
    "SpatialAttention",
    "create_model",
    "list_models",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
