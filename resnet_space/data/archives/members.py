"""Shared by the archive readers: the files of an untrusted archive, one at a time.

A name from an archive never becomes a path on this machine: members are read as streams, nothing is extracted.
"""

import os
import re
import time
import unicodedata
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from resnet_space.common.errors import UserError

CHUNK = 1 << 16  # bytes read at once
XZ_MEMORY = 128 << 20  # bytes; `xz -9` needs half of it, but a file may ask for 4 GB
MAX_NAME = 1_000  # characters
SYSTEM_FILES = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class ImportLimits:
    """Limits of an import. A file beyond `bytes_per_image` is skipped; beyond the other limits nothing is imported."""

    images: int = 100_000
    members: int = 250_000  # images and other files
    classes: int = 1_000
    bytes_per_image: int = 50_000_000  # file size; the pixels are limited by `open_image`
    total_bytes: int = 5_000_000_000  # decompressed, counted as they are read
    compression_ratio: int = 200  # pictures are already compressed; bombs reach 1,000 and more
    pixels: int = 1_000_000_000  # to decode, plus the budget from the files' sizes: about 10 s
    pixels_per_byte: int = 500  # scanned text has 300, photographs have 5
    seconds: int = 3_600  # of reading and decoding

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1, not {getattr(self, field.name)}.")


DEFAULT_LIMITS = ImportLimits()


class Budget:
    """The remaining budget of pixels and time of an import."""

    def __init__(self, limits: ImportLimits) -> None:
        self._limits = limits
        self._pixels = limits.pixels
        self._end = time.monotonic() + limits.seconds

    def spend(self, pixels: int, size: int) -> None:
        """Charge a picture before it is decoded; `size`: bytes of its file. Raises UserError if nothing is left."""
        self._pixels += size * self._limits.pixels_per_byte - pixels
        if self._pixels < 0:
            raise UserError(
                f"The images have more than {self._limits.pixels / 1e6:,.0f} million pixels, the maximum for "
                "files this small: reduce their resolution."
            )
        if time.monotonic() > self._end:
            minutes = self._limits.seconds / 60
            raise UserError(
                f"Reading the images takes longer than {minutes:,.0f} minutes: import fewer or smaller ones."
            )


class UnusableError(ValueError):
    """A member that is skipped; the message says why in one sentence."""


@dataclass(frozen=True)
class Member:
    """A file: its name as it came, why it cannot be used (or None), and its bytes in chunks.

    The bytes are to be read before the next member. `done` of `total` is how far the reading is, in members or bytes.
    """

    name: str
    problem: str | None
    size: int  # bytes, as declared
    chunks: Callable[[], Iterator[bytes]]
    done: int
    total: int


Members = Generator[Member, None, None]


def decode_name(raw: bytes) -> str:
    """UTF-8, or else what a zip made before Unicode was the rule contains."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437")


def path_parts(name: str) -> tuple[str, ...]:
    """A member's folders and file name, in NFC; empty for folders and for hidden and system files.

    Raises:
        UnusableError: for a name that points outside the archive or cannot be displayed.
    """
    name = unicodedata.normalize("NFC", name).replace("\\", "/")  # the separator of some zips made on Windows
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or DRIVE.match(name) or ".." in parts:
        raise UnusableError("Its path points outside the archive.")
    if any(part.startswith(".") or part.lower() in SYSTEM_FILES for part in parts) or name.endswith("/"):
        return ()
    if len(name) > MAX_NAME or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise UnusableError(f"Its name contains control characters or has more than {MAX_NAME:,} characters.")
    if name.lower().endswith(NESTED):
        raise UnusableError("Nested archives are not opened: put their folders in the archive itself.")
    return parts


def too_many_members(limits: ImportLimits) -> UserError:
    return UserError(f"There are more than {limits.members:,} files, the maximum: use fewer.")


def folder_members(source: Path, limits: ImportLimits) -> Members:
    """The files below a folder, by name. A link to a file within the folder is followed, any other link is not."""
    if not source.is_dir():
        raise UserError(f"There is no folder {str(source)!r}.")
    root = source.resolve()
    problems: dict[Path, str | None] = {}

    def unreadable(error: OSError) -> None:
        problems[Path(error.filename)] = f"The folder cannot be read ({error.strerror})."

    for parent, folders, files in os.walk(root, onerror=unreadable):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        linked = [folder for folder in folders if os.path.islink(os.path.join(parent, folder))]
        problems |= {Path(parent, folder): "Links to folders are not followed." for folder in linked}
        problems |= {Path(parent, file): _file_problem(Path(parent, file), root) for file in files}
        if len(problems) > limits.members:
            raise too_many_members(limits)
    for i, (path, problem) in enumerate(sorted(problems.items())):
        name = decode_name(os.fsencode(path.relative_to(root)))
        size = 0 if problem else path.stat().st_size
        yield Member(name, problem, size, lambda path=path: _file_chunks(path), i + 1, len(problems))


def _file_problem(path: Path, root: Path) -> str | None:
    if not Path(os.path.realpath(path)).is_relative_to(root):  # unlike Path.resolve, it takes links in circles
        return "The link points outside the folder."
    return None if path.is_file() else "It is a broken link or not a regular file."


def _file_chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from iter(lambda: file.read(CHUNK), b"")
    except OSError as error:
        raise UnusableError(f"The file cannot be read ({error.strerror}).") from None
