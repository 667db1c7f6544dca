"""Convert pictures with more than 8 bits per channel, which Pillow truncates, to 8 bits.

They are converted in strips, so that no wide copy of a whole picture is held in memory.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = (8, 10, 12, 14, 16)  # that cameras and scanners put into 16
STRIP_PIXELS = 1 << 20  # converted at once

# By the factor that a picture is to be reduced by: of its strips (top row, values [h, W] or [h, W, 3], alpha or None).
Strips = Callable[[int], Iterator[tuple[int, NDArray[Any], NDArray[np.uint8] | None]]]


@dataclass(frozen=True)
class Scale:
    """From values to brightness: `low` is black, `high` is white.

    `bits` says how many of 16 are in use; it is None for wider integers and floats, whose extent is taken.
    """

    low: float
    high: float
    bits: int | None = None

    @classmethod
    def of_bits(cls, bits: int) -> "Scale":
        return cls(0, 2**bits - 1, bits)

    def __or__(self, other: "Scale") -> "Scale":
        """The scale that covers both."""
        bits = None if self.bits is None or other.bits is None else max(self.bits, other.bits)
        return Scale(min(self.low, other.low), max(self.high, other.high), bits)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Of any shape. NaN is black, infinity black or white."""
        span = self.high - self.low or 1
        values = np.nan_to_num(values.astype(np.float64), nan=self.low, posinf=self.high, neginf=self.low)
        return (np.clip((values - self.low) / span, 0, 1) * 255 + 0.5).astype(np.uint8)


def in_rgb(
    size: tuple[int, int], factor: int, strips: Strips, width: int, choose: Callable[[Scale], Scale]
) -> tuple[Image.Image, Scale | None]:
    """A picture of `width` bits a value (0 for floats) in RGB, and what it uses of its range.

    That is None for a plain picture, which does not show it. `choose` is given it and says by what to scale instead.
    """
    low, high = math.inf, -math.inf
    for _, values, _ in strips(1):
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        low = high = 0.0
    own: Scale | None
    if width == 8:
        own, scale = None, Scale.of_bits(8)
    # 32-bit integers that fit into 16 bits are such. Others have no range of their own, so theirs is what occurs.
    elif low >= 0 and (width == 16 or (width == 32 and 255 < high <= 65535)):
        own = None if low == high else Scale.of_bits(next(bits for bits in BITS if high < 2**bits))
        scale = choose(own or Scale.of_bits(16))
    else:
        own = Scale(low, high)
        scale = choose(own)
    result = blank(size, factor)
    for top, values, alpha in strips(factor):
        strip = Image.fromarray(scale(values)).convert("RGB")
        if alpha is not None:
            strip.putalpha(Image.fromarray(alpha))
            strip = on_white(strip).convert("RGB")
        result.paste(strip.reduce(factor), (0, top // factor))
    return result, own


def strips_of(values: NDArray[Any]) -> Strips:
    """Of an array: [H, W] or [H, W, 3]."""
    height, width = values.shape[:2]
    return lambda factor: ((top, values[top:end], None) for top, end in rows((width, height), factor))


def grey_strips(image: Image.Image) -> Strips:
    """Of a decoded picture in one of Pillow's wide modes."""

    def strips(factor: int) -> Iterator[tuple[int, NDArray[Any], None]]:
        for top, end in rows(image.size, factor):
            yield top, np.asarray(image.crop((0, top, image.width, end))), None

    return strips


def colour_strips(high: Image.Image, low: Image.Image, *, grey: bool) -> Strips:
    """Of two decodings of one picture that have the high and the low bytes of its 16 bits, and the first its alpha.

    Of a grey one the second has the bytes as they lie in the file: grey high and low, alpha high and low.
    """

    def strips(factor: int) -> Iterator[tuple[int, NDArray[Any], NDArray[np.uint8] | None]]:
        for top, end in rows(high.size, factor):
            box = (0, top, high.width, end)
            upper, lower = np.asarray(high.crop(box)), np.asarray(low.crop(box))
            lower = lower[..., 1:2] if grey else lower[..., :3]
            alpha = upper[..., 3] if high.mode == "RGBA" else None
            yield top, upper[..., :3].astype(np.uint16) << 8 | lower, alpha

    return strips


def rows(size: tuple[int, int], factor: int) -> Iterator[tuple[int, int]]:
    """(first, end) of strips, each a whole multiple of `factor` high but for the last."""
    width, height = size
    step = max(STRIP_PIXELS // width // factor, 1) * factor
    return ((top, min(top + step, height)) for top in range(0, height, step))


def blank(size: tuple[int, int], factor: int) -> Image.Image:
    """For a picture of this size that is reduced by a factor."""
    return Image.new("RGB", (-(-size[0] // factor), -(-size[1] // factor)))


def on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
