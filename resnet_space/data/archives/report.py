"""What an import found, left out and warns of; kept beside the data set."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPORT = "report.json"
MAX_LISTED = 100  # skipped files
MAX_NAMED = 5  # in a sentence
MAX_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class Skipped:
    """A file that is no part of the data set, and why, in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What was decided about an import, and is shown: `what` it is about, and one sentence."""

    what: str
    sentence: str


@dataclass(frozen=True)
class ImportReport:
    """A data set as it was made: `counts` is split -> class -> images, without the splits that it does not have.

    `skipped` lists the first hundred of `skipped_count` files; exact copies are told of in the warnings only.
    `choices` has what can be decided otherwise, by the name of `import_archive`'s parameter.
    """

    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    skipped: tuple[Skipped, ...]
    skipped_count: int
    warnings: tuple[str, ...]
    decisions: list[Decision] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class SkippedFiles:
    """Counts all of them and lists the first."""

    listed: list[Skipped] = field(default_factory=list)
    count: int = 0

    def add(self, name: str, reason: str) -> None:
        self.count += 1
        if len(self.listed) < MAX_LISTED:
            shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[:MAX_SHOWN])
            self.listed.append(Skipped(shown + "…" * (len(name) > MAX_SHOWN), reason))


def write_report(report: ImportReport, folder: Path) -> None:
    (folder / REPORT).write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False), encoding="utf-8")


def read_report(folder: Path) -> ImportReport | None:
    """The report of the import that made a data set; None where there is none that can be read."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        return ImportReport(
            tuple(report["classes"]),
            report["counts"],
            tuple(Skipped(**skipped) for skipped in report["skipped"]),
            report["skipped_count"],
            tuple(report["warnings"]),
            [Decision(**decision) for decision in report.get("decisions", ())],
            report.get("choices", {}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def named(names: Iterable[str]) -> str:
    """'a', 'b' and 7 more"""
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:MAX_NAMED])
    return shown + (f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else "")


def images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def left_out(count: int, split: str) -> str:
    return f"{images(count)} of the {split} split {'was' if count == 1 else 'were'} left out"
