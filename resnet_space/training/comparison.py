"""A comparison of networks on a dataset: what was asked, what was found, and which network to take.

It is a folder with one file, `comparison.json`, that the process which compares replaces as rows come. `training.
comparing` finds the rows.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, Literal, Self, TypeVar

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence, replaced_atomically
from resnet_space.common.text import NO_BREAK, percent
from resnet_space.config import ModelConfig
from resnet_space.data.summary import DatasetSummary, learned_images
from resnet_space.training.evaluation import wilson_interval
from resnet_space.training.speeds import Speeds

FILE, LOCK, STOP, LOG = "comparison.json", "lock", "stop", "log"
MOST_IMAGES = 2_000  # that networks are judged on, unless more are asked for
FOLDS = 5  # in which each image is held out once
PREPARED_SECONDS = 6.0  # to load a network and to find its fastest exact route
LEAST_SHARE = 0.03  # of the work, before which nothing is said of what is left
SIGNIFICANCE = 0.05  # of the test that tells two networks apart
CLEARLY_FASTER = 1.25  # times as many images a second: less is within what a busy machine varies

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
class Row:
    """What was found of a network.

    Attributes:
        name: as of its candidate.
        architecture, title: its id, and what people call it, with its options.
        image_size: in pixels, of what it sees.
        correct: images of `images` that a solved head is right for which has not learned from them.
        images: that were judged.
        right: of each of them in their order, whether the head is right for it: bits, as hexadecimal digits.
        neighbours_correct: the same by the nearest neighbours' classes.
        calibration_error: expected, from 0 to 1, of the head's probabilities (Guo et al. 2017).
        images_per_second: through the network on this machine.
        parameters: with a head for the dataset's classes.
        multiply_adds: for one image; None if unknown.
        penalty: of the head's weights, which the images chose.
        licence, seen: as of its candidate.
        problem: why it could not be judged, in one sentence; then the numbers are 0.
    """

    name: str
    architecture: str = ""
    title: str = ""
    image_size: int = 0
    correct: int = 0
    images: int = 0
    right: str = ""
    neighbours_correct: int = 0
    calibration_error: float = 0.0
    images_per_second: float = 0.0
    parameters: int = 0
    multiply_adds: int | None = None
    penalty: float = 0.0
    licence: str = ""
    seen: bool = False
    problem: str = ""

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % interval (Wilson 1927)."""
        return wilson_interval(self.correct, self.images)

    @property
    def neighbours_accuracy(self) -> float:
        return self.neighbours_correct / self.images

    @property
    def milliseconds(self) -> float:
        """For one image."""
        return 1_000 / self.images_per_second

    @property
    def megabytes(self) -> float:
        """Of the run that it becomes: its weights in float32."""
        return 4 * self.parameters / 1e6


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
    def expected(self) -> float | None:
        """Seconds that all networks are expected to take; None if that is not known of each."""
        known = [candidate.seconds for candidate in self.networks if candidate.seconds is not None]
        return sum(known) if len(known) == len(self.networks) else None

    @property
    def choice(self) -> "Choice":
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


# Which to take


@dataclass(frozen=True)
class Choice:
    """Which network to take, by `choose`.

    Attributes:
        take: its name; None where none was judged that has not seen these classes before.
        alike: the names of those whose accuracy cannot be told from the best one's, it included.
        words: why, in one to three sentences.
    """

    take: str | None
    alike: tuple[str, ...]
    words: str


def choose(rows: Sequence[Row], largest: int = 0) -> Choice:
    """The network to take, from rows without problems.

    The most accurate one is the best. Those that cannot be told from it by McNemar's test, as all are judged on the
    same images, are as good for all that is known. Of all these the fastest is taken if it is clearly faster than the
    best (`CLEARLY_FASTER` times), else the best. Networks that have learned these classes before are left out: their
    accuracy may be of images that they know.

    Args:
        rows: of networks that were judged on the same images.
        largest: images of the most frequent class, to compare with always naming that one.
    """
    fair = [row for row in rows if not row.seen]
    seen = [row.name for row in rows if row.seen]
    unfair = (
        f" {listed(seen)} {'has' if len(seen) == 1 else 'have'} learned these classes before, perhaps from these "
        f"images, so {'it is' if len(seen) == 1 else 'they are'} left out of this choice."
        if seen
        else ""
    )
    if not fair:
        return Choice(None, (), unfair.strip())
    best = max(fair, key=lambda row: (row.correct, row.images_per_second))
    low, _ = best.interval
    alike = [row for row in fair if row is best or p_value(row, best) >= SIGNIFICANCE]
    fastest = max(alike, key=lambda row: row.images_per_second)
    take = fastest if fastest.images_per_second >= CLEARLY_FASTER * best.images_per_second else best
    words = _reason(take, best, [row for row in alike if row is not take], among=rows)
    if largest and low <= largest / best.images:
        share = percent(largest / best.images, space=NO_BREAK)
        words += f" But no network clearly beats always naming the most frequent class, {share}."
    return Choice(take.name, tuple(row.name for row in alike), words + unfair)


def _reason(take: Row, best: Row, others: Sequence[Row], *, among: Sequence[Row]) -> str:
    fair = [row for row in among if not row.seen]
    on = f"on {best.images:,} images"
    accuracy, highest = (percent(row.accuracy, space=NO_BREAK) for row in (take, best))
    if len(fair) == 1:
        return f"{take.name} is right for {accuracy} {on}. There is no other network to compare it with."
    if not others:
        every = "every other network" if len(fair) == len(among) else "the others to which these classes are new"
        return f"Take {take.name}: {accuracy} {on}, significantly more than {every}."
    if take is not best:
        times = take.images_per_second / best.images_per_second
        return (
            f"Take {take.name}: {on}, its {accuracy} cannot be told apart from the {highest} of {best.name}, and it is "
            f"{times:.1f} times as fast here."
        )
    is_slower = "but is not" if len(others) == 1 else "but none of them is"
    names = listed([row.name for row in others])
    return f"Take {take.name}: {accuracy} {on}. {names} cannot be told apart from it, {is_slower} clearly faster."


def p_value(one: Row, other: Row) -> float:
    """Of the exact test of McNemar (1947): how likely a difference as large as theirs is between two networks that are
    equally accurate on images such as those that both were judged on.
    """
    differ = int(one.right or "0", 16) ^ int(other.right or "0", 16)
    only_one = (int(one.right or "0", 16) & differ).bit_count()
    n, fewer = differ.bit_count(), min(only_one, differ.bit_count() - only_one)
    return min(2 * sum(math.comb(n, k) for k in range(fewer + 1)) / (1 << n), 1.0)


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The positions of the (cost, accuracy) that no other one beats: in one of both, and without losing in the other.

    By cost, then by accuracy.
    """

    def beaten(cost: float, accuracy: float) -> bool:
        return any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)

    return sorted((i for i, point in enumerate(points) if not beaten(*point)), key=lambda i: points[i])


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
