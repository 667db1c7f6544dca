"""Convert any picture to the square RGB image that a model sees.

All pictures are read here, so that any problem with one raises an `ImageError`. Memory stays within 12 bytes a pixel,
beside the file and what a format's own decoder takes: the picture as it is decoded (at most 4), the low bytes of its
channels where it has 16 bits and seems to use few of them (4), and the result (4). Large pictures that are decoded at
the same time have at most `MAX_PIXELS` together, and small ones half as many: the others wait.
"""

import ctypes
import io
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from PIL import AvifImagePlugin, Image, TiffImagePlugin, UnidentifiedImageError, _avif
from PIL.ImageFile import ImageFile

from resnet_space.common.errors import UserError
from resnet_space.data.bands import TiffBands
from resnet_space.data.deep import Scale, blank, colour_strips, grey_strips, in_rgb, on_white, rows, strips_of

# Not all formats of Pillow: EPS, for example, would be run by Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
USUAL = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands
MAX_PIXELS = 50_000_000  # a 50-megapixel photograph, which takes 200 MB as RGB
# A JPEG may have more if fewer are enough: its decoder reduces it block by block. Pillow refuses 179 million.
MAX_JPEG_PIXELS = 150_000_000
LARGE = 4_000_000  # pixels: 16 MB
ORIENTATION, SAMPLES = 274, 277  # tags of EXIF and TIFF
GREY = ("L", "I", "I;16", "I;16B", "F")
# Cost of a pixel relative to PNG and JPEG: time, and the decoder's own memory, up to 20 bytes for JPEG 2000.
COSTS = {"JPEG2000": 4, "WEBP": 2, "AVIF": 2, "HEIF": 2}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """A picture cannot be used; the message says why and what to do, in one sentence."""


def open_image(source: str | os.PathLike[str] | IO[bytes], *, short_side: int | None = None) -> Image.Image:
    """Decode a picture as it is meant to be seen: upright, RGB, 8 bits a channel, transparency on white.

    16 bits a channel are scaled by the bits that the picture uses (8, 10, 12, 14 or 16), as files of cameras, scanners
    and microscopes leave the highest ones empty; wider ones and floats by the extent of their finite values. So a
    picture of 12 bits is as bright as the others of its dataset, unless it is so dark that it uses fewer. Where this,
    or a choice of bands, was decided, `info["note"]` of the result says so.

    Args:
        source: a file, or its path.
        short_side: pixels that are enough: a picture of at least twice as many comes at a whole fraction of its size,
            never below. A JPEG's decoder takes that from the frequencies, in a fraction of the time.

    Raises:
        ImageError: for a file that is empty, not an image, damaged, or too large to decode safely.
    """
    with Picture(source, short_side=short_side) as picture:
        decoded = picture.decode()
    if decoded.note:
        decoded.image.info["note"] = decoded.note
    return decoded.image


@dataclass(frozen=True)
class Decoded:
    """A picture in RGB; what of its range it uses, if it has more than 8 bits a channel and is not plain; its bands.

    `bands` are those of a TIFF of two, or of more than three that are no colours, else 0.
    """

    image: Image.Image
    scale: Scale | None = None
    bands: int = 0

    @property
    def note(self) -> str:
        """Unexpected decisions about the picture, in a sentence or two, or empty."""
        said = []
        if self.scale and self.scale.bits is None:
            said.append(f"Values from {self.scale.low:g} to {self.scale.high:g} were scaled to black to white.")
        elif self.scale and self.scale.bits != 16:
            said.append(f"The picture uses {self.scale.bits} of its 16 bits and was scaled accordingly.")
        if self.bands:
            used = "the first three are used as RGB" if self.bands > 2 else "the first is used as grey"
            said.append(f"Of its {self.bands} bands, {used}.")
        return " ".join(said)


