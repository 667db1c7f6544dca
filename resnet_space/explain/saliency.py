"""Where in an image a model finds a class: one map a class, of any ResNet, with or without CBAM.

`grad-cam` is Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): channels weighted by the mean gradient of the class's
logit. `ablation-cam` is Ablation-CAM (Desai & Ramaswamy 2020): channels weighted by how far the logit falls without
them; it takes no gradient.

Both go through the library grad-cam, which is given a stage's features and a copy of what follows the stage, never the
model itself. So a model that others use at the same time keeps its gradients, hooks and modules as they are, and the
maps belong to the very forward pass that the features were recorded in.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from resnet_space.models import ResNet

METHODS = {"grad-cam": "Grad-CAM", "ablation-cam": "Ablation-CAM (no gradient)"}  # name -> label


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """The maps of K classes.

    Attributes:
        method: of `METHODS`.
        stage: whose output was looked at, such as "layer3"; its CBAM, if it has one, is part of it.
        classes: their K indices.
        raw: float32 [K, h, w] at the resolution of the features, not below 0. All classes share its scale, so that they
            can be compared: in Grad-CAM of the last stage it is what each place adds to the class's logit.
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
    model: "ResNet", image: "Tensor", classes: Sequence[int], method: str = "grad-cam", stage: str | None = None
) -> ClassMaps:
    """The maps of some classes for one image float [1, 3, H, W], already normalised.

    `Classifier.class_maps` is this for a model that others use at the same time.

    Args:
        model: in eval mode; it is left as it is.
        image: as the model expects it.
        classes: indices, at least one.
        method: of `METHODS`.
        stage: whose output to look at, such as "layer2"; the last one if it is left out.

    Raises:
        ValueError: for an unknown method, stage or class.
    """
    import torch

    from resnet_space.models.hooks import recorded

    index = _stage_index(model, stage)
    name = model.stage_names[index].replace("layer", "cbam")
    with torch.inference_mode(), recorded(model, {name: lambda _inputs, output: output.clone()}) as outputs:
        model(image)
    height, width = image.shape[-2:]
    return maps_from_features(model, outputs[name][0], (height, width), classes, method, stage)


def maps_from_features(
    model: "ResNet",
    features: "Tensor",
    size: tuple[int, int],
    classes: Sequence[int],
    method: str = "grad-cam",
    stage: str | None = None,
) -> ClassMaps:
    """As `class_maps`, from the stage's output [1, C, h, w] of a forward pass that was made already."""
    import torch

    if method not in METHODS:
        raise ValueError(f"The method is {method!r}, but must be one of {', '.join(METHODS)}.")
    index = _stage_index(model, stage)
    count = model.fc.out_features
    if not classes or not all(isinstance(c, int) and 0 <= c < count for c in classes):
        raise ValueError(f"The classes are {list(classes)}, but must be whole numbers from 0 to {count - 1}.")
    # Out of inference mode, whose tensors know no gradients.
    same = features.detach().clone().expand(len(classes), -1, -1, -1).contiguous().requires_grad_()
    with torch.enable_grad():
        raw = _library_maps(_rest(model, index), same, classes, method)
    return ClassMaps(method, model.stage_names[index], tuple(classes), raw, size)


def _stage_index(model: "ResNet", stage: str | None) -> int:
    if stage is None:
        return len(model.stage_names) - 1
    if stage not in model.stage_names:
        raise ValueError(f"The stage is {stage!r}, but must be one of {', '.join(model.stage_names)}.")
    return model.stage_names.index(stage)


def _rest(model: "ResNet", index: int) -> "nn.Sequential":
    """A copy of what follows a stage: its first module is where the features come in, unchanged."""
    from torch import nn

    later = [part for stage in list(model.stages())[index + 1 :] for part in (stage.blocks, stage.cbam)]
    rest = nn.Sequential(nn.Identity(), *copy.deepcopy(later), model.avgpool, nn.Flatten(), copy.deepcopy(model.fc))
    return rest.eval().requires_grad_(False)


def _library_maps(
    rest: "nn.Sequential", features: "Tensor", classes: Sequence[int], method: str
) -> NDArray[np.float32]:
    """The library's maps [K, h, w] before it scales each to 0..1 on its own."""
    # Takes 3 s to import: the app does it when its page is up.
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.base_cam import BaseCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class AblationCAM(BaseCAM):  # type: ignore[misc]
        """The library's own divides by the logit, which turns the map around where that is negative; takes a channel
        off by 1e7 where no place is exactly 0; and prints a progress bar.
        """

        def get_cam_weights(self, input_tensor: Any, layer: Any, targets: Any, activations: Any, grads: Any) -> Any:
            import torch

            one = input_tensor[0].detach()  # all are the same
            others = 1 - torch.eye(len(one))[:, :, None, None]
            with torch.inference_mode():
                without = torch.cat([self.model[1:](one * some) for some in others.split(64)])
            return (self.outputs[0].detach() - without)[:, list(classes)].T.numpy()

    library: Any = (
        GradCAM(rest, [rest[0]]) if method == "grad-cam" else AblationCAM(rest, [rest[0]], uses_gradients=False)
    )
    kept: list[Any] = []
    weighted = library.get_cam_image

    def weighted_and_kept(*arguments: Any) -> Any:
        kept.append(weighted(*arguments))
        return kept[-1]

    library.get_cam_image = weighted_and_kept
    with library:
        library(features, [ClassifierOutputTarget(c) for c in classes])
    raw: NDArray[np.float32] = np.maximum(kept[0], 0, dtype=np.float32)
    return raw
