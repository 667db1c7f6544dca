"""What a stranger's repository may say: its file names, its `config.json`, its `metrics.jsonl`.

Everything is checked once, when it is pulled, so that the rest of the app can rely on it.
"""

import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from resnet_space.config import (
    ARCHITECTURES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ConfigError,
    ModelConfig,
    RunConfig,
    TrainConfig,
)
from resnet_space.hub.client import HubError
from resnet_space.runs import CONFIG, METRICS, NAME_PATTERN, Metric, last_metric

MAX_CLASSES = 25_000  # ImageNet-21k has 21,843
MAX_TEXT = 200  # characters of a class's or a data set's name
MAX_LINES = 200_000  # of metrics; a training of this app writes some thousands
MAX_BLOCKS = 200  # with a ratio in a line of metrics; resnet110 has 54
MAX_NUMBER = 1e15

IMAGENET = "ILSVRC/imagenet-1k"

Kind = Literal["run", "timm"]


class _WrongError(ValueError):
    """What is wrong, as the end of a sentence."""


def require_safe_names(what: str, paths: Iterable[str]) -> None:
    """Refuse a repository with a file name that leads out of its folder, on any system. Raises HubError."""
    for path in paths:
        parts = path.split("/")
        if "\\" in path or "\0" in path or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
            raise HubError(f"{what} cannot be used, as a file's name leads out of its folder ({path[:80]!r}).")


# config.json


def read_config(what: str, content: bytes) -> tuple[Kind, RunConfig]:
    """What a repository's `config.json` describes: a run of this app, or a model of timm's.

    Of timm's, `training` says only what the model was trained on where that is known.

    Args:
        what: the sentence's subject, such as "The model ann/bees".
        content: of the file.

    Raises:
        HubError: for anything else.
    """
    try:
        data = json.loads(content.decode("utf-8"))
        if not isinstance(data, dict):
            raise _WrongError(f"its {CONFIG} is not an object")
        _require_no_code(data)
        if "model" in data or "training" in data:
            return "run", _checked(RunConfig.from_json(data))
        if "architecture" in data:
            return "timm", _checked(_timm_config(data))
        raise _WrongError(f"its {CONFIG} is neither a run's nor timm's")
    except _WrongError as error:
        raise HubError(f"{what} cannot be used, as {error}.") from None
    except ConfigError as error:
        raise HubError(f"{what} cannot be used: {_short(str(error))}") from None
    except (ValueError, RecursionError):  # not UTF-8, or not JSON
        raise HubError(f"{what} cannot be used, as its {CONFIG} is not JSON.") from None


def _require_no_code(data: dict[str, Any]) -> None:
    """Other libraries' ways to have code downloaded and run. It would not be, but the model does not work without."""
    rest: list[Any] = [data]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            for key in ("auto_map", "custom_pipelines", "trust_remote_code"):
                if value.get(key):
                    raise _WrongError(f"its {CONFIG} asks for code to be run ({key}), which is never done")
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)


def _checked(config: RunConfig) -> RunConfig:
    """What is valid, but could do harm here."""
    model, training = config.model, config.training
    if len(model.classes) > MAX_CLASSES:
        raise _WrongError(f"it has {len(model.classes):,} classes, and at most {MAX_CLASSES:,} are allowed")
    chosen = (training.dataset_config, training.dataset_revision, training.dataset_label, training.dataset_image)
    for name in (*model.classes, training.dataset, *(part or "" for part in chosen)):
        # Line breaks and other control characters, and halves of characters, which cannot be written.
        if len(name) > MAX_TEXT or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise _WrongError(f"a name in its {CONFIG} is too long or unreadable ({_short(repr(name))})")
    if training.start is not None and not NAME_PATTERN.fullmatch(training.start):
        raise _WrongError(f"its start {_short(repr(training.start))} cannot name a run")
    return config


