"""How the ratios by depth came about: recorded after each epoch of a training on the same few validation images.

They stand in the "epoch" lines of the run's `metrics.jsonl`, and in its "start" line where it started from trained
weights: {..., "residuals": {"images": 64, "blocks": ["layer1.0", ...], "ratio": [[lower quartile, median, upper
quartile], ...]}}. Runs made before, and plain networks, have none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnet_space.config import ModelConfig
from resnet_space.data.batches import centre_crop, normalise
from resnet_space.data.held_out import stratified_indices
from resnet_space.data.splits import ImageSet
from resnet_space.models.additions import NoResidualBlocksError
from resnet_space.residuals.norms import residual_norms
from resnet_space.runs import Metric
from resnet_space.runs.schema import is_residual_entry

KEY = "residuals"
MOST_IMAGES = 64
SHARE = 1 / 60  # of an epoch's training images; each of those costs about three forward passes


@dataclass(frozen=True)
class Growth:
    """||F(x)|| / ||shortcut(x)|| over E epochs of a training.

    Attributes:
        epochs: E numbers; 0 is before the training.
        blocks: B names in forward order.
        images: how many were measured.
        quartiles: E x B x (lower quartile, median, upper quartile).
    """

    epochs: list[int]
    blocks: list[str]
    images: int
    quartiles: list[list[tuple[float, float, float]]]

    @property
    def medians(self) -> list[list[float]]:
        """[E][B]"""
        return [[median for _, median, _ in row] for row in self.quartiles]


def recorded_growth(metrics: Iterable[Metric]) -> Growth | None:
    """What a run's metrics tell; None where nothing was recorded. What is not as written here is left out."""
    epochs: dict[int, list[tuple[float, float, float]]] = {}
    blocks: list[str] = []
    images = 0
    for metric in metrics:
        entry = metric.get(KEY)
        epoch = 0 if metric.get("event") == "start" else metric.get("epoch")
        if not isinstance(epoch, int) or not is_residual_entry(entry) or (blocks and entry["blocks"] != blocks):
            continue
        blocks, images = entry["blocks"], entry["images"]
        epochs[epoch] = [(low, middle, high) for low, middle, high in entry["ratio"]]
    if not epochs:
        return None
    return Growth(sorted(epochs), blocks, images, [epochs[epoch] for epoch in sorted(epochs)])


def probe_images(validation: ImageSet, config: ModelConfig, train_images: int, device: torch.device) -> Tensor:
    """The images that a training is watched on: at most 64, the classes in their shares, as the model sees them.

    So few that the watching takes less than a hundredth of an epoch of `train_images`.
    """
    count = min(MOST_IMAGES, max(round(train_images * SHARE), 1), len(validation))
    chosen, _ = stratified_indices(validation.labels.cpu(), count, seed=0)
    pixels = validation.pixels(chosen.to(validation.labels.device)).to(device)
    return normalise(centre_crop(pixels, config.image_size), config)


def growth_entry(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """{"residuals": ...} for a line of `metrics.jsonl`; empty for a plain network, and where a norm is not finite."""
    try:
        norms = residual_norms(model, images)
    except NoResidualBlocksError:
        return {}
    quartiles = norms.ratio.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=1).T
    if not quartiles.isfinite().all():
        return {}
    ratio = [[float(f"{value:.4g}") for value in three] for three in quartiles.tolist()]
    return {KEY: {"images": len(images), "blocks": norms.blocks, "ratio": ratio}}
