"""The networks that every tab knows: one entry each, plain data, without torch until a network is built.

`register(entry)` adds one, from anywhere; those of this package are in `catalogue/`, whose modules are found by
themselves. What a built network can do is `contract.Backbone`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from resnet_space.common.errors import UserError
from resnet_space.common.imagenet import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from torch import nn

    from resnet_space.models.contract import Backbone

STEM, HEAD = "stem", "head"
CHANNEL_ATTENTION, SPATIAL_ATTENTION = "channel attention", "spatial attention"
CBAM_PARTS = (CHANNEL_ATTENTION, SPATIAL_ATTENTION)

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """A setting of a family's own.

    Attributes:
        label: begins the sentence that refuses a value.
        default: the value that is taken unless another is given.
        choices: the values that are allowed, and what the network has with each, in words ("" says nothing).
        initial: it only says how random weights are drawn, so that no run keeps it.
    """

    label: str
    default: Any
    choices: Mapping[Any, str]
    initial: bool = False


# Of every network whose family has no place of its own for CBAM.
STAGE_CBAM = Option(
    "CBAM's place", None, {None: "", "stage": "CBAM after every stage", "last": "CBAM after the last stage"}
)


@dataclass(frozen=True)
class Pretrained:
    """Weights on the Hub that training can start from.

    Attributes:
        name: of the run that they become.
        repo_id: the repository that has them as safetensors.
        resize: the short side in pixels that images are resized to, before the centre crop to the entry's size.
        licence: by its SPDX name.
        trained_on: the data set.
        accuracy: top-1 on ImageNet's validation images as published, from 0 to 1; None where it is not.
        mean, std: of red, green and blue in 0..1, by which images are normalised.
    """

    name: str
    repo_id: str
    resize: int
    licence: str
    trained_on: str = "imagenet-1k"
    accuracy: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True)
class Entry:
    """A network. A family whose structure depends on its options overrides the methods below.

    Attributes:
        name: as `create_model` takes it.
        family: "resnet", "efficientnet", ...
        build: `build(num_classes, **options)` gives the network with random weights; torch is imported in it.
        source: who wrote it: this package, timm or torchvision, or somebody else.
        year, paper: when and where it was published.
        depth: layers with weights on the way from image to logits, without those of shortcuts.
        parameters: with 1,000 classes.
        multiply_adds: for one image of `input_size` pixels; None where nobody has counted them.
        head: the module name of the classifier, which other classes need anew.
        blocks: how many blocks each stage has, in forward order.
        options: the family's own settings, by name.
        pretrained: weights to start from.
        small_images: the options that suit it to images of some 32 pixels.
        timm: whether timm has the network under this name, with the same parameter names, where all options are the
            defaults.
        trains: whether it meets all of the contract; else it is there to be explored.
        maps: whether its stages give maps [N, C, h, w], and not tokens. It then has an option "cbam", the family's own
            or that of `stage_cbams`.
        label: what people call it, where that is not its name.
        pixels: of the images that it was made for, where no option changes it.
    """

    name: str
    family: str
    build: "Callable[..., nn.Module]"
    source: str
    year: int
    paper: str
    depth: int
    parameters: int
    multiply_adds: int | None = None
    head: str = "head"
    blocks: tuple[int, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    pretrained: tuple[Pretrained, ...] = ()
    small_images: Options = field(default_factory=dict)
    timm: bool = False
    trains: bool = True
    maps: bool = True
    label: str = ""
    pixels: int = 224

    def __post_init__(self) -> None:
        """A network whose stages give maps takes CBAM, whether or not its family has a place for it."""
        if self.trains and self.maps and "cbam" not in self.options:
            object.__setattr__(self, "options", {**self.options, "cbam": STAGE_CBAM})

    @property
    def why_no_cbam(self) -> str:
        """One sentence; nothing for a network that takes CBAM."""
        if "cbam" in self.options:
            return ""
        reason = "its stages give tokens and no maps" if self.trains else "it is here to be explored"
        return f"{self.name} takes no CBAM, as {reason}: choose none."

    def network(self, num_classes: int, options: Options) -> "nn.Module":
        """It with random weights and these options, all of them; torch is imported."""
        if self.options.get("cbam") is not STAGE_CBAM:
            return self.build(num_classes, **options)
        own = {name: value for name, value in options.items() if name != "cbam"}
        model = self.build(num_classes, **own)
        if options["cbam"] is None:
            return model
        module = importlib.import_module("resnet_space.models.stage_cbams")  # by its name, as it imports this one
        gated: nn.Module = module.with_stage_cbams(model, self.input_size(options), options["cbam"])
        return gated

    @property
    def title(self) -> str:
        """What people call it: "ResNet-50"."""
        return self.label or self.name

    def stages(self) -> dict[str, tuple[str, ...]]:
        """Every stage with its blocks, by the names that rates and freezing go by."""
        names = ((f"stage{i}", count) for i, count in enumerate(self.blocks, 1))
        return {name: tuple(f"{name}.{i}" for i in range(count)) for name, count in names}

    def input_size(self, options: Options) -> int:
        """Pixels of the images that it was made for."""
        return self.pixels

    def added_parts(self, options: Options) -> tuple[str, ...]:
        """Parts that weights from elsewhere lack, such as a CBAM's: these then train wherever the head does."""
        return CBAM_PARTS if options.get("cbam") else ()

    def words(self, options: Options) -> str:
        """What it has by its options, for a sentence: "CBAM after every stage"."""
        told = (option.choices.get(options[name], "") for name, option in self.options.items() if name in options)
        return ", ".join(filter(None, told))