def _timm_config(data: dict[str, Any]) -> RunConfig:
    """The model that timm's `config.json` describes. Images are resized as timm does, by its "crop_pct"."""
    architecture, count = data["architecture"], data.get("num_classes")
    allowed = [name for name, known in ARCHITECTURES.items() if not known.is_cifar_family]
    if architecture not in allowed:
        raise _WrongError(f"its architecture is {_short(repr(architecture))}, and not one of {', '.join(allowed)}")
    if data.get("model_args"):
        raise _WrongError(f"its {architecture} is built with arguments of timm's own (model_args)")
    pretrained = data.get("pretrained_cfg", {})
    if not isinstance(pretrained, dict):
        raise _WrongError(f"its {CONFIG} has a pretrained_cfg that is not an object")
    names = data.get("label_names", pretrained.get("label_names"))
    count = pretrained.get("num_classes") if count is None else count
    if names is None and isinstance(count, int) and 2 <= count <= MAX_CLASSES:
        # As timm infers it.
        names = imagenet_classes() if count == 1_000 else [f"class {i}" for i in range(count)]
    if not isinstance(names, list | tuple) or (count is not None and count != len(names)):
        raise _WrongError(f"its {CONFIG} does not say which classes it has, 2 to {MAX_CLASSES:,}")
    size, crop = pretrained.get("input_size", [3, 224, 224]), pretrained.get("crop_pct", 0.875)
    square = isinstance(size, list) and len(size) == 3 and size[0] == 3 and size[1] == size[2]
    if not square or not isinstance(size[1], int):
        raise _WrongError(f"its images are {_short(repr(size))}, and not square with 3 channels")
    if not isinstance(crop, int | float) or not 0.2 <= crop <= 1:
        raise _WrongError(f"its crop_pct is {_short(repr(crop))}, and not from 0.2 to 1")
    model = ModelConfig(
        architecture,
        tuple(names),
        stem="imagenet",
        shortcut="projection",
        image_size=size[1],
        resize=math.floor(size[1] / crop),
        mean=_three(pretrained.get("mean", IMAGENET_MEAN)),
        std=_three(pretrained.get("std", IMAGENET_STD)),
    )
    dataset = IMAGENET if model.classes == imagenet_classes() else "unknown"
    return RunConfig(model, TrainConfig(dataset=dataset))


def _three(values: object) -> tuple[float, float, float]:
    """As ModelConfig takes it, which refuses what is not three numbers."""
    return tuple(values) if isinstance(values, list) else values  # type: ignore[return-value]


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1k's 1,000 classes, in the order that torchvision and timm have."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


# metrics.jsonl


def require_valid_metrics(what: str, content: bytes, *, evaluated: bool = False) -> None:
    """Refuse metrics that some page could not show: each line must be one that a trainer writes, of finite numbers.

    Args:
        what: the sentence's subject.
        content: of `metrics.jsonl`.
        evaluated: whether an evaluation lies beside it, so that the test's scores are looked for.

    Raises:
        HubError: saying which line is wrong.
    """
    lines = content.splitlines()
    if len(lines) > MAX_LINES:
        raise HubError(f"{what} cannot be used, as its {METRICS} has {len(lines):,} lines, more than {MAX_LINES:,}.")
    metrics = []
    for number, line in enumerate(lines, 1):
        try:
            metrics.append(_metric(line))
        except _WrongError as error:
            raise HubError(f"{what} cannot be used, as line {number} of its {METRICS} {error}.") from None
    test = last_metric(metrics, "test")
    if evaluated and (test is None or not {"top5_accuracy", "ece", "macro_f1"} <= set(test)):
        raise HubError(f"{what} cannot be used, as its {METRICS} lacks the scores of its test.")


Check = Callable[[object], bool]


def _number(low: float, high: float = MAX_NUMBER) -> Check:
    """A finite number from `low` to `high`."""
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(low: int) -> Check:
    within = _number(low, 1e12)
    return lambda value: isinstance(value, int) and within(value)


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 2_000


