"""Run -> Classifier; image -> Prediction."""

import copy
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data.batches import centre_crop, normalise
from resnet_space.data.images import to_model_size
from resnet_space.explain.attention import AttentionMaps, recorded_attention
from resnet_space.explain.faithfulness import Evidence, evidence
from resnet_space.explain.ood import load_feature_statistics, recorded_means
from resnet_space.explain.saliency import ClassMaps, mapped_stages, maps_from_features
from resnet_space.models.hooks import recorded
from resnet_space.runs import Run
from resnet_space.training.device import autocast_dtype
from resnet_space.training.evaluation import most_probable

UNCALIBRATED = "The probabilities are not calibrated, and this run cannot detect out-of-distribution pictures."
UNUSUAL = (
    "This picture is unlike the training images: its features are further from theirs than those of 95 % of the "
    "validation images ({score} times that distance). The model still picks one of its classes, but the probabilities "
    "mean little."
)


@dataclass(frozen=True)
class Prediction:
    """The most probable classes, best first, and the attention maps of the same forward pass.

    Attributes:
        classes: their names.
        probabilities: theirs, calibrated by the run's temperature.
        attention: the gates of every CBAM; empty if not requested.
        indices: of the classes among the run's classes.
        logits: float32 [C] of all classes, not divided by the temperature.
        ood_score: how unlike the training images this one is: above 1, more than 95 % of the validation images are (see
            `explain.ood`); None if the run has no feature statistics.
        features: stage name ("layer3") -> its output [C, h, w], and CBAM name -> its output, gated, as the next layer
            sees it; only if requested.
        note: decisions made when the picture was read, such as the scale of its 16 bits; often empty.
        calibrated: whether the probabilities were calibrated on validation images.
    """

    classes: list[str]
    probabilities: list[float]
    attention: AttentionMaps
    indices: list[int] = field(default_factory=list)
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0), compare=False, repr=False)
    ood_score: float | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)
    note: str = ""
    calibrated: bool = True

    @property
    def unusual(self) -> bool | None:
        """Whether it is further from the training images than 95 % of the validation images; None if unknown."""
        return None if self.ood_score is None else self.ood_score > 1

    @property
    def warnings(self) -> list[str]:
        """Caveats as plain sentences: how the picture was read, that it is unlike the training images, that the
        probabilities are not calibrated. Often empty.
        """
        unusual = UNUSUAL.format(score=f"{self.ood_score:.1f}") if self.unusual else ""
        return [words for words in (self.note, unusual, "" if self.calibrated else UNCALIBRATED) if words]


