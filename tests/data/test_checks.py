"""Copies of pictures are found and told apart from similar ones; pictures that are hard to use are named."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageFilter

from resnet_space.data.checks.copies import Pair, find_copies, overlaid, thumbnail
from resnet_space.data.checks.quality import find_problems, looks_of
from resnet_space.data.sources import split_files

COUNT = 150


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Bundled pictures of 32 pixels, none of which is a copy of another."""
    rows = pq.read_table(split_files("cifar10-mini")["train"][0])["img"].slice(0, COUNT).to_pylist()
    return [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows]


def enlarged(picture: Image.Image) -> Image.Image:
    return picture.resize((160, 120), Image.Resampling.BICUBIC)


def recompressed(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((round(0.08 * width), 0, width, round(0.93 * height)))


SPOILT = {
    "the same": lambda picture: picture,
    "recompressed": recompressed,
    "smaller": lambda picture: picture.resize((80, 60), Image.Resampling.BILINEAR),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cropped": cropped,
    "darker": lambda picture: picture.point(lambda value: value * 0.7),
}


def pairs_of(pictures: list[Image.Image]) -> list[Pair]:
    return find_copies(torch.stack([thumbnail(picture) for picture in pictures]))


@pytest.mark.parametrize("kind", SPOILT)
def test_a_copy_is_found_and_nothing_else(photographs: list[Image.Image], kind: str) -> None:
    originals = [enlarged(picture) for picture in photographs]
    chosen = range(5, COUNT, 15)
    copies = [SPOILT[kind](originals[i]) for i in chosen]
    found = pairs_of([*originals, *copies])
    assert {(pair.first, pair.second) for pair in found} == {(i, COUNT + at) for at, i in enumerate(chosen)}
    assert {pair.mirrored for pair in found} == {kind == "mirrored"}


def test_pictures_of_one_scene_are_no_copies() -> None:
    """The same two textures, of which one stands elsewhere: a thing that moved before its background."""
    generator = np.random.default_rng(0)
    ground = np.asarray(Image.fromarray(generator.integers(0, 256, (12, 16), dtype=np.uint8)).resize((160, 120), 3))
    thing = np.asarray(Image.fromarray(generator.integers(0, 256, (6, 6), dtype=np.uint8)).resize((60, 60), 3))

    def scene(left: int) -> Image.Image:
        picture = ground.copy()
        picture[30:90, left : left + 60] = thing
        return Image.fromarray(picture).convert("RGB")

    assert len(pairs_of([scene(10), scene(10)])) == 1
    assert pairs_of([scene(10), scene(80)]) == []


def test_pictures_without_contrast_are_no_copies() -> None:
    assert pairs_of([Image.new("RGB", (64, 64), colour) for colour in ("white", "white", "black")]) == []
    assert pairs_of([Image.new("RGB", (64, 64))]) == []


def test_a_shift_that_is_known_is_undone(photographs: list[Image.Image]) -> None:
    whole = torch.from_numpy(np.asarray(photographs[0].convert("L").resize((40, 40), 3)).copy()).float() / 255
    first, second = whole[None, 4:36, 4:36], whole[None, 4:36, 7:39]  # three pixels to the right
    plain = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    alike, _ = overlaid(first, second)
    assert float(alike) > 0.995 > float(plain)


def test_pictures_that_are_hard_to_use_are_named_and_no_others(photographs: list[Image.Image]) -> None:
    usual = [enlarged(picture) for picture in photographs if looks_of(picture).spread > 10]
    odd = {
        "blank": Image.new("RGB", (160, 120), (90, 120, 30)),
        "dark": usual[0].point(lambda value: value * 0.1),
        "bright": usual[1].point(lambda value: 230 + value * 0.1),
        "blurred": usual[2].filter(ImageFilter.GaussianBlur(12)),
        "tiny": usual[3].resize((40, 30)),
        "stretched": usual[4].resize((400, 120)),
        "grey": usual[5].convert("L").convert("RGB"),
    }
    found = find_problems([looks_of(picture) for picture in [*usual, *odd.values()]])
    assert {position: problem for position, problem, _ in found} == {
        len(usual) + i: problem for i, problem in enumerate(odd)
    }
    assert all(score > 1 for *_, score in found)
    assert find_problems([]) == []


def test_what_all_pictures_have_in_common_is_no_fault(photographs: list[Image.Image]) -> None:
    looks = [looks_of(picture.convert("L").convert("RGB").resize((300, 60))) for picture in photographs]
    assert {problem for _, problem, _ in find_problems(looks)} <= {"dark", "bright"}
    colour = looks_of(photographs[0].resize((300, 60)))
    assert [problem for i, problem, _ in find_problems([*looks, colour]) if i == COUNT] == ["colour"]
