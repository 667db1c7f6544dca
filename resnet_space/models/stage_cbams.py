"""A CBAM after every stage, or after the last one, for any network that fulfils the contract.

The network keeps its modules and parameter names, so that its weights load as they are. Added are `cbam1`, `cbam2`,
..., by the number of the stage: a forward hook on the module that ends the stage puts the module's output through the
CBAM. A new CBAM is an identity (see `cbam`), so that the logits do not change.

The spatial gate's kernel is at most half as wide as the map, and the border is continued instead of filled with zeros:
a kernel of 7 on the 7 x 7 positions that a photograph leaves learns little but how far the border is.

A ResNet of this package has CBAMs of its own, in the same places.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.models.cbam import CBAM
from resnet_space.models.contract import Backbone, Part, Segment
from resnet_space.models.hooks import recorded
from resnet_space.models.registry import CHANNEL_ATTENTION, HEAD, SPATIAL_ATTENTION, STEM

B = TypeVar("B", bound=Backbone)


def with_stage_cbams(model: B, image_size: int, place: Literal["stage", "last"] = "stage") -> B:
    """Insert a CBAM after every stage of a network, in place, and return it.

    Args:
        model: on any device; its random weights are drawn before those of the CBAMs, so they are those of a network
            without.
        image_size: pixels of the images that it is made for; one such pass tells how many channels each stage has.
        place: after every "stage", or after the "last" one only: then all that comes before it can stay frozen, and is
            computed once.

    Raises:
        UserError: for a network whose stages do not output feature maps [N, C, h, w].
    """
    parts, stages = model.parts(), model.stages()
    ends = _ends(model, parts, stages)
    if place == "last":
        ends = dict(list(ends.items())[-1:])
    shapes = _shapes(model, list(ends.values()), image_size)
    kind = type(model)
    model.__class__ = type(kind.__name__, (_StageCbams, kind), {"__module__": kind.__module__})
    assert isinstance(model, _StageCbams)
    model.cbam_places = {}
    names = list(dict.fromkeys(part.stage for part in parts if part.stage not in (STEM, HEAD)))
    for stage, module in ends.items():
        channels, *sides = shapes[module]
        model.cbam_places[module] = (f"cbam{names.index(stage) + 1}", channels, _kernel_size(min(sides)))
    model.known_stages = {stage: model.cbam_names.get(module, module) for stage, module in stages.items()}
    add_cbams(model, model.cbam_places)
    model.known_parts = _with_added(model, parts, ends)
    return model


def add_cbams(model: nn.Module, places: Mapping[str, tuple[str, int, int]]) -> None:
    """Insert CBAMs; `places`: the module that each follows -> its name, its channels, the size of its kernel."""
    for module, (name, channels, kernel_size) in places.items():
        cbam = CBAM(channels, kernel_size=kernel_size, padding="replicate")
        model.add_module(name, cbam)
        model.get_submodule(module).register_forward_hook(_Through(cbam))


class _Through:
    """The hook. An object, not a function, so that a deep copy of the network uses its own CBAM."""

    def __init__(self, cbam: CBAM) -> None:
        self.cbam = cbam

    def __call__(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        gated: Tensor = self.cbam(output)
        return gated


class _StageCbams(Backbone):
    """What the contract says of a network with CBAMs after its stages, from what it says without.

    Attributes:
        cbam_places: as `add_cbams` takes them, in forward order.
        known_stages, known_parts: what `stages` and `parts` give: the network's own know no CBAM.
    """

    cbam_places: dict[str, tuple[str, int, int]]
    known_stages: dict[str, str]
    known_parts: list[Part]

    @property
    def cbam_names(self) -> dict[str, str]:
        """The module that ends a stage -> the CBAM that follows it."""
        return {module: name for module, (name, _, _) in self.cbam_places.items()}

    def stages(self) -> dict[str, str]:
        return dict(self.known_stages)

    def parts(self) -> list[Part]:
        return list(self.known_parts)

    def segments(self) -> Sequence[Segment]:
        """A CBAM runs in the segment that has the end of its stage, or after the last one that has a part of it."""
        found = list(super().segments())
        for end, name in self.cbam_names.items():
            module, cbam = self.get_submodule(end), self.get_submodule(name)
            whole = [i for i, segment in enumerate(found) if module in _all_modules(segment)]
            if not whole:
                inside = set(module.modules())
                last = max(i for i, segment in enumerate(found) if inside.issuperset(segment.modules))
                found.insert(last + 1, Segment(found[last].stage, cbam, (cbam,)))
            elif cbam not in _all_modules(found[whole[-1]]):
                found[whole[-1]] = _with_cbam(found[whole[-1]], cbam, is_block=found[whole[-1]].block == end)
        return found

    def read_early(self, state: Tensor) -> Tensor:
        """The last CBAM is applied first, as the network does at its end."""
        return super().read_early(self.get_submodule(list(self.cbam_names.values())[-1])(state))


def _all_modules(segment: Segment) -> set[nn.Module]:
    return {module for part in segment.modules for module in part.modules()}


def _with_cbam(segment: Segment, cbam: nn.Module, *, is_block: bool) -> Segment:
    """What runs in it has the hook; what runs in its place where F(x) is 0 has not."""
    dropped = segment.dropped
    if dropped is not None and is_block:
        dropped = _then(dropped, cbam)
    return replace(segment, modules=(*segment.modules, cbam), dropped=dropped)


def _then(first: Callable[[Tensor], Tensor], cbam: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: cbam(first(x))


def _ends(model: Backbone, parts: Sequence[Part], stages: dict[str, str]) -> dict[str, str]:
    """Stage, as in `Part` -> the module that ends it: the last one of which the contract says that it is worth a look,
    and which has that stage's name or weights of it. What only belongs to the stem is no stage.
    """
    stage_of = {name: part.stage for part in parts for name in part.parameters}
    ends: dict[str, str] = {}
    for name, module in stages.items():
        weights = [f"{module}.{weight}" for weight, _ in model.get_submodule(module).named_parameters()]
        stage = name if name in stage_of.values() else stage_of[weights[-1]] if weights else STEM
        if stage not in (STEM, HEAD):
            ends[stage] = module
    return ends


def _shapes(model: Backbone, modules: Sequence[str], image_size: int) -> dict[str, tuple[int, int, int]]:
    """(C, h, w) of what each module gives, from a pass without memory or arithmetic."""
    shapes = dict.fromkeys(modules, lambda _inputs, output: (output.shape, model.to_map(output).shape))
    twin = copy.deepcopy(model).to("meta").eval()
    with torch.inference_mode(), recorded(twin, shapes) as found:
        twin.forward_features(torch.empty(1, 3, image_size, image_size, device="meta"))
    of_maps = {name: own[1:] for name, [(own, mapped)] in found.items() if len(own) == 4 and own == mapped}
    if not modules or len(of_maps) < len(modules):
        raise UserError(
            f"This {type(model).__name__} does not support CBAM because its stages do not output feature maps."
        )
    return {name: (channels, height, width) for name, (channels, height, width) in of_maps.items()}


def _kernel_size(side: int) -> int:
    """Of the spatial gate for maps of so many positions a side: the paper's 7, but at most half of the map."""
    return min(7, max(2 * ((side // 2 - 1) // 2) + 1, 1))


def _with_added(model: nn.Module, parts: Sequence[Part], ends: dict[str, str]) -> list[Part]:
    """The parts, and after the last of each stage those of its CBAM."""
    assert isinstance(model, _StageCbams)
    found = list(parts)
    for stage, end in ends.items():
        name = model.cbam_names[end]
        added = [
            Part(part, stage, tuple(f"{name}.{child}.{p}" for p, _ in of.named_parameters()), added=True)
            for part, child in ((CHANNEL_ATTENTION, "channel"), (SPATIAL_ATTENTION, "spatial"))
            for of in [model.get_submodule(f"{name}.{child}")]
        ]
        last = max(i for i, part in enumerate(found) if part.stage == stage)
        found[last + 1 : last + 1] = added
    return found
