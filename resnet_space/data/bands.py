"""TIFFs with two or more than three bands, as microscopes and satellites produce them; Pillow cannot open them."""

import io
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

BYTEWISE = (1, 5, 8, 32773, 32946)  # none, LZW, deflate, PackBits: they know of bytes only, and not of bands
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, ROWS, PLANAR, PREDICTOR, FORMAT = (
    256, 257, 258, 259, 262, 274, 277, 278, 284, 317, 339
)  # fmt: skip
STRIPS, TILES = (273, 279), (324, 325)  # offsets, byte counts
TILE_WIDTH, TILE_HEIGHT = 322, 323
FEW, MANY = 1, 3  # how many bands are seen: the first as grey, or the first three as colours


class TiffBands:
    """One whose header was read. `size` is (width, height), `bands` how many there are, of `bits` each.

    Pillow decodes it as grey: a row of W pixels of N interleaved bands is one of N W grey pixels, and bands that lie
    one after the other are pictures of their own.

    Raises:
        ValueError: for any other file.
    """

    format: None = None  # none that others read

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        self._data = file.read()
        tags = ImageFileDirectory_v2(self._data[:8])
        source = io.BytesIO(self._data)
        source.seek(tags.next)
        tags.load(source)
        self._tags = tags
        self.size = int(tags[WIDTH]), int(tags[HEIGHT])
        self.bands = int(tags.get(SAMPLES, 1))
        self.orientation = tags.get(ORIENTATION)
        bits, kinds = tags.get(BITS, (1,)), tags.get(FORMAT, (1,))
        self._interleaved = tags.get(PLANAR, 1) == 1
        usual = (
            self._data[2:4] in (b"*\0", b"\0*")
            and self.bands >= 2
            and min(self.size) > 0
            and len(set(bits)) == len(set(kinds)) == 1
            and bits[0] in (8, 16, 32)
            and tags.get(COMPRESSION, 1) in BYTEWISE
            and tags.get(PREDICTOR, 1) in ((1, 2) if self._interleaved else (1, 2, 3))
        )
        if not usual:
            raise ValueError("this type of band is not supported")
        self.bits = int(bits[0])
        self._format = int(kinds[0])
        self._seen = MANY if self.bands >= MANY else FEW
        self.pixels = self.size[0] * self.size[1] * (self.bands if self._interleaved else self._seen)

    def load(self) -> NDArray[Any]:
        """[H, W] of the first band or [H, W, 3] of the first three, in the file's own type."""
        width, height = self.size
        if not self._interleaved:
            bands = [self._grey(1, i) for i in range(self._seen)]
            return bands[0] if len(bands) == 1 else np.stack(bands, axis=-1)
        values = self._grey(self.bands, 0).reshape(height, width, self.bands)[:, :, : self._seen]
        if self._tags.get(PREDICTOR, 1) == 2:  # each value is the difference to the one before, of the same band
            step = int(self._tags.get(TILE_WIDTH, width)) or width
            values = np.concatenate(
                [np.cumsum(values[:, x : x + step], axis=1, dtype=values.dtype) for x in range(0, width, step)], axis=1
            )
        return values[:, :, 0] if self._seen == 1 else values

    def _grey(self, bands: int, part: int) -> NDArray[Any]:
        """The file as a grey picture: of so many bands side by side, or of the band `part` alone."""
        tags = self._tags
        tiled = TILES[0] in tags
        kept = {
            WIDTH: self.size[0] * bands, HEIGHT: self.size[1], BITS: self.bits, FORMAT: self._format,
            COMPRESSION: tags.get(COMPRESSION, 1), PHOTOMETRIC: 1, SAMPLES: 1, PLANAR: 1,
            PREDICTOR: 1 if self._interleaved else tags.get(PREDICTOR, 1),
        }  # fmt: skip
        if tiled:
            kept |= {TILE_WIDTH: tags[TILE_WIDTH] * bands, TILE_HEIGHT: tags[TILE_HEIGHT]}
        else:
            kept[ROWS] = min(tags.get(ROWS, self.size[1]), self.size[1])
        lists = {}
        for tag in TILES if tiled else STRIPS:
            parts = len(tags[tag]) if self._interleaved else len(tags[tag]) // self.bands
            lists[tag] = tags[tag][part * parts : (part + 1) * parts]
        with Image.open(io.BytesIO(self._with_directory({**{k: (v,) for k, v in kept.items()}, **lists}))) as image:
            return np.array(image)

    def _with_directory(self, entries: dict[int, tuple[int, ...]]) -> bytes:
        """The file with another directory at its end."""
        order = "<" if self._data[:2] == b"II" else ">"
        start = len(self._data) + len(self._data) % 2
        lists_at = start + 2 + 12 * len(entries) + 4
        directory, lists = struct.pack(order + "H", len(entries)), b""
        for tag, values in sorted(entries.items()):
            packed = struct.pack(f"{order}{len(values)}L", *values)
            if len(values) > 1:
                packed, lists = struct.pack(order + "L", lists_at + len(lists)), lists + packed
            directory += struct.pack(order + "HHL", tag, 4, len(values)) + packed
        head = self._data[:4] + struct.pack(order + "L", start)
        return head + self._data[8:].ljust(start - 8, b"\0") + directory + bytes(4) + lists
