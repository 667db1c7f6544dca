"""Judge networks on the same images of a dataset: each one's features once, a solved head, and nearest neighbours.

Only images that a training may learn from are used; those that it is tested on are not looked at. Every image is held
out once (see `cross_validation`). The nearest neighbours (Cover & Hart 1967) vote by the cosine of their features.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import evaluation_batch
from resnet_space.data.reference import DatasetRef
from resnet_space.data.splits import ImageSet, load_learnable
from resnet_space.data.summary import image_settings, summarise
from resnet_space.models import Backbone
from resnet_space.runs import Run
from resnet_space.runs.weights import without_head
from resnet_space.training.choosing import Row
from resnet_space.training.comparison import FOLDS, Candidate, Comparison, Phase
from resnet_space.training.cross_validation import Examples, solved_out_of_fold
from resnet_space.training.device import choose_device
from resnet_space.training.evaluation import calibration_error
from resnet_space.training.extraction import Extractor
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.footprint import multiply_adds
from resnet_space.training.host import failure
from resnet_space.training.state import model_with
from resnet_space.training.work import Doing, Underway

NEIGHBOURS = 10
# What of a network's time each phase takes, roughly.
SHARES: dict[Phase, tuple[float, float]] = {
    "downloading": (0.0, 0.0),
    "decoding": (0.0, 0.1),
    "features": (0.1, 0.85),
    "solving": (0.85, 1.0),
}

Fetch = Callable[[str, Callable[[int, int], None]], Run]  # a network's run by its name, downloaded where it is missing


class Comparing(Underway[Comparison]):
    """Judges the networks of a comparison, one after the other; one that cannot be judged has a row that says why.

    It raises UserError for a dataset that cannot be read.

    Args:
        asked: which networks, and on what.
        fetch: gives their runs.
        store: of features.
        folder: for decoded images for which memory has no room.
    """

    def __init__(self, asked: Comparison, fetch: Fetch, store: FeatureStore, folder: Path | None = None) -> None:
        super().__init__(asked)
        self.fetch, self.store, self.folder = fetch, store, folder
        self.ref = DatasetRef.parse(asked.dataset)
        self.images: tuple[int, ImageSet] | None = None  # of the size that was decoded last
        known = all(candidate.seconds is not None for candidate in asked.networks)
        self.weights = [(candidate.seconds or 1.0) if known else 1.0 for candidate in asked.networks]

    def work(self) -> None:
        self.told(Doing())
        side = summarise(self.ref).side
        for i, candidate in enumerate(self.now.networks):
            try:
                row = self._row(i, candidate, side)
            except (UserError, RuntimeError, MemoryError, OSError, ValueError) as error:
                row = Row(candidate.name, licence=candidate.licence, problem=_words(error))
            self.now = replace(self.now, rows=(*self.now.rows, row))
            self.told(Doing(candidate.name, share=round(self._share(i, 1.0), 4)))

    def _share(self, network: int, own: float) -> float:
        return min((sum(self.weights[:network]) + own * self.weights[network]) / sum(self.weights), 1.0)

    def _row(self, i: int, candidate: Candidate, side: int) -> Row:
        def teller(phase: Phase) -> Callable[[int, int], None]:
            low, high = (self._share(i, own) for own in SHARES[phase])
            return self.teller(phase, low, high, candidate.name)

        run = self.fetch(candidate.name, teller("downloading"))
        teller("decoding")(0, 0)
        config, _ = image_settings(side, run.config.model)
        data = self._images(config.stored_size, teller("decoding"))
        config = replace(config, classes=data.classes)
        model = loaded(run, config)
        device = choose_device()
        extractor = Extractor(model.to(device), config, self.store)
        features = extractor.of(data, teller("features")).features
        few = torch.arange(min(len(data), evaluation_batch(config)))
        speed = extractor.images_per_second(data.pixels(few))
        assert data.copies is not None
        examples = Examples(features, data.labels, len(data.classes), data.copies.tolist())
        judged = judge(examples, teller("solving"))
        counted = config.entry.multiply_adds
        return replace(
            judged,
            name=candidate.name,
            architecture=config.architecture,
            title=_title(config),
            image_size=config.image_size,
            images_per_second=round(speed, 2),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            multiply_adds=None if counted is None else round(multiply_adds(config)),
            licence=candidate.licence,
            seen=candidate.seen,
        )

    def _images(self, size: int, tell: Callable[[int, int], None]) -> ImageSet:
        if self.images is None or self.images[0] != size:
            self.images = None  # not both at once
            data = load_learnable(self.ref, size, self.now.most, progress=tell, folder=self.folder)
            largest = int(data.labels.bincount().max())
            self.now = replace(self.now, images=len(data), classes=len(data.classes), folds=FOLDS, largest=largest)
            self.images = size, data
        return self.images[1]


def _title(config: ModelConfig) -> str:
    """The architecture's, with the options that are not as usual: "ResNet-20, CBAM after every stage"."""
    chosen = ((option, config.options.get(name, option.default)) for name, option in config.entry.options.items())
    told = (option.choices.get(value, "") for option, value in chosen if value != option.default)
    return ", ".join(filter(None, (config.entry.title, *told)))


def _words(error: Exception) -> str:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "This machine has too little memory for it."
    return str(failure(error)["reason"])


def loaded(run: Run, config: ModelConfig) -> Backbone:
    """A run's network for other classes, in eval mode, with a random head. Raises UserError."""
    weights = without_head(run.load_weights(), config.entry.head)
    with torch.random.fork_rng(devices=[]):
        model, _ = model_with(RunConfig(config, TrainConfig(dataset="-", start=run.name)), weights)
    if not isinstance(model.get_classifier(), torch.nn.Linear):
        raise UserError(f"The head of {run.name} is not a linear layer, so it cannot be solved.")
    return model.eval().requires_grad_(False)


def judge(examples: Examples, tell: Callable[[int, int], None] = lambda *_: None) -> Row:
    """What is found of features by cross-validation; `tell` is called with (heads done, all).

    Raises as `solved_out_of_fold`.
    """
    found = solved_out_of_fold(examples, tell)
    labels, judged = examples.labels[found.judged], found.judged
    confidence, predicted = found.logits[judged].softmax(1).max(1)
    correct = predicted == labels
    votes = neighbours(examples)
    return Row(
        correct=int(correct.sum()),
        images=len(labels),
        right=f"{int(''.join('1' if right else '0' for right in correct.tolist()), 2):x}",
        neighbours_correct=int((votes[judged] == labels).sum()),
        calibration_error=round(calibration_error(confidence.numpy(), correct.numpy()), 5),
        penalty=Counter(found.penalties).most_common(1)[0][0],
    )


def neighbours(examples: Examples) -> Tensor:
    """The class that most of the `NEIGHBOURS` nearest images of other folds have, int64 [n]; of several, the first.

    Near is what has a small angle between its features and an image's own.
    """
    directions, labels = F.normalize(examples.features, dim=1), examples.labels
    predicted = torch.empty_like(labels)
    for fold in np.unique(examples.folds):
        own = torch.from_numpy(examples.folds == fold)
        nearest = (directions[own] @ directions[~own].T).topk(min(NEIGHBOURS, int((~own).sum())), dim=1).indices
        predicted[own] = F.one_hot(labels[~own][nearest], examples.classes).sum(1).argmax(1)
    return predicted
