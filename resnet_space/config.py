"""The configuration of a run: the model, its preprocessing and its training. Stored as the run's `config.json`."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from resnet_space.common.errors import UserError
from resnet_space.common.imagenet import IMAGENET_MEAN, IMAGENET_STD, imagenet_classes
from resnet_space.models.registry import Entry, checked_options, entries, entry_of

if TYPE_CHECKING:
    from resnet_space.models.contract import Backbone
    from resnet_space.models.shapes import Shape


OPTIMIZERS = ("sgd", "adamw", "l-bfgs")

# Those of timm's `config.json`, which a pushed one has beside a run's own: see `hub.portable`.
TIMM_ENTRIES = frozenset(("architecture", "num_classes", "label_names", "model_args", "pretrained_cfg", "torch_dtype"))

_HALVES = re.compile("[\ud800-\udfff]")


# The ids that a training may name. Each registers itself where it is defined, in `training.strategies` and
# `training.objectives`, without torch; the package imports both.
STRATEGIES: dict[str, Any] = {}
OBJECTIVES: dict[str, Any] = {}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _is_text(value: object) -> bool:
    """Whether it is a non-empty string without lone surrogates, which can be neither written nor sent."""
    return isinstance(value, str) and bool(value) and not _HALVES.search(value)


def _require_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    _require(value in allowed, f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}.")


def _require_whole(name: str, value: object, low: int, high: int) -> None:
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(ok, f"{name} must be a whole number from {low:,} to {high:,}, not {value!r}.")


def _require_number(name: str, value: object, low: float, high: float, *, above: bool = False) -> None:
    """NaN and infinity are refused too; `above` excludes `low` itself."""
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    ok = ok and (low < value if above else low <= value) and value <= high
    span = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
    _require(ok, f"{name} must be {span}, not {value!r}.")


def _require_three(name: str, value: object) -> None:
    ok = isinstance(value, tuple) and len(value) == 3
    ok = ok and all(isinstance(v, int | float) and abs(v) < 1e6 for v in value)
    _require(ok, f"{name} must be three numbers, one each for red, green and blue, not {value!r}.")


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild a model and to prepare images for it.

    `image_size` is the model's input height and width in pixels: the centre crop of an image whose short side was
    resized to `resize` (None: to `image_size`). `mean` and `std` are per channel (RGB, 0..1). `options` are the
    architecture's own, with its defaults where none is given. `temperature` divides the logits before the softmax; it
    is fitted after training (see `training/calibration.py`) and is ignored when models are compared.
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
        _require(isinstance(self.options, Mapping), f"The options must be named values, not {self.options!r}.")
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
        _require(not unreadable, f"The class name {unreadable!r} contains an invalid character: rename the class.")
        _require_three("The mean", self.mean)
        _require_three("The standard deviation", self.std)
        _require(all(s > 0 for s in self.std), f"The standard deviation must be above 0, not {self.std}.")
        _require_number("The temperature", self.temperature, 0.01, 100)

    @property
    def entry(self) -> Entry:
        """The architecture's registry entry. Raises UserError if there is none."""
        return entry_of(self.architecture, trains=False)

    @property
    def input_size(self) -> int:
        """Input size in pixels for which the architecture, with these options, was designed."""
        return self.entry.input_size(self.options)

    @property
    def added_parts(self) -> tuple[str, ...]:
        """Parts that are missing in weights from elsewhere, such as CBAM."""
        return self.entry.added_parts(self.options)

    def build(self, *, seed: int | None = None) -> "Backbone":
        """The model with random weights. With a `seed`, PyTorch's global random state stays unchanged."""
        import torch

        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return cast("Backbone", self.entry.network(len(self.classes), self.options))

    def build_unfilled(self) -> "Backbone":
        """The model with zeros in the place of random weights, which is quicker where it gets others at once."""
        from resnet_space.models.unfilled import Unfilled  # which takes torch

        with Unfilled():
            return self.build()

    def with_options(self, **changed: Any) -> "ModelConfig":
        """A copy with some options changed. Raises UserError for options that the architecture lacks."""
        return replace(self, options={**self.options, **changed})

    @property
    def shape(self) -> "Shape":
        """The shapes in the model's forward pass for one image."""
        from resnet_space.models.shapes import shape_of  # which takes torch

        return shape_of(self.architecture, self.options, self.image_size)

    @property
    def stored_size(self) -> int:
        """The short side in pixels that images are resized to, before the crop to `image_size`."""
        return self.image_size if self.resize is None else self.resize


def imagenet_config(architecture: str, *, resize: int | None = None, **more: Any) -> ModelConfig:
    """The configuration of a network with ImageNet's classes and preprocessing."""
    config = ModelConfig(architecture, imagenet_classes(), **more)
    size = config.input_size
    return replace(config, image_size=size, resize=round(size / 0.875) if resize is None else resize)


