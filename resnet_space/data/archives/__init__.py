"""Import a zip or tar of class folders, or a folder on this machine, as a dataset in the Hub's layout.

Files: `members` (one file of an untrusted source at a time, and the limits), `zips` and `tars` (their readers),
`layout` (from folders to splits and classes), `tables` (labels from a table, or from the files' names), `selection`
(which images are used), `writing` (images and parquet files), `report`.

Everything is read once, from front to back, and never extracted: usable images go to one spool file and, when all names
are known, in order to the parquet files. Memory stays within 1 KB for each file in the archive, four row groups (130
MB) and one image: twice its file (100 MB), and its pixels while it is decoded (see `images`). On disk an import takes
twice the size of the dataset while it is written; pictures of 16 bits wait there as they came.
"""

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from resnet_space.common.errors import UserError
from resnet_space.data.archives.layout import SpooledImage
from resnet_space.data.archives.members import (
    DEFAULT_LIMITS,
    ImportLimits,
    Member,
    Members,
    UnusableError,
    folder_members,
    path_parts,
)
from resnet_space.data.archives.report import (
    Decision,
    ImportReport,
    Skipped,
    SkippedFiles,
    lost_folders,
    read_report,
    write_report,
)
from resnet_space.data.archives.selection import EXPECTED, ImportChoices, select
from resnet_space.data.archives.tables import MAX_TABLE_BYTES, SUFFIXES, Table
from resnet_space.data.archives.tars import tar_members
from resnet_space.data.archives.writing import ImageEncoder, write_splits
from resnet_space.data.archives.zips import zip_members
from resnet_space.data.images import ImageError

__all__ = [
    "Decision",
    "File",
    "ImportLimits",
    "ImportReport",
    "Skipped",
    "import_archive",
    "import_folder",
    "is_archive",
    "read_files",
    "read_report",
]

Progress = Callable[[int, int], None]
TEMPORARY = ".import-"
ABANDONED = 24 * 3600  # seconds without a change after which a temporary folder counts as left by a killed import
ZIPS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # how they begin; the last when split, even into one part
OTHER_ARCHIVES = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7-Zip archive", b"\x28\xb5\x2f\xfd": "Zstandard data"}


