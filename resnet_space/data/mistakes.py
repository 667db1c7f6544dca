"""Misclassified pictures with their correct labels: a small dataset that grows by one picture at a time.

It has the layout of every other imported dataset (parquet, the Hub's metadata), so that a training can learn from it
and the Hub's viewer shows it. Its classes are those of the run, in the run's order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_space.common.errors import UserError
from resnet_space.data.archives.writing import UNFINISHED, image_schema, stored_bytes
from resnet_space.data.columns import classification_columns, readable

MISTAKES = "mistakes"  # prefix of their folder names
FILE = "train-00000-of-00001.parquet"
MOST = 2_000  # pictures per set; the file is rewritten for each
MOST_BYTES = 200_000_000


def mistakes_file(folder: Path) -> Path:
    """The parquet file of a set's folder."""
    return folder / FILE


def classes_of(folder: Path) -> tuple[str, ...]:
    """The classes of a set; none where the folder has no such set."""
    try:
        with readable("The dataset"):
            return classification_columns(pq.read_schema(mistakes_file(folder))).classes
    except UserError:
        return ()


def add_mistake(folder: Path, classes: Sequence[str], picture: bytes, name: str, label: str) -> int:
    """Add a picture to the set, which is created if it does not exist.

    Args:
        folder: of the set.
        classes: of the run that misclassified it.
        picture: the file as it came; a large one is kept at 512 pixels.
        name: of the file.
        label: the correct class, one of `classes`. If the picture is already in the set, it is replaced.

    Returns:
        The number of pictures in the set.

    Raises:
        UserError: for a label that is not a class, a set with other classes, or a full set.
        ImageError: for a picture that cannot be decoded.
    """
    if label not in classes:
        raise UserError(f"{label!r} is not one of the run's {len(classes)} classes: choose one of them.")
    schema = image_schema(classes)
    rows: list[dict[str, Any]] = []
    file = mistakes_file(folder)
    if file.exists():
        if classes_of(folder) != tuple(classes):
            raise UserError(f"The dataset {folder.name!r} has different classes from the run.")
        with readable(f"The dataset {folder.name!r}"):
            there = pq.read_table(file, schema=schema).to_pylist()
            rows = [row for row in there if isinstance(row["image"]["bytes"], bytes)]
    kept = stored_bytes(picture)
    rows = [row for row in rows if row["image"]["bytes"] != kept]
    rows.append({"image": {"bytes": kept, "path": name[:200]}, "label": list(classes).index(label)})
    if len(rows) > MOST or sum(len(row["image"]["bytes"]) for row in rows) > MOST_BYTES:
        most = f"{MOST:,} pictures, or {MOST_BYTES // 10**6} MB"
        raise UserError(f"The dataset {folder.name!r} is full: the limit is {most}.")
    folder.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(file.name + UNFINISHED)
    pq.write_table(pa.Table.from_pylist(rows, schema), beside, compression="zstd")
    beside.replace(file)
    return len(rows)
