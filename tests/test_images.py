import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from resnet_space.data.images import MAX_PIXELS, ImageError, open_image, to_model_size


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


@pytest.mark.parametrize(("width", "height", "size"), [(640, 640, 224), (448, 224, 112), (128, 384, 32), (30, 90, 60)])
def test_the_result_is_torchvisions_resize_and_centre_crop(width: int, height: int, size: int) -> None:
    image = smooth_image(width, height)
    difference = np.asarray(to_model_size(image, size), dtype=int) - torchvisions(image, size)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("width", "height", "size"), [(500, 375, 32), (375, 500, 64), (301, 299, 64), (257, 129, 224)])
def test_where_torchvision_rounds_to_whole_pixels_it_is_at_most_one_apart(width: int, height: int, size: int) -> None:
    image = smooth_image(width, height)
    expected = torchvisions(image, size)
    difference = np.abs(np.asarray(to_model_size(image, size), dtype=int) - expected)
    one_pixel = np.abs(np.diff(expected, axis=int(width > height))).max()
    assert difference.max() <= one_pixel + 1
    assert difference.mean() <= one_pixel / 2


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
    assert str(caught.value).endswith("make it smaller first.")


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
    with pytest.raises(ImageError, match=r"such as HEIC or SVG: use a JPEG, PNG, .*\.$"):
        open_image(io.BytesIO(content))
