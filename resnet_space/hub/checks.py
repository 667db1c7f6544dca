"""Validate an untrusted repository: its file names, `config.json` and `metrics.jsonl`.

Everything is checked once, when it is pulled, so that the rest of the app can rely on it.
"""

import itertools
import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any, Literal

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import HubError
from resnet_space.common.imagenet import IMAGENET, IMAGENET_MEAN, IMAGENET_STD, imagenet_classes
from resnet_space.common.text import quoted, shortened
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.models.registry import Options, entries, few
from resnet_space.runs import CONFIG, METRICS, NAME_PATTERN, MetricError, last_metric, metric_of

MAX_CLASSES = 25_000  # ImageNet-21k has 21,843
MAX_TEXT = 200  # characters of a class's or a dataset's name
MAX_LINES = 200_000  # of metrics; a training of this app writes some thousands

Kind = Literal["run", "timm", "features"]


class _WrongError(ValueError):
    """The problem, as the end of a sentence."""


def require_safe_names(what: str, paths: Iterable[str]) -> None:
    """Refuse a repository with a file name that points outside its folder on any system. Raises HubError."""
    for path in paths:
        parts = path.split("/")
        if "\\" in path or "\0" in path or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
            raise HubError(f"{what} cannot be used because a file name points outside its folder ({path[:80]!r}).")


# config.json


def read_config(what: str, content: bytes) -> tuple[Kind, RunConfig]:
    """Parse a repository's `config.json`: a run of this app, or a timm model, perhaps without a classifier.

    For a timm model, `training` holds only the training dataset, if known; one without a classifier gets ImageNet's
    classes, to be replaced by those that it is fine-tuned to.

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
            return "features" if data.get("num_classes") == 0 else "timm", _checked(_timm_config(data))
        raise _WrongError(f"its {CONFIG} is in neither this app's nor timm's format")
    except _WrongError as error:
        raise HubError(f"{what} cannot be used because {error}.") from None
    except UserError as error:
        raise HubError(f"{what} cannot be used: {shortened(str(error), 200)}") from None
    except (ValueError, RecursionError):  # not UTF-8, or not JSON
        raise HubError(f"{what} cannot be used because its {CONFIG} is not JSON.") from None


def _require_no_code(data: dict[str, Any]) -> None:
    """Other libraries' ways to have code downloaded and run. It would not be, but the model does not work without."""
    rest: list[Any] = [data]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            for key in ("auto_map", "custom_pipelines", "trust_remote_code"):
                if value.get(key):
                    raise _WrongError(f"its {CONFIG} asks to run code ({key}), which is never allowed")
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)


def _checked(config: RunConfig) -> RunConfig:
    """Reject values that are valid but could do harm here."""
    model, training = config.model, config.training
    if len(model.classes) > MAX_CLASSES:
        raise _WrongError(f"it has {len(model.classes):,} classes, more than the maximum of {MAX_CLASSES:,}")
    chosen = (training.dataset_config, training.dataset_revision, training.dataset_label, training.dataset_image)
    for name in (*model.classes, training.dataset, training.target, *(part or "" for part in chosen)):
        # Line breaks and other control characters, and halves of characters, which cannot be written.
        if len(name) > MAX_TEXT or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise _WrongError(f"a name in its {CONFIG} is too long or unreadable ({quoted(name)})")
    if training.start is not None and not NAME_PATTERN.fullmatch(training.start):
        raise _WrongError(f"its start {quoted(training.start)} is not a valid run name")
    return config


