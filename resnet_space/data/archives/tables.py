"""Labels from a table beside the images, such as the Hub's metadata.csv or Kaggle's train.csv.

A table is a CSV (comma, semicolon or tab) or JSON lines with a header. One of its columns names files, with or without
folders and extensions, and another one has the labels. Submission tables of competitions are not labels.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from resnet_space.common.errors import UserError
from resnet_space.data.archives.layout import Placed, SpooledImage, keyword_split
from resnet_space.data.archives.report import Decision
from resnet_space.data.columns import LABEL_NAMES, MAX_CLASSES, MAX_NAME
from resnet_space.data.words import named

SUFFIXES = (".csv", ".tsv", ".jsonl")
MAX_TABLE_BYTES = 20_000_000  # of all tables together; as lists of texts they take some ten times that
MAX_COLUMNS = 500
FILE_NAMES = ("file_name", "filename", "file", "image_id", "image", "image_name", "id", "path")
USUAL_LABELS = (*LABEL_NAMES, "category", "class_name", "label_name", "species", "breed", "diagnosis", "dx")
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
NUMBERED = re.compile(r"(.*?[^\W\d_].*?)[\W_]*\d+[\W_]*", re.S)  # a name that ends in a number: "cat.0", "dog (12)"
NO_LABELS = {"img", "image", "images", "photo", "picture", "pic", "file", "frame", "scan", "page", "part", "sample"}
NO_LABELS |= {"dsc", "dscn", "dscf", "pxl", "gopr", "mvi", "screenshot", "whatsapp image", "train", "test", "val", "id"}
PARTS = re.compile(r"part|batch|fold|chunk|shard|images", re.I)


@dataclass(frozen=True)
class Table:
    """A file that may contain labels: its location, its bytes, and why it is not a picture."""

    folders: tuple[str, ...]
    name: str
    data: bytes
    problem: str


@dataclass(frozen=True)
class Labels:
    """Labels from a table or from the file names: a label or None for each image, and its split if specified."""

    labels: list[str | None]
    splits: list[str | None]
    label: str  # the column, or what else they are from
    decisions: list[Decision]
    choices: dict[str, list[str]]
    tables: tuple[Table, ...] = ()  # that were used
    wanted: bool = True  # rather than the folders


@dataclass
class _Read:
    """A table's columns, and the images of its rows by the column with the file names."""

    table: Table
    columns: dict[str, list[str | None]]
    files: dict[str, list[int]] = field(default_factory=dict)  # by the column: the image of each row, or -1


def read_table(table: Table) -> dict[str, list[str | None]]:
    """The columns of a table as texts, in its order; empty if the file is not a table."""
    text = _decoded(table.data)
    try:
        if table.name.lower().endswith(".jsonl"):
            return _of_rows(json.loads(line) for line in text.splitlines() if line.strip())
        header = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=header.count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = [name.strip() for name in next(rows, [])]
        if not 2 <= len(names) <= MAX_COLUMNS or len(set(names)) < len(names):
            return {}
        return _of_rows(dict(zip(names, row, strict=False)) for row in rows if row)
    except (csv.Error, ValueError, RecursionError):
        return {}


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # as Excel writes "Unicode text"
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _of_rows(rows: Iterable[object]) -> dict[str, list[str | None]]:
    columns: dict[str, list[str | None]] = {}
    for count, row in enumerate(rows):
        if not isinstance(row, dict):
            return {}
        for name, value in row.items():
            if name not in columns and len(columns) < MAX_COLUMNS:
                columns[name] = [None] * count
            if name in columns:
                text = unicodedata.normalize("NFC", str(value)).strip() if isinstance(value, str | int | float) else ""
                columns[name].append(text or None)
        for values in columns.values():
            if len(values) == count:
                values.append(None)
    return columns


