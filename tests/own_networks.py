"""Two networks from outside the package, which anybody could register: an MLP-Mixer (Tolstikhin et al. 2021) of
three layers without its residual additions, and a convolutional network of two residual blocks.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from resnet_space.models import Backbone, Entry, register
from resnet_space.models.additions import Addition
from resnet_space.models.contract import Part, Segment
from resnet_space.models.registry import HEAD, STEM, Options, unregister

SIZE = 16  # pixels of their images


class Own(Backbone):
    """A stem, blocks one after the other, each a stage, and a linear head on the mean over positions."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.stem, self.blocks = stem, nn.ModuleList(blocks)
        self.head = nn.Linear(width, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.to_map(features).mean((2, 3))
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(self.head.in_features, num_classes)

    def parts(self) -> list[Part]:
        found: dict[tuple[str, str], list[str]] = {}
        for name, _ in self.named_parameters():
            first, second, *_ = name.split(".")
            stage = f"stage{int(second) + 1}" if first == "blocks" else {"stem": STEM, "head": HEAD}[first]
            found.setdefault((f"{stage}.0" if first == "blocks" else stage, stage), []).append(name)
        return [Part(name, stage, tuple(names)) for (name, stage), names in found.items()]

    def stages(self) -> dict[str, str]:
        return {f"stage{i + 1}": f"blocks.{i}" for i in range(len(self.blocks))}


class Mixer(nn.Module):
    """tokens [N, T, D] -> the same, mixed over positions and then over channels."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.tokens, self.channels = nn.Linear(tokens, tokens), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.channels(self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2).relu())
        return mixed


class Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.conv(x).flatten(2).transpose(1, 2)
        return tokens


class MlpMixer(Own):
    def to_map(self, features: Tensor) -> Tensor:
        return features.transpose(1, 2).unflatten(2, (SIZE // 4, SIZE // 4))


class Block(nn.Module):
    """x + F(x)"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.branch(x)
        return added


class Residual(Own):
    """It says more than it must: where its forward pass can be cut, and where it adds."""

    def segments(self) -> tuple[Segment, ...]:
        def pool(x: Tensor) -> Tensor:
            return x.mean((2, 3))

        blocks = (
            Segment(f"stage{i + 1}", block, (block,), f"blocks.{i}", dropped=nn.Identity())
            for i, block in enumerate(self.blocks)
        )
        return (
            Segment(STEM, self.stem, (self.stem,)),
            *blocks,
            Segment(HEAD, pool, ()),
            Segment(HEAD, self.head, (self.head,)),
        )

    def additions(self) -> list[Addition]:
        return [
            Addition(name, name, sees_x=f"{name}.branch", gives_residual=f"{name}.branch", keeps_shape=True)
            for name in (f"blocks.{i}" for i in range(len(self.blocks)))
        ]

    def read_early(self, state: Tensor) -> Tensor:
        return self.forward_head(state)


class OwnEntry(Entry):
    def input_size(self, options: Options) -> int:
        return SIZE


def _mixer(num_classes: int) -> Backbone:
    return MlpMixer(Patches(24), [Mixer((SIZE // 4) ** 2, 24) for _ in range(3)], 24, num_classes)


def _residual(num_classes: int) -> Backbone:
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return Residual(stem, [Block(16), Block(16)], 16, num_classes)


def _entry(name: str, build: Any, blocks: int, depth: int, parameters: int, *, maps: bool) -> Entry:
    known = {"family": "own", "source": "tests", "year": 2026, "paper": "", "blocks": (1,) * blocks}
    return OwnEntry(name, build=partial(build), depth=depth, parameters=parameters, maps=maps, **known)


OWN = (
    _entry("own-mixer", _mixer, 3, 8, 29_000, maps=False),
    _entry("own-residual", _residual, 2, 4, 22_000, maps=True),
)


@contextmanager
def registered() -> Generator[None]:
    """Both are known inside the `with`: other tests go over all that is known."""
    for entry in OWN:
        register(entry)
    try:
        yield
    finally:
        for entry in OWN:
            unregister(entry.name)
