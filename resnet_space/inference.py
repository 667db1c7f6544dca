"""Run -> Classifier; image -> Prediction."""

import threading
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from resnet_space.attention import AttentionMaps, recorded_attention
from resnet_space.data.batches import centre_crop, normalise
from resnet_space.images import to_model_size
from resnet_space.runs import Run


@dataclass(frozen=True)
class Prediction:
    """The most probable classes, best first, and the attention maps of the same forward pass."""

    classes: list[str]
    probabilities: list[float]
    attention: AttentionMaps


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
    def predict(self, image: Image.Image, top: int = 5) -> Prediction:
        """Classify one RGB image; `top` classes, or all if there are fewer."""
        prepared = self.prepare([image])
        with self.lock, recorded_attention(self.model) as attention:
            logits = self.model(prepared)
        probabilities, indices = logits[0].softmax(0).topk(min(top, len(self.config.classes)))
        return Prediction([self.config.classes[i] for i in indices], probabilities.tolist(), attention)

    @property
    def preprocessing(self) -> str:
        """What happens to an image before the model sees it, in words."""
        size, resize = self.config.image_size, self.config.stored_size
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.config.mean, self.config.std))
        return f"short side resized to {resize} px, centre cropped to {size} x {size}, mean ({mean}), std ({std})"
