"""What a run appends while it trains: one JSON object a line, and how it is read back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from resnet_space.runs.checks import Metric, MetricError, metric_of

MOST_STEPS = 2_000  # of one run that are kept in memory; a training of this app writes half as many


@dataclass(frozen=True)
class Lines:
    """Complete lines of metrics: what could be read, how many lines there were, and what is wrong with the others."""

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
    metrics, wrong = [], []
    for number, line in enumerate(lines, first):
        try:
            metrics += [metric_of(line)] if line.strip() else []
        except MetricError as error:
            wrong.append(f"Line {number} of its metrics cannot be read and is left out: it {error}.")
    return Lines(metrics, len(lines), tuple(wrong))


def read_metrics(file: IO[bytes]) -> list[Metric]:
    """The metrics of `read_lines`: a line that cannot be read is left out."""
    return read_lines(file).metrics


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
