"""What can be looked into: a run, its untrained twin, or an architecture of torchvision with random weights."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from resnet_space.config import ModelConfig, imagenet_config
from resnet_space.models.registry import entries
from resnet_space.serve.workshop import Workshop

if TYPE_CHECKING:
    from torch import nn

UNTRAINED = " (untrained)"
TORCHVISION, RANDOM = "torchvision ", " (random weights)"


@dataclass(frozen=True)
class Subject:
    """A network to look into. `config` has its preprocessing and classes; `lock` is held while hooks are on it."""

    name: str
    config: ModelConfig
    model: "nn.Module"
    lock: threading.Lock


def subject_names(runs: Sequence[str]) -> list[str]:
    """What there is to choose from: the runs first, then their twins, then torchvision's."""
    untrained = [f"{run}{UNTRAINED}" for run in runs]
    return [*runs, *untrained, *(f"{TORCHVISION}{name}{RANDOM}" for name in entries(trains=False))]


def torchvision_name(subject: str) -> str | None:
    """The architecture, where the subject is one of torchvision's."""
    name = subject.removeprefix(TORCHVISION).removesuffix(RANDOM)
    return name if subject == f"{TORCHVISION}{name}{RANDOM}" else None


def run_of(subject: str) -> str | None:
    """The run that a subject is, or is the twin of; None for one of torchvision's."""
    return None if torchvision_name(subject) else subject.removesuffix(UNTRAINED)


def open_subject(workshop: Workshop, name: object) -> Subject:
    """The network by its name on the page. Raises UserError."""
    name = str(name or "")
    architecture = torchvision_name(name)
    if architecture is not None:
        return _torchvision(architecture)
    if name.endswith(UNTRAINED):
        return _twin(workshop, name)
    classifier = workshop.classifier(name)
    return Subject(name, classifier.config, classifier.model, classifier.lock)


def _twin(workshop: Workshop, name: str) -> Subject:
    """The same network with the random weights that the run's seed gives."""
    import torch

    from resnet_space.training.state import model_with

    config = workshop.library.open(name.removesuffix(UNTRAINED)).config
    with torch.random.fork_rng(devices=[]):
        model, _ = model_with(config, None)
    return Subject(name, config.model, model.eval(), threading.Lock())


@lru_cache(maxsize=1)
def _torchvision(architecture: str) -> Subject:
    config = imagenet_config(architecture)
    return Subject(f"{TORCHVISION}{architecture}{RANDOM}", config, config.build(seed=0).eval(), threading.Lock())
