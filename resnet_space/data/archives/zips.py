"""The members of a zip, hostile ones included: overlapping entries, false sizes, a directory that fills the memory."""

import bz2
import copy
import io
import lzma
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from resnet_space.common.errors import UserError
from resnet_space.data.archives.members import (
    CHUNK,
    XZ_MEMORY,
    ImportLimits,
    Member,
    Members,
    UnusableError,
    too_many_members,
)
from resnet_space.data.archives.names import encoding_of
from resnet_space.data.archives.report import Decision

DIRECTORY_BYTES_PER_MEMBER = 256  # 46 and the name; macOS adds some 30
UNSUSPECTED_BYTES = 8_000_000  # a drawing may be compressed well: below this size the ratio does not matter
UTF8_NAME, ENCRYPTED = 0x800, 0x1  # flag bits
UNICODE_PATH = 0x7075  # an extra field
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
    lzma.LZMAError,
    MemoryError,
)  # NotImplementedError is one too


def zip_members(path: Path, limits: ImportLimits, decisions: list[Decision]) -> Members:
    """The files in a zip, in its order; how their names were read is added to `decisions`.

    Raises:
        UserError: for a zip that is damaged, encrypted or a bomb as a whole. A single bad member is only marked.
    """
    with _ZipReader(path, limits) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of names, which are read below
                archive = zipfile.ZipFile(file)
        except UserError:
            raise
        except DAMAGE as error:
            raise UserError(f"The zip file is damaged or incomplete ({error}): create or upload it again.") from None
        with archive:
            infos = archive.infolist()
            if len(infos) > limits.members:
                raise too_many_members(limits)
            # Regular members do not overlap. This also validates compress_size, which bounds the bytes read.
            if sum(info.compress_size for info in infos) > path.stat().st_size:
                raise UserError("The entries of the zip file overlap, as in a zip bomb: create it again.")
            if any(info.flag_bits & ENCRYPTED for info in infos):
                raise UserError("The zip file is password-protected: create one without a password.")
            names = _names(infos, decisions)
            absolute = bool(names) and names[0].startswith("/")  # all are, as the paths of one machine
            for i, (info, name) in enumerate(zip(infos, names, strict=True)):
                yield Member(
                    name.lstrip("/") if absolute else name,
                    _problem(info, limits),
                    info.file_size,
                    lambda info=info: _chunks(archive, info),
                    i + 1,
                    len(infos),
                )


def _problem(info: zipfile.ZipInfo, limits: ImportLimits) -> str | None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "It is a link or not a regular file."
    if info.compress_type not in METHODS:
        return f"It uses compression method {info.compress_type}, which is not supported: use deflate, bzip2 or LZMA."
    if info.file_size > max(UNSUSPECTED_BYTES, limits.compression_ratio * info.compress_size):
        return (
            f"It is compressed by a factor above {limits.compression_ratio}, "
            "which is typical of a zip bomb, not of "
            "pictures."
        )
    return None


def _names(infos: Sequence[zipfile.ZipInfo], decisions: list[Decision]) -> list[str]:
    """Names in UTF-8 if marked so or stored in an extra field; all others in one detected encoding."""
    names: dict[int, str] = {}
    unmarked: dict[int, bytes] = {}
    for i, info in enumerate(infos):
        if info.flag_bits & UTF8_NAME:
            names[i] = info.orig_filename
        else:
            raw = info.orig_filename.encode("cp437")  # which zipfile took for granted
            unicode = _unicode_path(info.extra, raw)
            if unicode is None:
                unmarked[i] = raw
            else:
                names[i] = unicode
    codec, decision = encoding_of(unmarked.values())
    decisions += [decision] if decision else []
    names |= {i: raw.decode(codec) for i, raw in unmarked.items()}
    return [names[i] for i in range(len(infos))]


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """The name in the extra field 0x7075, if that was written for the name as it is."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and field[:5] == struct.pack("<BL", 1, zlib.crc32(raw)) and len(field) > 5:
            try:
                return field[5:].decode()
            except UnicodeDecodeError:
                return None
    return None


def _chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        if info.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            yield from _unpacked(archive, info)
            return
        with archive.open(info) as file:  # ends after info.file_size bytes, whatever is in there
            yield from iter(lambda: file.read(CHUNK), b"")
    except DAMAGE as error:
        raise UnusableError(f"It is damaged inside the zip file ({error}).") from None


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """By bzip2 or LZMA, a chunk at a time and within the memory for a dictionary; zipfile has no bound for either."""
    packed = copy.copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    del packed.CRC  # of what is inside
    left, check = info.file_size, 0
    with archive.open(packed) as file:
        decoder = bz2.BZ2Decompressor() if info.compress_type == zipfile.ZIP_BZIP2 else _lzma_decoder(file)
        while left and not decoder.eof:
            data = file.read(CHUNK) if decoder.needs_input else b""
            if decoder.needs_input and not data:
                raise EOFError("unexpected end of the data")
            chunk = decoder.decompress(data, min(CHUNK, left))
            left, check = left - len(chunk), zlib.crc32(chunk, check)
            yield chunk
    if left or check != info.CRC:
        raise zipfile.BadZipFile("wrong checksum or size")


def _lzma_decoder(file: IO[bytes]) -> lzma.LZMADecompressor:
    """By the header that zips have: two bytes of a version, the size of the properties, those."""
    size = struct.unpack("<xxH", file.read(4))[0]
    kind, dictionary = struct.unpack("<BL", file.read(size)[:5])
    if dictionary > XZ_MEMORY:
        raise ValueError(f"it requires {dictionary:,} bytes of memory")
    options = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": kind % 9, "lp": kind // 9 % 5, "pb": kind // 45}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options])


class _ZipReader(io.BufferedReader):
    """A zip's directory is parsed at once, at half a kilobyte of memory per entry: count the entries before."""

    def __init__(self, path: Path, limits: ImportLimits) -> None:
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
