"""What a network can do without: its accuracy with blocks dropped or swapped (Veit et al. 2016, arXiv:1605.06431)."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_space.models import Backbone
from resnet_space.models.additions import Addition
from resnet_space.models.contract import Segment
from resnet_space.models.hooks import Hook, eval_mode, hooked
from resnet_space.residuals.adapters import additions
from resnet_space.residuals.probes import labelled

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lesion:
    """What is done to a network.

    Attributes:
        kind: "drop": F(x) := 0 in these blocks, which leaves relu(shortcut(x)) (in a plain network, x); "swap": the two
            blocks change places.
        blocks: what is dropped, by the names of `additions`; or the two that are swapped, by those of their modules,
            which are the same but in transformers.
    """

    kind: Literal["drop", "swap"]
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Lesioned:
    """How well it does, on the images so far; float64 on the CPU.

    Attributes:
        images: how many N.
        lesions: L of them, as they were asked for.
        accuracy: [L], of N images.
        loss: [L] mean cross-entropy in nats.
        base_accuracy, base_loss: of the network as it is, on the same images.
    """

    images: int
    lesions: tuple[Lesion, ...]
    accuracy: Tensor
    loss: Tensor
    base_accuracy: float
    base_loss: float


def single_drops(model: nn.Module) -> list[Lesion]:
    """Every block by itself, in forward order; of a plain network those that keep the shape.

    Raises:
        NoResidualBlocksError: see `additions`.
    """
    return [Lesion("drop", (name,)) for name in _droppable(model)]


def random_drops(model: nn.Module, counts: Sequence[int], *, draws: int = 5, seed: int = 0) -> list[Lesion]:
    """For each count, so many different blocks at random, `draws` times over; count by count.

    Raises:
        NoResidualBlocksError: see `additions`.
        ValueError: for a count of more blocks than there are, or of less than one.
    """
    names = _droppable(model)
    generator = torch.Generator().manual_seed(seed)
    lesions = []
    for count in counts:
        if not 1 <= count <= len(names):
            raise ValueError(f"{count} blocks cannot be dropped: there are {len(names)}.")
        for _ in range(draws):
            chosen = torch.randperm(len(names), generator=generator)[:count].sort().values
            lesions.append(Lesion("drop", tuple(names[i] for i in chosen)))
    return lesions


def swaps(model: nn.Module) -> list[Lesion]:
    """Every two blocks that can change places: of the same kind and shape, one after the other in the same stage.

    Raises:
        NoResidualBlocksError: see `additions`.
    """
    names = list(dict.fromkeys(addition.block for addition in additions(model, plain=True)))
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if _can_swap(model, a, b)]
    return [Lesion("swap", pair) for pair in pairs]


def lesioned(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], lesions: Sequence[Lesion]
) -> Iterator[Lesioned]:
    """Judge all the lesions batch by batch; each yield has every lesion, on all images so far. Stop whenever you like.

    Of this package's networks only what follows the first lesioned block is computed again.

    Args:
        model: left as it was, at every yield.
        batches: (images float [n, 3, H, W] already normalised, labels int64 [n]).
        lesions: see `single_drops`, `random_drops`, `swaps`; or your own.

    Raises:
        NoResidualBlocksError: see `additions`.
        ValueError: for no images, labels that the model does not know, an unknown block, or two that cannot be swapped.
    """
    for lesion in lesions:
        _require_possible(model, lesion)
    judge = _walk if _can_walk(model, lesions) else _run_anew
    images_so_far = 0
    # Of the network as it is, and of each lesion: how many are right, and the sum of the losses.
    sums = torch.zeros(1 + len(lesions), 2, dtype=torch.float64)
    for images, labels in labelled(batches):
        with torch.inference_mode(), eval_mode(model):
            for i, logits in judge(model, images, lesions):
                right = (logits.argmax(1) == labels).sum().double()
                loss = F.cross_entropy(logits.float(), labels, reduction="sum").double()
                sums[1 + i] += torch.stack([right, loss]).cpu()
        images_so_far += len(images)
        (base_accuracy, base_loss), *_ = means = sums / images_so_far
        yield Lesioned(
            images_so_far,
            tuple(lesions),
            means[1:, 0].clone(),
            means[1:, 1].clone(),
            float(base_accuracy),
            float(base_loss),
        )


def _droppable(model: nn.Module) -> list[str]:
    found = additions(model, plain=True)
    return [addition.name for addition in found if not addition.plain or addition.keeps_shape]


def _can_swap(model: nn.Module, a: str, b: str) -> bool:
    if a == b or a.rpartition(".")[0] != b.rpartition(".")[0]:
        return False
    for addition in additions(model, plain=True):
        if addition.block in (a, b) and not (addition.keeps_shape if addition.plain else addition.identity):
            return False
    one, other = model.get_submodule(a), model.get_submodule(b)
    return type(one) is type(other) and _shapes(one) == _shapes(other)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


def _require_possible(model: nn.Module, lesion: Lesion) -> None:
    if lesion.kind == "swap":
        if len(lesion.blocks) != 2:
            raise ValueError(f"A swap needs two blocks, but {len(lesion.blocks)} are named.")
        known = [addition.block for addition in additions(model, plain=True)]
    else:
        known = _droppable(model)
    for name in lesion.blocks:
        if name not in known:
            raise ValueError(f"There is no block {name!r} to {lesion.kind}: choose among {', '.join(known)}.")
    if lesion.kind == "swap" and not _can_swap(model, *lesion.blocks):
        raise ValueError(f"{' and '.join(lesion.blocks)} cannot be swapped: they differ in shape or stage.")


# This package's networks, step by step


def _can_walk(model: nn.Module, lesions: Sequence[Lesion]) -> bool:
    """Whether the network says what of it runs after what, block by block, and no lesion is of less than a block."""
    if not isinstance(model, Backbone):
        return False
    segments = model.segments()
    known = {segment.block for segment in segments}
    return any(segment.dropped for segment in segments) and known.issuperset(b for x in lesions for b in x.blocks)


def _walk(model: nn.Module, images: Tensor, lesions: Sequence[Lesion]) -> Iterator[tuple[int, Tensor]]:
    """(-1, the network's own logits), and (i, logits) for each lesion: from its first step on, once the walk is there.

    Beside the walk's state only one lesion's is in memory.
    """
    assert isinstance(model, Backbone)
    segments = model.segments()
    steps = [segment.run for segment in segments]
    changed = [_changed(segments, lesion) for lesion in lesions]
    first = [min(change, default=len(steps)) for change in changed]
    state = images
    for at, step in enumerate(steps):
        for i, change in enumerate(changed):
            if first[i] == at:
                yield i, _on(state, [change.get(later, steps[later]) for later in range(at, len(steps))])
        state = step(state)
    yield -1, state
    yield from ((i, state) for i in range(len(lesions)) if first[i] == len(steps))  # nothing was dropped


def _changed(segments: Sequence[Segment], lesion: Lesion) -> dict[int, Step]:
    """What runs in the place of which segment."""
    where = {segment.block: i for i, segment in enumerate(segments) if segment.block}
    if lesion.kind == "swap":
        a, b = (where[block] for block in lesion.blocks)
        return {a: segments[b].run, b: segments[a].run}
    dropped = {where[name]: segments[where[name]].dropped for name in lesion.blocks}
    return {i: step for i, step in dropped.items() if step is not None}


def _on(state: Tensor, steps: Iterable[Step]) -> Tensor:
    for step in steps:
        state = step(state)
    return state


# Other networks, each time as a whole


def _run_anew(model: nn.Module, images: Tensor, lesions: Sequence[Lesion]) -> Iterator[tuple[int, Tensor]]:
    """As `_walk`."""
    found = {addition.name: addition for addition in additions(model)}
    yield -1, model(images)
    for i, lesion in enumerate(lesions):
        if lesion.kind == "swap":
            with _swapped(model, *lesion.blocks):
                logits = model(images)
        else:
            with hooked(model, [_silenced(found[name]) for name in lesion.blocks]):
                logits = model(images)
        yield i, logits


def _silenced(addition: Addition) -> tuple[str, Hook]:
    return addition.gives_residual, lambda _module, _inputs, output: torch.zeros_like(output)


@contextmanager
def _swapped(model: nn.Module, a: str, b: str) -> Generator[None]:
    parent, one, other = model.get_submodule(a.rpartition(".")[0]), a.rpartition(".")[2], b.rpartition(".")[2]

    def swap() -> None:
        parent._modules[one], parent._modules[other] = parent._modules[other], parent._modules[one]

    swap()
    try:
        yield
    finally:
        swap()
