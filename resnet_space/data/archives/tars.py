"""The members of a tar (plain, gzip, bzip2 or xz), read once from front to back.

`tarfile` reads it from a file that counts the bytes, as it has no bounds of its own: it takes a long name of any size
into memory, and its streams unpack bombs. Its `data_filter` is for extraction, and nothing is extracted: names are
judged by `members.path_parts`, like those of a zip.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

from resnet_space.common.errors import UserError
from resnet_space.data.archives.members import (
    CHUNK,
    XZ_MEMORY,
    ImportLimits,
    Member,
    Members,
    decode_name,
    too_many_members,
)

HEADER_BYTES = 1 << 15  # of one member, with its long name and attributes; tarfile takes quadratic time for some
UNSUSPECTED_BYTES = 32_000_000  # up to here the compression ratio does not matter
DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)


def tar_members(path: Path, limits: ImportLimits) -> Members:
    """The files in a tar, in its order.

    Raises:
        UserError: for a tar that is damaged or incomplete anywhere, because nothing after that can be read; for a bomb.
    """
    total = path.stat().st_size
    with path.open("rb") as raw, closing(_decompressed(raw)) as stream:
        guard = _Guard(raw, stream, limits)
        guard.allow(HEADER_BYTES)
        with _damage("The file is not an archive, or is damaged"):
            file = cast(IO[bytes], guard)
            archive = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
        with archive:
            count = 0
            absolute: bool | None = None  # by the first name: `tar -P` writes all paths as they were on its machine
            while True:
                guard.allow(HEADER_BYTES)
                with _damage("The tar file is damaged or incomplete"):
                    info = archive.next()
                if info is None:
                    break
                archive.members.clear()  # pyrefly: ignore[missing-attribute]  # tarfile would keep them all
                archive.pax_headers = {}
                count += 1
                if count > limits.members:
                    raise too_many_members(limits)
                name = decode_name(info.name.encode("utf-8", "surrogateescape"))
                absolute = name.startswith("/") if absolute is None else absolute
                if not info.isdir():
                    name = name.lstrip("/") if absolute else name
                    chunks = lambda info=info: _chunks(archive, guard, info)  # noqa: E731
                    yield Member(name, _problem(info), info.size, chunks, raw.tell(), total)
        if guard.last != bytes(tarfile.BLOCKSIZE):  # tarfile takes a broken header for the end
            raise UserError("The tar file is damaged or incomplete (no end mark): create or upload it again.")


def _problem(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return "It is a link, and links are not followed."
    return None if info.isreg() and not info.issparse() else "It is not a regular file."


def _chunks(archive: tarfile.TarFile, guard: "_Guard", info: tarfile.TarInfo) -> Iterator[bytes]:
    with _damage("The tar file is damaged or incomplete"):
        guard.allow(info.size)
        file = cast(IO[bytes], archive.extractfile(info))
        yield from iter(lambda: file.read(CHUNK), b"")


@contextmanager
def _damage(what: str) -> Generator[None]:
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{what} ({error}): use a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz.") from None


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


def _decompressed(raw: IO[bytes]) -> _Stream:
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    return _XzReader(raw) if start == b"\xfd7zXZ\0" else raw


class _XzReader:
    """Like lzma.LZMAFile, but with a limit to the memory that the file can ask for."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decoder = self._new_decoder()

    @staticmethod
    def _new_decoder() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        result = b""
        while len(result) < size:
            data = b""
            if self._decoder.eof:  # another stream may follow, after zeros
                data = (self._decoder.unused_data or self._raw.read(CHUNK)).lstrip(b"\0")
                if not data:
                    break
                self._decoder = self._new_decoder()
            elif self._decoder.needs_input:
                data = self._raw.read(CHUNK)
                if not data:
                    raise EOFError("unexpected end of the compressed data")
            result += self._decoder.decompress(data, size - len(result))
        return result

    def close(self) -> None:
        """Do nothing: the file belongs to the caller."""


class _Guard:
    """The file that tarfile reads: forward only, no more at once than allowed, and no bomb."""

    def __init__(self, raw: IO[bytes], stream: _Stream, limits: ImportLimits) -> None:
        self._raw, self._stream, self._limits = raw, stream, limits
        self._position = self._allowed = 0
        self.last = b""

    def allow(self, size: int) -> None:
        """How much may be read until the next call."""
        self._allowed = size

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._allowed:
            raise tarfile.ReadError("a header is far too large")
        self._allowed -= size
        self.last = self._take(size)
        return self.last

    def seek(self, position: int) -> None:
        if position < self._position:  # a negative size would lead tarfile in circles
            raise tarfile.ReadError("an entry has an invalid size")
        while self._position < position and self._take(min(CHUNK, position - self._position)):
            pass

    def tell(self) -> int:
        return self._position

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._position += len(data)
        if self._position > self._limits.total_bytes:
            raise UserError(f"The archive contains more than {self._limits.total_bytes:,} bytes, the maximum.")
        if self._position > max(UNSUSPECTED_BYTES, self._limits.compression_ratio * self._raw.tell()):
            ratio = self._limits.compression_ratio
            raise UserError(
                f"The archive is compressed by a factor above {ratio}, which is typical of a decompression "
                "bomb, not of pictures."
            )
        return data
