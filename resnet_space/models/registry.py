"""The registry of networks for every tab: one entry each, plain data, without torch until a network is built.

`register(entry)` adds one, from anywhere; those of this package are in `catalogue/`, whose modules are found
automatically. A built network implements `contract.Backbone`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from resnet_space.common.errors import UserError
from resnet_space.common.imagenet import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from torch import nn

    from resnet_space.models.contract import Backbone

STEM, HEAD = "stem", "head"
CHANNEL_ATTENTION, SPATIAL_ATTENTION = "channel attention", "spatial attention"
CBAM_PARTS = (CHANNEL_ATTENTION, SPATIAL_ATTENTION)
SMALL = 32  # pixels: of CIFAR's images

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """A setting of a family.

    Attributes:
        label: begins the error message for an invalid value.
        default: the default value.
        choices: the allowed values, each with a description ("" for none).
        initial: it only affects the random initialisation, so runs do not store it.
    """

    label: str
    default: Any
    choices: Mapping[Any, str]
    initial: bool = False


# The option of every network whose family has no CBAM option of its own.
STAGE_CBAM = Option(
    "The CBAM option", None, {None: "", "stage": "CBAM after every stage", "last": "CBAM after the last stage"}
)


# The option of networks for photographs whose first layers are made to keep small images' pixels.
STEM_SIZE = Option("The stem", "imagenet", {"imagenet": "", "cifar": ""})


@dataclass(frozen=True)
class Pretrained:
    """Weights that training can start from, from the Hub or from torchvision.

    That the repositories exist, and have these weights as safetensors, is known from the lists of timm and torchvision,
    not checked against the Hub. Hence no revision is pinned: a run records the commit that it was pulled from.

    Attributes:
        name: of the run that they become.
        repo_id: the Hub repository that has them as safetensors; "torchvision:NAME" for what torchvision downloads.
        resize: the short side in pixels that images are resized to, before the centre crop to the entry's size.
        licence: by its SPDX name.
        trained_on: the dataset.
        accuracy: published top-1 accuracy on ImageNet's validation images, from 0 to 1; None if unpublished.
        mean, std: of red, green and blue in 0..1, by which images are normalised.
        head: whether they include a classifier; self-supervised weights have none.
    """

    name: str
    repo_id: str
    resize: int
    licence: str
    trained_on: str = "imagenet-1k"
    accuracy: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    head: bool = True


@dataclass(frozen=True)
class Entry:
    """A network. Families whose structure depends on their options override the methods below.

    Attributes:
        name: as `create_model` takes it.
        family: "resnet", "efficientnet", ...
        build: `build(num_classes, **options)` gives the network with random weights; torch is imported in it.
        source: its author: this package, timm, torchvision, or somebody else.
        year, paper: when and where it was published.
        depth: layers with weights on the way from image to logits, without those of shortcuts.
        parameters: with 1,000 classes.
        multiply_adds: for one image of `input_size` pixels; None if unknown.
        head: the module name of the classifier, which is replaced for other classes.
        blocks: how many blocks each stage has, in forward order.
        options: the family's own settings, by name.
        pretrained: weights to start from.
        small_images: the options that suit it to images of some 32 pixels.
        small_strategy: the strategy by which trained weights are then adapted; "" for any.
        timm: whether timm has the network under this name, with the same parameter names, where all options are the
            defaults.
        timm_arguments: those that timm's `create_model` then needs beside the number of classes.
        bare: as `build`, without what the contract adds to another library's network; None where `build` is that.
        trains: whether it fulfils the whole contract; otherwise it can only be explored.
        maps: whether its stages output feature maps [N, C, h, w], not tokens. It then has an option "cbam", the
            family's own or that of `stage_cbams`.
        label: display name, if it differs from its name.
        pixels: input size for which it was designed, if no option changes it.
        activations: numbers that its layers output for one image of that size, which training keeps; 0 for fewer than
            in a ResNet-152.
        least: the smallest image side in pixels that it can compute, with the default options.
        fixed: whether it computes images of `pixels` only.
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
    small_strategy: str = ""
    timm: bool = False
    timm_arguments: Mapping[str, Any] = field(default_factory=dict)
    bare: "Callable[..., nn.Module] | None" = None
    trains: bool = True
    maps: bool = True
    label: str = ""
    pixels: int = 224
    activations: int = 0
    least: int = 8
    fixed: bool = False

    def __post_init__(self) -> None:
        """Add the option "cbam" to networks with feature maps whose family has none."""
        if self.trains and self.maps and "cbam" not in self.options:
            object.__setattr__(self, "options", {**self.options, "cbam": STAGE_CBAM})

    @property
    def why_no_cbam(self) -> str:
        """One sentence; empty for a network that supports CBAM."""
        if "cbam" in self.options:
            return ""
        reason = "its stages output tokens, not feature maps" if self.trains else "it can only be explored"
        return f"{self.name} does not support CBAM because {reason}: choose no CBAM."

    def network(self, num_classes: int, options: Options) -> "nn.Module":
        """Build it with random weights and these options (all must be given); imports torch."""
        if self.options.get("cbam") is not STAGE_CBAM:
            return self.build(num_classes, **options)
        own = {name: value for name, value in options.items() if name != "cbam"}
        model = self.build(num_classes, **own)
        if options["cbam"] is None:
            return model
        module = importlib.import_module("resnet_space.models.stage_cbams")  # by its name, as it imports this one
        gated: nn.Module = module.with_stage_cbams(model, self.input_size(options), options["cbam"])
        return gated

    def in_timm(self, options: Options, image_size: int) -> tuple[str, dict[str, Any]] | None:
        """The name and the arguments by which timm builds this network, with the same parameter names, for images of
        `image_size` pixels; None if timm has no such network.
        """
        usual = all(options.get(name, option.default) == option.default for name, option in self.options.items())
        return (self.name, dict(self.timm_arguments)) if self.timm and usual else None

    @property
    def title(self) -> str:
        """Display name, such as "ResNet-50"."""
        return self.label or self.name

    def stages(self) -> dict[str, tuple[str, ...]]:
        """Every stage with its blocks, by the names used for rates and freezing."""
        names = ((f"stage{i}", count) for i, count in enumerate(self.blocks, 1))
        return {name: tuple(f"{name}.{i}" for i in range(count)) for name, count in names}

    @property
    def megabytes(self) -> float:
        """Size of its weights as float32, as runs store them, without norm layers' statistics."""
        return 4 * self.parameters / 1e6

    def suits_small_images(self, options: Options) -> bool:
        """Whether it has the options for small images."""
        own = self.small_images.items()
        return bool(own) and all(options.get(name) == value for name, value in own)

    def input_size(self, options: Options) -> int:
        """Input size in pixels for which it was designed."""
        return SMALL if self.suits_small_images(options) else self.pixels

    def why_not_size(self, size: int, options: Options) -> str:
        """Why it cannot compute images of this side, in one sentence; empty if it can."""
        if self.fixed and size != self.pixels:
            return f"{self.title} only takes images of {self.pixels} pixels, not {size}: choose {self.pixels}."
        if size < self.least and not self.suits_small_images(options):
            return f"{self.title} needs images of at least {self.least} pixels, not {size}."
        return ""

    def added_parts(self, options: Options) -> tuple[str, ...]:
        """Parts missing in weights from elsewhere, such as CBAM: these then train whenever the head does."""
        return CBAM_PARTS if options.get("cbam") else ()

    def words(self, options: Options) -> str:
        """A description of its options, such as "CBAM after every stage"."""
        told = (option.choices.get(options[name], "") for name, option in self.options.items() if name in options)
        return ", ".join(filter(None, told))


