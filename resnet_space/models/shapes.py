"""The shapes in a network, from a forward pass; of a large one without memory or arithmetic (PyTorch's meta device)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from resnet_space.models.contract import Backbone
from resnet_space.models.hooks import recorded
from resnet_space.models.registry import Entry, Options, entry_of
from resnet_space.models.unfilled import Unfilled

# Of a network that is built and passed in a moment, with images no larger than it was made for. For the meta device,
# PyTorch imports its compiler, which takes seconds and some 100 MB.
MOST_PARAMETERS = 12_000_000


@dataclass(frozen=True)
class Shape:
    """Of one image's forward pass.

    Attributes:
        numbers: how many numbers the convolutions and token layers give, by stage in forward order.
        channels: of each of `Backbone.observed()`.
        reduction: pixels of the image to one position of the last features, along a side.
    """

    numbers: Mapping[str, int]
    channels: tuple[int, ...]
    reduction: int


def shape_of(architecture: str, options: Options, image_size: int) -> Shape:
    """Cached, because a deep network takes some tenths of a second."""
    return _shape_of(architecture, tuple(sorted(options.items())), image_size)


@lru_cache(maxsize=64)
def _shape_of(architecture: str, options: tuple[tuple[str, Any], ...], image_size: int) -> Shape:
    entry = entry_of(architecture)
    is_quick = entry.parameters <= MOST_PARAMETERS and image_size <= entry.input_size(dict(options))
    device = torch.device("cpu" if is_quick else "meta")
    with torch.random.fork_rng(devices=[]):  # its random weights are no part of anybody's random numbers
        return passed_shape(entry, dict(options), image_size, device)


def passed_shape(entry: Entry, options: Options, image_size: int, device: torch.device) -> Shape:
    """From a forward pass on this device."""
    with device, Unfilled():
        model = entry.network(2, options).eval()
    assert isinstance(model, Backbone)
    parts = model.parts()
    stage_of = {name.rpartition(".")[0]: part.stage for part in parts for name in part.parameters}
    layers = [
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear) and name in stage_of
    ]
    made_for = entry.input_size(options)
    reduction = made_for // model.to_map(_passed(model, made_for, device)).shape[-1]
    counts = dict.fromkeys(layers, lambda _inputs, output: output.numel() if output.ndim > 2 else 0)
    channels = dict.fromkeys(model.observed(), lambda _inputs, output: model.to_map(output).shape[1])
    with recorded(model, counts) as counted, recorded(model, channels) as seen:
        _passed(model, image_size, device)
    numbers = dict.fromkeys((part.stage for part in parts), 0)
    for name, found in counted.items():
        numbers[stage_of[name]] += sum(found)
    return Shape(numbers, tuple(found[-1] for found in seen.values()), reduction)


def _passed(model: Backbone, size: int, device: torch.device) -> Tensor:
    with torch.inference_mode():
        return model.forward_features(torch.zeros(1, 3, size, size, device=device))
