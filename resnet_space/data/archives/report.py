"""The report of an import: images found, files skipped, warnings. Stored beside the dataset."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from resnet_space.common.records import read_record, write_record
from resnet_space.data.words import MAX_NAMED

REPORT = "report.json"
MAX_LISTED = 100  # skipped files
MAX_SHOWN = 200  # characters of a name
MAX_KINDS = 10_000  # of folders and endings that are counted
DOCUMENTS = (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".yaml", ".yml", ".py", ".log")
FORMATS = {
    "camera RAW": (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".raw", ".pef", ".srw"),
    "damaged, or not of the type their names say": (
        *(".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"),
        *(".ppm", ".pgm", ".pbm", ".jp2"),
    ),
    "Photoshop": (".psd",),
    "JPEG XL": (".jxl",),
    "DICOM": (".dcm",),
    "video": (".mp4", ".mov", ".avi", ".mkv", ".webm"),
}


@dataclass(frozen=True)
class Skipped:
    """A file that is not part of the dataset, and the reason in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """A decision of an import, to be shown: `what` it is about, and one sentence."""

    what: str
    sentence: str


@dataclass(frozen=True)
class ImportReport:
    """The result of an import: `counts` is split -> class -> images, without missing splits.

    `skipped` lists the first hundred of `skipped_count` files; exact copies are told of in the warnings only. `choices`
    lists the alternatives, by the name of `import_archive`'s parameter.
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
    """Counts all skipped files and lists the first ones."""

    listed: list[Skipped] = field(default_factory=list)
    count: int = 0
    kinds: Counter[tuple[tuple[str, ...], str]] = field(default_factory=Counter)  # by their folders and endings

    def add(self, name: str, reason: str) -> None:
        self.count += 1
        *folders, file = path_of(name)
        if len(self.kinds) < MAX_KINDS:
            self.kinds[tuple(folders), Path(file).suffix.lower()] += 1
        if len(self.listed) < MAX_LISTED:
            shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[:MAX_SHOWN])
            self.listed.append(Skipped(shown + "…" * (len(name) > MAX_SHOWN), reason))


def lost_folders(skipped: SkippedFiles, found: Iterable[tuple[str, ...]]) -> list[str]:
    """One sentence for every folder, such as a class folder, of which no image could be read.

    Args:
        skipped: what was left out.
        found: the folders of each image that was read.
    """
    with_images = {folders[:i] for folders in set(found) for i in range(1, len(folders) + 1)}
    lost: dict[tuple[str, ...], list[str]] = {}
    for (folders, ending), count in skipped.kinds.items():
        if folders and folders not in with_images and ending not in DOCUMENTS:
            kind = next((kind for kind, endings in FORMATS.items() if ending in endings), ending.strip(".").upper())
            files = f"{count:,} {ending} file".replace("  ", " ") + "s" * (count > 1)
            lost.setdefault(folders, []).append(f"{files} ({kind or 'in an unknown format'})")
    said = [
        f"None of the images in the folder {folders[-1]!r} can be read: it has "
        f"{' and '.join(files[:MAX_NAMED])}; save them as "
        "JPEG or PNG."
        for folders, files in sorted(lost.items())
    ]
    more = len(said) - MAX_NAMED
    return said[:MAX_NAMED] + ([f"None of the images in {more:,} more folders can be read either."] if more > 0 else [])


def path_of(name: str) -> list[str]:
    """A member's folders and file name."""
    return unicodedata.normalize("NFC", name).replace("\\", "/").split("/")


def write_report(report: ImportReport, folder: Path) -> None:
    write_record(report, folder / REPORT)


def read_report(folder: Path) -> ImportReport | None:
    """The report of a dataset's import; None if there is no readable one."""
    try:
        return read_record(ImportReport, folder / REPORT)
    except (OSError, ValueError):
        return None
