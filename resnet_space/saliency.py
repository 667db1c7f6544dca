"""Where in an image a model finds a class: one map a class, of any ResNet, with or without CBAM.

`grad-cam` is Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): channels weighted by the class's mean gradient.
`ablation-cam` is Ablation-CAM (Desai & Ramaswamy 2020): channels weighted by how far the class's logit falls without
them; it takes no gradient. Both come from the library grad-cam. It is given a stage's features and a copy of what
follows the stage, never the model itself: so a model that others use at the same time keeps its hooks, gradients and
modules, and the maps belong to the very forward pass that the features were recorded in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.models import ResNet

METHODS = {"grad-cam": "Grad-CAM", "ablation-cam": "Ablation-CAM (no gradient)"}  # name -> label


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """The maps of K classes.

    Attributes:
        method: of `METHODS`.
        stage: whose output was looked at, such as "layer3"; its CBAM, if it has one, is part of it.
        classes: their K indices.
        raw: float32 [K, h, w] at the resolution of the features, not below 0, in shares of the class's logit: the maps
            of several classes share this one scale.
        size: height and width in pixels of the image that the model saw.
    """

    method: str
    stage: str
    classes: tuple[int, ...]
    raw: NDArray[np.float32]
    size: tuple[int, int]

    @property
    def maps(self) -> NDArray[np.float32]:
        """float32 [K, H, W] in 0..1: each enlarged (bilinear) to the image and divided by its own maximum."""
        raise NotImplementedError


def class_maps(
    model: "ResNet", image: "Tensor", classes: Sequence[int], method: str = "grad-cam", stage: str | None = None
) -> ClassMaps:
    """The maps of some classes for one image float [1, 3, H, W], already normalised.

    `Classifier.class_maps` is this for a model that others use at the same time.

    Args:
        model: is left as it is.
        image: as the model expects it.
        classes: indices, at least one.
        method: of `METHODS`.
        stage: whose output to look at, such as "layer2"; the last one if it is left out.

    Raises:
        ValueError: for an unknown method, stage or class.
    """
    raise NotImplementedError


def maps_from_features(
    model: "ResNet",
    features: "Tensor",
    size: tuple[int, int],
    classes: Sequence[int],
    method: str = "grad-cam",
    stage: str | None = None,
) -> ClassMaps:
    """As `class_maps`, from the stage's output [1, C, h, w] of a forward pass that was made already."""
    raise NotImplementedError