def labels_from_tables(
    found: Sequence[SpooledImage],
    placed: Sequence[Placed],
    tables: Sequence[Table],
    label_column: str | None = None,
    image_column: str | None = None,
) -> Labels | None:
    """The labels from the table that lists the most images; None if no table has labels.

    Args:
        found: the images.
        placed: where their folders put them.
        tables: of the same archive.
        label_column: to take; by default one with a usual name, or else the first that could be labels.
        image_column: that names the files; by default the one whose values are files' names.

    Raises:
        UserError: if a requested column does not exist.
    """
    lookup = _Lookup(found, placed)
    reads = []
    for table in sorted(tables, key=lambda table: (table.folders, table.name)):  # in any archive's order
        columns: dict[str, list[str | None]] = {} if "submission" in table.name.lower() else read_table(table)
        files = {name: lookup.images(table, values) for name, values in columns.items()}
        files = {name: rows for name, rows in files.items() if _names_files(rows, len(found))}
        if files:
            reads.append(_Read(table, columns, files))
    if not reads and (label_column or image_column):
        raise UserError("No table lists the images: leave the columns empty.")
    if image_column is not None:
        for read in reads:
            read.files = {name: rows for name, rows in read.files.items() if name == image_column}
        reads = [read for read in reads if read.files]
        if not reads:
            raise UserError(f"No table has a column {image_column!r} with image names: leave it empty.")
    return _best(reads, found, placed, label_column) if reads else None


def _best(
    reads: Sequence[_Read], found: Sequence[SpooledImage], placed: Sequence[Placed], label_column: str | None
) -> Labels | None:
    def file_column(read: _Read) -> str:
        return max(
            read.files,
            key=lambda name: (len(set(read.files[name])), -_place(name, FILE_NAMES)),
        )

    def candidates(read: _Read) -> list[str]:
        files = file_column(read)
        rows = [i for i, image in enumerate(read.files[files]) if image >= 0]
        others = [name for name in read.columns if name != files and name.lower() not in SPLIT_COLUMNS]
        able = [name for name in others if _are_labels(name, [read.columns[name][i] for i in rows])]
        return sorted(able, key=lambda name: (_place(name, USUAL_LABELS), _are_numbers(read.columns[name])))

    able = {id(read): candidates(read) for read in reads}
    if label_column is not None:
        there = list(dict.fromkeys(name for read in reads for name in able[id(read)]))
        if label_column not in there:
            choose = f"choose one of {', '.join(there)}" if there else "leave it empty, because no column has labels"
            raise UserError(f"The tables have no label column {label_column!r}: {choose}.")
        for read in reads:
            able[id(read)] = [name for name in able[id(read)] if name == label_column]
    with_labels = [read for read in reads if able[id(read)]]
    if not with_labels:
        return None
    main = max(with_labels, key=lambda read: len(set(read.files[file_column(read)])))
    label, files = able[id(main)][0], file_column(main)
    used = [read for read in reads if label in read.columns and files in read.files]
    labels: list[str | None] = [None] * len(found)
    splits: list[str | None] = [None] * len(found)
    missing = contradicting = 0
    for read in used:
        split_values = next((read.columns[name] for name in read.columns if name.lower() in SPLIT_COLUMNS), None)
        own_split = keyword_split(read.table.name.rsplit(".", 1)[0])
        for row, image in enumerate(read.files[files]):
            value = read.columns[label][row]
            if image < 0:
                missing += 1
            elif value is not None:
                contradicting += labels[image] not in (None, value)
                labels[image] = labels[image] or value
                said = keyword_split(split_values[row] or "") if split_values else None
                splits[image] = said or placed[image].split or own_split
    without = labels.count(None)
    all_labels = candidates(main)
    others = [name for name in all_labels if name != label]
    sentence = (
        f"The labels come from the column {label!r} of {named(read.table.name for read in used)}, whose column "
        f"{files!r} names the files; rows without an image: {missing:,}, images without a row: {without:,}."
    )
    decisions = [Decision("table", sentence)]
    if others:
        said = f"The column {label!r} was used; {named(others)} could be used instead."
        decisions.append(Decision("label column", said))
    if contradicting:
        said = f"{contradicting:,} rows give an image a second, different label: the first one was kept."
        decisions.append(Decision("table", said))
    choices = {"label_column": all_labels, "image_column": [name for name in main.files if name not in all_labels]}
    usual = label.lower() in USUAL_LABELS
    parts = usual and _are_parts(placed) and _cross(labels, placed)
    wanted = label_column is not None or not _has_classes(placed) or parts
    return Labels(
        labels,
        splits,
        label,
        decisions,
        {name: values for name, values in choices.items() if len(values) > 1},
        tuple(read.table for read in used),
        wanted,
    )