class Classifier:
    """A run's model and preprocessing, ready for images. Raises UserError if the run has no fitting weights."""

    def __init__(self, run: Run) -> None:
        self.config = run.config.model
        self.model = run.load_model()
        self.feature_statistics = load_feature_statistics(run)
        self.lock = threading.Lock()  # held while hooks are on the model: they would record another request's pass too
        # Of small images bfloat16 is no quicker.
        large = self.config.image_size >= 64
        self._dtype = autocast_dtype(run.config.training, torch.device("cpu")) if large else None

    @property
    def calibrated(self) -> bool:
        """Whether a temperature or feature statistics were fitted on the run's validation images."""
        return self.config.temperature != 1.0 or self.feature_statistics is not None

    @property
    def nbytes(self) -> int:
        """Bytes that the model takes in memory."""
        return sum(t.nbytes for t in itertools.chain(self.model.parameters(), self.model.buffers()))

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
            features: also keep the outputs of each stage and CBAM, for `class_maps` and pictures of channels.
        """
        prepared = self.prepare([image])
        with self.lock, ExitStack() as looking:
            attention = looking.enter_context(recorded_attention(self.model))
            means = looking.enter_context(recorded_means(self.model))
            seen = looking.enter_context(
                recorded(self.model, dict.fromkeys(self._shown() if features else (), _output))
            )
            logits = self.model(prepared)
        outputs_kept = {name: outputs[0] for name, outputs in seen.items()}
        outputs_kept |= {stage: outputs_kept[module] for stage, module in self._stages().items() if features}
        (prediction,) = self._predictions(logits, means[0], top, attention)
        return replace(prediction, features=outputs_kept, note=image.info.get("note", ""))

    def predict_many(self, images: Iterable[Image.Image], *, top: int = 5, batch: int = 32) -> Iterator[Prediction]:
        """Classify RGB images, in order, without maps; at most `batch` of them are in memory at once."""
        rest = iter(images)
        while some := list(itertools.islice(rest, batch)):
            prepared = self.prepare(some)
            del some
            with torch.inference_mode():
                with self.lock, recorded_means(self.model) as means:
                    logits = self.model(prepared)
                predictions = self._predictions(logits, means[0], top, AttentionMaps())
            yield from predictions

    def class_maps(
        self, prediction: Prediction, classes: Sequence[int], method: str = "grad-cam", stage: str | None = None
    ) -> ClassMaps:
        """Class maps for these classes (indices), from the forward pass of `predict(..., features=True)`.

        Raises:
            ValueError: for an unknown method, stage or class, or a prediction without features.
        """
        name = mapped_stages(self.model)[-1] if stage is None else stage
        if name in self.model.map_stages() and name not in prediction.features:
            raise ValueError("The prediction has no features: call predict with features=True.")
        features = prediction.features.get(name, torch.empty(0))[None]
        size = (self.config.image_size, self.config.image_size)
        with self.lock:  # what follows the stage runs without anybody's hooks
            return maps_from_features(self.model, features, size, classes, method, stage)

    def evidence(
        self,
        image: Image.Image,
        class_index: int | Mapping[str, int],
        maps: Mapping[str, NDArray[np.float32]],
        *,
        progress: Callable[[float], None] | None = None,
    ) -> dict[str, Evidence]:
        """Whether maps [h, w] of an RGB image are faithful, by name; see `faithfulness.evidence`."""
        with self.lock:
            own = copy.deepcopy(self.model)  # so that others need not wait for some hundred forward passes
        settings = {"temperature": self.config.temperature, "dtype": self._dtype, "progress": progress}
        return evidence(own, self.prepare([image]), class_index, maps, **settings)

    @property
    def preprocessing(self) -> str:
        """A description of the preprocessing."""
        return preprocessing_words(self.config)

    def _stages(self) -> dict[str, str]:
        """Those whose outputs are kept on request, for pictures of channels and for class maps."""
        return {**self.model.stages(), **self.model.map_stages()}

    def _shown(self) -> list[str]:
        """The modules whose outputs are kept on request: every CBAM, and what ends each stage."""
        return list(dict.fromkeys([*self.model.attention(), *self._stages().values()]))

    def _predictions(
        self, logits: torch.Tensor, means: torch.Tensor, top: int, attention: AttentionMaps
    ) -> list[Prediction]:
        """From logits [N, C] and channel means [N, D]. Raises UserError if the weights came without a classifier."""
        if not any(parameter.any() for parameter in self.model.get_classifier().parameters()):
            raise UserError("These weights have no classifier: fine-tune them on your images, then predict.")
        probabilities, indices = most_probable(logits / self.config.temperature, top)
        ood_score = (
            self.feature_statistics.ood_score(means.numpy()).tolist()
            if self.feature_statistics
            else [None] * len(logits)
        )
        return [
            Prediction(
                [self.config.classes[i] for i in top_indices],
                top_probabilities,
                attention,
                top_indices,
                one,
                strange,
                calibrated=self.calibrated,
            )
            for top_indices, top_probabilities, one, strange in zip(
                indices.tolist(), probabilities.tolist(), logits, ood_score, strict=True
            )
        ]


def preprocessing_words(model: ModelConfig) -> str:
    """How pictures are prepared for a model."""
    size, resize = model.image_size, model.stored_size
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (model.mean, model.std))
    return f"short side resized to {resize} px, centre cropped to {size} x {size}, mean ({mean}), std ({std})"


def _output(_inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """Of one image: [C, h, w]. Nothing changes it afterwards: no layer that follows works in place on its input."""
    return output[0].float()