@dataclass(frozen=True)
class TrainConfig:
    """How a run is trained. Learning rates are peaks: they rise over `warmup` and fall along a half cosine to zero.

    Attributes:
        dataset: its name, as `resnet_space.data.sources` knows it; "owner/name" is a dataset of the Hub.
        dataset_config: the configuration of a Hub dataset that has several.
        dataset_revision: the commit of a Hub dataset, so that a repeated training uses the same images.
        dataset_label: the label column, if it is not the default one.
        dataset_image: the image column, likewise.
        images_per_class: train and validate on so many images of each class, drawn by `subset_seed`; 0 uses all.
        subset_seed: of that draw; with the same one, a smaller subset is part of every larger one.
        start: the run whose weights training starts from, or None for random initialisation.
        strategy: what trains when; see `resnet_space.training.strategies`.
        epochs: passes over the training images.
        batch_size: images per step.
        backbone_lr: peak learning rate of everything except the head.
        head_lr: peak learning rate of the head (the last, linear layer).
        layer_decay: strategy "discriminative" only: below 1, each block has this share of the next one's rate.
        optimizer: "sgd" with Nesterov momentum, "adamw" (Loshchilov & Hutter 2019), or "l-bfgs", which solves the head
            of a linear probe in one pass; parts that are trained in steps then use "adamw".
        schedule: within each phase: "cosine" after a linear rise, "one-cycle" (Smith 2018), "plateau" (half after 2
            epochs without a lower validation loss), or "constant".
        warmup: fraction of a phase's steps in which the learning rates rise.
        momentum: of SGD.
        weight_decay: on convolution and linear weights; norm layers and biases have none.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7).
        mixup: alpha of MixUp (Zhang et al. 2018); 0 disables it.
        cutmix: alpha of CutMix (Yun et al. 2019); 0 disables it; with both, each batch draws one of them.
        clip_norm: maximum l2 norm of the gradient; 0 disables clipping.
        ema: decay of the exponential moving average of the weights, which is then saved; 0 disables it.
        more_epochs: epochs of each later extension: it repeats the last phase, with a new rise and fall of its rates
            (warm restarts, Loshchilov & Hutter 2017).
        patience: early stopping in the last phase after this many epochs without improvement; 0 disables it.
        crop: "padded" is a random crop after zero padding, "resized" a random resized crop (Szegedy et al. 2015).
        crop_padding: padding in pixels for "padded"; 0 disables cropping.
        min_crop_area: minimum fraction of the image area for "resized".
        flip: flip half of the training images horizontally.
        validation_fraction: fraction of the training images held out to choose the best epoch.
        grouped_split: hold out near-duplicates together, and choose the images to test on, where the dataset has none,
            by their content: a dataset that grows keeps them. Without it both are drawn by `seed`, as in runs that were
            made before there was a choice.
        seed: of everything random.
        precision: "auto" is bfloat16 autocast if the hardware is faster in it, else float32.
        objective: the loss; see `resnet_space.training.objectives`.
        target: the dataset of another domain, as "owner/name@revision#config" if it is on the Hub; "" is none. Its
            images may be learned from, by some objectives; its labels serve for a test alone.
        domain_weight: λ, the weight of the domain loss.
        domain_schedule: of λ: "constant", or "ramp" from 0 (Ganin & Lempitsky 2015).
    """

    dataset: str
    dataset_config: str | None = None
    dataset_revision: str | None = None
    dataset_label: str | None = None
    dataset_image: str | None = None
    images_per_class: int = 0
    subset_seed: int = 0
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
    grouped_split: bool = True
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    objective: str = "cross-entropy"
    target: str = ""
    domain_weight: float = 1.0
    domain_schedule: Literal["constant", "ramp"] = "ramp"

    def __post_init__(self) -> None:
        _require(isinstance(self.dataset, str) and bool(self.dataset), "No dataset is named: choose one.")
        _require(
            _is_text(self.dataset),
            f"The dataset name {self.dataset!r} contains an invalid character: rename the dataset.",
        )
        _require(
            self.start is None or self.start == "" or _is_text(self.start),
            f"The starting weights must be the name of a run, not {self.start!r}.",
        )
        for what, name in (
            ("configuration", self.dataset_config),
            ("revision", self.dataset_revision),
            ("label column", self.dataset_label),
            ("image column", self.dataset_image),
        ):
            _require(
                name is None or _is_text(name),
                f"The dataset's {what} must be a name, not {name!r}.",
            )
        _require_whole("The number of images per class", self.images_per_class, 0, 1_000_000)
        _require_whole("The seed of the subset", self.subset_seed, 0, 2**31 - 1)
        _require_choice("The strategy", self.strategy, tuple(STRATEGIES))
        _require(
            STRATEGIES[self.strategy].start != "none" or self.start is None,
            f"The strategy {self.strategy!r} trains from random weights, not from {self.start}: choose another "
            "strategy or no start.",
        )
        _require_choice("The objective", self.objective, tuple(OBJECTIVES))
        _require(self.target == "" or _is_text(self.target), f"The target must be a dataset, not {self.target!r}.")
        _require(
            bool(self.target) or not OBJECTIVES[self.objective].needs_target,
            f"The objective {self.objective!r} needs images of another domain: choose a target dataset.",
        )
        _require_number("The weight of the domain loss", self.domain_weight, 0, 1e6)
        _require_choice("The schedule of the domain loss", self.domain_schedule, ("constant", "ramp"))
        _require_whole("The number of epochs", self.epochs, 1, 1_000)
        _require(isinstance(self.more_epochs, tuple), f"The added epochs must be a list, not {self.more_epochs!r}.")
        for more in self.more_epochs:
            _require_whole("The number of added epochs", more, 1, 1_000)
        _require_whole("The batch size", self.batch_size, 2, 4_096)
        _require_number("The backbone's learning rate", self.backbone_lr, 0, 10, above=True)
        _require_number("The head's learning rate", self.head_lr, 0, 10, above=True)
        _require_number("The layer decay", self.layer_decay, 0.1, 1)
        _require_choice("The optimizer", self.optimizer, OPTIMIZERS)
        _require_choice("The schedule", self.schedule, ("cosine", "one-cycle", "plateau", "constant"))
        _require_number("The warm-up fraction", self.warmup, 0, 1)
        _require_number("The momentum", self.momentum, 0, 0.999)
        _require_number("The weight decay", self.weight_decay, 0, 1)
        _require_number("The label smoothing", self.label_smoothing, 0, 0.9)
        _require_number("MixUp's alpha", self.mixup, 0, 10)
        _require_number("CutMix's alpha", self.cutmix, 0, 10)
        _require_number("The gradient clipping norm", self.clip_norm, 0, 1e6)
        _require_number("The decay of the moving average", self.ema, 0, 0.99999)
        _require_whole("The patience", self.patience, 0, 1_000)
        _require_choice("The crop", self.crop, ("padded", "resized"))
        _require_whole("The crop padding", self.crop_padding, 0, 64)
        _require_number("The minimum crop area", self.min_crop_area, 0.01, 1)
        _require(isinstance(self.flip, bool), f"Flip must be true or false, not {self.flip!r}.")
        _require_number("The validation fraction", self.validation_fraction, 0, 0.5, above=True)
        _require(
            isinstance(self.grouped_split, bool), f"grouped_split must be true or false, not {self.grouped_split!r}."
        )
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
        _require(self.model.entry.trains, f"{name} can be explored but not trained: choose another network.")
        unfit = self.model.entry.why_not_size(self.model.image_size, self.model.options)
        _require(not unfit, unfit)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """From the content of `config.json`; timm's entries beside it, which a pushed one has, are ignored.

        Raises:
            UserError: for anything that is not a valid configuration, saying where.
        """
        _require(isinstance(data, Mapping), "A configuration must be a JSON object.")
        assert isinstance(data, Mapping)
        _require(
            set(data) - TIMM_ENTRIES == {"model", "training"},
            'A configuration must have exactly two parts, "model" and "training".',
        )
        return cls(
            _from_json(ModelConfig, data["model"], "model"), _from_json(TrainConfig, data["training"], "training")
        )


T = TypeVar("T", ModelConfig, TrainConfig)


# Entries of the "model" part from before families had their own options, with their defaults.
_RESNET_OPTIONS = {"stem": "cifar", "cbam": None, "shortcut": "pad"}


def _from_json(kind: type[T], data: object, part: str) -> T:
    _require(isinstance(data, Mapping), f'The part "{part}" must be a JSON object.')
    assert isinstance(data, Mapping)
    if kind is ModelConfig and "options" not in data:
        entry = entries().get(str(data.get("architecture")))
        had = set(data) | set(entry.options if entry else ())
        own = {name: data.get(name, value) for name, value in _RESNET_OPTIONS.items() if name in had}
        data = {name: value for name, value in data.items() if name not in own} | {"options": own}
    if kind is TrainConfig:
        data = {"grouped_split": False, **data}  # of runs from before there was a choice
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(map(str, data)) - known)
    named = ", ".join(unknown).encode("utf-8", "backslashreplace").decode()
    _require(not unknown, f'The part "{part}" has unknown entries: {named}.')
    try:
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return kind(**arguments)
    except TypeError as error:
        raise UserError(f'The part "{part}" is incomplete: {error}.') from None