def labels_from_names(found: Sequence[SpooledImage], placed: Sequence[Placed]) -> Labels | None:
    """The labels in names such as "cat.0.jpg", "dog.1.jpg"; None if the names of the training images have none."""
    words = [NUMBERED.fullmatch(image.name.rsplit(".", 1)[0]) for image in found]
    labels = [word[1].strip(" ._-") if word else None for word in words]
    has_train = any(where.split == "train" for where in placed)
    train = [i for i, where in enumerate(placed) if where.split == ("train" if has_train else None)]
    counts = Counter(labels[i] for i in train)
    names = [name for name in counts if name is not None]
    numbered = {name.casefold() for name in names} & NO_LABELS
    if None in counts or numbered or not 2 <= len(names) <= MAX_CLASSES or min(counts.values()) < 2:
        return None
    labels = [label if label in counts else None for label in labels]
    sentence = f"The labels come from the beginnings of the file names: {named(sorted(names))}."
    return Labels(labels, [where.split for where in placed], "names", [Decision("file names", sentence)], {})


class _Lookup:
    """Finds images by their names in a table."""

    def __init__(self, found: Sequence[SpooledImage], placed: Sequence[Placed]) -> None:
        self._found, self._placed = found, placed
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for i, image in enumerate(found):
            self._by_name[image.name].append(i)
            stem = image.name.rpartition(".")[0]
            if stem:
                self._by_name[stem].append(i)

    def images(self, table: Table, values: Sequence[str | None]) -> list[int]:
        """The image of each value, or -1."""
        split = keyword_split(table.name.rsplit(".", 1)[0])
        known: dict[str, int] = {}
        found = []
        for value in values:
            if value is None:
                found.append(-1)
                continue
            if value not in known:
                known[value] = self._image(table, split, value)
            found.append(known[value])
        return found

    def _image(self, table: Table, split: str | None, value: str) -> int:
        *folders, name = [part for part in value.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
        several = self._by_name.get(name, [])
        if folders:
            end = tuple(folders)
            several = [i for i in several if self._found[i].folders[-len(end) :] == end]
        narrower: tuple[Callable[[int], bool], ...] = (
            lambda i: self._found[i].folders == (*table.folders, *folders),
            lambda i: split is not None and self._placed[i].split == split,
            lambda i: self._found[i].folders[: len(table.folders)] == table.folders,
        )
        for fits in narrower if len(several) > 1 else ():
            several = [i for i in several if fits(i)] or several
        return several[0] if len(several) == 1 else -1


def _names_files(rows: Sequence[int], images: int) -> bool:
    """Whether half of the rows have an image, or half of the images a row."""
    there = [row for row in rows if row >= 0]
    return bool(there) and (2 * len(there) >= len(rows) or 2 * len(set(there)) >= images)


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name.lower()) if name.lower() in names else len(names)


def _are_labels(name: str, values: Sequence[str | None]) -> bool:
    """Whether a column's values could be classes: two to 1,000; with two rows each, but where its name says it."""
    counts = Counter(value for value in values if value is not None)
    if any(len(value) > MAX_NAME or not value.isprintable() for value in counts):
        return False
    repeated = 2 * len(counts) <= sum(counts.values()) and not _are_fractions(counts)
    return 2 <= len(counts) <= MAX_CLASSES and (repeated or name.lower() in USUAL_LABELS)


def _are_fractions(values: Iterable[str]) -> bool:
    return any(re.fullmatch(r"-?\d*[.,]\d*[1-9]\d*", value) for value in values)


def _are_numbers(values: Iterable[str | None]) -> bool:
    return all(value is None or re.fullmatch(r"-?[\d.]+", value) for value in values)


def _has_classes(placed: Sequence[Placed]) -> bool:
    return len({where.names[0] for where in placed if where.names}) > 1


def _are_parts(placed: Sequence[Placed]) -> bool:
    """Whether the folders are numbered parts of one whole: part_1, part_2."""
    return len({re.sub(r"\d+", "", where.names[0]).casefold() for where in placed if where.names}) == 1


def _cross(labels: Sequence[str | None], placed: Sequence[Placed]) -> bool:
    """Whether some label occurs in more than one folder, or the folders are numbered parts."""
    if all(PARTS.search(where.names[0]) for where in placed if where.names):
        return True
    folders: Mapping[str, set[str]] = defaultdict(set)
    for label, where in zip(labels, placed, strict=True):
        if label is not None and where.names:
            folders[label].add(where.names[0])
    return any(len(there) > 1 for there in folders.values())
