"""From any picture a visitor brings to the square RGB image that a model sees."""

import os
import warnings
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Not all that Pillow knows: EPS, for one, would be run by Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # a 50-megapixel photograph; decoded it takes 150 MB


class ImageError(ValueError):
    """A picture that cannot be used; the message says why and what can, in one sentence."""


def open_image(source: str | os.PathLike[str] | IO[bytes], *, short_side: int | None = None) -> Image.Image:
    """Decode a picture as it is meant to be seen: upright, RGB, 8 bits a channel, transparency on white.

    Args:
        source: a file, or its path.
        short_side: pixels that are enough. A JPEG that has at least twice as many comes at a half, a quarter or an
            eighth of its size, which the decoder takes from the frequencies, in a fraction of the time.

    Raises:
        ImageError: for a file that is empty, not an image, damaged, or too large to decode safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image = Image.open(source, formats=FORMATS)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(
                    f"The image has {image.width:,} x {image.height:,} pixels, but at most "
                    f"{MAX_PIXELS // 1_000_000} million are allowed: make it smaller first."
                )
            if short_side is not None and image.format == "JPEG":
                image.draft(None, (short_side, short_side))
            return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(
            f"The image is far larger than the {MAX_PIXELS // 1_000_000} million pixels that are allowed: "
            "make it smaller first."
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            "This file is not an image, or it is empty, or of a kind that is not read here, such as HEIC or SVG: "
            "use a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged files
        raise ImageError(f"The image is damaged and cannot be decoded ({error}): try to save it anew.") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits of grey: Pillow's own conversion cuts them off
        values = np.asarray(image, dtype=np.float64)
        # 16-bit files use the whole range; wider ones have none of their own, so theirs is what occurs.
        low, high = (0.0, 65535.0) if image.mode.startswith("I;16") or _fits_16_bits(values) else _extent(values)
        image = Image.fromarray((np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _fits_16_bits(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> bool:
    return bool(values.min() >= 0 and 255 < values.max() <= 65535)


def _extent(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1


def to_model_size(image: Image.Image, size: int) -> Image.Image:
    """Crop the largest square in the centre and resize it (bicubic, antialiased): RGB, `size` x `size` pixels."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    # The crop comes first, on the original: a panorama never becomes a huge strip in memory.
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
