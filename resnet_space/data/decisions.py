"""Decisions about pictures of a dataset, and the manifest of a version that was made by them, as plain data."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence
from resnet_space.common.records import read_record
from resnet_space.common.text import quoted
from resnet_space.data.reference import SPLITS

Action = Literal["keep", "relabel", "drop", "same"]
ACTIONS: tuple[Action, ...] = get_args(Action)
WEIGHT: Mapping[Action, int] = {"keep": 0, "relabel": 1, "same": 2, "drop": 2}  # of two about a picture, which counts
MANIFEST = "version.json"
MOST_WORDS = 500  # characters of a finding

Row = tuple[str, int]  # split, and the row there


@dataclass(frozen=True)
class PictureDecision:
    """What is to become of a picture.

    Attributes:
        split, index: the picture, as a check of the data names it.
        action: "keep" it as it is, "relabel" it, "drop" it, or "same": of it and the picture `of_split`, `of_index`,
            which are copies, one is kept: the one in the split that judges, or else the first.
        label: its new class.
        file: its name, "" for any; where it is another, the decision is refused.
        of_split, of_index: the other one of two copies.
        finding: why it was looked at, in a sentence.
        score: of the finding.
    """

    split: str
    index: int
    action: Action
    label: str = ""
    file: str = ""
    of_split: str = ""
    of_index: int = -1
    finding: str = ""
    score: float | None = None

    @classmethod
    def of(cls, data: object) -> "PictureDecision":
        """From JSON; what it has besides is left out. Raises UserError."""
        found = {name: data[name] for name in _NAMES if name in data} if isinstance(data, Mapping) else {}
        texts = [found.get(name, "") for name in ("split", "label", "file", "of_split", "finding")]
        rows = [found.get("index"), found.get("of_index", -1)]
        score = found.get("score")
        fit = all(isinstance(text, str) for text in texts) and all(type(row) is int for row in rows)
        fit = fit and (score is None or type(score) in (int, float)) and found.get("split") in SPLITS
        if not fit or found.get("action") not in ACTIONS:
            wanted = f'{{"split": "train", "index": 5, "action": ...}}, the action one of {", ".join(ACTIONS)}'
            raise UserError(f"{quoted(data)} is no decision: it must be like {wanted}.")
        return cls(**found | {"finding": texts[-1][:MOST_WORDS]})

    @property
    def picture(self) -> Row:
        return self.split, self.index

    def about_the_one_to_go(self) -> "PictureDecision":
        """Of two copies, the decision is about the one that is dropped."""
        pair = [self.picture, (self.of_split, self.of_index)]
        if self.action != "same":
            return self
        if self.of_split not in SPLITS or pair[0] == pair[1]:
            raise UserError("To keep one of two copies, say which other picture it is: of_split and of_index.")
        kept, gone = sorted(pair, key=lambda one: (-SPLITS.index(one[0]), one[1]))
        turned = {"split": gone[0], "index": gone[1], "of_split": kept[0], "of_index": kept[1]}
        return self if gone == self.picture else replace(self, **turned, file="")


_NAMES = tuple(field.name for field in fields(PictureDecision))


@dataclass(frozen=True)
class Reviewed(PictureDecision):
    """A decision in a manifest.

    Attributes:
        old_label: the picture's class before, "" for none.
        sha256: of the picture's file.
        changed: whether the new version has it otherwise: not so of what is kept, and of test pictures that stay.
    """

    old_label: str = ""
    sha256: str = ""
    changed: bool = False


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """How a version came from another dataset.

    Attributes:
        name: of the version, its dataset's folder.
        source: the reference of the dataset that it was made from.
        files: the SHA-256 of each of its parquet files.
        created: when, UTC.
        by: the account on the Hub, or "a visitor".
        judged: the split of test pictures, "" where a training draws them from the training pictures.
        test_cleaned: whether test pictures were changed, too.
        changes: all decisions, also those that changed nothing.
    """

    name: str
    source: str
    files: Mapping[str, str]
    created: str
    by: str
    judged: str
    test_cleaned: bool
    changes: tuple[Reviewed, ...]

    @property
    def words(self) -> str:
        """ "4 relabelled, 2 dropped, 3 kept; 1 test picture seen, not changed." """
        return summary_words(self.changes)

    def dropped(self, split: str) -> set[int]:
        """Rows of the old split that the new one does not have."""
        return {one.index for one in self.changes if one.split == split and one.changed and one.action != "relabel"}

    def relabelled(self, split: str) -> dict[int, str]:
        """New classes by rows of the old split."""
        changed = (one for one in self.changes if one.split == split and one.changed and one.action == "relabel")
        return {one.index: one.label for one in changed}


def summary_words(changes: Iterable[Reviewed]) -> str:
    """How many pictures each decision was made about."""
    names = {"relabel": "relabelled", "drop": "dropped", "same": "dropped", "keep": "kept"}
    changes = list(changes)
    seen = sum(not one.changed and one.action != "keep" for one in changes)
    counts = Counter(names[one.action] for one in changes if one.changed or one.action == "keep")
    told = ", ".join(f"{counts[name]:,} {name}" for name in dict.fromkeys(names.values()) if counts[name])
    pictures = "1 test picture" if seen == 1 else f"{seen:,} test pictures"
    return f"{'; '.join(filter(None, [told, f'{pictures} seen, not changed' if seen else ''])) or 'Nothing decided'}."


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a dataset's folder; None if it has none that can be read."""
    try:
        return read_record(Manifest, folder / MANIFEST)
    except (OSError, ValueError):
        return None


def decisions_in(file: Path) -> list[PictureDecision]:
    """The decisions in a JSON file. Raises UserError."""
    with in_a_sentence(f"{file} cannot be read"):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            found = None
    if not isinstance(found, list):
        raise UserError(f"{file} has no JSON list of decisions.")
    return [PictureDecision.of(one) for one in found]
