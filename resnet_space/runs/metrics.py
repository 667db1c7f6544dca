"""The metrics that a run appends while it trains: one JSON object per line, and how to read them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

MOST_STEPS = 2_000  # of one run that are kept in memory; a training of this app writes half as many

LEFT_OUT_ONCE = "left_out_once"  # in a "test": of pictures that each were left out once, as `training.taught` does

Metric = dict[str, Any]

# What the page that compares runs reads of each event.
_SHOWN: Mapping[str, tuple[str, ...]] = {
    "start": ("epochs", "steps_per_epoch", "device"),
    "step": ("step", "images_per_second", "seconds"),
    "epoch": ("epoch", "train_accuracy", "validation_accuracy"),
    "test": ("split", "images", "accuracy", "seconds"),
    "end": ("status",),
}


class MetricError(ValueError):
    """The problem with a line, as the end of a sentence whose subject is the line."""


def metric_of(line: bytes, *, whole: bool = False) -> Metric:
    """Parse a line: an object with an event and valid values.

    Args:
        line: with or without its end.
        whole: whether it must be complete, as this version's trainer writes it.

    Raises:
        MetricError: for an invalid line.
    """
    from resnet_space.runs.schema import EVENTS, problem_of  # late: pydantic takes as long to import as this package

    try:
        metric = json.loads(line)
    except (ValueError, RecursionError):
        raise MetricError("is not JSON") from None
    named = isinstance(metric, dict) and isinstance(metric.get("event"), str)
    if not named or (whole and metric["event"] not in EVENTS):
        raise MetricError(f"is not one of the events {', '.join(EVENTS)}")
    if "looks" in metric:  # as versions before called them
        metric["test_evaluations"] = metric.pop("looks")
    if problem := problem_of(metric, whole=whole):
        raise MetricError(problem)
    try:  # whatever else it has, a page can be sent it
        json.dumps(metric, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise MetricError("contains an invalid number or text") from None
    checked: Metric = metric
    return checked


def is_shown(metric: Metric) -> bool:
    """Whether it has all fields of its event needed by pages with several runs."""
    return all(name in metric for name in _SHOWN.get(metric["event"], ()))


@dataclass(frozen=True)
class Lines:
    """The result of reading complete lines: the metrics, the number of lines, and the problems of invalid lines."""

    metrics: list[Metric]
    count: int
    wrong: tuple[str, ...]


def read_lines(file: IO[bytes], first: int = 1) -> Lines:
    """The complete lines from the file's position on, the first of which has the number `first`; leaves the position
    after the last complete one.
    """
    start = file.tell()
    content = file.read()
    complete = content[: content.rfind(b"\n") + 1]
    file.seek(start + len(complete))
    lines = complete.split(b"\n")[:-1]
    metrics, wrong = list[Metric](), list[str]()
    for number, line in enumerate(lines, first):
        try:
            metrics += [metric_of(line)] if line.strip() else []
        except MetricError as error:
            wrong.append(f"Line {number} of its metrics cannot be read and is skipped: it {error}.")
    return Lines(metrics, len(lines), tuple(wrong))


def read_metrics(file: IO[bytes]) -> list[Metric]:
    """The metrics of `read_lines`, without unreadable lines."""
    return read_lines(file).metrics


def last_metric(metrics: Sequence[Metric], event: str) -> Metric | None:
    """The last metric of a kind; None if there is none yet.

    The kinds: "start", "step", "epoch", "calibration", "sanity", "test" and "end".
    """
    return next((metric for metric in reversed(metrics) if metric["event"] == event), None)


def count_test_evaluations(metrics: Sequence[Metric]) -> int:
    """How often the test images were evaluated: once each time a training finished that was later continued."""
    before: int = (last_metric(metrics, "start") or {}).get("test_evaluations", 0)
    return before + any(metric["event"] == "test" for metric in metrics)


def is_tested(metrics: Sequence[Metric]) -> bool:
    """Whether the test images were evaluated after the last epoch."""
    return any(metric["event"] == "test" for metric in _after_last_epoch(metrics))


def _after_last_epoch(metrics: Sequence[Metric]) -> Sequence[Metric]:
    last = max((i for i, metric in enumerate(metrics) if metric["event"] == "epoch"), default=-1)
    return metrics[last + 1 :]


def fewer_steps(metrics: list[Metric]) -> list[Metric]:
    """The metrics with every other step removed if there are too many. The last one stays."""
    steps = [i for i, metric in enumerate(metrics) if metric.get("event") == "step"]
    if len(steps) <= MOST_STEPS:
        return metrics
    dropped = set(steps[-2::-2])
    return [metric for i, metric in enumerate(metrics) if i not in dropped]


def split_words(split: str) -> str:
    """The name of the images that a run was tested on: its "test" metric names the dataset's split."""
    return {"test": "test", "train": "held-out training"}.get(split, "held-out validation")
