"""What a run appends while it trains: one JSON object a line, and how it is read back."""

import json
from collections.abc import Sequence
from typing import IO, Any

MOST_STEPS = 2_000  # of one run that are kept in memory; a training of this app writes half as many

Metric = dict[str, Any]


def read_metrics(file: IO[bytes]) -> list[Metric]:
    """The complete lines from the file's position on; leaves the position after the last complete one."""
    start = file.tell()
    content = file.read()
    complete = content[: content.rfind(b"\n") + 1]
    file.seek(start + len(complete))
    return [json.loads(line) for line in complete.splitlines() if line.strip()]


def last_metric(metrics: Sequence[Metric], event: str) -> Metric | None:
    """The last one of a kind; None before there is one.

    The kinds: "start", "step", "epoch", "calibration", "sanity", "test" and "end".
    """
    return next((metric for metric in reversed(metrics) if metric["event"] == event), None)


def looks_so_far(metrics: Sequence[Metric]) -> int:
    """How often the test images were looked at already: each time that a training ended which later went on."""
    looks: int = (last_metric(metrics, "start") or {}).get("looks", 0)
    return looks + any(metric["event"] == "test" for metric in metrics)


def fewer_steps(metrics: list[Metric]) -> list[Metric]:
    """The metrics, of whose steps every other is left out where they are too many to keep. The last one stays."""
    steps = [i for i, metric in enumerate(metrics) if metric.get("event") == "step"]
    if len(steps) <= MOST_STEPS:
        return metrics
    dropped = set(steps[-2::-2])
    return [metric for i, metric in enumerate(metrics) if i not in dropped]


def split_words(split: str) -> str:
    """What the images are called that a run was judged by: its "test" metric names the data set's split."""
    return {"test": "test", "train": "held-out training"}.get(split, "held-out validation")