def import_archive(
    archive: Path,
    folder: Path,
    label_column: str | None = None,
    image_column: str | None = None,
    folders: Literal["merge", "keep"] | None = None,
    *,
    limits: ImportLimits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a zip or a tar (plain, gzip, bzip2, xz), recognised by its content, not by its name.

    Args:
        archive: with the layout class/x.jpg, split/class/x.jpg or class/split/x.jpg; see `layout.locate`.
        folder: of the dataset; it appears when the import is complete, and not at all if it fails.
        label_column: of a table beside the images, such as metadata.csv, to take the labels from.
        image_column: of the table, which names the files.
        folders: "keep" treats folders that all contain the same folders, such as cameras, as classes; else merges them.
        progress: is told (done, all) of the reading, in members of a zip or in bytes of a tar.

    Raises:
        UserError: for an archive that cannot become a dataset. Single unusable files are skipped and reported.
    """
    choices_made, decisions = ImportChoices(label_column, image_column, folders), list[Decision]()
    members = _archive_members(Path(archive), limits, decisions)
    return _build(members, Path(folder), limits, progress, choices_made, decisions)


def import_folder(
    source: Path,
    folder: Path,
    label_column: str | None = None,
    image_column: str | None = None,
    folders: Literal["merge", "keep"] | None = None,
    *,
    limits: ImportLimits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> ImportReport:
    """As `import_archive`, for a folder on this machine; links out of it are not followed. Progress counts files."""
    choices_made = ImportChoices(label_column, image_column, folders)
    return _build(folder_members(Path(source), limits), Path(folder), limits, progress, choices_made, [])


def is_archive(file: Path) -> bool:
    """Whether the file begins like an archive, supported or not: `read_files` then says why it cannot be read."""
    with file.open("rb") as start:
        head = start.read(262)
    begins = (*ZIPS, b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", *OTHER_ARCHIVES)
    return head.startswith(begins) or head[257:262] == b"ustar"


def _archive_members(archive: Path, limits: ImportLimits, decisions: list[Decision]) -> Members:
    if not archive.is_file():
        raise UserError(f"There is no file {archive.name!r}.")
    with archive.open("rb") as file:
        start = file.read(4)
    if not start:
        raise UserError(f"The file {archive.name!r} is empty.")
    if start in OTHER_ARCHIVES:
        raise UserError(
            f"The file {archive.name!r} is {OTHER_ARCHIVES[start]}, which is not supported: use a .zip, .tar, "
            ".tar.gz, .tar.bz2 or .tar.xz."
        )
    # By its start: a zip is known by its end too, but so would be a tar whose last member is a zip.
    yield from zip_members(archive, limits, decisions) if start in ZIPS else tar_members(archive, limits)


def _build(
    members: Members,
    folder: Path,
    limits: ImportLimits,
    progress: Progress | None,
    choices_made: ImportChoices,
    decisions: list[Decision],
) -> ImportReport:
    taken = UserError(f"A dataset named {folder.name!r} already exists: choose another name.")
    if folder.exists() or folder.is_symlink():
        raise taken
    temporary = folder.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        temporary.mkdir()
        skipped, encoder = SkippedFiles(), ImageEncoder(limits)
        spool_file = temporary / "spool"
        with closing(members), spool_file.open("w+b") as spool:
            tables: list[Table] = []
            found = _collect(members, spool, skipped, tables, limits, progress, encoder)
            if not found:
                for table in tables:
                    skipped.add("/".join((*table.folders, table.name)), table.problem)
                raise _nothing_found(skipped)
            lost = lost_folders(skipped, (image.folders for image in found))
            try:
                selection = select(found, skipped, limits, tables, choices_made)
            except UserError as error:
                raise UserError(" ".join([str(error), *lost])) from None
            write_splits(selection, spool, temporary, encoder.finish)
        spool_file.unlink()
        counts = {
            split: {name: len(images) for name, images in sets.items()} for split, sets in selection.images.items()
        }
        report = ImportReport(
            selection.classes,
            counts,
            tuple(skipped.listed),
            skipped.count,
            (*selection.warnings, *lost),
            [*decisions, *selection.decisions, *encoder.decisions],
            selection.choices,
        )
        write_report(report, temporary)
        if folder.exists():  # made by another in the meantime; an empty one would be replaced silently
            raise taken
        temporary.rename(folder)
        return report
    except OSError as error:
        raise UserError(f"The dataset cannot be imported ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _collect(
    members: Members,
    spool: IO[bytes],
    skipped: SkippedFiles,
    tables: list[Table],
    limits: ImportLimits,
    progress: Progress | None,
    encoder: ImageEncoder,
) -> list[SpooledImage]:
    """Write the usable images to the spool, and set tables aside until all files are known."""
    found: list[SpooledImage] = []
    folders: dict[tuple[str, ...], tuple[str, ...]] = {}  # shared by their images, to save memory
    for file in _read(members, limits):
        try:
            if file.problem:
                raise UnusableError(file.problem)
            if file.parts:
                digest = hashlib.sha256(file.data).digest()
                kept = encoder.encode(file.data)
                if len(found) >= limits.images:
                    raise UserError(f"There are more than {limits.images:,} images, the maximum: import fewer.")
                above = folders.setdefault(file.parts[:-1], file.parts[:-1])
                found.append(SpooledImage(above, file.parts[-1], digest, spool.tell(), len(kept)))
                spool.write(kept)
        except (UnusableError, ImageError) as error:
            room = MAX_TABLE_BYTES - sum(len(table.data) for table in tables)
            if file.data and file.name.lower().endswith(SUFFIXES) and len(file.data) <= room:
                tables.append(Table(file.parts[:-1], file.parts[-1], file.data, str(error)))
            else:
                skipped.add(file.name, str(error))
        if progress:
            progress(file.done, file.total)
    return found


@dataclass(frozen=True)
class File:
    """A file of an archive or a folder: its bytes, or why it cannot be used.

    `parts` are its folders and its own name, none for what is passed over in silence, such as hidden files. `done` of
    `total` is how far the reading is, in members or bytes.
    """

    name: str
    parts: tuple[str, ...]
    data: bytes
    problem: str | None
    done: int
    total: int


def read_files(source: Path) -> Iterator[File]:
    """Iterate the files of an archive, or of a folder on this machine; only one is in memory at a time.

    Raises:
        UserError: for a file that is not an archive, is damaged, or exceeds a limit.
    """
    limits = DEFAULT_LIMITS
    members = folder_members(source, limits) if source.is_dir() else _archive_members(source, limits, [])
    with closing(members):
        yield from _read(members, limits)


def _read(members: Members, limits: ImportLimits) -> Iterator[File]:
    total = 0

    def read(member: Member) -> bytes:
        nonlocal total
        data = bytearray()
        for chunk in member.chunks():
            data += chunk
            total += len(chunk)
            if total > limits.total_bytes:
                raise UserError(f"The files have more than {limits.total_bytes:,} bytes, the maximum: import less.")
            if len(data) > limits.bytes_per_image:
                raise _too_large(limits)
        return bytes(data)

    for member in members:
        parts: tuple[str, ...] = ()
        data, problem = b"", None
        try:
            parts = path_parts(member.name)
            if parts:
                if member.problem:
                    raise UnusableError(member.problem)
                if member.size > limits.bytes_per_image:  # as declared: it costs nothing to believe this
                    raise _too_large(limits)
                data = read(member)
        except UnusableError as error:
            problem = str(error)
        yield File(member.name, parts, data, problem, member.done, member.total)


def _too_large(limits: ImportLimits) -> UnusableError:
    return UnusableError(f"It has more than {limits.bytes_per_image:,} bytes, the maximum for an image.")


def _nothing_found(skipped: SkippedFiles) -> UserError:
    if not skipped.count:
        return UserError(f"There are no files to import: {EXPECTED}.")
    first = skipped.listed[0]
    return UserError(
        f"None of the {skipped.count:,} files is an image that can be used; the first is {first.name!r}: {first.reason}"
    )


def _remove_abandoned(parent: Path) -> None:
    """A killed import could not clean up, and the next one cannot know it but by its age."""
    for folder in parent.glob(f"{TEMPORARY}*"):
        with suppress(OSError):  # it may go away at any moment
            if time.time() - max(file.stat().st_mtime for file in (folder, *folder.iterdir())) > ABANDONED:
                shutil.rmtree(folder)
