"""Files that a visitor keeps, in folders of the temporary one, from which gradio serves them."""

import csv
import shutil
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from resnet_space.common.text import csv_cell, file_name
from resnet_space.serve import temporary
from resnet_space.serve.visitors import asking

LEAST = 1_000_000  # bytes that there must be room for


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, under a name without its ending; returns the file's path."""
    with own_folder() as folder, (folder / f"{file_name(name)}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([csv_cell(column) for column in columns])
        writer.writerows([csv_cell(cell) for cell in row] for row in rows)
    return file.name


def text_file(name: str, kind: str, text: str) -> str:
    """A text under a name without its ending, which is `kind`; returns the file's path."""
    with own_folder() as folder:
        path = folder / f"{file_name(name)}.{kind}"
        path.write_text(text, encoding="utf-8")
    return str(path)


def copied(source: Path, name: str) -> str:
    """A file of ours under another name; returns the copy's path."""
    with own_folder(source.stat().st_size) as folder:
        return str(shutil.copyfile(source, folder / file_name(name)))


@contextmanager
def own_folder(size: int = 0) -> Generator[Path]:
    """A new one, for files of about so many bytes that nobody else's have to be told from. It goes where they fail.

    Raises:
        UserError: where there is no room for them.
    """
    if temporary.storage is not None:
        temporary.storage.room_for_upload(max(size, LEAST), asking())
    folder = temporary.new_folder("export-")
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if temporary.storage is not None:
        for file in folder.iterdir():
            temporary.storage.note(file, asking())
