"""What a run is made of: the model, its preprocessing, and how it is trained. Stored as the run's `config.json`."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from resnet_space.common.errors import UserError
from resnet_space.common.imagenet import IMAGENET_MEAN, IMAGENET_STD, imagenet_classes
from resnet_space.models.registry import Entry, checked_options, entries, entry_of

if TYPE_CHECKING:
    from resnet_space.models.contract import Backbone
    from resnet_space.models.shapes import Shape


OPTIMIZERS = ("sgd", "adamw", "l-bfgs")

_HALVES = re.compile("[\ud800-\udfff]")


# What a training may name, by its id. Each registers itself where it is defined, in `training.strategies` and
# `training.objectives`, without torch; the package imports both.
STRATEGIES: dict[str, Any] = {}
OBJECTIVES: dict[str, Any] = {}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _is_text(value: object) -> bool:
    """Some characters, none of them half of one (a lone surrogate), which can be neither written nor sent."""
    return isinstance(value, str) and bool(value) and not _HALVES.search(value)


def _require_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    _require(value in allowed, f"{name} is {value!r}, but must be one of {', '.join(map(str, allowed))}.")


def _require_whole(name: str, value: object, low: int, high: int) -> None:
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(ok, f"{name} is {value!r}, but must be a whole number from {low:,} to {high:,}.")


def _require_number(name: str, value: object, low: float, high: float, *, above: bool = False) -> None:
    """NaN and infinity are refused too; `above` excludes `low` itself."""
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    ok = ok and (low < value if above else low <= value) and value <= high  # type: ignore[operator]
    span = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
    _require(ok, f"{name} is {value!r}, but must be {span}.")


def _require_three(name: str, value: object) -> None:
    ok = isinstance(value, tuple) and len(value) == 3
    ok = ok and all(isinstance(v, int | float) and abs(v) < 1e6 for v in value)  # type: ignore[attr-defined]
    _require(ok, f"{name} is {value!r}, but must be three numbers, one for each of red, green and blue.")


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to rebuild a model and to prepare images for it.

    `image_size` is the height and width in pixels that the model sees: the centre of an image whose short side was
    resized to `resize` (None: to `image_size`). `mean` and `std` are per channel (RGB, 0..1). `options` are the
    architecture's own, with its defaults where none is given. `temperature` divides the logits before the softmax; it
    is fitted after a training, see `training/calibration.py`, and makes no other model.
    """

    architecture: str
    classes: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    image_size: int = 32
    resize: int | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    temperature: float = field(default=1.0, compare=False)

    def __post_init__(self) -> None:
        _require(isinstance(self.options, Mapping), f"The options are {self.options!r}, but must be named values.")
        object.__setattr__(self, "options", checked_options(self.entry, self.options))
        _require_whole("The image size", self.image_size, 8, 1024)
        _require_whole("The size before the crop", self.stored_size, self.image_size, 2048)
        _require(
            isinstance(self.classes, tuple)
            and 1 < len(self.classes) <= 100_000
            and all(isinstance(name, str) and name for name in self.classes),
            "A model needs at least two classes, each with a name.",
        )
        unreadable = next((name for name in self.classes if not _is_text(name)), "")
        _require(not unreadable, f"The class {unreadable!r} has half a character in its name: rename it.")
        _require_three("The mean", self.mean)
        _require_three("The standard deviation", self.std)
        _require(all(s > 0 for s in self.std), f"The standard deviation is {self.std}, but must be above 0.")
        _require_number("The temperature", self.temperature, 0.01, 100)

    @property
    def entry(self) -> Entry:
        """What the registry has of the architecture. Raises UserError where it has nothing."""
        return entry_of(self.architecture, trains=False)

    @property
    def input_size(self) -> int:
        """Pixels of the images that the architecture, with these options, was made for."""
        return self.entry.input_size(self.options)

    @property
    def added_parts(self) -> tuple[str, ...]:
        """Parts that weights from elsewhere lack, such as a CBAM's."""
        return self.entry.added_parts(self.options)

    def build(self, *, seed: int | None = None) -> "Backbone":
        """The model with random weights; with those of a seed PyTorch's random state is left as it was."""
        import torch

        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            model: Any = self.entry.network(len(self.classes), self.options)
        return model  # type: ignore[no-any-return]

    def with_options(self, **changed: Any) -> "ModelConfig":
        """The same with some options changed. Raises UserError for what the architecture does not have."""
        return replace(self, options={**self.options, **changed})

    @property
    def shape(self) -> "Shape":
        """Of the model's forward pass for one image."""
        from resnet_space.models.shapes import shape_of  # which takes torch

        return shape_of(self.architecture, self.options, self.image_size)

    @property
    def stored_size(self) -> int:
        """The short side in pixels that images are resized to, before the crop to `image_size`."""
        return self.image_size if self.resize is None else self.resize


