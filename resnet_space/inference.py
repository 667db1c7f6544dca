"""Run -> Classifier; image -> Prediction."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from resnet_space.attention import AttentionMaps, recorded_attention
from resnet_space.data.batches import centre_crop, normalise
from resnet_space.faithfulness import Evidence
from resnet_space.images import to_model_size
from resnet_space.runs import Run
from resnet_space.saliency import ClassMaps


@dataclass(frozen=True)
class Prediction:
    """The most probable classes, best first, and the attention maps of the same forward pass.

    Attributes:
        classes: their names.
        probabilities: theirs, calibrated by the run's temperature.
        attention: the gates of every CBAM; empty where they were not asked for.
        indices: the classes' positions among the run's.
        logits: float32 [C] of all classes, not divided by the temperature.
        strangeness: how unlike the training images this one is: the higher, the more; see `resnet_space.calibration`.
        unusual: whether it is more so than 95 % of the validation images; None where the run does not know its limit.
        features: stage name ("layer3") -> its output [C, h, w], and CBAM name -> its output, gated, as the next layer
            sees it; only where they were asked for.
    """

    classes: list[str]
    probabilities: list[float]
    attention: AttentionMaps
    indices: list[int] = field(default_factory=list)
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0), compare=False)
    strangeness: float = 0.0
    unusual: bool | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict, compare=False)

    @property
    def warning(self) -> str:
        """One plain sentence for an unusual image, else empty."""
        raise NotImplementedError


class Classifier:
    """A run's model and preprocessing, ready for images. Raises RunError if the run has no fitting weights."""

    def __init__(self, run: Run) -> None:
        self.config = run.config.model
        self.model = run.load_model()
        self.lock = threading.Lock()  # held while hooks are on the model: they would record another request's pass too

    def prepare(self, images: list[Image.Image]) -> torch.Tensor:
        """RGB images of any size -> float32 [N, 3, H, W], resized and normalised as this model expects."""
        sized = np.stack([np.array(to_model_size(image, self.config.stored_size)) for image in images])
        return normalise(centre_crop(torch.from_numpy(sized), self.config.image_size), self.config)

    def view(self, image: Image.Image) -> Image.Image:
        """The part of an RGB image that the model sees, in its resolution."""
        stored = torch.from_numpy(np.array(to_model_size(image, self.config.stored_size)))
        return Image.fromarray(centre_crop(stored[None], self.config.image_size)[0].numpy())

    @torch.inference_mode()
    def predict(self, image: Image.Image, top: int = 5, *, features: bool = False) -> Prediction:
        """Classify one RGB image; `top` classes, or all if there are fewer.

        Args:
            image: of any size.
            top: how many classes.
            features: keep what each stage and CBAM gives, too: for `class_maps`, and for pictures of channels.
        """
        prepared = self.prepare([image])
        with self.lock, recorded_attention(self.model) as attention:
            logits = self.model(prepared)
        probabilities, indices = logits[0].softmax(0).topk(min(top, len(self.config.classes)))
        return Prediction([self.config.classes[i] for i in indices], probabilities.tolist(), attention)

    def predict_many(self, images: Iterable[Image.Image], *, top: int = 5, batch: int = 32) -> Iterator[Prediction]:
        """Classify RGB images, in order, without maps; at most `batch` of them are in memory at once."""
        raise NotImplementedError

    def class_maps(
        self, prediction: Prediction, classes: Sequence[int], method: str = "grad-cam", stage: str | None = None
    ) -> ClassMaps:
        """Where the model finds these classes (indices), from the forward pass of `predict(..., features=True)`.

        Raises:
            ValueError: for an unknown method, stage or class, or a prediction without features.
        """
        raise NotImplementedError

    def evidence(
        self,
        image: Image.Image,
        class_index: int,
        maps: Mapping[str, NDArray[np.float32]],
        *,
        progress: Callable[[float], None] | None = None,
    ) -> dict[str, Evidence]:
        """How far maps [h, w] of an RGB image can be trusted, by name, for one class; see `faithfulness.evidence`."""
        raise NotImplementedError

    @property
    def preprocessing(self) -> str:
        """What happens to an image before the model sees it, in words."""
        size, resize = self.config.image_size, self.config.stored_size
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.config.mean, self.config.std))
        return f"short side resized to {resize} px, centre cropped to {size} x {size}, mean ({mean}), std ({std})"
