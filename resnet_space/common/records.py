"""Dataclasses as JSON files: replaced at once when written, and checked by their fields' types when read."""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from resnet_space.common.files import replaced_atomically

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def write_record(record: Any, path: Path) -> None:
    """Write a dataclass to a file, or replace it. Raises OSError."""
    with replaced_atomically(path) as file:
        file.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(kind: type[T], path: Path) -> T:
    """The dataclass in a file. Entries that it has no field for are left out, as versions after this one may have more.

    Raises:
        OSError: if the file is missing or cannot be read.
        ValueError: for anything that is no such record.
    """
    content = path.read_bytes()
    found: T = _adapter(kind).validate_json(content)
    return found


@cache
def _adapter(kind: type[Any]) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter  # late: it takes as long to import as this package

    return TypeAdapter(kind)
