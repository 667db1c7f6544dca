"""A comparison of networks on a dataset: what was asked, what was found, and which network to take.

It is a folder with one file, `comparison.json`, that the process which compares replaces as rows come. `training.
comparing` finds the rows.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, Literal, Self, TypeVar

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence, replaced_atomically
from resnet_space.config import ModelConfig
from resnet_space.data.summary import DatasetSummary, learned_images
from resnet_space.training.choosing import Choice, Row, choose
from resnet_space.training.speeds import Speeds

FILE, LOCK, STOP, LOG = "comparison.json", "lock", "stop", "log"
MOST_IMAGES = 2_000  # that networks are judged on, unless more are asked for
FOLDS = 5  # in which each image is held out once
PREPARED_SECONDS = 6.0  # to load a network and to find its fastest exact route
LEAST_SHARE = 0.03  # of the work, before which nothing is said of what is left

Phase = Literal["", "downloading", "decoding", "features", "solving"]
State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Candidate:
    """A network to judge.

    Attributes:
        name: of the run whose weights it has, or of weights on the Hub.
        licence: of these, by its SPDX name.
        seconds: that it is expected to take on this machine; None if its speed is not known.
        seen: whether it has learned these classes before, perhaps from these images.
        download: bytes to be downloaded first.
    """

    name: str
    licence: str = ""
    seconds: float | None = None
    seen: bool = False
    download: int = 0


@dataclass(frozen=True)
class LeftOut:
    """A network that is not judged, and why, in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Doing:
    """What is under way: a phase of a network, and how many of its images or heads are done.

    `share` is how much of the whole comparison is done, from 0 to 1.
    """

    name: str = ""
    phase: Phase = ""
    done: int = 0
    total: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        dataset: its reference.
        networks: to judge, in this order.
        left_out: that were not asked for or do not fit the time, with reasons.
        most: images to judge on.
        minutes: after which it ends; None is no limit.
        busy: whether a training ran beside it at its start, which slows both.
        machine: that measured.
        created: when, in seconds since 1970.
        images: that are judged; 0 until they are known.
        classes: how many the dataset has.
        folds: parts in which they are held out.
        largest: images of the most frequent class.
        rows: of the networks that are done.
        state, reason: how it stands, and why where it failed or stopped.
        seconds: that it has taken.
        doing: what is under way.
    """

    dataset: str
    networks: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...] = ()
    most: int = MOST_IMAGES
    minutes: int | None = None
    busy: bool = False
    machine: str = ""
    created: float = 0.0
    images: int = 0
    classes: int = 0
    folds: int = 0
    largest: int = 0
    rows: tuple[Row, ...] = ()
    state: State = "running"
    reason: str = ""
    seconds: float = 0.0
    doing: Doing = Doing()

    @property
    def judged(self) -> tuple[Row, ...]:
        """The rows with numbers, the most accurate first."""
        return tuple(sorted((row for row in self.rows if not row.problem), key=lambda row: -row.correct))

    @property
    def failed(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.problem)

    @property
    def seconds_left(self) -> float | None:
        share = self.doing.share
        return self.seconds * (1 - share) / share if share > LEAST_SHARE else None

    @property
    def choice(self) -> Choice:
        return choose(self.judged, self.largest)

    def write(self, folder: Path) -> None:
        with replaced_atomically(folder / FILE) as file:
            file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises UserError if there is none, or it is damaged."""
        with in_a_sentence("The comparison cannot be read"):
            try:
                found = json.loads((folder / FILE).read_text(encoding="utf-8"))
                parts: dict[str, Any] = {
                    "networks": _each(Candidate, found.pop("networks")),
                    "left_out": _each(LeftOut, found.pop("left_out")),
                    "rows": _each(Row, found.pop("rows")),
                    "doing": Doing(**found.pop("doing")),
                }
                return cls(**found, **parts)
            except FileNotFoundError:
                raise UserError("There is no such comparison, or it was deleted: start a new one.") from None
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise UserError("This comparison is damaged: start a new one.") from None


T = TypeVar("T")


def _each(kind: type[T], found: Sequence[dict[str, Any]]) -> tuple[T, ...]:
    return tuple(kind(**one) for one in found)


def has_seen(model: ModelConfig, classes: Sequence[str]) -> bool:
    """Whether a network has learned exactly these classes before."""
    return set(model.classes) == set(classes)


# How long it takes


def expected_seconds(model: ModelConfig, data: DatasetSummary, speeds: Speeds, most: int = MOST_IMAGES) -> float | None:
    """What judging a network is expected to take on this machine; None if its speed was not measured yet.

    Args:
        model: at the size at which it sees this data.
        data: its images.
        speeds: of this machine.
        most: images to judge on.
    """
    rate = speeds.features_of(model)
    if rate is None or not speeds.solving:
        return None
    images = min(learned_images(data, 0.0), most)
    heads = FOLDS * images * len(data.classes) / median(speeds.solving.values())
    return PREPARED_SECONDS + images * (data.decoding + 1 / rate) + heads


# What is written of it, on a page, in CSV and in a report

COLUMNS = (
    "network",
    "architecture",
    "image size",
    "accuracy %",
    "interval from %",
    "interval to %",
    "nearest neighbours %",
    "calibration error %",
    "images per second",
    "parameters",
    "multiply-adds",
    "MB",
    "licence",
    "seen before",
    "problem",
)


def table_rows(comparison: Comparison) -> list[list[Any]]:
    """`COLUMNS` of every row, the most accurate first; numbers in per cent where that is said."""
    table: list[list[Any]] = []
    for row in comparison.judged:
        low, high = row.interval
        shares = (row.accuracy, low, high, row.neighbours_accuracy, row.calibration_error)
        costs = [round(row.images_per_second, 1), row.parameters, row.multiply_adds, round(row.megabytes, 1)]
        said = [row.licence, "yes" if row.seen else "", ""]
        table.append([row.name, row.title, row.image_size, *(round(100 * share, 2) for share in shares), *costs, *said])
    blank = [None] * (len(COLUMNS) - 2)
    return table + [[row.name, *blank, row.problem] for row in comparison.failed]


def by_reason(left_out: Sequence[LeftOut]) -> dict[str, list[str]]:
    """The networks for each reason; what differs in the brackets at its end only is beside their names."""
    groups: dict[str, list[str]] = {}
    for one in left_out:
        reason, bracket, differs = one.reason.partition(" (")
        groups.setdefault(reason, []).append(f"{one.name}{bracket}{differs}")
    return groups


def to_json(comparison: Comparison) -> dict[str, Any]:
    """For programs: everything, each row with its accuracy and interval, and which network to take."""
    rows = []
    for row in (*comparison.judged, *comparison.failed):
        found = {field.name: getattr(row, field.name) for field in fields(row) if field.name != "right"}
        if not row.problem:
            found |= {"accuracy": row.accuracy, "interval": list(row.interval), "megabytes": row.megabytes}
            found |= {"neighbours_accuracy": row.neighbours_accuracy}
        rows.append(found)
    choice = comparison.choice
    return asdict(comparison) | {"rows": rows, "take": choice.take, "alike": list(choice.alike), "words": choice.words}
