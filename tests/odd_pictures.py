"""Pictures that Pillow cannot write: 16 bits a channel, TIFFs of any bands, EXIF of any types."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# 32 x 16 pixels, red and blue, by pillow-heif; the second is to be turned, and says so twice, as telephones do.
HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA"
    "AERAAAEAAQAAAAABoAABAAAAAAAAAOUAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADc"
    "aXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAA"
    "AwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFw"
    "AAAAIAAAAAEAAAAQAAAAAf///+AAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAA7W1kYXQAAADh"
    "KAGvBPIdBAeQcWTS3/yXf///K03sv5LqPDA/s6KH3+B73//xkBRGMjfoLWF5a4oVgXOH4X8n4//JiUKNncss9wi1pCS6CW83zw81mGYW0Gspte2u"
    "W1k5LPTAGDC8WUrnkXV4nsKFxLa9C0BHAcLIcMx3+rGIkvbAiUvU7sLpM2Cl3j8YsedBLuaqme4jva0lcjt6wrGukNttH1abuKpdErYOweyRG9YY"
    "ARmG1P/Fk37lV53zz75VmShdkw8cBOznMzqd+FFVuI7wJd+Nugy/B1aYYP2RqS4c1XxserzrFGQG"
)
HEIC_TURNED = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAcdtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAAAA"
    "AERAAAIAAQAAAAAB4QABAAAACgAAAOUAAgAAAAACxgABAAAACgAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZl"
    "AgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABBmlwcnAAAADlaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH/"
    "/wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAIAAAAAEAAAAQAAAAAf///+AAAAAC////0AAAAAIAAAAQcGl4aQAAAAAD"
    "CAgIAAAACWlyb3QDAAAAGWlwbWEAAAAAAAAAAQABBoECAwWEhgAAABppcmVmAAAAAAAAAA5jZHNjAAIAAQABAAABEW1kYXQAAADhKAGvBPIdBAeQ"
    "cWTS3/yXf///K03sv5LqPDA/s6KH3+B73//xkBRGMjfoLWF5a4oVgXOH4X8n4//JiUKNncss9wi1pCS6CW83zw81mGYW0Gspte2uW1k5LPTAGDC8"
    "WUrnkXV4nsKFxLa9C0BHAcLIcMx3+rGIkvbAiUvU7sLpM2Cl3j8YsedBLuaqme4jva0lcjt6wrGukNttH1abuKpdErYOweyRG9YYARmG1P/Fk37l"
    "V53zz75VmShdkw8cBOznMzqd+FFVuI7wJd+Nugy/B1aYYP2RqS4c1XxserzrFGQGAAAABkV4aWYAAE1NACoAAAAIAAEBEgADAAAAAQAGAAAAAAAA"
)

Tag = tuple[int, int, int, bytes]  # number, type, count, payload


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values: NDArray[np.uint16]) -> bytes:
    """[H, W] grey, or [H, W, 2 to 4]: grey and alpha, colours, colours and alpha."""
    height, width = values.shape[:2]
    kind = 0 if values.ndim == 2 else {2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff(
    values: NDArray[Any],
    order: str = "<",
    *,
    deflate: bool = False,
    planar: bool = False,
    predictor: bool = False,
    photometric: int = 1,
) -> bytes:
    """[H, W] or [H, W, bands] of any type, in one strip or one a band. All but the first band are called extra."""
    height, width = values.shape[:2]
    bands = values.shape[2] if values.ndim == 3 else 1
    colours = 3 if photometric == 2 else 1
    if predictor:
        values = np.concatenate([values[:, :1], values[:, 1:] - values[:, :-1]], axis=1)
    values = values.astype(values.dtype.newbyteorder(order))
    parts = [values[..., i].tobytes() for i in range(bands)] if planar else [values.tobytes()]
    if deflate:
        parts = [zlib.compress(part) for part in parts]
    offsets = [8 + sum(map(len, parts[:i])) for i in range(len(parts))]
    tags: dict[int, Sequence[int]] = {
        256: [width], 257: [height], 258: [8 * values.dtype.itemsize] * bands, 259: [8 if deflate else 1],
        262: [photometric], 273: offsets, 277: [bands], 278: [height], 279: [*map(len, parts)],
        284: [2 if planar else 1], 317: [2 if predictor else 1], 338: [0] * (bands - colours),
        339: [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * bands,
    }  # fmt: skip
    body = b"".join(parts)
    body += bytes(len(body) % 2)
    entries = [(tag, 4, len(v), struct.pack(f"{order}{len(v)}L", *v)) for tag, v in sorted(tags.items()) if v]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8 + len(body))
    return head + body + directory(entries, 8 + len(body), order)


def directory(tags: Sequence[Tag], at: int, order: str = "<") -> bytes:
    """Of a TIFF or an EXIF block, that begins at this offset."""
    head, lists = struct.pack(order + "H", len(tags)), b""
    for tag, kind, count, payload in tags:
        if len(payload) > 4:
            lists, payload = lists + payload, struct.pack(order + "L", at + 2 + 12 * len(tags) + 4 + len(lists))
        head += struct.pack(order + "HHL", tag, kind, count) + payload.ljust(4, b"\0")
    return head + bytes(4) + lists


def exif(*tags: Tag, inner: Sequence[Tag] = (), place: Sequence[Tag] = ()) -> bytes:
    """A block with these tags, and with those of its Exif and its GPS directory."""
    ends = [(0x8769, inner), (0x8825, place)]
    whole = directory([*tags, *((tag, 4, 1, bytes(4)) for tag, inside in ends if inside)], 8)
    at, pointers, rest = 8 + len(whole), [], b""
    for tag, inside in ends:
        if inside:
            pointers.append((tag, 4, 1, struct.pack("<L", at + len(rest))))
            rest += directory(inside, at + len(rest))
    return b"Exif\0\0II*\0\x08\0\0\0" + directory([*tags, *pointers], 8) + rest