_ENTRIES: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
    """Make a network known to `create_model`, to configurations, and to every tab.

    Raises:
        ValueError: for a name that is taken.
    """
    if _ENTRIES.setdefault(entry.name, entry) is not entry:
        raise ValueError(f"There is a network {entry.name!r} already: choose another name.")
    return entry


def unregister(name: str) -> None:
    del _ENTRIES[name]


@cache
def _catalogue() -> None:
    catalogue = importlib.import_module("resnet_space.models.catalogue")  # by its name, as its modules import this one
    for module in pkgutil.iter_modules(catalogue.__path__):
        importlib.import_module(f"{catalogue.__name__}.{module.name}")


def entries(*, trains: bool = True) -> dict[str, Entry]:
    """All networks by name, this package's first; without those that can only be explored, unless they are wanted."""
    _catalogue()
    ours_first = sorted(_ENTRIES.values(), key=lambda entry: entry.source != "resnet_space")
    return {entry.name: entry for entry in ours_first if entry.trains or not trains}


def list_models() -> list[str]:
    """The names of the networks that can be trained."""
    return list(entries())


def entry_of(name: object, *, trains: bool = True) -> Entry:
    """Raises UserError for an unknown name, saying which are known."""
    known = entries(trains=trains)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"The architecture is {name!r}, but must be one of {', '.join(list_models())}.")
    return known[name]


def checked_options(entry: Entry, given: Options, *, initial: bool = False) -> dict[str, Any]:
    """The options with defaults where nothing is given; `initial` ones too, where they are wanted.

    Raises:
        UserError: for an unknown option, or a value that is not allowed.
    """
    known = {name: option for name, option in entry.options.items() if initial or not option.initial}
    unknown = sorted(map(str, set(given) - set(known)))
    if "cbam" in unknown:
        raise UserError(entry.why_no_cbam)
    if unknown:
        allowed = f"choose among {', '.join(known)}" if known else "leave it out"
        raise UserError(f"The option {unknown[0]} is none of {entry.name}'s: {allowed}.")
    values = {name: given.get(name, option.default) for name, option in known.items()}
    for name, option in known.items():
        value = values[name]
        if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in option.choices):
            allowed = ", ".join(map(str, option.choices))
            one = len(option.choices) == 1
            but = f"{entry.name} has {allowed} only" if one else f"must be one of {allowed}"
            raise UserError(f"{option.label} is {value!r}, but {but}.")
    return values


def create_model(name: str, num_classes: int = 1000, **options: Any) -> "Backbone":
    """Build a network with random weights.

    Args:
        name: one of `list_models()`.
        num_classes: logits of the head.
        options: `cbam` of any network whose stages give maps, and the family's own; for a ResNet: stem, shortcut, cbam,
            zero_init_residual, kaiming_mode.

    Raises:
        UserError: for an unknown name or a value that is not allowed, saying what is.
    """
    entry = entry_of(name)
    model: Any = entry.network(num_classes, checked_options(entry, options, initial=True))
    return model  # type: ignore[no-any-return]
