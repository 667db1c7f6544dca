"""What a stress test found: a run's test images under common corruptions. `training.stress` does the test.

It is stored beside the run with a digest of the weights, so that it is computed once for each model.
"""

import hashlib
from dataclasses import dataclass
from statistics import fmean

from resnet_space.common.records import read_record, write_record
from resnet_space.common.text import NO_BREAK, percent
from resnet_space.runs import ROBUSTNESS, WEIGHTS, Run

CLEAN = ""  # the corruption of images as they are


@dataclass(frozen=True)
class Stressed:
    """What became of one corruption and severity.

    Attributes:
        corruption: its id; `CLEAN` with severity 0 for none.
        severity: 0 to 5.
        accuracy: share of right images.
        ece: expected calibration error, from 0 to 1.
        unlike: share of images warned of as unlike the training images; None where the run has no statistics.
    """

    corruption: str
    severity: int
    accuracy: float
    ece: float
    unlike: float | None


@dataclass(frozen=True)
class Robustness:
    """A stress test.

    Attributes:
        weights: a digest of the model's.
        images: how many were classified, each time the same.
        seed: of the corruptions.
        rows: the results; the first is of the images as they are.
        total: how many results there will be.
    """

    weights: str
    images: int
    seed: int
    rows: tuple[Stressed, ...]
    total: int

    @property
    def is_complete(self) -> bool:
        return len(self.rows) == self.total

    @property
    def clean(self) -> Stressed:
        return self.rows[0]

    @property
    def corruptions(self) -> list[str]:
        """The ids of those that are complete or under way, in their order."""
        return list(dict.fromkeys(row.corruption for row in self.rows[1:]))

    def of(self, corruption: str) -> list[Stressed]:
        """By severity, the images as they are first."""
        return [self.clean, *(row for row in self.rows[1:] if row.corruption == corruption)]

    def by_label(self) -> "list[tuple[str, list[Stressed]]]":
        """`of` each corruption, by what people call it."""
        from resnet_space.data.corruptions import CORRUPTIONS  # late: torch

        return [(CORRUPTIONS[name].label, self.of(name)) for name in self.corruptions]

    def mean_accuracy(self, corruption: str | None = None) -> float:
        """Over the severities of a corruption, or of all."""
        return fmean(row.accuracy for row in self.rows[1:] if corruption in (None, row.corruption))

    @property
    def words(self) -> str:
        """What was found, in a few sentences."""
        from resnet_space.data.corruptions import CORRUPTIONS

        if len(self.rows) < 2:
            return ""
        names = sorted(self.corruptions, key=self.mean_accuracy)
        worst, best = names[0], names[-1]
        said = (
            f"Accuracy falls from {_share(self.clean.accuracy)} to {_share(self.mean_accuracy())} on average over "
            "corruptions and severities."
        )
        if len(names) > 1:
            most, least = (f"{CORRUPTIONS[name].label} ({_share(self.mean_accuracy(name))})" for name in (worst, best))
            said += f" The hardest corruption is {most}, the easiest {least}."
        highest = max(row.severity for row in self.rows)
        hardest = [row for row in self.rows[1:] if row.severity == highest]
        ece = fmean(row.ece for row in hardest)
        said += f" At severity {highest}, the calibration error is {_share(ece)} instead of {_share(self.clean.ece)}"
        warned = [row.unlike for row in hardest if row.unlike is not None]
        if warned and self.clean.unlike is not None:
            said += (
                f", and {_share(fmean(warned))} of the images instead of {_share(self.clean.unlike)} are warned of as "
                "unlike the training images"
            )
        return f"{said}."


def _share(value: float) -> str:
    return percent(value, space=NO_BREAK)


COLUMNS = ("corruption", "severity", "accuracy %", "calibration error %", "warned %", "images")


def table_rows(found: Robustness) -> list[list[object]]:
    """A row for each result, for CSV: `COLUMNS`."""

    def shares(row: Stressed) -> list[object]:
        return [None if v is None else round(100 * v, 2) for v in (row.accuracy, row.ece, row.unlike)]

    return [[row.corruption or "none", row.severity, *shares(row), found.images] for row in found.rows]


def store(found: Robustness, run: Run) -> None:
    write_record(found, run.path / ROBUSTNESS)


def load_robustness(run: Run) -> Robustness | None:
    """What is stored of the run's present weights; None if that is nothing, or cannot be read."""
    try:
        stored = read_record(Robustness, run.path / ROBUSTNESS)
        return stored if stored.is_complete and stored.weights == digest(run) else None
    except (OSError, ValueError):
        return None


def digest(run: Run) -> str:
    """Of its weights. Raises OSError."""
    with (run.path / WEIGHTS).open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
