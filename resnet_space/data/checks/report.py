"""The findings about a dataset, as plain data, and how they are said."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence, replaced_atomically
from resnet_space.common.text import percent

FILE = "check.json"

Phase = Literal["", "decoding", "features", "copies", "labels"]
State = Literal["running", "finished", "stopped", "failed"]
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
        return f"{looks} Wrong with a probability of {percent(self.score)}."


@dataclass(frozen=True)
class NearDuplicate(Where):
    """A picture that is a copy of another one, `of`.

    `score` says how well their details correlate where they overlap, up to 1.
    """

    score: float
    of: Where
    mirrored: bool

    @property
    def across(self) -> bool:
        """Whether they are in different splits."""
        return self.split != self.of.split

    @property
    def contradicts(self) -> bool:
        """Whether they have different labels."""
        return self.label != self.of.label

    @property
    def words(self) -> str:
        said = ["Mirrored, the same picture" if self.mirrored else "The same picture"]
        if self.contradicts:
            said.append(f"with the label {self.of.label} instead of {self.label}")
        said.append(f"in {self.split} and in {self.of.split}" if self.across else f"twice in {self.split}")
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
    classes: tuple[str, ...]
    split: str
    score: float
    words: str
    index: int = -1
    file: str = ""


@dataclass(frozen=True)
class Doing:
    """What is under way; `share` is how much of the whole check is done, from 0 to 1."""

    phase: Phase = ""
    done: int = 0
    total: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class DataReport:
    """All that a check found, the most urgent first in each list. Nothing was changed.

    Attributes:
        dataset: its reference.
        backbone: the run whose network computed the features.
        counts: pictures that were checked, by split.
        unreadable: how many pictures cannot be decoded or have no label, by split.
        expected: how many labels are expected to be wrong, or None where that cannot be told.
        interval: 95 % of it.
        label_issues, near_duplicates, outliers, classes: the findings.
        seconds: that it took.
        state, reason, doing: how it stands.
    """

    dataset: str
    backbone: str = ""
    counts: Mapping[str, int] | None = None
    unreadable: Mapping[str, int] | None = None
    expected: float | None = None
    interval: tuple[float, float] | None = None
    label_issues: tuple[LabelIssue, ...] = ()
    near_duplicates: tuple[NearDuplicate, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    classes: tuple[ClassFinding, ...] = ()
    seconds: float = 0.0
    state: State = "running"
    reason: str = ""
    doing: Doing = Doing()

    @property
    def words(self) -> str:
        """The report in a sentence or two."""
        if self.expected is None or self.interval is None:
            labels = "How many labels are wrong cannot be told from so few pictures."
        else:
            low, high = (round(end) for end in self.interval)
            labels = f"About {round(self.expected)} labels are expected to be wrong (95 % interval: {low} to {high})."
        across = sum(pair.across for pair in self.near_duplicates)
        copies = f"{len(self.near_duplicates):,} pictures are copies of others"
        copies += f", {across:,} of them in another split" if across else ""
        return f"{labels} {copies}. {len(self.outliers):,} are odd."

    def write(self, folder: Path) -> None:
        with replaced_atomically(folder / FILE) as file:
            file.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises UserError if there is none, or it is damaged."""
        with in_a_sentence("The check cannot be read"):
            try:
                found: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
                found["label_issues"] = tuple(LabelIssue(**one) for one in found["label_issues"])
                found["near_duplicates"] = tuple(
                    NearDuplicate(**one | {"of": Where(**one["of"])}) for one in found["near_duplicates"]
                )
                found["outliers"] = tuple(Outlier(**one) for one in found["outliers"])
                found["classes"] = tuple(
                    ClassFinding(**one | {"classes": tuple(one["classes"])}) for one in found["classes"]
                )
                found["interval"] = found["interval"] and tuple(found["interval"])
                return replace(cls(**found | {"doing": Doing()}), doing=Doing(**found["doing"]))
            except FileNotFoundError:
                raise UserError("There is no such check, or it was deleted: start a new one.") from None
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise UserError("This check is damaged: start a new one.") from None

    def to_json(self) -> dict[str, Any]:
        """For programs: everything, each finding with its sentence."""
        listed = ("label_issues", "near_duplicates", "outliers", "classes")
        found = {name: [asdict(one) | {"words": one.words} for one in getattr(self, name)] for name in listed}
        return asdict(self) | found | {"words": self.words}
