"""Which networks can be measured: a run, the same network untrained, or an architecture with random weights."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from resnet_space.config import ModelConfig, imagenet_config
from resnet_space.models.registry import entries
from resnet_space.serve.context import AppContext

if TYPE_CHECKING:
    from torch import nn

RUN, UNTRAINED, RANDOM = "run", "untrained", "random"
LABELS = {RUN: "{}", UNTRAINED: "{} (untrained)", RANDOM: "{} (random weights)"}
# Choices that follow the subject of the page: an id without a name is the subject's.
SUBJECTS = {RUN: "The run chosen above", UNTRAINED: "The same network, untrained"}
# How addresses and programs named them before there were ids.
_FORMER = {UNTRAINED: re.compile(r"(.+) \(untrained\)"), RANDOM: re.compile(r"torchvision (.+) \(random weights\)")}
# Networks that torchvision built before timm or this package did.
_RENAMED = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "swin_t": "swin_tiny_patch4_window7_224",
    "vit_b_16": "vit_base_patch16_224",
}


@dataclass(frozen=True)
class Network:
    """Which network. Its `str` is its id, by which pages, addresses and programs know it; the label is for people.

    Attributes:
        name: of the run, or of the architecture.
        kind: `RUN`; `UNTRAINED`, the run's twin with the random weights that its seed gives; or `RANDOM`, an
            architecture with random weights.
    """

    name: str
    kind: str = RUN

    @classmethod
    def parse(cls, text: object) -> "Network":
        """By its id, or as it was named before there were ids. Whether there is such a network is not checked."""
        text = str(text or "")
        kind, colon, name = text.partition(":")  # no run has a colon in its name
        if colon and kind in LABELS:
            return cls(_RENAMED.get(name, name) if kind == RANDOM else name, kind)
        for kind, pattern in _FORMER.items():
            if match := pattern.fullmatch(text):
                return cls.parse(f"{kind}:{match[1]}")
        return cls(text)

    def __str__(self) -> str:
        return self.name if self.kind == RUN and self.name else f"{self.kind}:{self.name}"

    def about(self, subject: str | None) -> "Network":
        """Itself, or the subject's where it has no name."""
        return self if self.name else replace(self, name=subject or "")

    def beside(self, subject: str | None) -> "Network":
        """The choice that follows the subject, where it is the subject's; else itself. The inverse of `about`."""
        return replace(self, name="") if self.kind != RANDOM and self.name == subject else self

    @property
    def label(self) -> str:
        entry = entries(trains=False).get(self.name) if self.kind == RANDOM else None
        whose = f"{entry.source} " if entry and entry.source != "resnet_space" else ""
        return LABELS[self.kind].format(f"{whose}{self.name}")

    @property
    def run(self) -> str | None:
        """The run that it is, or is the twin of."""
        return None if self.kind == RANDOM else self.name

    def python(self) -> tuple[list[str], list[str]]:
        """(imports, lines) that make `model` and `config`, in the folder of the app."""
        if self.kind == RANDOM:
            imports = ["from resnet_space.config import imagenet_config"]
            return imports, [f"config = imagenet_config({self.name!r})", "model = config.build(seed=0).eval()"]
        imports = ["from resnet_space.runs import Run"]
        run = f"run = Run.open({f'checkpoints/{self.name}'!r})"
        if self.kind == RUN:
            return imports, [run, "model, config = run.load_model(), run.config.model"]
        imports.append("from resnet_space.training.state import model_with")
        return imports, [run, "model, config = model_with(run.config, None)[0].eval(), run.config.model"]


@dataclass(frozen=True)
class LoadedNetwork:
    """`config` has its preprocessing and classes; `lock` is held while hooks are on it."""

    config: ModelConfig
    model: "nn.Module"
    lock: threading.Lock


def network_choices() -> list[tuple[str, str]]:
    """(label, id) of the networks that can be measured: the subject's two, then the architectures."""
    return [(label, str(Network("", kind))) for kind, label in SUBJECTS.items()] + _architectures()


def other_choices(runs: Sequence[str], chosen: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(label, id) of the networks to compare with: the subject untrained, the runs, the architectures, and what is
    chosen already.
    """
    networks = [Network(name) for name in runs]
    choices = [(SUBJECTS[UNTRAINED], str(Network("", UNTRAINED))), *((n.label, str(n)) for n in networks)]
    choices += _architectures()
    known = {id_ for _, id_ in choices}
    return choices + [(Network.parse(id_).label, id_) for id_ in chosen if id_ not in known]


def _architectures() -> list[tuple[str, str]]:
    networks = [Network(name, RANDOM) for name in entries(trains=False)]
    return [(network.label, str(network)) for network in networks]


def config_of(context: AppContext, network: Network) -> ModelConfig:
    """Without its weights. Raises UserError."""
    return imagenet_config(network.name) if network.kind == RANDOM else context.library.open(network.name).config.model


def load_network(context: AppContext, network: Network) -> LoadedNetwork:
    """Raises UserError."""
    if network.kind == RANDOM:
        return _random(network.name)
    if network.kind == UNTRAINED:
        return _untrained(context, network.name)
    classifier = context.classifier(network.name)
    return LoadedNetwork(classifier.config, classifier.model, classifier.lock)


def _untrained(context: AppContext, run: str) -> LoadedNetwork:
    import torch

    from resnet_space.training.state import model_with

    config = context.library.open(run).config
    with torch.random.fork_rng(devices=[]):
        model, _ = model_with(config, None)
    return LoadedNetwork(config.model, model.eval(), threading.Lock())


@lru_cache(maxsize=1)
def _random(architecture: str) -> LoadedNetwork:
    config = imagenet_config(architecture)
    return LoadedNetwork(config, config.build(seed=0).eval(), threading.Lock())
