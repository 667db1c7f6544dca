"""How the ratios by depth came about: recorded after each epoch of a training on the same few validation images.

A line a epoch in the run's `metrics.jsonl`: {"event": "residuals", "epoch": 3, "images": 64,
"blocks": ["layer1.0", ...], "ratio": [[lower quartile, median, upper quartile], ...]}. Runs made before, and plain
networks, have none.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from resnet_space.config import ModelConfig
from resnet_space.data.splits import ImageSet
from resnet_space.runs import Metric


@dataclass(frozen=True)
class Growth:
    """||F(x)|| / ||shortcut(x)|| over E epochs of a training.

    Attributes:
        epochs: E numbers, from 1; epoch 0, before the training, comes first where it was recorded.
        blocks: B names in forward order.
        images: how many were measured.
        quartiles: E x B x (lower quartile, median, upper quartile).
    """

    epochs: list[int]
    blocks: list[str]
    images: int
    quartiles: list[list[tuple[float, float, float]]]


def growth(metrics: Iterable[Metric]) -> Growth | None:
    """What a run's metrics tell; None where nothing was recorded. What is not as written here is left out."""
    raise NotImplementedError


def probe_images(validation: ImageSet, config: ModelConfig, train_images: int) -> Tensor:
    """The images that a training is watched on: at most 64, the classes in their shares, normalised.

    So few that the watching takes less than a hundredth of an epoch of `train_images`.
    """
    raise NotImplementedError


def growth_metric(model: nn.Module, images: Tensor, epoch: int) -> Metric | None:
    """The line for `metrics.jsonl`; None for a network without residual blocks."""
    raise NotImplementedError
