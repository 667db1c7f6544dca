"""Mutated pictures and archives by their seeds, in a process of its own: python -m tests.fuzzing pictures 0 100

The last line is JSON: how often each outcome was, and by how many bytes the process grew. A seed is printed before it
is tried, so that one that kills the process is known.
"""

import base64
import io
import json
import random
import resource
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.data.archives import import_archive
from resnet_space.data.images import ImageError, open_image
from tests.odd_pictures import HEIC, HEIC_TURNED, exif, png16, tiff

MEMORY = 1_200_000_000  # bytes that decoding may add: 20 a pixel of the largest picture, and the libraries


@cache
def pictures() -> list[bytes]:
    """One of every format and kind that is read."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 4), dtype=np.uint8)
    smooth = Image.fromarray(noise[..., :3]).resize((90, 60), Image.Resampling.BICUBIC)
    deep = noise.astype(np.uint16) * 9
    made = []

    def add(kind: str, image: Image.Image = smooth, **options: Any) -> None:
        file = io.BytesIO()
        image.save(file, kind, **options)
        made.append(file.getvalue())

    options: dict[str, Any]
    turned = exif((0x0112, 3, 1, b"\6\0"), (0x010F, 2, 6, b"maker\0"), inner=[(0x9204, 10, 1, bytes(8))])
    for options in ({}, {"progressive": True}, {"exif": turned}, {"subsampling": 0, "quality": 95}):
        add("JPEG", **options)
    for mode in ("L", "CMYK"):
        add("JPEG", smooth.convert(mode))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        add("PNG", smooth.convert("L").convert(mode) if mode == "I;16" else smooth.convert(mode))
    add("PNG", exif=turned)
    add("PNG", smooth.quantize(8), transparency=3, icc_profile=bytes(500))
    add("PNG", save_all=True, append_images=[smooth.rotate(9)])
    for options in ({}, {"lossless": True}, {"exif": turned}, {"save_all": True, "append_images": [smooth.rotate(9)]}):
        add("WEBP", **options)
    add("WEBP", smooth.convert("RGBA"))
    for options in ({}, {"exif": turned}, {"save_all": True, "append_images": [smooth.rotate(9)]}):
        add("AVIF", **options)
    add("GIF", smooth.quantize(16), transparency=2)
    add("GIF", smooth.quantize(16), save_all=True, append_images=[smooth.rotate(9).quantize(16)])
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        add("BMP", smooth.convert(mode))
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        add("TIFF", compression=compression)
    add("TIFF", smooth.convert("1"), compression="group4")
    add("TIFF", smooth.convert("F"), exif=turned)
    for mode in ("1", "L", "RGB"):
        add("PPM", smooth.convert(mode))
    for options in ({}, {"irreversible": True, "quality_layers": [20]}):
        add("JPEG2000", **options)
    made += [png16(deep[..., :bands]) for bands in (2, 3, 4)]
    for bands in (1, 2, 3, 4):
        made += [tiff(deep[..., :bands]), tiff(deep[..., :bands], ">", deflate=True, predictor=True)]
        made += [tiff(noise[..., :bands], planar=True), tiff(noise[..., :bands].astype(np.float32), photometric=1)]
    return [*made, base64.b64decode(HEIC), base64.b64decode(HEIC_TURNED)]


@cache
def archives() -> list[bytes]:
    """Zips by every method, with names in several encodings, and tars."""
    files = {f"train/{name}/{i}.png": data for i, data in enumerate(pictures()[6:12]) for name in ("cat", "dög")}
    files |= {"train/cat/deep.png": pictures()[12], "test/dög/x.tif": pictures()[-4], "notes.txt": b"?"}
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        made += [file.getvalue(), file.getvalue().replace("dög".encode(), b"\x83\\\x83t")]
    for ending in ("", ":gz", ":bz2", ":xz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=f"w{ending}") as tar:  # pyrefly: ignore[no-matching-overload]
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        made.append(file.getvalue())
    return made


def mutated(whole: bytes, generator: random.Random) -> bytes:
    """A few bytes, numbers or pieces changed, mostly near the beginning, where headers are."""
    data = bytearray(whole)
    for _ in range(generator.choice((1, 1, 2, 4, 12))):
        near = generator.choice((64, 400, len(data)))
        at = generator.randrange(max(min(near, len(data)), 1))
        way = generator.randrange(7)
        if way == 0:
            data[at : at + 1] = bytes([generator.randrange(256)])
        elif way == 1:
            data[at : at + 1] = bytes([data[at] ^ 1 << generator.randrange(8)]) if data else b""
        elif way == 2:
            size = generator.choice((1, 2, 4, 8))
            number = generator.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 8_000, 40_000))
            data[at : at + size] = (number % 256**size).to_bytes(size, generator.choice(("big", "little")))
        elif way == 3:
            del data[at : at + generator.choice((1, 4, 50))]
        elif way == 4:
            data[at:at] = generator.randbytes(generator.choice((1, 4, 50)))
        elif way == 5:
            start = generator.randrange(max(len(data), 1))
            data[at:at] = data[start : start + generator.choice((4, 50, 500))]
        elif generator.random() < 0.3:
            del data[at:]
    return bytes(data)


def try_picture(seed: int) -> str:
    generator = random.Random(seed)
    data = mutated(pictures()[seed % len(pictures())], generator)
    try:
        image = open_image(io.BytesIO(data), short_side=generator.choice((None, 32, 512)))
    except ImageError as error:
        if "\n" in str(error) or str(error)[-1] != ".":
            return f"no sentence: {error}"
        return "refused"
    return "read" if image.mode == "RGB" else f"mode {image.mode}"


def try_archive(seed: int) -> str:
    data = mutated(archives()[seed % len(archives())], random.Random(seed))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "archive").write_bytes(data)
        try:
            import_archive(Path(folder) / "archive", Path(folder) / "set")
        except UserError as error:
            return f"no sentence: {error}" if "\n" in str(error) or str(error)[-1] not in ".)" else "refused"
    return "read"


def main(kind: str, start: int, count: int) -> None:
    attempt: Callable[[int], str] = {"pictures": try_picture, "archives": try_archive}[kind]
    open_image(io.BytesIO(base64.b64decode(HEIC)))  # all libraries are loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    for seed in range(start, start + count):
        print(seed, flush=True)
        try:
            outcomes[attempt(seed)] += 1
        except Exception as error:
            outcomes[f"seed {seed}: {type(error).__name__}: {error}"] += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"outcomes": outcomes, "grown": grown}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