def imagenet_config(architecture: str, *, resize: int | None = None, **more: Any) -> ModelConfig:
    """A network with ImageNet's classes, and images prepared as it was made for."""
    config = ModelConfig(architecture, imagenet_classes(), **more)
    size = config.input_size
    return replace(config, image_size=size, resize=round(size / 0.875) if resize is None else resize)


@dataclass(frozen=True)
class TrainConfig:
    """How a run is trained. Learning rates are peaks: they rise over `warmup` and fall along a half cosine to zero.

    Attributes:
        dataset: its name, as `resnet_space.data.sources` knows it; "owner/name" is one of the Hub.
        dataset_config: which of the Hub data set's configurations, where it has several.
        dataset_revision: the Hub's commit, so that a repetition learns from the same images.
        dataset_label: the label column, where another was chosen than the one that is taken by itself.
        dataset_image: the image column, likewise.
        start: the run whose weights training starts from, or None for random initialisation.
        strategy: what trains when; see `resnet_space.training.strategies`.
        epochs: passes over the training images.
        batch_size: images a step.
        backbone_lr: peak learning rate of everything but the head.
        head_lr: peak learning rate of the head (the last, linear layer).
        layer_decay: strategy "discriminative" only: below 1, each block has this share of the next one's rate.
        optimizer: "sgd" with Nesterov momentum, "adamw" (Loshchilov & Hutter 2019), or "l-bfgs", by which the head of a
            linear probe is solved in one pass; what is trained by steps then takes "adamw".
        schedule: within each phase: "cosine" after a linear rise, "one-cycle" (Smith 2018), "plateau" (half after 2
            epochs without a lower validation loss), or "constant".
        warmup: the part of a phase's steps in which the learning rates rise.
        momentum: of SGD.
        weight_decay: on convolution and linear weights; norm layers and biases have none.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7).
        mixup: alpha of MixUp (Zhang et al. 2018); 0 mixes nothing.
        cutmix: alpha of CutMix (Yun et al. 2019); 0 mixes nothing; with both, each batch draws one.
        clip_norm: the gradient's l2 norm is cut to this; 0 cuts nothing.
        ema: decay of the exponential moving average of the weights, which then is what is kept; 0 keeps the weights.
        more_epochs: the lengths of what was added afterwards: each repeats the last phase, with a new rise and fall of
            its rates (warm restarts, Loshchilov & Hutter 2017).
        patience: in the last phase, end after so many epochs without a better validation accuracy; 0 never does.
        crop: "padded" is a random crop after zero padding, "resized" a random resized crop (Szegedy et al. 2015).
        crop_padding: pixels of padding of the former; 0 crops nothing.
        min_crop_area: of the latter: the least share of the image that is kept.
        flip: mirror half of the training images.
        validation_fraction: share of the training images held out to choose the best epoch.
        seed: of everything random.
        precision: "auto" is bfloat16 autocast where the hardware is faster in it, else float32.
        objective: what is learned; see `resnet_space.training.objectives`.
    """

    dataset: str
    dataset_config: str | None = None
    dataset_revision: str | None = None
    dataset_label: str | None = None
    dataset_image: str | None = None
    start: str | None = None
    strategy: str = "full"
    epochs: int = 10
    more_epochs: tuple[int, ...] = ()
    batch_size: int = 64
    backbone_lr: float = 0.05
    head_lr: float = 0.05
    layer_decay: float = 1.0
    optimizer: Literal["sgd", "adamw", "l-bfgs"] = "sgd"
    schedule: Literal["cosine", "one-cycle", "plateau", "constant"] = "cosine"
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    patience: int = 0
    crop: Literal["padded", "resized"] = "padded"
    crop_padding: int = 4
    min_crop_area: float = 0.35
    flip: bool = True
    validation_fraction: float = 0.1
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    objective: str = "cross-entropy"

    def __post_init__(self) -> None:
        _require(isinstance(self.dataset, str) and bool(self.dataset), "The data set has no name: choose one.")
        _require(_is_text(self.dataset), f"The data set's name {self.dataset!r} has half a character in it: rename it.")
        _require(
            self.start is None or self.start == "" or _is_text(self.start),
            f"The start is {self.start!r}, but must be a run's name.",
        )
        for what, name in (
            ("configuration", self.dataset_config),
            ("revision", self.dataset_revision),
            ("label column", self.dataset_label),
            ("image column", self.dataset_image),
        ):
            _require(
                name is None or _is_text(name),
                f"The data set's {what} is {name!r}, but must be a name.",
            )
        _require_choice("The strategy", self.strategy, tuple(STRATEGIES))
        _require(
            STRATEGIES[self.strategy].start != "none" or self.start is None,
            f"The strategy is {self.strategy!r}, but the start is {self.start}: choose another strategy or no start.",
        )
        _require_choice("The objective", self.objective, tuple(OBJECTIVES))
        _require_whole("The number of epochs", self.epochs, 1, 1_000)
        _require(isinstance(self.more_epochs, tuple), f"The added epochs are {self.more_epochs!r}, but must be a list.")
        for more in self.more_epochs:
            _require_whole("The number of added epochs", more, 1, 1_000)
        _require_whole("The batch size", self.batch_size, 2, 4_096)
        _require_number("The backbone's learning rate", self.backbone_lr, 0, 10, above=True)
        _require_number("The head's learning rate", self.head_lr, 0, 10, above=True)
        _require_number("The layer decay", self.layer_decay, 0.1, 1)
        _require_choice("The optimizer", self.optimizer, OPTIMIZERS)
        _require_choice("The schedule", self.schedule, ("cosine", "one-cycle", "plateau", "constant"))
        _require_number("The warm-up's share", self.warmup, 0, 1)
        _require_number("The momentum", self.momentum, 0, 0.999)
        _require_number("The weight decay", self.weight_decay, 0, 1)
        _require_number("The label smoothing", self.label_smoothing, 0, 0.9)
        _require_number("MixUp's alpha", self.mixup, 0, 10)
        _require_number("CutMix's alpha", self.cutmix, 0, 10)
        _require_number("The gradient's norm", self.clip_norm, 0, 1e6)
        _require_number("The moving average's decay", self.ema, 0, 0.99999)
        _require_whole("The patience", self.patience, 0, 1_000)
        _require_choice("The crop", self.crop, ("padded", "resized"))
        _require_whole("The crop's padding", self.crop_padding, 0, 64)
        _require_number("The least area of a crop", self.min_crop_area, 0.01, 1)
        _require(isinstance(self.flip, bool), f"Flip is {self.flip!r}, but must be true or false.")
        _require_number("The validation share", self.validation_fraction, 0, 0.5, above=True)
        _require_whole("The seed", self.seed, 0, 2**31 - 1)
        _require_choice("The precision", self.precision, ("auto", "float32", "bfloat16"))

    @property
    def total_epochs(self) -> int:
        return self.epochs + sum(self.more_epochs)


