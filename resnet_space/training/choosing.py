"""Which of several networks that were judged on the same images to take, and which are on the Pareto front."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_space.common.text import NO_BREAK, percent
from resnet_space.training.evaluation import wilson_interval

SIGNIFICANCE = 0.05  # of the test that tells two networks apart
CLEARLY_FASTER = 1.25  # times as many images a second: less is within what a busy machine varies


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

    name: str = ""
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
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The positions of the (cost, accuracy) that no other one beats: in one of both, and without losing in the other.

    By cost, then by accuracy.
    """

    def beaten(cost: float, accuracy: float) -> bool:
        return any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)

    return sorted((i for i, point in enumerate(points) if not beaten(*point)), key=lambda i: points[i])
