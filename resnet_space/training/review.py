"""A review of a dataset: the queue of its findings, each with what it suggests, and what the new version is worth.

`training.before_after` finds the latter.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from resnet_space.common.text import percent
from resnet_space.data.checks.items import LabelIssue, NearDuplicate, Outlier
from resnet_space.data.decisions import PictureDecision
from resnet_space.training.data_report import DataReport
from resnet_space.training.evaluation import paired_interval
from resnet_space.training.work import Work

Kind = Literal["label", "copy", "odd", "chosen"]


@dataclass(frozen=True)
class ReviewItem:
    """A picture to decide about.

    Attributes:
        kind: of the finding; "chosen" for a picture that somebody chose to look at.
        split, index, file, label: the picture, as of a finding.
        words: the finding in a sentence.
        score: of the finding; None without one.
        suggested: the class that it may have instead, "" for none.
        of_split, of_index, of_file, of_label: the picture that it is a copy of.
    """

    kind: Kind
    split: str
    index: int
    file: str
    label: str
    words: str
    score: float | None = None
    suggested: str = ""
    of_split: str = ""
    of_index: int = -1
    of_file: str = ""
    of_label: str = ""

    @property
    def id(self) -> str:
        """A picture may have a wrong label and be a copy: these are two decisions."""
        return f"{self.kind}:{self.split}:{self.index}"

    def suggestion(self) -> PictureDecision | None:
        """The decision that takes the finding for true; None where it is for eyes alone."""
        about: dict[str, Any] = {"split": self.split, "index": self.index, "file": self.file}
        about |= {"finding": self.words, "score": self.score}
        if self.suggested:
            return PictureDecision(action="relabel", label=self.suggested, **about)
        if self.of_split:
            return PictureDecision(action="same", of_split=self.of_split, of_index=self.of_index, **about)
        return None


def review_queue(report: DataReport) -> list[ReviewItem]:
    """The findings about single pictures: labels, then copies, then odd pictures, the most urgent first of each."""

    def item(kind: Kind, one: LabelIssue | NearDuplicate | Outlier) -> ReviewItem:
        known = {name: value for name, value in asdict(one).items() if name in ReviewItem.__dataclass_fields__}
        return ReviewItem(kind=kind, words=one.words, **known)

    found: tuple[tuple[Kind, Sequence[LabelIssue | NearDuplicate | Outlier]], ...] = (
        ("label", report.label_issues),
        ("copy", report.near_duplicates),
        ("odd", report.outliers),
    )
    return [item(kind, one) for kind, findings in found for one in findings]


@dataclass(frozen=True, kw_only=True)
class BeforeAfter(Work):
    """What a review changed; `dataset` is the new version.

    Attributes:
        source: the dataset that it was made from.
        backbone: the run whose network computes the features; "" for the shipped one that suits the pictures.
        images: test pictures that both were judged on.
        before, after: how many of them are right.
        gained, lost: how many are right only after, and only before.
        learned: pictures to learn from, before and after.
        test_cleaned: whether the test pictures have the version's labels.
    """

    NOUN = "comparison of two versions"
    FILE = "before-after.json"
    FOLDER = ".reviews"
    MODULE = "resnet_space.review"
    AT_ONCE = 1

    source: str = ""
    backbone: str = ""
    images: int = 0
    before: int = 0
    after: int = 0
    gained: int = 0
    lost: int = 0
    learned: tuple[int, int] = (0, 0)
    test_cleaned: bool = False

    @property
    def datasets(self) -> tuple[str, ...]:
        return self.dataset, self.source

    @property
    def results(self) -> int:
        return int(self.images > 0)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the difference of the accuracies, after minus before, on the same pictures."""
        return paired_interval(self.gained, self.lost, self.images)

    @property
    def words(self) -> str:
        """The result in two or three sentences; "" as long as there is none."""
        if not self.images:
            return ""
        accuracies = [percent(right / self.images) for right in (self.before, self.after)]
        low, high = (100 * end for end in self.interval)
        difference = 100 * (self.after - self.before) / self.images
        told = f"Test accuracy {accuracies[0]} before, {accuracies[1]} after, on the same {self.images:,} pictures: "
        told += f"{difference:+.1f} points (95 % interval: {low:+.1f} to {high:+.1f})."
        told += " That includes zero: no difference can be told." if low <= 0 <= high else ""
        cleaned = " The test pictures have their new labels, so it cannot be compared with other results."
        return told + (cleaned if self.test_cleaned else "")

    def to_json(self) -> dict[str, Any]:
        """For programs: all of it, with its sentences."""
        return asdict(self) | ({"interval": list(self.interval)} if self.images else {}) | {"words": self.words}
