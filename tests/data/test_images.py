import base64
import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision.transforms import InterpolationMode, v2

from resnet_space.data import images as module
from resnet_space.data.deep import Scale
from resnet_space.data.images import MAX_PIXELS, ImageError, Picture, open_image, to_model_size
from tests.odd_pictures import HEIC, HEIC_TURNED, exif, png16, png_chunk, tiff


def smooth_image(width: int, height: int) -> Image.Image:
    """Slow waves: resampling twice, or half a pixel apart, changes them little."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin(3 * x + 2 * y), np.cos(4 * y - x), np.sin(5 * x * y + 1)]
    return Image.fromarray((127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8))


def blocks(colours: list[str], block: tuple[int, int], *, vertical: bool = False) -> Image.Image:
    """Plain blocks in a row, or in a column."""
    n, (width, height) = len(colours), block
    image = Image.new("RGB", (width, height * n) if vertical else (width * n, height))
    for i, colour in enumerate(colours):
        corner = (0, i * height) if vertical else (i * width, 0)
        image.paste(Image.new("RGB", block, colour), corner)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def torchvisions(image: Image.Image, size: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    steps = [v2.Resize(size, InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(size)]
    return np.asarray(v2.Compose(steps)(image), dtype=np.int64)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(640, 640, 224), (128, 384, 32), (30, 90, 60), (500, 375, 256), (375, 500, 64), (301, 299, 65), (257, 129, 224)],
)
def test_the_result_is_torchvisions_resize_and_centre_crop(width: int, height: int, size: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert np.array_equal(np.asarray(to_model_size(image, size)), torchvisions(image, size))


@pytest.mark.parametrize(("width", "height"), [(9_000, 9), (8, 10_000)])
def test_of_a_long_panorama_it_is_at_most_one_apart(width: int, height: int) -> None:
    image = smooth_image(width, height)
    difference = np.asarray(to_model_size(image, 224), dtype=int) - torchvisions(image, 224)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("source", [(1, 1), (2, 3), (3, 200), (31, 33), (32, 33), (5_000, 20), (20, 5_000)])
@pytest.mark.parametrize("size", [8, 32, 224])
def test_every_size_becomes_the_models_size(source: tuple[int, int], size: int) -> None:
    result = to_model_size(Image.new("RGB", source, "teal"), size)
    assert result.size == (size, size)
    assert result.mode == "RGB"
    assert result.getcolors() == [(size * size, (0, 128, 128))]


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert to_model_size(image, 32).tobytes() == image.tobytes()


@pytest.mark.parametrize("vertical", [False, True])
def test_a_panorama_is_cropped_to_its_centre(vertical: bool) -> None:
    panorama = blocks(["red", "green", "lime", "navy", "blue"], (60, 60), vertical=vertical)
    inside = to_model_size(panorama, 32).crop(
        (2, 2, 30, 30)
    )  # at the edges its neighbours shine through, as they should
    assert inside.getcolors() == [(28 * 28, (0, 255, 0))]


def test_a_huge_panorama_becomes_no_huge_strip() -> None:
    # Resized first, it would be 32 x 6,400,000 pixels, 600 MB.
    panorama = blocks(["red", "lime", "blue"], (66_667, 1))
    assert to_model_size(panorama, 32).getcolors() == [(32 * 32, (0, 255, 0))]


def test_enlarging_and_shrinking_keep_up_up_and_left_left() -> None:
    quarters = blocks(["red", "lime"], (40, 40))
    lower = blocks(["blue", "white"], (40, 40))
    image = Image.new("RGB", (80, 80))
    image.paste(quarters, (0, 0))
    image.paste(lower, (0, 40))
    for size in (16, 224):
        small = to_model_size(image, size)
        edge = size - 1
        corners = [small.getpixel(place) for place in ((0, 0), (edge, 0), (0, edge), (edge, edge))]
        assert corners == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    board = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    values = np.asarray(to_model_size(board, 32), dtype=int)
    assert np.abs(values[1:-1, 1:-1] - 127.5).max() < 8


# What visitors bring


def assert_plain(image: Image.Image, colour: tuple[int, int, int], tolerance: int = 0) -> None:
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, dtype=int) - colour).max() <= tolerance


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("RGB", (9, 7), (10, 200, 30)), (10, 200, 30)),
        (Image.new("L", (9, 7), 77), (77, 77, 77)),
        (Image.new("1", (9, 7), 1), (255, 255, 255)),
        (Image.new("RGB", (9, 7), (10, 200, 30)).quantize(4), (10, 200, 30)),
        (Image.new("LA", (9, 7), (0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (9, 7), (10, 200, 30, 255)), (10, 200, 30)),
        (Image.new("RGBA", (9, 7), (10, 200, 30, 0)), (255, 255, 255)),
    ],
    ids=["RGB", "grey", "black and white", "palette", "grey, transparent", "opaque", "transparent"],
)
def test_every_kind_of_png_is_seen_as_it_is_meant(image: Image.Image, colour: tuple[int, int, int]) -> None:
    opened = open_image(encoded(image))
    assert opened.size == (9, 7)
    assert_plain(opened, colour)


def test_half_transparent_colours_are_mixed_with_white() -> None:
    assert_plain(open_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 200, 128)))), (127, 127, 228), tolerance=1)


def test_a_palette_with_a_transparent_colour_shows_white_there() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert_plain(open_image(encoded(image, transparency=1)), (255, 255, 255))


def test_16_bit_grey_keeps_its_brightness() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(4, axis=0)
    opened = open_image(encoded(Image.fromarray(ramp)))
    expected = np.arange(256)[None, :, None].repeat(4, axis=0).repeat(3, axis=2)
    assert opened.mode == "RGB"
    assert np.abs(np.asarray(opened, dtype=int) - expected).max() <= 1


@pytest.mark.parametrize("constant", [0, 300, 65535])
def test_16_bit_grey_without_contrast_works(constant: int) -> None:
    opened = open_image(encoded(Image.fromarray(np.full((4, 4), constant, dtype=np.uint16))))
    assert_plain(opened, (round(constant / 257),) * 3, tolerance=1)


def test_cmyk_jpegs_become_rgb() -> None:
    opened = open_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert_plain(opened, (255, 0, 0), tolerance=3)


def test_a_photograph_is_turned_upright() -> None:
    sideways = blocks(["red", "blue"], (16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    opened = open_image(encoded(sideways, "JPEG", exif=exif, quality=95, subsampling=0))
    assert opened.size == (16, 32)
    assert_plain(opened.crop((2, 2, 14, 14)), (254, 0, 0), tolerance=3)
    assert_plain(opened.crop((2, 18, 14, 30)), (0, 0, 254), tolerance=3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"A text that somebody renamed to .png, long enough to be read.", "not an image"),
        (encoded(smooth_image(256, 256), "JPEG").getvalue()[:-400], "damaged"),
        (encoded(smooth_image(64, 64)).getvalue()[:-400], "damaged"),
        (encoded(smooth_image(64, 64)).getvalue()[:30], "damaged|not an image"),
    ],
    ids=["empty", "text", "truncated JPEG", "truncated PNG", "only a header"],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        open_image(file)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, without its pixels: enough to judge it by."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (MAX_PIXELS // 1_000 + 1, 1_000), (12_000, 12_000)])
def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    with pytest.raises(ImageError, match="million") as caught:
        open_image(io.BytesIO(png_header(width, height)))
    assert str(caught.value).endswith("reduce its size first.")


def test_an_image_just_within_the_limit_is_decoded() -> None:
    # All pixels are claimed and none is there: it passes the limit and fails later.
    with pytest.raises(ImageError, match="damaged"):
        open_image(io.BytesIO(png_header(MAX_PIXELS // 1_000, 1_000)))


def test_opened_and_resized_it_fits_the_model() -> None:
    pixels = np.array(to_model_size(open_image(encoded(Image.new("LA", (50, 20), (9, 255)))), 32))
    assert torch.equal(torch.from_numpy(pixels), torch.full((32, 32, 3), 9, dtype=torch.uint8))


FRAMES = [Image.new("RGB", (9, 7), colour) for colour in ((200, 10, 30), (0, 0, 255))]


@pytest.mark.parametrize(
    "file",
    [
        encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:], duration=50),
        encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
        encoded(FRAMES[0], "AVIF", quality=100, subsampling="4:4:4"),
    ],
    ids=["animated GIF", "animated PNG", "animated WebP", "AVIF"],
)
def test_of_moving_pictures_the_first_is_seen(file: io.BytesIO) -> None:
    opened = open_image(file)
    assert opened.size == (9, 7)
    assert_plain(opened, (200, 10, 30), tolerance=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_the_smallest_and_the_longest_pictures_work(size: tuple[int, int]) -> None:
    assert to_model_size(open_image(encoded(Image.new("RGB", size, "teal"))), 32).getcolors() == [(1024, (0, 128, 128))]


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(500),
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"%PDF-1.4 " + bytes(300),
    ],
    ids=["HEIC", "SVG", "PDF"],
)
def test_other_kinds_are_refused_by_what_can_be_used_instead(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"such as SVG: use a JPEG, PNG, .*\.$"):
        open_image(io.BytesIO(content))


# EXIF that cannot be written again


def ratio(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


TURNED = (0x0112, 3, 1, b"\6\0")
ODD_EXIF = {
    "negative exposure bias": exif(TURNED, inner=[(0x9204, 10, 1, ratio(-1, 0))]),
    "negative altitude": exif(TURNED, place=[(6, 10, 1, ratio(-5, 1))]),
    "distance of minus one": exif(TURNED, inner=[(0x9206, 5, 1, ratio(-1, 0))]),
    "shutter speed of 0/0": exif(TURNED, inner=[(0x9201, 10, 1, ratio(0, 0))]),
    "speed as text": exif(TURNED, inner=[(0x8827, 2, 4, b"100\0")]),
    "width as text": exif((0x0100, 2, 5, b"4032\0"), TURNED),
    "date as numbers": exif(TURNED, (0x0132, 3, 2, b"\1\0\2\0")),
    "an unknown type": exif((0x010E, 129, 3, b"abc\0"), TURNED),
    "orientation as text": exif((0x0112, 2, 2, b"6\0")),
    "orientation as a byte": exif((0x0112, 1, 1, b"\6")),
    "orientation as a ratio": exif((0x0112, 5, 1, ratio(6, 1))),
    "orientation as a float": exif((0x0112, 11, 1, struct.pack("<f", 6))),
    "two orientations": exif((0x0112, 3, 2, b"\6\0\6\0")),
}
NO_ORIENTATION = {
    "not a number": exif((0x0112, 11, 1, struct.pack("<f", np.nan))),
    "a ratio to 0": exif((0x0112, 5, 1, ratio(6, 0))),
    "a word": exif((0x0112, 2, 4, b"abc\0")),
    "99": exif((0x0112, 3, 1, b"\x63\0")),
    "no block at all": b"Exif\0\0garbage",
}


@pytest.mark.parametrize("block", ODD_EXIF.values(), ids=ODD_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_of_exif_only_the_orientation_matters(block: bytes, kind: str) -> None:
    opened = open_image(encoded(blocks(["red", "blue"], (16, 16)), kind, exif=block, quality=95))
    assert opened.size == (16, 32)
    assert opened.getpixel((8, 4))[0] > 200
    assert opened.getpixel((8, 28))[2] > 200


def test_an_avif_that_is_turned_and_has_odd_exif_is_read() -> None:
    written = exif(TURNED, inner=[(0x9204, 10, 1, ratio(-1, 3))])
    file = encoded(blocks(["red", "blue"], (16, 16)), "AVIF", exif=written).getvalue()
    assert file.count(ratio(-1, 3)) == 1
    opened = open_image(io.BytesIO(file.replace(ratio(-1, 3), ratio(-1, 0))))
    assert opened.size == (16, 32)
    assert opened.getpixel((8, 4))[0] > 200


@pytest.mark.parametrize("block", NO_ORIENTATION.values(), ids=NO_ORIENTATION)
def test_an_orientation_that_is_none_is_passed_over(block: bytes) -> None:
    assert open_image(encoded(Image.new("RGB", (32, 16)), "JPEG", exif=block)).size == (32, 16)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_as_pillow_turns_them(orientation: int, compression: str | None) -> None:
    file = encoded(smooth_image(24, 16), "TIFF", tiffinfo={0x0112: orientation}, compression=compression)
    with Image.open(file) as image:
        expected = image.convert("RGB")
    file.seek(0)
    opened = open_image(file)
    assert (opened.size, opened.tobytes()) == (expected.size, expected.tobytes())


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, struct.error, KeyError, RecursionError, AssertionError])
def test_whatever_a_decoder_raises_is_an_image_error(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def broken(_: object) -> None:
        raise error("no\nluck")

    file = encoded(smooth_image(8, 8))
    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    with pytest.raises(ImageError) as caught:
        open_image(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_damaged_avif_is_refused_in_a_sentence() -> None:
    whole = encoded(smooth_image(64, 64), "AVIF").getvalue()
    for end in range(20, len(whole) // 2, 20):
        with pytest.raises(ImageError, match=r"\.$"):
            open_image(io.BytesIO(whole[:end] + bytes(len(whole) - end)))


# More than 8 bits a channel

RGB = np.asarray(smooth_image(24, 16))
OPAQUE = np.full((16, 24, 1), 65535, dtype=np.uint16)


def deep(bits: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint16]]":
    """The same picture in so many bits of 16."""
    return np.round(RGB / 255 * (2**bits - 1)).astype(np.uint16)


def decoded(data: bytes) -> tuple["np.ndarray[tuple[int, ...], np.dtype[np.int64]]", Scale | None, str]:
    with Picture(io.BytesIO(data)) as picture:
        assert picture.is_deep
        found = picture.decode()
    return np.asarray(found.image, dtype=np.int64), found.scale, found.note


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bits_are_scaled_by_those_in_use(bits: int) -> None:
    colours = deep(bits)
    bright = colours.copy()
    bright[0, 0] = 2**bits - 1
    files = {
        "PNG": png16(bright),
        "PNG, transparent": png16(np.concatenate([bright, OPAQUE], axis=2)),
        **{f"TIFF {order}{deflate}": tiff(bright, order, deflate=deflate, photometric=2)
           for order in "<>" for deflate in (False, True)},
    }  # fmt: skip
    expected = RGB.astype(int).copy()
    expected[0, 0] = 255
    for kind, file in files.items():
        pixels, scale, note = decoded(file)
        assert np.abs(pixels - expected).max() <= 1, kind
        assert scale == Scale.of_bits(bits), kind
        assert (f"uses {bits} of its 16 bits" in note) == (bits < 16)
    for file in (
        png16(bright[..., 0]),
        png16(np.concatenate([bright[..., :1], OPAQUE], axis=2)),
        tiff(bright[..., 0], deflate=True),
        tiff(bright[..., 0], ">"),
    ):
        pixels, scale, _ = decoded(file)
        assert np.abs(pixels - expected[..., :1]).max() <= 1
        assert scale == Scale.of_bits(bits)


@pytest.mark.parametrize("bands", [2, 4, 5, 9])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [{}, {"deflate": True}, {"planar": True}, {"planar": True, "deflate": True},
                                  {"deflate": True, "predictor": True}])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_of_more_bands_the_first_three_are_seen_or_the_first(
    bands: int, order: str, kind: dict[str, bool], dtype: type[np.uint8 | np.uint16]
) -> None:
    values = np.concatenate([RGB, 255 - RGB, RGB], axis=2)[..., :bands].astype(dtype)
    values[..., : 3 if bands > 2 else 1][0, 0] = 255
    opened = open_image(io.BytesIO(tiff(values, order, **kind)))
    expected = values[..., : 3 if bands > 2 else 1]
    assert np.array_equal(np.asarray(opened), np.broadcast_to(expected, (16, 24, 3)))
    assert f"Of its {bands} bands, the first" in opened.info["note"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_does_not_count_to_the_extent_of_floats(bad: float) -> None:
    values = np.linspace(-3, 5, 256, dtype=np.float32)[None].repeat(2, axis=0)
    values[1, 7] = bad
    pixels, scale, note = decoded(tiff(values))
    assert scale == Scale(-3, 5)
    assert np.array_equal(pixels[0, :, 0], np.arange(256))
    assert pixels[1, 7, 0] == (255 if bad == np.inf else 0)
    assert note == "Values from -3 to 5 were scaled to black to white."
    assert decoded(tiff(np.full((2, 2), bad, dtype=np.float32)))[0].max() == 0


def test_a_scale_that_was_chosen_for_all_is_taken() -> None:
    with Picture(io.BytesIO(png16(deep(8)))) as picture:
        dark = np.asarray(picture.decode(lambda own: own | Scale.of_bits(12)).image, dtype=int)
    assert np.abs(dark - RGB / 4095 * 255).max() <= 1


# Other formats, and files that are hard to read


@pytest.mark.parametrize(("data", "size", "last"), [(HEIC, (32, 16), (28, 8)), (HEIC_TURNED, (16, 32), (8, 28))])
def test_heic_is_read(data: str, size: tuple[int, int], last: tuple[int, int]) -> None:
    opened = open_image(io.BytesIO(base64.b64decode(data)))
    assert opened.size == size
    assert opened.getpixel((4, 4))[0] > 200
    assert opened.getpixel(last)[2] > 200
    with Picture(io.BytesIO(base64.b64decode(data))) as picture:
        assert not picture.is_usual


@pytest.mark.parametrize("kind", ["PPM", "BMP", "JPEG2000"])
def test_formats_that_pillow_reads_safely_are_read(kind: str) -> None:
    for mode in ("L", "RGB"):
        image = smooth_image(24, 16).convert(mode)
        opened = open_image(encoded(image, kind, **({"irreversible": False} if kind == "JPEG2000" else {})))
        assert np.array_equal(np.asarray(opened), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "tEXt", "iTXt"])
@pytest.mark.parametrize("place", ["before the pixels", "after them"])
def test_a_png_with_a_large_text_or_profile_is_read(kind: str, place: str) -> None:
    whole = encoded(smooth_image(24, 16)).getvalue()
    head = {"iTXt": b"about\0\1\0\0\0", "tEXt": b"about\0"}.get(kind, b"about\0\0")
    large = bytes(3_000_000) if kind == "tEXt" else zlib.compress(bytes(3_000_000))
    chunk = png_chunk(kind.encode(), head + large)
    at = whole.index(b"IDAT") - 4 if place == "before the pixels" else whole.index(b"IEND") - 4
    opened = open_image(io.BytesIO(whole[:at] + chunk * 22 * (kind == "tEXt") + chunk + whole[at:]))
    assert np.array_equal(np.asarray(opened), np.asarray(smooth_image(24, 16)))


@pytest.fixture(scope="module")
def jpegs_of_108_megapixels() -> dict[bool, bytes]:
    """Plain or progressive."""
    image = Image.new("L", (12_000, 9_000), 200)
    return {way: encoded(image, "JPEG", progressive=way).getvalue() for way in (False, True)}


def test_a_jpeg_of_108_megapixels_is_read_where_fewer_are_enough(jpegs_of_108_megapixels: dict[bool, bytes]) -> None:
    opened = open_image(io.BytesIO(jpegs_of_108_megapixels[False]), short_side=1024)
    assert opened.size == (1500, 1125)
    for file, short_side in ((False, None), (True, 1024), (False, 8_000)):
        with pytest.raises(ImageError, match=r"12,000 x 9,000 pixels, above the limit of 50 million"):
            open_image(io.BytesIO(jpegs_of_108_megapixels[file]), short_side=short_side)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_where_fewer_pixels_are_enough_a_picture_comes_smaller(kind: str) -> None:
    whole = smooth_image(1_030, 720)
    small = open_image(encoded(whole, kind, **({"lossless": True} if kind == "WEBP" else {})), short_side=128)
    assert min(small.size) in range(128, 256)
    difference = np.asarray(to_model_size(small, 64), dtype=int) - np.asarray(to_model_size(whole, 64), dtype=int)
    assert np.abs(difference).max() <= 4
    assert open_image(encoded(whole, kind), short_side=721).size == whole.size


# Memory

PEAK = """
import io, resource, sys, threading
from resnet_space.data.images import open_image
data = sys.stdin.buffer.read()
open_image(io.BytesIO(SMALL))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
threads = [threading.Thread(target=lambda: open_image(io.BytesIO(data), short_side=SHORT)) for _ in range(COUNT)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def peak_bytes(data: bytes, *, count: int, short_side: int | None) -> int:
    """What the resident memory grows by in a process of its own while so many threads decode a picture each."""
    code = PEAK.replace("SMALL", repr(encoded(Image.new("L", (2, 2))).getvalue()))
    code = code.replace("SHORT", str(short_side)).replace("COUNT", str(count))
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    return int(done.stdout)


def test_decoding_stays_within_the_stated_bytes_a_pixel() -> None:
    # 97 KB, of 50 megapixels in 12 bits of 16.
    row = b"\0" + (np.arange(8_000) % 4_096).astype(">u2").tobytes()
    header = struct.pack(">IIBBBBB", 8_000, 6_250, 16, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    data += png_chunk(b"IDAT", zlib.compress(row * 6_250, 1)) + png_chunk(b"IEND", b"")
    assert peak_bytes(data, count=1, short_side=None) < 12 * 50_000_000
    # Three at once do not cost three times: they wait for one another.
    assert peak_bytes(data, count=3, short_side=512) < 5 * 50_000_000


def test_large_pictures_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL", module._Lane(100))
    at_once, most = 0, 0
    original, lock = module._load, threading.Lock()

    def slow(image: ImageFile.ImageFile) -> object:
        nonlocal at_once, most
        with lock:
            at_once += image.width * image.height
            most = max(most, at_once)
        time.sleep(0.005)
        with lock:
            at_once -= image.width * image.height
        return original(image)

    monkeypatch.setattr(module, "_load", slow)
    files = [encoded(Image.new("L", (side, 10))) for side in (2, 9, 3, 4, 10, 2, 1, 8, 5)]
    threads = [threading.Thread(target=open_image, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 20 < most <= 100
    assert module._LARGE._decoding == module._SMALL._decoding == 0


def test_a_photograph_does_not_wait_behind_the_largest_pictures() -> None:
    large, small = (encoded(Image.new("L", size)) for size in ((5_000, 1_000), (100, 100)))
    with ThreadPoolExecutor(2) as pool:
        with module._LARGE.room(module.MAX_PIXELS):
            waiting = pool.submit(open_image, large)
            assert pool.submit(open_image, small).result(timeout=30).size == (100, 100)
            assert not waiting.done()
        assert waiting.result(timeout=30).size == (5_000, 1_000)
