"""What can be looked into: a run, its untrained twin, or an architecture of torchvision with random weights."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from resnet_space.config import ModelConfig
from resnet_space.runs import RunError
from resnet_space.ui.workshop import Workshop

if TYPE_CHECKING:
    from torch import nn

UNTRAINED = " (untrained)"
TORCHVISION, RANDOM = "torchvision ", " (random weights)"
SEED = 0  # of torchvision's random weights
# One of each kind, and two in which nothing is added to its input.
ARCHITECTURES = (
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "alexnet",
    "vgg16",
)


@dataclass(frozen=True)
class Subject:
    """A network to look into. `config` has its preprocessing and classes; `lock` is held while hooks are on it."""

    name: str
    config: ModelConfig
    model: "nn.Module"
    lock: threading.Lock


def subject_names(runs: Sequence[str], *, twins: bool = True) -> list[str]:
    """What there is to choose from: the runs first, then their twins, then torchvision's."""
    untrained = [f"{run}{UNTRAINED}" for run in runs] if twins else []
    return [*runs, *untrained, *(f"{TORCHVISION}{name}{RANDOM}" for name in ARCHITECTURES)]


def torchvision_name(subject: str) -> str | None:
    """The architecture, where the subject is one of torchvision's."""
    name = subject.removeprefix(TORCHVISION).removesuffix(RANDOM)
    return name if subject == f"{TORCHVISION}{name}{RANDOM}" else None


def run_of(subject: str) -> str | None:
    """The run that a subject is, or is the twin of; None for one of torchvision's."""
    return None if torchvision_name(subject) else subject.removesuffix(UNTRAINED)


def open_subject(workshop: Workshop, name: str | None) -> Subject:
    """The network by its name in the page. Raises RunError."""
    name = name or ""
    architecture = torchvision_name(name)
    if architecture is not None:
        if architecture not in ARCHITECTURES:
            raise RunError(f"There is no torchvision architecture {architecture!r} here: choose another.")
        return _torchvision(architecture)
    if name.endswith(UNTRAINED):
        from resnet_space.training import model_with

        config = workshop.library.open(name.removesuffix(UNTRAINED)).config
        with _seeded():
            model, _ = model_with(config, None)
        return Subject(name, config.model, model.eval(), threading.Lock())
    classifier = workshop.classifier(name)
    return Subject(name, classifier.config, classifier.model, classifier.lock)


@lru_cache(maxsize=1)
def _torchvision(architecture: str) -> Subject:
    import torch
    from torchvision import models

    from resnet_space.hub.checks import imagenet_classes

    with _seeded():
        torch.manual_seed(SEED)
        model = models.get_model(architecture, weights=None)
    # Its architecture is not one of ours: only the preprocessing and the classes count.
    config = ModelConfig("resnet50", imagenet_classes(), stem="imagenet", image_size=224, resize=256)
    return Subject(f"{TORCHVISION}{architecture}{RANDOM}", config, model.eval(), threading.Lock())


def _seeded():  # type: ignore[no-untyped-def]
    """Leave the process's random state as it was."""
    import torch

    return torch.random.fork_rng(devices=[])
