"""Attention gates, heatmaps, whether heatmaps are faithful, and out-of-distribution detection."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_space.explain.attention import AttentionMaps, attention_maps

__all__ = ["AttentionMaps", "attention_maps"]


def __getattr__(name: str) -> Any:
    """With torch, which takes seconds to import, at the first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resnet_space.explain import attention

    return getattr(attention, name)
