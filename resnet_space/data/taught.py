"""Pictures that a visitor shows to teach classes: a dataset that changes by a few pictures at a time.

It has the layout of every other imported dataset: one parquet file in the Hub's layout, whose classes are those that
have pictures. Beside it, `taught.json` holds the order of all classes, including empty ones, and the name of the run
that is trained on them. Both are replaced atomically, so a crash loses no picture. The file is written anew at each
change, as one table, never as a list of pictures in Python: 1,000 pictures of 50 KB take 0.1 s.

A picture is identified by its content: there are no duplicates, and a picture shown for another class moves there.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence, replaced_atomically
from resnet_space.data.archives.writing import image_schema
from resnet_space.data.columns import classification_columns, readable
from resnet_space.data.images import open_image, to_model_size

FILE = "train-00000-of-00001.parquet"
ABOUT = "taught.json"
LONGEST_NAME = 60  # characters of a class
MOST_OF_A_NAME = 200  # characters of a file
ROW_GROUP = 64  # pictures, which are read together
COMPRESSION = {"image.bytes": "none", "image.path": "zstd", "label": "zstd"}  # pictures are compressed already
THUMBNAIL = 112  # pixels, twice its size on the page, for high-density screens
RECORDING = re.compile(r"recording-(\d+)-\d+\.jpg")  # file names of camera frames, by recording


@dataclass(frozen=True)
class TaughtClass:
    """A class, identified by a number that does not change when it is renamed."""

    id: int
    name: str


@dataclass(frozen=True)
class TaughtPicture:
    """`id` is a digest of the file as it is kept, `name` the name that it came with."""

    id: str
    class_id: int
    name: str

    @property
    def recording(self) -> int | None:
        """The camera recording that the frame belongs to (frames of one recording look alike); None for a file."""
        found = RECORDING.fullmatch(self.name)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class NewPicture:
    """A picture to be added: its file as `writing.stored_bytes` gives it."""

    content: bytes
    name: str

    @property
    def id(self) -> str:
        return picture_id(self.content)


@dataclass(frozen=True)
class TaughtSet:
    """The content of a set's folder.

    Attributes:
        folder: of the set.
        classes: in the order in which they were made.
        pictures: in the order of the rows in the file, which is that in which they were added.
        run: the name of the run that is trained on it; empty before there is one.
    """

    folder: Path
    classes: tuple[TaughtClass, ...] = ()
    pictures: tuple[TaughtPicture, ...] = ()
    run: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        """Of what can be learned: another where classes with pictures, or pictures and whose they are, have changed."""
        content = [[c.id, c.name] for c in self.used_classes], [[p.id, p.class_id] for p in self.pictures]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def of(self, class_id: int) -> list[TaughtPicture]:
        """The pictures of a class."""
        return [picture for picture in self.pictures if picture.class_id == class_id]

    def class_of(self, class_id: object) -> TaughtClass:
        """The class with this number. Raises UserError if it no longer exists."""
        for own in self.classes:
            if own.id == class_id:
                return own
        raise UserError("This class no longer exists: reload the page.")

    @property
    def used_classes(self) -> tuple[TaughtClass, ...]:
        """The classes that have a picture: those of the dataset."""
        used = {picture.class_id for picture in self.pictures}
        return tuple(own for own in self.classes if own.id in used)

    def labels(self) -> list[int]:
        """Of every picture, as positions in `used_classes`."""
        position = {own.id: i for i, own in enumerate(self.used_classes)}
        return [position[picture.class_id] for picture in self.pictures]

    # Changes: each returns a new set, which `write_set` saves

    def with_class(self, name: str) -> "TaughtSet":
        """Add a class. Raises UserError for a name that is invalid or taken."""
        free = max((own.id for own in self.classes), default=0) + 1
        return replace(self, classes=(*self.classes, TaughtClass(free, self._free_name(name))))

    def renamed(self, class_id: object, name: str) -> "TaughtSet":
        """Rename a class. Raises UserError for a name that is invalid or taken."""
        own = self.class_of(class_id)
        new = TaughtClass(own.id, self._free_name(name, own))
        return replace(self, classes=tuple(new if other == own else other for other in self.classes))

    def without_class(self, class_id: object) -> "TaughtSet":
        """Remove a class and its pictures."""
        own = self.class_of(class_id)
        return replace(
            self,
            classes=tuple(other for other in self.classes if other != own),
            pictures=tuple(picture for picture in self.pictures if picture.class_id != own.id),
        )

    def without(self, ids: Iterable[str]) -> "TaughtSet":
        """Remove some pictures."""
        gone = set(ids)
        return replace(self, pictures=tuple(picture for picture in self.pictures if picture.id not in gone))

    def moved(self, ids: Iterable[str], class_id: object) -> "TaughtSet":
        """Move some pictures to another class."""
        own, gone = self.class_of(class_id), set(ids)
        return replace(
            self,
            pictures=tuple(
                replace(picture, class_id=own.id) if picture.id in gone else picture for picture in self.pictures
            ),
        )

    def with_pictures(self, new: Iterable[NewPicture], class_id: object) -> "TaughtSet":
        """Add pictures to a class. An existing picture keeps its place in the order and moves to this class."""
        own = self.class_of(class_id)
        added = {picture.id: TaughtPicture(picture.id, own.id, picture.name) for picture in new}
        there = {picture.id for picture in self.pictures}
        more = tuple(picture for picture in added.values() if picture.id not in there)
        return replace(self.moved(added, class_id), pictures=(*self.moved(added, class_id).pictures, *more))

    def _free_name(self, name: str, own: TaughtClass | None = None) -> str:
        plain = " ".join(str(name).split())
        if not plain or len(plain) > LONGEST_NAME or not plain.isprintable():
            raise UserError(f"A class name must have 1 to {LONGEST_NAME} printable characters.")
        if any(other.name.casefold() == plain.casefold() for other in self.classes if other != own):
            raise UserError(f"A class named {plain!r} already exists: choose another name.")
        return plain


def picture_id(content: bytes) -> str:
    """The id of a file: a digest of its content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def is_taught(folder: Path) -> bool:
    """Whether a dataset folder holds a taught set."""
    return (folder / ABOUT).is_file()


