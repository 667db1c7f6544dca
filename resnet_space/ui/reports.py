"""Sentences that several panels share: a score with its interval, and what was left out."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from resnet_space.common.text import percent
from resnet_space.data.archives.report import Skipped
from resnet_space.runs import split_words
from resnet_space.training.evaluation import TOP, wilson_interval

LISTED = 20  # files that were left out


def accuracy_words(test: Mapping[str, Any]) -> str:
    """Of a "test" metric, with its 95 % interval (Wilson 1927): "74.2 % (70.2 to 77.9 %)"."""
    return share_words(_correct(test), test["images"])


def share_words(correct: int, images: int, space: str = " ") -> str:
    """So many of so many, with the 95 % interval (Wilson 1927); `space`: before each "%"."""
    low, high = wilson_interval(correct, images)
    return f"{percent(correct / images, space=space)} ({100 * low:.1f} to {percent(high, space=space)})"


def correct_words(test: Mapping[str, Any]) -> str:
    """The counts of a "test" metric: "371 of 500 test images correct"."""
    return f"{_correct(test):,} of {test['images']:,} {split_words(test['split'])} images correct"


def interval_words(test: Mapping[str, Any]) -> str:
    """Of a "test" metric: "95 % interval 70.2 to 77.9 %"."""
    low, high = wilson_interval(_correct(test), test["images"])
    return f"95 % interval {100 * low:.1f} to {percent(high)}"


def _correct(test: Mapping[str, Any]) -> int:
    accuracy, images = float(test["accuracy"]), int(test["images"])
    return round(accuracy * images)


def scores_words(test: Mapping[str, Any], classes: int | None = None) -> str:
    """As HTML, of a "test" metric; of no more than five classes the top 5 say nothing."""
    top5 = "" if classes is not None and classes <= TOP else f"top-5 accuracy {percent(test['top5_accuracy'])}, "
    return (
        f"<b>{accuracy_words(test)}</b> correct (95 % Wilson interval); {top5}"
        f"macro F1 {percent(test['macro_f1'])}, expected calibration error {100 * test['ece']:.1f} points."
    )


def left_out_html(files: Sequence[Skipped], count: int) -> str:
    """A fold with the first of the files that were left out, of `count`; nothing where there are none."""
    if not count:
        return ""
    listed, were = files[:LISTED], "was" if count == 1 else "were"
    rows = "".join(f"<li>{escape(file.name)}: {escape(file.reason)}</li>" for file in listed)
    more = f"<li>and {count - len(listed):,} more</li>" if count > len(listed) else ""
    return f"<details><summary>{counted(count, 'file')} {were} left out</summary><ul>{rows}{more}</ul></details>"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Its lines."""
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows)]


def counted(count: int, what: str) -> str:
    """ "1 file", "2,000 files"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