class Picture:
    """A picture whose header has been read. The arguments are those of `open_image`.

    `size` is what the file says, perhaps not upright; `cost` what decoding takes, in pixels.

    Raises:
        ImageError: for a file that is not a picture, or is too large.
    """

    def __init__(self, source: str | os.PathLike[str] | IO[bytes], *, short_side: int | None = None) -> None:
        with _one_error(), ExitStack() as stack:
            if isinstance(source, (str, os.PathLike)):
                source = stack.enter_context(open(source, "rb"))
            self._file = source
            self._header = _identified(source)
            self.size = self._header.size
            self.cost = self._checked_cost(short_side)
            self._factor = max(min(self._header.size) // short_side, 1) if short_side else 1
            self._close = stack.pop_all().close

    def __enter__(self) -> "Picture":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def is_deep(self) -> bool:
        """Whether it has more than 8 bits a channel, and so a scale. To be asked before `decode`, as `is_usual`."""
        header = self._header
        if isinstance(header, TiffBands):
            return header.bits > 8
        return _is_wide(header) or _low_bytes_mode(header) is not None

    @property
    def is_usual(self) -> bool:
        """Whether common programs display the file correctly."""
        return self._header.format in USUAL and not self.is_deep

    def decode(self, choose: Callable[[Scale], Scale] = lambda own: own) -> Decoded:
        """Decode the picture. Can be called only once.

        Args:
            choose: is given what a picture of more than 8 bits uses of its range; says by what to scale it instead.

        Raises:
            ImageError: for a damaged file.
        """
        with _one_error(), _room(min(self.cost, MAX_PIXELS)):
            try:
                return self._decode(self._file, self._header, choose)
            except ValueError as error:
                if "MAX_TEXT" not in str(error):
                    raise
                file = _without_texts(self._file)  # they lie behind the pixels, and are more than Pillow unpacks
                return self._decode(file, _identified(file), choose)
            finally:
                del self._header  # and with it the pixels as they were decoded, before the next picture has room
                if self.cost > LARGE:
                    _give_back()

    def _checked_cost(self, short_side: int | None) -> int:
        header = self._header
        width, height = header.size
        if isinstance(header, TiffBands):
            pixels = header.pixels
        else:
            most = MAX_PIXELS if header.info.get("progressive") else MAX_JPEG_PIXELS  # it keeps all frequencies
            if short_side and header.format in ("JPEG", "MPO") and width * height <= most:
                header.draft(None, (short_side, short_side))
            pixels = math.prod(header.size)
        if pixels > MAX_PIXELS:
            raise ImageError(
                f"The image has {width:,} x {height:,} pixels, above the limit of {MAX_PIXELS // 1_000_000} million: "
                "reduce its size first."
            )
        return pixels * COSTS.get(header.format or "", 1)

    def _decode(self, file: IO[bytes], header: ImageFile | TiffBands, choose: Callable[[Scale], Scale]) -> Decoded:
        if isinstance(header, TiffBands):
            values = header.load()
            width = 0 if values.dtype.kind == "f" else header.bits
            image, scale = in_rgb(header.size, self._factor, strips_of(values), width, choose)
            return Decoded(_turned(image, header.orientation), scale, header.bands if header.bands != 3 else 0)
        low_bytes = _low_bytes_mode(header)
        orientation = _load(header)
        if _is_wide(header):
            width = 16 if header.mode.startswith("I;16") else 32 if header.mode == "I" else 0
            image, scale = in_rgb(header.size, self._factor, grey_strips(header), width, choose)
        elif low_bytes and _brightest(header) < 64:  # of the high bytes: fewer than 15 bits are in use
            low = _identified(file)
            assert isinstance(low, ImageFile)
            low.tile = [tile._replace(args=_with_raw_mode(tile.args, low_bytes)) for tile in low.tile]
            _load(low)
            strips = colour_strips(header, low, grey=low_bytes == "RGBA")
            image, scale = in_rgb(header.size, self._factor, strips, 16, choose)
        else:
            image, scale = _in_strips(header, self._factor), Scale.of_bits(16) if low_bytes else None
        return Decoded(_turned(image, orientation), scale)


# Errors and concurrency


@contextmanager
def _one_error() -> Generator[None]:
    """Turn any exception that Pillow's decoders raise on hostile bytes into an ImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, for which there are stricter limits, and of odd metadata
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(
            f"The image is far larger than the limit of {MAX_PIXELS // 1_000_000} million pixels: "
            "reduce its size first."
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            "This file is not an image, or is empty, damaged or in an unsupported format such as SVG: use a "
            "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP, TIFF, PPM or JPEG 2000."
        ) from None
    except MemoryError:
        raise ImageError("The image needs more memory than is available: reduce its size first.") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"The image is damaged and cannot be decoded ({reason}): save it again.") from None


class _Lane:
    """Limits the pixels decoded at the same time, first come, first served."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._decoding = 0
        self._turn, self._change = threading.Lock(), threading.Condition()

    @contextmanager
    def room(self, pixels: int) -> Generator[None]:
        """Wait until this many pixels may be decoded in addition to the current ones."""
        with self._turn, self._change:
            self._change.wait_for(lambda: self._decoding + pixels <= self.most)
            self._decoding += pixels
        try:
            yield
        finally:
            with self._change:
                self._decoding -= pixels
                self._change.notify_all()


# Two, so that a photograph does not wait behind a series of very large pictures.
_SMALL, _LARGE = _Lane(MAX_PIXELS // 2), _Lane(MAX_PIXELS)


def _room(pixels: int) -> AbstractContextManager[None]:
    return (_SMALL if pixels <= LARGE else _LARGE).room(pixels)


def _give_back() -> None:
    """Freed memory to the system: glibc keeps some for every thread, so six threads would hold six pictures' worth."""
    with suppress(OSError, AttributeError):  # another system's library
        ctypes.CDLL(None).malloc_trim(0)


# From a file to Pillow's picture


def _identified(file: IO[bytes]) -> ImageFile | TiffBands:
    file.seek(0)
    start = file.read(12)
    file.seek(0)
    formats: tuple[str, ...] = FORMATS
    if start[4:8] == b"ftyp" and start[8:12] in HEIC:
        from pillow_heif import register_heif_opener  # late: few need it

        register_heif_opener()
        formats = (*FORMATS, "HEIF")
    try:
        image = Image.open(file, formats=formats)
        tags: Mapping[int, Any] = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
        if tags.get(SAMPLES, 1) > 1 and image.mode in GREY:  # Pillow passes over the others
            with suppress(ValueError):
                return TiffBands(file)
        return image
    except UnidentifiedImageError:
        kind = TiffBands if start[:2] in (b"II", b"MM") else _Avif if start[4:8] == b"ftyp" else None
        if kind is None:
            raise
        try:
            file.seek(0)
            return kind(file)
        except Exception:  # it is neither, or of an unsupported type
            raise UnidentifiedImageError from None
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        return Image.open(_without_texts(file), formats=("PNG",))


class _Avif(AvifImagePlugin.AvifImageFile):
    """Of its EXIF nothing is read: Pillow writes it anew as it opens one that is turned."""

    def _open(self) -> None:
        assert self.fp is not None
        self._decoder = _avif.AvifDecoder(self.fp.read(), "auto", AvifImagePlugin._get_default_max_threads())
        self._size, self.n_frames, self._mode, _, _, orientation, _ = self._decoder.get_info()
        self.is_animated = self.n_frames > 1
        turned = Image.Exif()
        turned[ORIENTATION] = orientation
        self.info["exif"] = turned.tobytes()
        self.seek(0)


def _without_texts(file: IO[bytes]) -> io.BytesIO:
    """A PNG without its texts and colour profile, of which Pillow unpacks no more than a megabyte."""
    file.seek(0)
    kept = io.BytesIO()
    kept.write(file.read(8))
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[:4], "big") + 4  # with the checksum
        if head[4:] in (b"iCCP", b"zTXt", b"iTXt", b"tEXt"):
            file.seek(size, os.SEEK_CUR)
        else:
            kept.write(head + file.read(size))
    kept.seek(0)
    return kept


def _load(image: ImageFile) -> object:
    """Decode in place; returns the orientation as it stands in the file.

    Of EXIF only that one tag is read: Pillow's `exif_transpose`, which its TIFF reader calls too, writes all of it anew
    and fails on values that cannot be written.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        orientation = image.tag_v2.get(ORIENTATION)
        image._size = image._tile_size
        image.load_end = lambda: None  # pyrefly: ignore[method-assign]
        image.load()
        return orientation
    image.load()
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # an invalid block; the picture itself is complete
        return None


def _turned(image: Image.Image, orientation: Any) -> Image.Image:
    if isinstance(orientation, (list, tuple, bytes)) and orientation:
        orientation = orientation[0]
    try:
        turn = TURNS.get(int(orientation))
    except (TypeError, ValueError, ArithmeticError):
        turn = None
    return image if turn is None else image.transpose(turn)


def _in_strips(image: Image.Image, factor: int) -> Image.Image:
    """Convert a picture with 8 bits per channel to RGB and reduce it, without a second copy of its size in memory."""
    result = blank(image.size, factor)
    for top, end in rows(image.size, factor):
        strip = image.crop((0, top, image.width, end))
        if strip.has_transparency_data:
            strip = on_white(strip.convert("RGBA"))
        grey = strip.mode in ("1", "L")  # a third of the work
        strip = strip.convert("L" if grey else "RGB").reduce(factor)
        result.paste(strip.convert("RGB"), (0, top // factor))
    return result


# 16 bits a channel


def _is_wide(image: Image.Image) -> bool:
    """Whether it is grey with more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _low_bytes_mode(image: ImageFile) -> str | None:
    """The raw mode by which Pillow gives the low bytes of 16-bit colours, of which it keeps the high ones only."""
    raw = _raw_mode(image.tile[0].args) if image.tile else ""
    if raw == "LA;16B":
        return "RGBA"  # its four bytes: grey high and low, alpha high and low
    kind, _, order = raw.partition(";16")
    if kind not in ("RGB", "RGBX", "RGBA") or not order:
        return None
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    return f"{kind};16{'B' if order == 'L' else 'L'}"


def _raw_mode(arguments: Any) -> str:
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _with_raw_mode(arguments: Any, raw: str) -> Any:
    return (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw


def _brightest(image: Image.Image) -> int:
    channels: Any = image.getextrema()
    return max(int(high) for _, high in channels[:3])


def to_model_size(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size` pixels (bicubic, antialiased) and crop the middle, as torchvision and timm do.

    A long panorama does not become a huge strip in memory: only its middle is resized.
    """
    width, height = image.size
    if (width, height) == (size, size):
        return image
    short = min(width, height)
    wide, high = size * width // short, size * height // short
    left, top = round((wide - size) / 2), round((high - size) / 2)
    if wide * high <= LARGE:
        resized = image.resize((wide, high), Image.Resampling.BICUBIC)
        return resized.crop((left, top, left + size, top + size))
    # The same box in the original's pixels; Pillow rounds it to float32, so now and then a value is off by one.
    box = (left * width / wide, top * height / high, (left + size) * width / wide, (top + size) * height / high)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