def open_set(folder: Path) -> TaughtSet:
    """Read a set's folder. Raises UserError if it is missing or damaged."""
    what = f"The pictures of {folder.name}"
    with readable(what):
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"The set of pictures {folder.name} no longer exists: start a new one.") from None
        found = TaughtSet(
            folder, tuple(TaughtClass(int(own["id"]), str(own["name"])) for own in about["classes"]), (), about["run"]
        )
        return found if not (folder / FILE).exists() else _with_rows(found, *_ids_and_names(folder))


def _with_rows(found: TaughtSet, names: Sequence[str], rows: Sequence[tuple[str, int, str]]) -> TaughtSet:
    by_name = {own.name: own.id for own in found.classes}
    for name in names:
        if name not in by_name:  # the app ended between the two files
            found = found.with_class(name)
            by_name[name] = found.classes[-1].id
    pictures = tuple(TaughtPicture(id_, by_name[names[label]], name) for id_, label, name in rows)
    return replace(found, pictures=pictures)


def _ids_and_names(folder: Path) -> tuple[tuple[str, ...], list[tuple[str, int, str]]]:
    """The file's classes, and (id, label, name) of every row."""
    with pq.ParquetFile(folder / FILE) as parquet:
        columns = classification_columns(parquet.schema_arrow)
        rows: list[tuple[str, int, str]] = []
        for batch in parquet.iter_batches(ROW_GROUP):
            image = batch["image"]
            rows += [
                (picture_id(content.as_buffer()), label, name or "")
                for content, label, name in zip(
                    image.field("bytes"), batch["label"].to_pylist(), image.field("path").to_pylist(), strict=True
                )
            ]
    return columns.classes, rows


def write_set(changed: TaughtSet, before: TaughtSet | None = None, new: Iterable[NewPicture] = ()) -> None:
    """Write a set to disk after a change.

    Args:
        changed: the set.
        before: the set as it is on disk; None if there is none yet.
        new: the added pictures.

    Raises:
        UserError: if it cannot be written; then the old set stays.
    """
    write_about(changed)
    with in_a_sentence(f"The pictures of {changed.name} cannot be saved"), readable(f"The dataset {changed.name}"):
        if not changed.pictures:
            (changed.folder / FILE).unlink(missing_ok=True)
            return
        table = _table(changed, before.pictures if before else (), {picture.id: picture for picture in new})
        with replaced_atomically(changed.folder / FILE) as file:
            pq.write_table(table, file, compression=COMPRESSION, row_group_size=ROW_GROUP, use_dictionary=["label"])
    del table
    pa.default_memory_pool().release_unused()


def write_about(changed: TaughtSet) -> None:
    """As `write_set`, if only the order of the classes or the run's name has changed."""
    about = {"classes": [vars(own) for own in changed.classes], "run": changed.run}
    what = f"The pictures of {changed.name} cannot be saved"
    with in_a_sentence(what), replaced_atomically(changed.folder / ABOUT) as file:
        file.write_text(json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _table(changed: TaughtSet, before: Sequence[TaughtPicture], new: Mapping[str, NewPicture]) -> pa.Table:
    schema = image_schema([own.name for own in changed.used_classes])
    image = schema.field("image").type
    there = {picture.id: row for row, picture in enumerate(before)}
    kept = [there[picture.id] for picture in changed.pictures if picture.id in there]
    parts: list[pa.Array] = []
    if kept:
        column = pq.read_table(changed.folder / FILE, columns=["image"])["image"]
        parts += column.chunks if kept == list(range(len(column))) else column.take(pa.array(kept, pa.int64())).chunks
    added = [new[picture.id] for picture in changed.pictures if picture.id not in there]
    rows = [{"bytes": picture.content, "path": picture.name[:MOST_OF_A_NAME]} for picture in added]
    parts.append(pa.array(rows, image))
    # Existing pictures come first, in the same order as in the set.
    return pa.table([pa.chunked_array(parts, image), pa.array(changed.labels(), pa.int64())], schema=schema)


def read_pictures(found: TaughtSet, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(id, file) of some pictures of a set, in the order of its rows, a few at a time in memory; those that are not
    there any more are left out. Raises UserError for a damaged file.
    """
    wanted = set(ids)
    if not wanted or not (found.folder / FILE).exists():
        return
    with readable(f"The dataset {found.name}"), pq.ParquetFile(found.folder / FILE) as parquet:
        first = 0
        for group in range(parquet.num_row_groups):
            last = first + parquet.metadata.row_group(group).num_rows
            if any(picture.id in wanted for picture in found.pictures[first:last]):
                for content in (
                    parquet.read_row_group(group, columns=["image"])["image"].combine_chunks().field("bytes")
                ):
                    if (id_ := picture_id(content.as_buffer())) in wanted:
                        yield id_, content.as_py()
            first = last


def thumbnail(content: bytes) -> bytes:
    """A small JPEG of a picture, square as a model sees it. Raises ImageError for a damaged one."""
    small = to_model_size(open_image(io.BytesIO(content), short_side=THUMBNAIL), THUMBNAIL)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
