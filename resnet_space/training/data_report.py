"""A check of a dataset: what was asked, and all that was found. `training.checking` finds it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resnet_space.common.text import percent
from resnet_space.data.checks.items import ClassFinding, CurvePoint, LabelIssue, MapPoint, NearDuplicate, Outlier
from resnet_space.training.work import Work

LITTLE = 0.01  # of accuracy: below that, twice the pictures are hardly worth it
LISTS = ("label_issues", "near_duplicates", "outliers", "classes")  # of findings


@dataclass(frozen=True, kw_only=True)
class DataReport(Work):
    """All that a check found, the most urgent first in each list. Nothing was changed.

    Attributes:
        backbone: the run whose network computes the features; "" for the shipped one that suits the pictures.
        counts: pictures that were checked, by split.
        unreadable: how many pictures cannot be decoded or have no label, by split.
        expected: how many labels are expected to be wrong; None where that is not known yet.
        interval: 95 % of it.
        label_issues, near_duplicates, outliers, classes: the findings.
        curve: accuracies by the number of pictures to learn from, of solved heads on the backbone's features.
        predicted: the one that is predicted for twice as many; none where there are too few to tell.
        mapped: whether a map is asked for.
        map: at most 10,000 pictures with their positions on it.
    """

    NOUN = "check"
    FILE = "check.json"
    FOLDER = ".checks"
    MODULE = "resnet_space.check"
    AT_ONCE = 1

    backbone: str = ""
    counts: Mapping[str, int] | None = None
    unreadable: Mapping[str, int] | None = None
    expected: float | None = None
    interval: Sequence[float] | None = None
    label_issues: tuple[LabelIssue, ...] = ()
    near_duplicates: tuple[NearDuplicate, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    classes: tuple[ClassFinding, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    predicted: tuple[CurvePoint, ...] = ()
    mapped: bool = False
    map: tuple[MapPoint, ...] = ()

    @property
    def results(self) -> int:
        return sum(len(getattr(self, name)) for name in LISTS)

    @property
    def words(self) -> str:
        """The report in a few sentences; "" as long as the labels are not checked."""
        if self.expected is None or self.interval is None:
            return ""
        low, high = (round(end) for end in self.interval)
        count = len(self.near_duplicates)
        across = sum(pair.across for pair in self.near_duplicates)
        copies = f"{_are(count)} {'a copy' if count == 1 else 'copies'} of another" if count else "No picture is a copy"
        copies += f", {across:,} in another split" if across else ""
        odd = f"{_are(len(self.outliers))} odd" if self.outliers else "None is odd"
        expected = f"About {round(self.expected):,} wrong labels are expected (95 % interval: {low:,} to {high:,})."
        return f"{expected} {copies}. {odd}."

    @property
    def verdict(self) -> str:
        """What would help most, more pictures, better labels, or a bigger backbone, and why; "" if nobody can tell."""
        if not self.predicted or self.expected is None:
            return ""
        now, then = self.curve[-1], self.predicted[0]
        gain, wrong = then.accuracy - now.accuracy, self.expected / max(sum((self.counts or {}).values()), 1)
        share = percent(wrong)
        foreseen = f"{percent(then.accuracy)} ({100 * then.low:.1f} to {percent(then.high)})"
        told = f"Twice the pictures: {foreseen} are predicted, instead of {percent(now.accuracy)}."
        if wrong > max(gain, LITTLE):
            return f"{told} Better labels first: about {share} of them are wrong, more than that gains."
        if gain > LITTLE:
            return f"{told} More pictures {'help' if then.low > now.accuracy else 'may help'}."
        return f"{told} More of the same add little: try a bigger backbone, or fine-tune it."

    def to_json(self) -> dict[str, Any]:
        """For programs: everything, each finding with its sentence."""
        found = {name: [asdict(one) | {"words": one.words} for one in getattr(self, name)] for name in LISTS}
        return asdict(self) | found | {"words": self.words, "verdict": self.verdict}


def _are(count: int) -> str:
    return "1 picture is" if count == 1 else f"{count:,} pictures are"
