"""Features of source and target on a plane: by the weights that a training started from, and by those it gave."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data.batches import evaluation_batches
from resnet_space.data.held_out import stratified_indices
from resnet_space.data.reference import DatasetRef
from resnet_space.data.splits import ImageSet
from resnet_space.data.target import Target
from resnet_space.models import Backbone
from resnet_space.runs import START_WEIGHTS, WEIGHTS, Run
from resnet_space.training.objectives.mmd import gaussian_mmd2
from resnet_space.training.state import initial_model

MOST = 300  # images of each domain


@dataclass(frozen=True, eq=False)
class Plane:
    """Features of n images of the source and m of the target on their first two principal components.

    Attributes:
        source: float32 [n, 2].
        target: float32 [m, 2].
        shares: of the variance of all images that the two axes have.
        mmd2: the unbiased MMD² between the domains, with Gaussian kernels, of the features themselves.
    """

    source: Tensor
    target: Tensor
    shares: tuple[float, float]
    mmd2: float


@dataclass(frozen=True, eq=False)
class DomainMap:
    """Before the training, None where its first weights are not on this machine, and after; and the images' classes, ""
    where they have no label.
    """

    before: Plane | None
    after: Plane
    source_classes: tuple[str, ...]
    target_classes: tuple[str, ...]


def domain_map(run: Run) -> DomainMap:
    """Of the test images of both datasets, at most 300 each; of a target without labels its training images.

    Raises:
        UserError: for a run without a target or weights, or if the images cannot be read.
    """
    if not run.config.training.target:
        raise UserError(f"{run.name} has no target dataset, so there are no two domains to compare.")
    if not run.has_weights:
        raise UserError(f"{run.name} has no weights yet: its map follows after the first epoch.")
    return _computed(run.path, (run.path / WEIGHTS).stat().st_mtime_ns)


@lru_cache(maxsize=8)  # a figure and a table of it follow
def _computed(path: Path, _version: int) -> DomainMap:
    run = Run.open(path)
    model, training = run.config.model, run.config.training
    in_its_place = replace(training, target=str(DatasetRef.of(training)))
    ours = Target(in_its_place, model.stored_size).test(model.classes)
    if ours is None:
        raise UserError(f"The dataset {training.dataset} has no labelled images to draw.")
    target = Target(training, model.stored_size)
    theirs = target.test(model.classes)
    sets = [_some(ours[0]), _some(target.images if theirs is None else theirs[0])]
    first: Backbone | None = None
    if training.start is None or (run.path / START_WEIGHTS).exists():
        first, _ = initial_model(run)
    source_classes, target_classes = (
        tuple(data.classes[label] if label >= 0 else "" for label in data.labels.tolist()) for data in sets
    )
    before = None if first is None else _plane(first, sets, model)
    return DomainMap(before, _plane(run.load_model(), sets, model), source_classes, target_classes)


def _some(data: ImageSet) -> ImageSet:
    return data if len(data) <= MOST else data.subset(stratified_indices(data.labels, MOST, 0)[0])


@torch.inference_mode()
def _plane(model: Backbone, sets: list[ImageSet], config: ModelConfig) -> Plane:
    model.eval()
    source, target = (
        torch.cat(
            [
                model.forward_head(model.forward_features(images), pre_logits=True)
                for images, _ in evaluation_batches(data, config)
            ]
        )
        for data in sets
    )
    both = torch.cat([source, target])
    _, scales, axes = torch.linalg.svd(both - both.mean(0), full_matrices=False)
    points = (both - both.mean(0)) @ axes[:2].T
    shares = (scales[:2] ** 2 / (scales**2).sum().clamp(min=1e-12)).tolist()
    return Plane(
        points[: len(source)], points[len(source) :], (shares[0], shares[1]), float(gaussian_mmd2(source, target))
    )