def _rates(value: object) -> bool:
    rate = _number(0)
    return isinstance(value, dict) and len(value) <= 500 and all(_text(part) and rate(value[part]) for part in value)


def _phases(value: object) -> bool:
    whole = _whole(1)
    return (
        isinstance(value, list)
        and len(value) <= 1_000
        and all(
            isinstance(phase, dict)
            and set(phase) == {"epochs", "rates"}
            and whole(phase["epochs"])
            and _rates(phase["rates"])
            for phase in value
        )
    )


def _texts(value: object) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 100 and all(map(_text, value))


def _correlations(value: object) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 100 and all(map(_number(-1, 1), value))


def _residuals(value: object) -> bool:
    """Ratios by depth, as `residuals.history` writes them."""
    number = _number(0)
    if not isinstance(value, dict) or set(value) != {"images", "blocks", "ratio"}:
        return False
    blocks, ratio = value["blocks"], value["ratio"]
    return (
        _whole(1)(value["images"])
        and isinstance(blocks, list)
        and isinstance(ratio, list)
        and len(blocks) == len(ratio) <= MAX_BLOCKS
        and all(map(_text, blocks))
        and all(isinstance(three, list) and len(three) == 3 and all(map(number, three)) for three in ratio)
    )


_SHARE = _number(0, 1)

# What a page may read of each event without asking whether it is there.
_REQUIRED: Mapping[str, Mapping[str, Check]] = {
    "start": {
        "epochs": _whole(1),
        "steps_per_epoch": _whole(1),
        "device": _text,
        "precision": _text,
        "parameters": _whole(1),
        "train_images": _whole(1),
        "validation_images": _whole(1),
    },
    "step": {
        "step": _whole(1),
        "loss": _number(-1e6),
        "images_per_second": _number(0),
        "seconds": _number(0),
    },
    "epoch": {
        "epoch": _whole(1),
        "train_accuracy": _SHARE,
        "validation_accuracy": _SHARE,
        "seconds": _number(0),
    },
    "test": {"split": _text, "images": _whole(1), "accuracy": _SHARE, "seconds": _number(0)},
    "calibration": {
        "images": _whole(1),
        "temperature": _number(0.01, 100),
        "ece_before": _SHARE,
        "ece_after": _SHARE,
    },
    "sanity": {"method": _text, "parts": _texts, "correlations": _correlations, "images": _whole(1)},
    "end": {"status": lambda value: value in ("finished", "stopped", "failed")},
}

_OPTIONAL: Mapping[str, Check] = {
    "phases": _phases,
    "rates": _rates,
    "reason": _text,
    "cause": _text,
    "memory": _number(0),
    "phase": _whole(1),
    "looks": _whole(1),
    "residuals": _residuals,
    "step": _whole(0),
    "top5_accuracy": _SHARE,
    "ece": _SHARE,
    "ece_uncalibrated": _SHARE,
    "macro_f1": _SHARE,
    "time": _number(0, 1e11),
    "seconds": _number(0),
}


def _metric(line: bytes) -> Metric:
    try:
        metric = json.loads(line)
    except (ValueError, RecursionError):
        raise _WrongError("is not JSON") from None
    if not isinstance(metric, dict) or not isinstance(metric.get("event"), str) or metric["event"] not in _REQUIRED:
        raise _WrongError(f"is none of the events {', '.join(_REQUIRED)}")
    required = _REQUIRED[metric["event"]]
    missing = [name for name in required if name not in metric]
    if missing:
        raise _WrongError(f"has no {missing[0]!r}")
    for name, value in metric.items():
        check = required.get(name) or _OPTIONAL.get(name) or _plain
        if not check(value):
            raise _WrongError(f"has {_short(repr(value))} as {_short(repr(name))}")
    return metric


def _plain(value: object) -> bool:
    """What another version of this app may write besides."""
    return value is None or isinstance(value, bool) or _text(value) or _number(-MAX_NUMBER)(value)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."
