"""Common corruptions of images at five severities (Hendrycks & Dietterich 2019, arXiv:1903.12261), computed on tensors.

Twelve of the paper's fifteen: frost needs photographs of frost, and glass blur and the elastic transform move pixels
one after the other. The severities are the authors': those of CIFAR-10-C for images of up to 64 pixels, and those of
ImageNet-C for larger ones. Lengths in pixels are scaled from 32 or 224 pixels to the image's size. Motion blur and fog
follow the paper's idea, not its library's code, so numbers are not comparable with published ones to the point.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.data.summary import SMALL_IMAGE

SEVERITIES = 5
SMALL, LARGE = 32, 224  # pixels, for which the two sets of severities were made

Apply = Callable[[Tensor, Any, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Corruption:
    """One kind.

    Attributes:
        id: by which it is asked for and stored.
        label: for display.
        small, large: what `apply` is given for each severity, for small images and for photographs.
        apply: (images float32 [N, 3, H, W] in 0..1, that value, the scale of lengths, generator) -> the same shape.
    """

    id: str
    label: str
    small: Sequence[Any]
    large: Sequence[Any]
    apply: Apply


CORRUPTIONS: dict[str, Corruption] = {}


def _corruption(id: str, label: str, small: Sequence[Any], large: Sequence[Any]) -> Callable[[Apply], Apply]:
    """Register the decorated function as what a corruption applies."""

    def register(apply: Apply) -> Apply:
        CORRUPTIONS[id] = Corruption(id, label, small, large, apply)
        return apply

    return register


def corrupt(images: Tensor, corruption: str, severity: int, seed: int = 0) -> Tensor:
    """Corrupt images; the draws depend on the seed and the images' number and size, not on the severity.

    Args:
        images: uint8 [N, H, W, 3].
        corruption: an id of `CORRUPTIONS`.
        severity: 1 to 5; 0 gives the images as they are.
        seed: of what is random.

    Returns:
        uint8 [N, H, W, 3].

    Raises:
        UserError: for a corruption or a severity that there is not.
    """
    if corruption not in CORRUPTIONS:
        raise UserError(f"There is no corruption {corruption!r}: choose one of {', '.join(CORRUPTIONS)}.")
    if severity not in range(SEVERITIES + 1):
        raise UserError(f"The severity must be a whole number from 0 to {SEVERITIES}, not {severity!r}.")
    if not severity or not len(images):
        return images
    kind, size = CORRUPTIONS[corruption], images.shape[1]
    is_small = size <= SMALL_IMAGE
    value = (kind.small if is_small else kind.large)[severity - 1]
    generator = torch.Generator().manual_seed(seed)
    pixels = images.cpu().permute(0, 3, 1, 2).float() / 255
    changed = kind.apply(pixels, value, size / (SMALL if is_small else LARGE), generator)
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


# Noise


@_corruption("gaussian-noise", "Gaussian noise", (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
def _gaussian_noise(x: Tensor, std: float, _scale: float, generator: torch.Generator) -> Tensor:
    return x + std * torch.randn(x.shape, generator=generator)


@_corruption("shot-noise", "Shot noise", (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
def _shot_noise(x: Tensor, photons: float, _scale: float, generator: torch.Generator) -> Tensor:
    return torch.poisson(x * photons, generator=generator) / photons


@_corruption("impulse-noise", "Impulse noise", (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
def _impulse_noise(x: Tensor, share: float, _scale: float, generator: torch.Generator) -> Tensor:
    """Salt and pepper in equal parts."""
    drawn = torch.rand(x.shape, generator=generator)
    return x.masked_fill(drawn < share / 2, 0.0).masked_fill(drawn > 1 - share / 2, 1.0)


# Blur


@_corruption(
    "defocus-blur",
    "Defocus blur",
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
)
def _defocus_blur(x: Tensor, disc: tuple[float, float], scale: float, _generator: torch.Generator) -> Tensor:
    """Convolved with a disc of a radius, which a Gaussian smooths."""
    radius, smooth = (scale * length for length in disc)
    reach = math.ceil(radius) + 2
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    inside = (axis[:, None] ** 2 + axis[None] ** 2 <= radius**2).float()
    bell = torch.exp(-(axis**2) / (2 * smooth**2))
    soft = F.conv2d(inside[None, None], torch.outer(bell, bell)[None, None], padding=reach)[0, 0]
    return _convolved(x, soft / soft.sum())


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """[N, C, H, W] with a kernel [k, k]; the border is mirrored, or continued where it is too narrow for that."""
    reach = kernel.shape[-1] // 2
    padded = F.pad(x, (reach,) * 4, mode="reflect" if reach < x.shape[-1] else "replicate")
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view(x.shape)


@_corruption(
    "motion-blur",
    "Motion blur",
    ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
)
def _motion_blur(x: Tensor, path: tuple[float, float], scale: float, generator: torch.Generator) -> Tensor:
    """A mean along a path in one direction, which each image draws; the weights fall as a Gaussian does."""
    angle = torch.empty(len(x)).uniform_(-math.pi / 4, math.pi / 4, generator=generator)
    reach, std = path
    return _moved(x, scale * reach, scale * std, angle)


def _moved(x: Tensor, reach: float, std: float, angle: Tensor) -> Tensor:
    steps = torch.arange(round(reach) + 1, dtype=torch.float32)
    weights = torch.exp(-(steps**2) / (2 * std**2))
    weights /= weights.sum()
    total = torch.zeros_like(x)
    for step, weight in zip(steps.tolist(), weights.tolist(), strict=True):
        shift = torch.stack([angle.cos(), angle.sin()], 1) * (2 * step / x.shape[-1])
        total += weight * _sampled(x, torch.ones(len(x)), shift)
    return total


def _sampled(x: Tensor, size: Tensor, shift: Tensor) -> Tensor:
    """The part of each image of this size [N] (1 is all) around a shifted centre [N, 2] (1 is half of its width)."""
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _zoomed(x: Tensor, factor: float) -> Tensor:
    return _sampled(x, torch.full((len(x),), 1 / factor), torch.zeros(len(x), 2))


@_corruption(
    "zoom-blur",
    "Zoom blur",
    tuple((end, 0.01) for end in (1.06, 1.11, 1.16, 1.21, 1.26)),
    ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
)
def _zoom_blur(x: Tensor, zoom: tuple[float, float], _scale: float, _generator: torch.Generator) -> Tensor:
    """The mean of the image and of itself magnified, up to a factor."""
    factors = np.arange(1, zoom[0], zoom[1]).tolist()
    return (x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


# Weather


@_corruption(
    "snow",
    "Snow",
    (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
)
def _snow(x: Tensor, snow: tuple[float, ...], scale: float, generator: torch.Generator) -> Tensor:
    """Bright flakes that fall aslant, on a picture that is paler."""
    mean, std, zoom, threshold, reach, path, kept = snow
    n, _, height, width = x.shape
    flakes = _zoomed(mean + std * torch.randn(n, 1, height, width, generator=generator), zoom)
    flakes = flakes.masked_fill(flakes < threshold, 0.0)
    angle = torch.empty(n).uniform_(-3 * math.pi / 4, -math.pi / 4, generator=generator)
    flakes = _moved(flakes, scale * reach, scale * path, angle).clamp(0, 1)
    grey = (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    pale = kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey + 0.5)
    return pale + flakes + flakes.rot90(2, (2, 3))


@_corruption(
    "fog",
    "Fog",
    ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
)
def _fog(x: Tensor, fog: tuple[float, float], _scale: float, generator: torch.Generator) -> Tensor:
    """Fractal noise on top, with which the contrast falls: octaves of noise whose amplitudes decay."""
    strength, decay = fog
    n, _, height, width = x.shape
    haze = torch.zeros(n, 1, height, width)
    for octave in range(1, math.ceil(math.log2(max(height, width))) + 1):
        coarse = torch.rand(n, 1, 2**octave + 1, 2**octave + 1, generator=generator) - 0.5
        haze += F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True) / decay**octave
    low, high = haze.amin((1, 2, 3), keepdim=True), haze.amax((1, 2, 3), keepdim=True)
    most = x.amax((1, 2, 3), keepdim=True)
    return (x + strength * (haze - low) / (high - low)) * most / (most + strength)


@_corruption("brightness", "Brightness", (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
def _brightness(x: Tensor, more: float, _scale: float, _generator: torch.Generator) -> Tensor:
    """More of HSV's value; hue and saturation stay, so that the three channels keep their proportions."""
    value = x.amax(1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.clamp(min=1e-6), brighter)


# Digital


@_corruption("contrast", "Contrast", (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
def _contrast(x: Tensor, share: float, _scale: float, _generator: torch.Generator) -> Tensor:
    means = x.mean((2, 3), keepdim=True)
    return (x - means) * share + means


def _each(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Images [N, 3, H, W] one after the other through Pillow."""
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    changed = [np.asarray(change(Image.fromarray(image))) for image in pixels]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).float() / 255


@_corruption("pixelate", "Pixelate", (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
def _pixelate(x: Tensor, share: float, _scale: float, _generator: torch.Generator) -> Tensor:
    size = x.shape[3], x.shape[2]
    few = max(int(size[0] * share), 1), max(int(size[1] * share), 1)
    box, nearest = Image.Resampling.BOX, Image.Resampling.NEAREST
    return _each(x, lambda image: image.resize(few, box).resize(size, nearest))


@_corruption("jpeg", "JPEG", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
def _jpeg(x: Tensor, quality: int, _scale: float, _generator: torch.Generator) -> Tensor:
    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return _each(x, compressed)
