"""Findings about a dataset's pictures, as plain data, and how they are said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from resnet_space.common.text import percent

Problem = Literal["blank", "dark", "bright", "blurred", "tiny", "stretched", "grey", "colour", "unlike"]
Between = Literal["confused", "imbalanced", "shifted", "single"]

PROBLEMS: dict[Problem, str] = {
    "blank": "It is of one colour throughout",
    "dark": "It is nearly black",
    "bright": "It is nearly white",
    "blurred": "It is much less sharp than the others",
    "tiny": "It is much smaller than the others",
    "stretched": "Its shape is far from that of the others",
    "grey": "It is grey, and nearly all others have colours",
    "colour": "It has colours, and nearly all others are grey",
    "unlike": "It is unlike every other picture of its class",
}


@dataclass(frozen=True)
class Where:
    """A picture of the dataset.

    Attributes:
        split: "train", "validation" or "test".
        index: its row in the split.
        file: its name in what was brought, "" if unknown.
        label: its class.
    """

    split: str
    index: int
    file: str
    label: str


@dataclass(frozen=True)
class LabelIssue(Where):
    """A picture whose label is probably wrong.

    `score` is the probability of that, and `suggested` the class that a head finds which has not seen the picture.
    """

    score: float
    suggested: str

    @property
    def words(self) -> str:
        looks = f"Labelled {self.label}, but looks like {self.suggested}."
        return f"{looks} Probability of a wrong label: {percent(self.score)}."


@dataclass(frozen=True)
class NearDuplicate(Where):
    """A picture that is a copy of another one, whose place and label are those that begin with `of`.

    `score` says how well their details correlate where they overlap, up to 1.
    """

    score: float
    mirrored: bool
    of_split: str
    of_index: int
    of_file: str
    of_label: str

    @property
    def across(self) -> bool:
        """Whether they are in different splits."""
        return self.split != self.of_split

    @property
    def contradicts(self) -> bool:
        """Whether they have different labels."""
        return self.label != self.of_label

    @property
    def words(self) -> str:
        said = ["The same picture, mirrored," if self.mirrored else "The same picture"]
        said.append(f"in {self.split} and in {self.of_split}" if self.across else f"twice in {self.split}")
        if self.contradicts:
            said.append(f"with the labels {self.label} and {self.of_label}")
        return f"{' '.join(said)}."


@dataclass(frozen=True)
class Outlier(Where):
    """A picture that is odd. `score` is how far beyond the limit it is: above 1, the larger the odder."""

    score: float
    problem: Problem

    @property
    def words(self) -> str:
        return f"{PROBLEMS[self.problem]}."


@dataclass(frozen=True)
class ClassFinding:
    """What is wrong between classes or splits, in a sentence.

    Attributes:
        kind: which finding.
        classes: that it is about, none if it is about a split.
        split: that it is about, "" for all.
        score: from 0 to 1, the larger the worse.
        words: the sentence.
        index, file: of a picture that shows it; -1 and "" if none does.
    """

    kind: Between
    classes: Sequence[str]
    split: str
    score: float
    words: str
    index: int = -1
    file: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy with so many pictures to learn from, and its 95 % interval."""

    pictures: int
    low: float
    accuracy: float
    high: float


@dataclass(frozen=True)
class MapPoint(Where):
    """A picture on the map: the class predicted without having learned from it ("" if unknown), and its position."""

    predicted: str
    x: float
    y: float
