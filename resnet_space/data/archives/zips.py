"""The members of a zip, hostile ones included: overlapping entries, false sizes, a directory that fills the memory."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from resnet_space.data.archives.members import (
    CHUNK,
    Limits,
    Member,
    Members,
    UnusableError,
    decode_name,
    too_many_members,
)
from resnet_space.data.sources import DataError

DIRECTORY_BYTES_PER_MEMBER = 256  # 46 and the name; macOS adds some 30
UNSUSPECTED_BYTES = 8_000_000  # a drawing may be compressed well: below this size the ratio does not matter
UTF8_NAME, ENCRYPTED = 0x800, 0x1  # flag bits
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
)  # NotImplementedError is one too


def zip_members(path: Path, limits: Limits) -> Members:
    """The files in a zip, in its order.

    Raises:
        DataError: for a zip that is damaged, encrypted or a bomb as a whole. One bad member is only marked as such.
    """
    with _ZipReader(path, limits) as file:
        try:
            archive = zipfile.ZipFile(file)
        except DataError:
            raise
        except DAMAGE as error:
            raise DataError(f"The zip is damaged or incomplete ({error}): make or upload it anew.") from None
        with archive:
            infos = archive.infolist()
            if len(infos) > limits.members:
                raise too_many_members(limits)
            # Honest members lie side by side. This also makes compress_size, which bounds what is read, believable.
            if sum(info.compress_size for info in infos) > path.stat().st_size:
                raise DataError("The zip's entries overlap, as only those of a zip bomb do: make it anew.")
            if any(info.flag_bits & ENCRYPTED for info in infos):
                raise DataError("The zip is protected by a password: make one without.")
            for i, info in enumerate(infos):
                name = info.orig_filename
                if not info.flag_bits & UTF8_NAME:  # zipfile took cp437 for granted; other tools write UTF-8 unflagged
                    name = decode_name(name.encode("cp437"))
                yield Member(
                    name,
                    _problem(info, limits),
                    info.file_size,
                    lambda info=info: _chunks(archive, info),  # type: ignore[misc]
                    i + 1,
                    len(infos),
                )


def _problem(info: zipfile.ZipInfo, limits: Limits) -> str | None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "It is a link or no regular file."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "It is compressed by an unusual method: use deflate."  # zipfile decodes the others without any bound
    if info.file_size > max(UNSUSPECTED_BYTES, limits.compression_ratio * info.compress_size):
        return f"It is compressed more than {limits.compression_ratio} times, as bombs are and pictures are not."
    return None


def _chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as file:  # ends after info.file_size bytes, whatever is in there
            yield from iter(lambda: file.read(CHUNK), b"")
    except DAMAGE as error:
        raise UnusableError(f"It is damaged inside the zip ({error}).") from None


class _ZipReader(io.BufferedReader):
    """A zip's directory is parsed at once, at half a kilobyte of memory per entry: count the entries before."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(io.FileIO(path))
        self._limits = limits

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size <= CHUNK:
            return super().read(size)
        if size > max(CHUNK, DIRECTORY_BYTES_PER_MEMBER * self._limits.members):
            raise too_many_members(self._limits)
        data = super().read(size)
        if data.count(b"PK\x01\x02") > self._limits.members:
            raise too_many_members(self._limits)
        return data
