"""A comparison of networks on a dataset: what was asked, what was found, and which network to take.

It is a folder with one file, `comparison.json`, that the process which compares replaces as rows come. `training.
comparing` finds the rows.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any, Literal

from resnet_space.config import ModelConfig
from resnet_space.data.summary import DatasetSummary, learned_images
from resnet_space.training.choosing import Choice, Row, choose
from resnet_space.training.speeds import Speeds
from resnet_space.training.work import LeftOut, Work

MOST_IMAGES = 2_000  # that networks are judged on, unless more are asked for
FOLDS = 5  # in which each image is held out once
PREPARED_SECONDS = 6.0  # to load a network and to find its fastest exact route

Phase = Literal["", "downloading", "decoding", "features", "solving"]


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
class Comparison(Work):
    """All of it; see `Work` for what it has besides.

    Attributes:
        dataset: its reference.
        networks: to judge, in this order.
        left_out: that were not asked for or do not fit the time, with reasons.
        most: images to judge on.
        images: that are judged; 0 until they are known.
        classes: how many the dataset has.
        folds: parts in which they are held out.
        largest: images of the most frequent class.
        rows: of the networks that are done.
    """

    NOUN = "comparison"
    FILE = "comparison.json"
    FOLDER = ".comparisons"
    MODULE = "resnet_space.compare"
    AT_ONCE = 1

    dataset: str
    networks: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...] = ()
    most: int = MOST_IMAGES
    images: int = 0
    classes: int = 0
    folds: int = 0
    largest: int = 0
    rows: tuple[Row, ...] = ()

    @property
    def judged(self) -> tuple[Row, ...]:
        """The rows with numbers, the most accurate first."""
        return tuple(sorted((row for row in self.rows if not row.problem), key=lambda row: -row.correct))

    @property
    def failed(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.problem)

    @property
    def results(self) -> int:
        return len(self.rows)

    @property
    def choice(self) -> Choice:
        return choose(self.judged, self.largest)


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
