"""What the page asks for, checked: anything may be in an event's data."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnet_space.common.errors import UserError
from resnet_space.data.archives.report import Skipped
from resnet_space.data.archives.writing import stored_bytes
from resnet_space.data.images import ImageError
from resnet_space.data.taught import NewPicture, TaughtSet
from resnet_space.serve import temporary
from resnet_space.serve.inventory import IN_USE
from resnet_space.serve.taught import Change
from resnet_space.serve.uploads import uploaded_file

MOST_CHANGES = 200  # in one request; a page has a few
MOST_FILES = 200  # the same
MOST_KNOWN = 5_000  # pictures that a page has already
MOST_FILE_MB = 50
FRAME_BYTES = 100_000  # of a picture to look at; a page sends some 20,000
UNFIT = "This request does not fit the page: load it again."


@dataclass
class Changes:
    """A request's changes, with the pictures that they add, and the files that are none."""

    changes: list[Change] = field(default_factory=list)
    new: list[NewPicture] = field(default_factory=list)
    left_out: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What a request is about.

    Attributes:
        number: by which the page knows its answer.
        name: of the set; None for a new one.
        known: the pictures whose thumbnails the page has.
        unfolded: the classes all of whose pictures are to be shown.
        changes: as they came.
    """

    number: int
    name: str | None
    known: frozenset[str]
    unfolded: frozenset[int]
    changes: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, data: object) -> "Asked":
        """Raises UserError for anything that no page sends."""
        asked = data if isinstance(data, dict) else {}
        number, name, changes = asked.get("number", 0), asked.get("set"), list_in(asked, "changes", dict, MOST_CHANGES)
        if type(number) is not int or not (name is None or isinstance(name, str)):
            raise UserError(UNFIT)
        known, unfolded = list_in(asked, "known", str, MOST_KNOWN), list_in(asked, "unfolded", int, MOST_CHANGES)
        return cls(number, name, frozenset(known), frozenset(unfolded), tuple(changes))


def read_changes(asked: Sequence[dict[str, Any]]) -> Changes:
    """Raises UserError for what is no change."""
    read = Changes()
    if sum(len(change["files"]) for change in asked if isinstance(change.get("files"), list)) > MOST_FILES:
        raise UserError(f"At most {MOST_FILES} files can be added at once: add them in parts, or upload a zip as data.")
    for change in asked:
        kind = change.get("do")
        if kind == "add":
            new = _new_pictures(list_in(change, "files", dict, MOST_FILES), read.left_out)
            read.new += new
            read.changes += [_adding(new, change.get("class"))] if new else []
        else:
            read.changes.append(_plain(kind, change))
    return read


def _plain(kind: object, change: dict[str, Any]) -> Change:
    class_id, name = change.get("class"), str(change.get("name", ""))
    ids = list_in(change, "ids", str, MOST_KNOWN)
    known: dict[str, Change] = {
        "remove": lambda taught: taught.without(ids),
        "move": lambda taught: taught.moved(ids, class_id),
        "class": lambda taught: taught.with_class(name),
        "rename": lambda taught: taught.renamed(class_id, name),
        "drop": lambda taught: taught.without_class(class_id),
    }
    if not isinstance(kind, str) or kind not in known:
        raise UserError(UNFIT)
    return known[kind]


def _adding(new: Sequence[NewPicture], class_id: object) -> Change:
    def add(taught: TaughtSet) -> TaughtSet:
        return taught.with_pictures(new, class_id)

    return add


def _new_pictures(files: Sequence[dict[str, Any]], left_out: list[Skipped]) -> list[NewPicture]:
    new = []
    for file in files:
        path, name = uploaded_file(file), str(file.get("name") or "picture")[:200]
        try:
            new.append(NewPicture(stored_bytes(_content(path)), name))
        except ImageError as error:
            left_out.append(Skipped(name, str(error)))
        temporary.used(path, IN_USE)  # no longer
    return new


def _content(path: Path) -> bytes:
    if path.stat().st_size > MOST_FILE_MB * 1_000_000:
        raise ImageError(f"It has more than {MOST_FILE_MB} MB: reduce its size first.")
    return path.read_bytes()


def frame_of(data: object) -> bytes:
    """The picture to look at: a JPEG in a data: URL, as the page makes it. Raises UserError."""
    address = data.get("frame") if isinstance(data, dict) else None
    if not isinstance(address, str) or len(address) > FRAME_BYTES:
        raise UserError(UNFIT)
    kind, _, content = address.partition(",")
    try:
        if kind != "data:image/jpeg;base64":
            raise ValueError
        return base64.b64decode(content, validate=True)
    except ValueError:
        raise UserError(UNFIT) from None


def list_in(data: dict[str, Any], name: str, kind: type, most: int) -> list[Any]:
    """A list in an event's data; none where it is missing. Raises UserError for anything else."""
    values = data.get(name) or []
    if not isinstance(values, list) or len(values) > most or not all(isinstance(value, kind) for value in values):
        raise UserError(UNFIT)
    return values
