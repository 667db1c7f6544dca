"""The features of a training's images, computed once with its frozen network, and the head solved on them."""

from collections.abc import Generator, Iterator

import torch
import torch.nn.functional as F

from resnet_space.common.steps import Steps
from resnet_space.config import ModelConfig
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.models import Backbone
from resnet_space.training.calibration import Passed
from resnet_space.training.extraction import Extracted, Extractor
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.solver import PENALTIES, SolvedHead, best_head, solve

WORSE = 2  # heads in a row


class Probe:
    """The probe of one training.

    Args:
        model: frozen except for its head.
        config: how images are prepared.
        splits: the training's images.
        store: where features are kept.
    """

    def __init__(self, model: Backbone, config: ModelConfig, splits: Splits, store: FeatureStore) -> None:
        self.model = model
        self.splits = splits
        self.extractor = Extractor(model, config, store)
        self.known: dict[int, Extracted] = {}  # by the identity of a set of the splits
        self.images = sum(len(data) for data in self._sets())

    def _sets(self) -> tuple[ImageSet, ImageSet, ImageSet]:
        return self.splits.train, self.splits.validation, self.splits.test

    def compute(self) -> Iterator[int]:
        """Compute all features; yields the progress from time to time."""
        before = 0
        for data in self._sets():
            steps = Steps(self.extractor.steps(len(data), data.pixels))
            for done in steps:
                yield before + done
            self.known[id(data)] = steps.result
            before += len(data)

    def solve(self, smoothing: float) -> Generator[tuple[float, SolvedHead], None, SolvedHead]:
        """Solve the head for each penalty and keep the best on the validation images; yields (fraction done, head).

        The path ends where weaker penalties no longer help: after two heads in a row that are worse than the best.
        """
        train, validation, _ = self._sets()
        others, labels = self.known[id(validation)].features, validation.labels.cpu()
        heads: list[SolvedHead] = []
        for head in solve(self.known[id(train)].features, train.labels.cpu(), len(train.classes), smoothing=smoothing):
            heads.append(head)
            yield len(heads) / len(PENALTIES), head
            if len(heads) - heads.index(best_head(heads, others, labels)) > WORSE:
                break
        return best_head(heads, others, labels)

    @torch.inference_mode()
    def passed(self, data: ImageSet) -> Passed:
        """The outputs of the model with its current head for one of the sets."""
        known = self.known[id(data)]
        classifier = self.model.get_classifier()
        device = next(classifier.parameters()).device
        return Passed(classifier(known.features.to(device)).cpu(), known.means.numpy(), data.labels.cpu())

    def judge(self, data: ImageSet) -> tuple[float, float]:
        """(mean cross-entropy in nats, accuracy) on one of the sets."""
        logits, _, labels = self.passed(data)
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())