def _timm_config(data: dict[str, Any]) -> RunConfig:
    """The model that timm's `config.json` describes. Images are resized as timm does, by its "crop_pct"."""
    pretrained = data.get("pretrained_cfg", {})
    if not isinstance(pretrained, dict):
        raise _WrongError(f"its {CONFIG} has a pretrained_cfg that is not an object")
    count = data.get("num_classes", pretrained.get("num_classes"))
    names = data.get("label_names", pretrained.get("label_names"))
    if count == 0:
        count, names = 1_000, None
    if names is None and isinstance(count, int) and 2 <= count <= MAX_CLASSES:
        # As timm infers it.
        names = imagenet_classes() if count == 1_000 else [f"class {i}" for i in range(count)]
    if not isinstance(names, (list, tuple)) or (count is not None and count != len(names)):
        raise _WrongError(f"its {CONFIG} does not list its 2 to {MAX_CLASSES:,} classes")
    size, crop = pretrained.get("input_size", [3, 224, 224]), pretrained.get("crop_pct", 0.875)
    square = isinstance(size, list) and len(size) == 3 and size[0] == 3 and size[1] == size[2]
    if not square or not isinstance(size[1], int):
        raise _WrongError(f"its input size {quoted(size)} is not square with 3 channels")
    if not isinstance(crop, int | float) or not 0.2 <= crop <= 1:
        raise _WrongError(f"its crop_pct {quoted(crop)} is not from 0.2 to 1")
    mode = pretrained.get("crop_mode", "center")
    if mode != "center" and crop != 1:
        raise _WrongError(f"its crop_mode {quoted(mode)} is not supported, only 'center'")
    architecture, options = _ours_of_timm(data["architecture"], data.get("model_args"), size[1])
    model = ModelConfig(
        architecture,
        tuple(names),
        options,
        image_size=size[1],
        resize=math.floor(size[1] / crop),
        mean=_three(pretrained.get("mean", IMAGENET_MEAN)),
        std=_three(pretrained.get("std", IMAGENET_STD)),
    )
    dataset = IMAGENET if model.classes == imagenet_classes() else "unknown"
    return RunConfig(model, TrainConfig(dataset=dataset))


def _ours_of_timm(architecture: object, arguments: object, size: int) -> tuple[str, Options]:
    """The network and the options by which timm builds what it builds by this name and these arguments."""
    known = entries()
    allowed = [name for name, entry in known.items() if entry.timm]
    if architecture not in allowed:
        raise _WrongError(f"its architecture {quoted(architecture)} is not one of {few(allowed)}")
    assert isinstance(architecture, str)
    wanted = _that_matter(arguments or {})
    for name in dict.fromkeys([architecture, *known]):
        choices = {key: option.choices for key, option in known[name].options.items() if not option.initial}
        for values in itertools.product(*choices.values()):
            options = dict(zip(choices, values, strict=True))
            found = known[name].in_timm(options, size)
            if found is not None and (found[0], _that_matter(found[1])) == (architecture, wanted):
                return name, options
    raise _WrongError(f"its {architecture} is built with timm-specific arguments (model_args: {quoted(arguments)})")


def _that_matter(arguments: object) -> object:
    """Arguments of timm's `create_model` without those that every file has, or that the shapes of the weights tell."""
    if not isinstance(arguments, dict):
        return arguments
    usual = {"in_chans": (3,), "global_pool": ("avg", "token")}
    told = ("num_classes", "img_size", "dynamic_img_size")
    return {k: v for k, v in arguments.items() if k not in told and v not in usual.get(k, ())}


def _three(values: object) -> tuple[float, float, float]:
    """As ModelConfig takes it, which refuses what is not three numbers."""
    return tuple(values) if isinstance(values, list) else values  # pyrefly: ignore[bad-return]


# metrics.jsonl


def require_valid_metrics(what: str, content: bytes, *, evaluated: bool = False) -> None:
    """Refuse metrics that a page could not show: each line must be one that a trainer writes, with finite numbers.

    Args:
        what: the sentence's subject.
        content: of `metrics.jsonl`.
        evaluated: whether the run has an evaluation, so that test scores are required.

    Raises:
        HubError: saying which line is wrong.
    """
    lines = content.splitlines()
    if len(lines) > MAX_LINES:
        raise HubError(
            f"{what} cannot be used because its {METRICS} has {len(lines):,} lines, more than {MAX_LINES:,}."
        )
    metrics = []
    for number, line in enumerate(lines, 1):
        try:
            metrics.append(metric_of(line, whole=True))
        except MetricError as error:
            raise HubError(f"{what} cannot be used because line {number} of its {METRICS} {error}.") from None
    test = last_metric(metrics, "test")
    if evaluated and (test is None or not {"top5_accuracy", "ece", "macro_f1"} <= set(test)):
        raise HubError(f"{what} cannot be used because its {METRICS} lacks test scores.")
