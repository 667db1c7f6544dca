"""Files that a visitor keeps, in folders from which gradio serves copies."""

import csv
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from resnet_space.text import csv_cell, file_name


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, under a name without its ending; returns the file's path."""
    path = own_folder() / f"{file_name(name)}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([csv_cell(column) for column in columns])
        writer.writerows([csv_cell(cell) for cell in row] for row in rows)
    return str(path)


def copied(source: Path, name: str) -> str:
    """A file of ours under another name; returns the copy's path."""
    return str(shutil.copyfile(source, own_folder() / file_name(name)))


def own_folder() -> Path:
    """A new one, for a file that nobody else's has to be told from."""
    return Path(tempfile.mkdtemp(prefix="resnet-space-"))