@dataclass(frozen=True)
class RunConfig:
    """The content of `config.json`: `{"model": {...}, "training": {...}}`."""

    model: ModelConfig
    training: TrainConfig = field(default_factory=lambda: TrainConfig(dataset="cifar10-mini"))

    def __post_init__(self) -> None:
        name = self.model.architecture
        _require(self.model.entry.trains, f"{name} is here to be explored, and cannot be trained: choose another.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Raises UserError for anything that is not a valid configuration, saying where."""
        _require(isinstance(data, Mapping), "A configuration must be a JSON object.")
        assert isinstance(data, Mapping)
        _require(set(data) == {"model", "training"}, 'A configuration has exactly the parts "model" and "training".')
        return cls(
            _from_json(ModelConfig, data["model"], "model"), _from_json(TrainConfig, data["training"], "training")
        )


T = TypeVar("T", ModelConfig, TrainConfig)


# What a model's part had before each family's options were its own, and what it meant where it was left out.
_RESNET_OPTIONS = {"stem": "cifar", "cbam": None, "shortcut": "pad"}


def _from_json(kind: type[T], data: object, part: str) -> T:
    _require(isinstance(data, Mapping), f'The part "{part}" must be a JSON object.')
    assert isinstance(data, Mapping)
    if kind is ModelConfig and "options" not in data:
        entry = entries().get(str(data.get("architecture")))
        had = set(data) | set(entry.options if entry else ())
        own = {name: data.get(name, value) for name, value in _RESNET_OPTIONS.items() if name in had}
        data = {name: value for name, value in data.items() if name not in own} | {"options": own}
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(map(str, data)) - known)
    named = ", ".join(unknown).encode("utf-8", "backslashreplace").decode()
    _require(not unknown, f'The part "{part}" has the unknown entries {named}.')
    try:
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return kind(**arguments)
    except TypeError as error:
        raise UserError(f'The part "{part}" is incomplete: {error}.') from None
