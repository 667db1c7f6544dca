"""Small pictures for a map of a dataset: each as a JPEG, and many of them on a sheet, as the browser fetches them."""

import io
from collections.abc import Sequence

from PIL import Image

FEW = 2_500  # pictures, up to which tiles are large
LARGE, SMALL = 96, 64  # pixels of a tile
ON_A_SIDE = 8  # tiles of a sheet
ON_A_SHEET = ON_A_SIDE**2
QUALITY = 85


def tile_side(pictures: int) -> int:
    """The pixels of a tile where there are so many pictures."""
    return LARGE if pictures <= FEW else SMALL


def tile(image: Image.Image, side: int) -> bytes:
    """The whole picture within a square, never enlarged, as a JPEG."""
    return _jpeg(contained(image, side).convert("RGB"))


def contained(image: Image.Image, side: int) -> Image.Image:
    """At most `side` pixels wide and high; a smaller picture as it is. However narrow it is, a pixel of it stays."""
    longest = max(image.size)
    if longest <= side:
        return image
    width, height = (max(round(length * side / longest), 1) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)


def sheet(tiles: Sequence[bytes], side: int) -> bytes:
    """At most `ON_A_SHEET` tiles, row by row, each in the middle of its square of `side` pixels, as a JPEG."""
    rows = -(-len(tiles) // ON_A_SIDE)
    drawn = Image.new("RGB", (ON_A_SIDE * side, rows * side), (128, 128, 128))
    for i, encoded in enumerate(tiles):
        with Image.open(io.BytesIO(encoded)) as image:
            row, column = divmod(i, ON_A_SIDE)
            left, top = (side - image.width) // 2, (side - image.height) // 2
            drawn.paste(image, (column * side + left, row * side + top))
    return _jpeg(drawn)


def largest(tiles: Sequence[bytes]) -> int:
    """The longest side of all, in pixels."""
    return max(max(Image.open(io.BytesIO(encoded)).size) for encoded in tiles)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()
