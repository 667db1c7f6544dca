"""What a line of `metrics.jsonl` may say, whoever wrote it: a trainer, an editor, a disk that was full, the Hub."""

import json
from collections.abc import Callable, Mapping
from typing import Any

MAX_BLOCKS = 200  # with a ratio in a line of metrics; resnet110 has 54
MAX_NUMBER = 1e15
MAX_LOSS = 1e300  # of a training that diverges, before it ends

Metric = dict[str, Any]


class MetricError(ValueError):
    """What is wrong with a line, as the end of a sentence that begins with the line."""


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
        "loss": _number(-1e6, MAX_LOSS),
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


# And what the page that compares runs reads of them.
_SHOWN: Mapping[str, tuple[str, ...]] = {
    "start": ("epochs", "steps_per_epoch", "device"),
    "step": ("step", "images_per_second", "seconds"),
    "epoch": ("epoch", "train_accuracy", "validation_accuracy"),
    "test": ("split", "images", "accuracy", "seconds"),
    "end": ("status",),
}


def is_shown(metric: Metric) -> bool:
    """Whether it has all that the pages of several runs read of its event."""
    return all(name in metric for name in _SHOWN.get(metric["event"], ()))


def metric_of(line: bytes, *, whole: bool = False) -> Metric:
    """What a line says: an object with an event, whose values are what they may be.

    Args:
        line: with or without its end.
        whole: whether it must be one that this version's trainer writes, and have all that is read of its event.

    Raises:
        MetricError: for any other.
    """
    try:
        metric = json.loads(line)
    except (ValueError, RecursionError):
        raise MetricError("is not JSON") from None
    named = isinstance(metric, dict) and isinstance(metric.get("event"), str)
    if not named or (whole and metric["event"] not in _REQUIRED):
        raise MetricError(f"is none of the events {', '.join(_REQUIRED)}")
    required = _REQUIRED.get(metric["event"], {})
    missing = [name for name in required if name not in metric]
    if whole and missing:
        raise MetricError(f"has no {missing[0]!r}")
    for name, value in metric.items():
        check = required.get(name) or _OPTIONAL.get(name) or (_plain if whole else None)
        if check is _text and not whole:
            check = _any_text
        if check is not None and not check(value):
            raise MetricError(f"has {_short(repr(value))} as {_short(repr(name))}")
    try:  # whatever else it has, a page can be sent it
        json.dumps(metric, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise MetricError("has a number or a text that is none") from None
    checked: Metric = metric
    return checked


def _any_text(value: object) -> bool:
    return isinstance(value, str)


def _plain(value: object) -> bool:
    """What another version of this app may write besides."""
    return value is None or isinstance(value, bool) or _text(value) or _number(-MAX_NUMBER)(value)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."
