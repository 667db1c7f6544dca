"""Heatmaps of the evidence for a class: one map for each class.

`grad-cam` is Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): channels weighted by the mean gradient of the class's
logit. `ablation-cam` is Ablation-CAM (Desai & Ramaswamy 2020): channels weighted by the drop of the logit when they are
removed; it needs no gradient.

Both need only a stage's features and what follows the stage, no hook on the model and no gradient of its weights. So a
model can be shared, and the maps belong to the forward pass that gave the features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.models import Backbone

After = Callable[["Tensor"], "Tensor"]  # from a stage's features to logits
METHODS = {"grad-cam": "Grad-CAM", "ablation-cam": "Ablation-CAM"}  # name -> label


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """The maps of K classes.

    Attributes:
        method: of `METHODS`.
        stage: whose output was looked at, such as "layer3"; its CBAM, if it has one, is part of it.
        classes: their K indices.
        raw: float32 [K, h, w] at the resolution of the features, not negative. All classes share one scale, so they can
            be compared: in Grad-CAM of the last stage it is what each position adds to the class's logit.
        size: height and width in pixels of the image that the model saw.
    """

    method: str
    stage: str
    classes: tuple[int, ...]
    raw: NDArray[np.float32]
    size: tuple[int, int]

    @property
    def maps(self) -> NDArray[np.float32]:
        """float32 [K, H, W] in 0..1: each enlarged to the image and divided by its own maximum."""
        large = np.stack([enlarged(raw, self.size) for raw in self.raw])
        peaks = large.max(axis=(1, 2), keepdims=True)
        scaled: NDArray[np.float32] = np.divide(large, np.where(peaks > 0, peaks, 1), dtype=np.float32)
        return scaled


def enlarged(raw: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map [h, w] at the resolution of features -> float32 [H, W] at the image's, bilinear."""
    import torch
    import torch.nn.functional as F

    values = torch.from_numpy(np.ascontiguousarray(raw, dtype=np.float32))[None, None]
    large: NDArray[np.float32] = F.interpolate(values, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    return large


def class_maps(
    model: "Backbone", image: "Tensor", classes: Sequence[int], method: str = "grad-cam", stage: str | None = None
) -> ClassMaps:
    """The maps of some classes for one image float [1, 3, H, W], already normalised.

    `Classifier.class_maps` is this for a model that others use at the same time.

    Args:
        model: in eval mode; it is left as it is.
        image: as the model expects it.
        classes: indices, at least one.
        method: of `METHODS`.
        stage: one of `mapped_stages(model)`; the last one if it is left out.

    Raises:
        ValueError: for an unknown method, stage or class.
    """
    import torch

    from resnet_space.models.hooks import recorded

    stage, _ = _followed(model, stage)
    name = model.map_stages()[stage]
    with torch.inference_mode(), recorded(model, {name: lambda _inputs, output: output.clone()}) as outputs:
        model(image)
    height, width = image.shape[-2:]
    return maps_from_features(model, outputs[name][0], (height, width), classes, method, stage)


def maps_from_features(
    model: "Backbone",
    features: "Tensor",
    size: tuple[int, int],
    classes: Sequence[int],
    method: str = "grad-cam",
    stage: str | None = None,
) -> ClassMaps:
    """As `class_maps`, from the stage's output for one image, [1, C, h, w] or [1, T, D], of a pass that was made."""
    if method not in METHODS:
        raise ValueError(f"The method is {method!r}, but must be one of {', '.join(METHODS)}.")
    stage, after = _followed(model, stage)
    if method == "grad-cam":
        raw = grad_cam(model, features.expand(len(classes), *features.shape[1:]), classes, after)
    else:
        raw = _ablation_cam(model, features, classes, after)
    return ClassMaps(method, stage, tuple(classes), raw, size)


def _require_classes(classes: Sequence[int], count: int) -> None:
    if not classes or not all(isinstance(c, int) and 0 <= c < count for c in classes):
        raise ValueError(f"The classes are {list(classes)}, but must be whole numbers from 0 to {count - 1}.")


def mapped_stages(model: "Backbone") -> list[str]:
    """The stages whose output can be looked at, in forward order: what follows them is known."""
    return [stage for stage in model.map_stages() if model.after(stage) is not None]


def _followed(model: "Backbone", stage: str | None) -> tuple[str, After]:
    """A stage, the last one unless another is named, and what follows it."""
    stages = model.map_stages()
    stage = list(stages)[-1] if stage is None else stage
    after = model.after(stage) if stage in stages else None
    if after is None:
        raise ValueError(f"The stage is {stage!r}, but must be one of {', '.join(mapped_stages(model))}.")
    return stage, after


def grad_cam(
    model: "Backbone", features: "Tensor", classes: Sequence[int], after: After | None = None
) -> NDArray[np.float32]:
    """Grad-CAM float32 [N, h, w] of N images' features, for one class each; `after` gives logits, or the head."""
    import torch

    after = after or model.forward_head
    with torch.inference_mode(False), torch.enable_grad():
        features = features.detach().clone().requires_grad_()  # out of inference mode, whose tensors know no gradients
        logits = after(features)
        _require_classes(classes, logits.shape[1])
        (gradient,) = torch.autograd.grad(logits[range(len(classes)), list(classes)].sum(), features)
    maps, gradients = model.to_map(features.detach()), model.to_map(gradient)
    return _positive((gradients.mean((2, 3), keepdim=True) * maps).sum(1))


def _ablation_cam(model: "Backbone", features: "Tensor", classes: Sequence[int], after: After) -> NDArray[np.float32]:
    """[K, h, w]: each channel weighted by how far the class's logit falls without it."""
    import torch

    with torch.inference_mode():
        logits = after(features)
        _require_classes(classes, logits.shape[1])
        maps = model.to_map(features)
        axis = 1 if maps.shape == features.shape else -1  # that of the channels
        channels = maps.shape[1]
        others = (1 - torch.eye(channels, device=features.device)).movedim(1, 0)
        shape = [1] * features.ndim
        shape[axis] = channels
        without = torch.cat([after(features * some.reshape(-1, *shape[1:])) for some in others.split(64)])
        weights = (logits - without)[:, list(classes)].T  # [K, C]
        return _positive((weights[..., None, None] * maps).sum(1))


def _positive(maps: "Tensor") -> NDArray[np.float32]:
    positive: NDArray[np.float32] = maps.relu().float().cpu().numpy()
    return positive