_ENTRIES: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
    """Register a network for `create_model`, configurations and every tab.

    Raises:
        ValueError: if the name is taken.
    """
    if _ENTRIES.setdefault(entry.name, entry) is not entry:
        raise ValueError(f"A network named {entry.name!r} already exists: choose another name.")
    return entry


def unregister(name: str) -> None:
    del _ENTRIES[name]


@cache
def _catalogue() -> None:
    catalogue = importlib.import_module("resnet_space.models.catalogue")  # by its name, as its modules import this one
    for module in pkgutil.iter_modules(catalogue.__path__):
        importlib.import_module(f"{catalogue.__name__}.{module.name}")


def entries(*, trains: bool = True) -> dict[str, Entry]:
    """All networks by name, this package's first; by default without those that can only be explored."""
    _catalogue()
    ours_first = sorted(_ENTRIES.values(), key=lambda entry: entry.source != "resnet_space")
    return {entry.name: entry for entry in ours_first if entry.trains or not trains}


def list_models() -> list[str]:
    """The names of the networks that can be trained."""
    return list(entries())


def few(names: Sequence[str]) -> str:
    """The first ten names, for a message; docs/networks.md has all."""
    more = len(names) - 10
    return ", ".join(names[:10]) + (f" or {more} others (see docs/networks.md)" if more > 0 else "")


def entry_of(name: object, *, trains: bool = True) -> Entry:
    """The entry of a name. Raises UserError for an unknown name, listing known ones."""
    known = entries(trains=trains)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"The architecture must be one of {few(list_models())}, not {name!r}.")
    return known[name]


def checked_options(entry: Entry, given: Options, *, initial: bool = False) -> dict[str, Any]:
    """The options, completed with defaults; `initial` ones only on request.

    Raises:
        UserError: for an unknown option or an invalid value.
    """
    known = {name: option for name, option in entry.options.items() if initial or not option.initial}
    unknown = sorted(map(str, set(given) - set(known)))
    if "cbam" in unknown:
        raise UserError(entry.why_no_cbam)
    if unknown:
        allowed = f"choose from {', '.join(known)}" if known else "leave it out"
        raise UserError(f"The option {unknown[0]} does not exist for {entry.name}: {allowed}.")
    values = {name: given.get(name, option.default) for name, option in known.items()}
    for name, option in known.items():
        value = values[name]
        if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in option.choices):
            allowed = ", ".join(map(str, option.choices))
            one = len(option.choices) == 1
            must = f"must be {allowed} for {entry.name}" if one else f"must be one of {allowed}"
            raise UserError(f"{option.label} {must}, not {value!r}.")
    return values


def create_model(name: str, num_classes: int = 1000, **options: Any) -> "Backbone":
    """Build a network with random weights.

    Args:
        name: one of `list_models()`.
        num_classes: logits of the head.
        options: `cbam` for any network with feature maps, and the family's own; for a ResNet: stem, shortcut, cbam,
            zero_init_residual, kaiming_mode.

    Raises:
        UserError: for an unknown name or an invalid value, with the allowed ones.
    """
    entry = entry_of(name)
    return cast("Backbone", entry.network(num_classes, checked_options(entry, options, initial=True)))
