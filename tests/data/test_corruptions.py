"""Common corruptions, against what they are by definition, and against Pillow, torchvision and colorsys."""

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg

from resnet_space.common.errors import UserError
from resnet_space.data import corruptions
from resnet_space.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from resnet_space.data.images import to_model_size
from resnet_space.data.sources import split_files
from resnet_space.data.splits import load_split

PHOTOGRAPHS = Path(corruptions.__file__).parents[1] / "datasets" / "photographs"


@pytest.fixture(scope="module")
def small() -> Tensor:
    return load_split(split_files("cifar10-mini")["test"], 32).images[:100]


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    files = sorted(PHOTOGRAPHS.glob("*.jpg"))[:3]
    images = [to_model_size(Image.open(file).convert("RGB"), 224) for file in files]
    return torch.stack([torch.from_numpy(np.array(image)) for image in images])


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).square().mean().sqrt())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_is_farther_from_the_image_and_the_same_every_time(name: str, small: Tensor) -> None:
    corrupted = [corrupt(small, name, severity, seed=3) for severity in range(SEVERITIES + 1)]
    for images in corrupted:
        assert images.shape == small.shape
        assert images.dtype == torch.uint8
    assert torch.equal(corrupted[0], small)
    distances = [distance(images, small) for images in corrupted]
    assert distances == sorted(distances)
    assert distances[1] > 1
    assert torch.equal(corrupt(small, name, 3, seed=3), corrupted[3])


@pytest.mark.long
# Fog's severities differ in how fine it is, too, so that they are not ordered by their distance.
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "fog"])
def test_photographs_have_severities_of_their_own(name: str, photographs: Tensor) -> None:
    distances = [distance(corrupt(photographs, name, severity), photographs) for severity in (1, 3, 5)]
    assert distances == sorted(distances)
    assert CORRUPTIONS[name].small != CORRUPTIONS[name].large


@pytest.mark.parametrize("name", ["defocus-blur", "motion-blur", "zoom-blur", "contrast", "pixelate", "jpeg"])
@pytest.mark.parametrize("size", [8, 32])
def test_what_moves_or_mixes_pixels_leaves_an_even_image_alone(name: str, size: int) -> None:
    even = torch.full((2, size, size, 3), 96, dtype=torch.uint8)
    assert distance(corrupt(even, name, 5), even) < 1.01  # a rounding


def test_noise_has_the_strength_it_is_said_to_have() -> None:
    grey = torch.full((8, 32, 32, 3), 128, dtype=torch.uint8)
    gaussian = (corrupt(grey, "gaussian-noise", 5).float() - 128) / 255
    assert float(gaussian.std()) == pytest.approx(0.10, rel=0.03)
    shot = corrupt(grey, "shot-noise", 5).float() / 255
    assert float(shot.std()) == pytest.approx((128 / 255 / 50) ** 0.5, rel=0.03)  # Poisson: the variance is the mean
    impulses = corrupt(grey, "impulse-noise", 5)
    assert float(((impulses == 0) | (impulses == 255)).float().mean()) == pytest.approx(0.07, rel=0.1)


def test_contrast_brings_each_channel_nearer_to_its_mean(small: Tensor) -> None:
    image = small[0].double().numpy()
    expected = (image - image.mean((0, 1))) * 0.4 + image.mean((0, 1))
    assert np.abs(corrupt(small[:1], "contrast", 3)[0].numpy() - expected).max() <= 0.51


def test_brightness_adds_to_the_value_and_keeps_hue_and_saturation(small: Tensor) -> None:
    brighter = corrupt(small[:1], "brightness", 4)[0].numpy() / 255
    for row, column in ((0, 0), (7, 21), (30, 3)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(small[0, row, column].numpy() / 255))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
        assert brighter[row, column] == pytest.approx(expected, abs=1 / 255)


def test_pixelate_repeats_the_means_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.arange(8 * 8 * 3, dtype=torch.uint8).view(1, 8, 8, 3)
    pixels = image.permute(0, 3, 1, 2).float() / 255
    found = corruptions._pixelate(pixels, 0.5, 1.0, torch.Generator())
    means = torch.nn.functional.avg_pool2d(pixels, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert float((found - means).abs().max()) <= 0.51 / 255


def test_jpeg_is_torchvisions_at_the_same_quality(small: Tensor) -> None:
    for image in small[:5]:
        expected = decode_jpeg(encode_jpeg(image.permute(2, 0, 1).contiguous(), quality=40)).permute(1, 2, 0)
        assert distance(corrupt(image[None], "jpeg", 5)[0], expected) < 1


def test_what_there_is_not_is_refused_in_a_sentence(small: Tensor) -> None:
    with pytest.raises(UserError, match="There is no corruption 'rain': choose one of gaussian-noise, shot-noise"):
        corrupt(small, "rain", 1)
    for severity in (-1, 6, 1.5):
        with pytest.raises(UserError, match="The severity must be a whole number from 0 to 5"):
            corrupt(small, "fog", severity)
    assert len(corrupt(small[:0], "jpeg", 3)) == 0
