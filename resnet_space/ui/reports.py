"""Sentences that several panels share: a score with its interval, and what was left out."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from resnet_space.data.archives.report import Skipped
from resnet_space.training.evaluation import wilson_interval

LISTED = 20  # files that were left out


def accuracy_words(test: Mapping[str, Any]) -> str:
    """Of a "test" metric, with its 95 % interval (Wilson 1927): "74.2% (70.2 to 77.9%)"."""
    low, high = wilson_interval(round(test["accuracy"] * test["images"]), test["images"])
    return f"{test['accuracy']:.1%} ({100 * low:.1f} to {high:.1%})"


def scores_words(test: Mapping[str, Any]) -> str:
    """As HTML, of a "test" metric."""
    return (
        f"<b>{accuracy_words(test)}</b> right, the interval at 95 % (Wilson); "
        f"{test['top5_accuracy']:.1%} have their class among the top 5; macro F1 {test['macro_f1']:.1%}; "
        f"expected calibration error {100 * test['ece']:.1f} points."
    )


def left_out_html(files: Sequence[Skipped], count: int) -> str:
    """A fold with the first of the files that were left out, of `count`; nothing where there are none."""
    if not count:
        return ""
    listed, were = files[:LISTED], "was" if count == 1 else "were"
    rows = "".join(f"<li>{escape(file.name)}: {escape(file.reason)}</li>" for file in listed)
    more = f"<li>and {count - len(listed):,} more</li>" if count > len(listed) else ""
    return f"<details><summary>{counted(count, 'file')} {were} left out</summary><ul>{rows}{more}</ul></details>"


def counted(count: int, what: str) -> str:
    """ "1 file", "2,000 files"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
