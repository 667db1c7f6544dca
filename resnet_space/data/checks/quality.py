"""Find pictures that are hard to use: blank, dark, bright, blurred, tiny, stretched, or in another colour mode.

What every picture of a dataset has in common is no fault, so most limits are relative to the dataset's median, in
multiples of the median absolute deviation (Iglewicz & Hoaglin 1993), which a few odd ones do not move.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_space.data.checks.items import Problem

LOOKED_AT = 96  # pixels of the long side that sharpness is measured at, so that large pictures are not sharper
BLANK = 2.0  # of 255: the standard deviation of the brightness of a picture that shows nothing
DARK, BRIGHT = 40.0, 225.0  # of 255: 98 % of a dark picture are below, of a bright one above
GREY = 3.0  # of 255: how far the channels of a grey picture are from one another, in the mean
USUAL_SHARE = 0.9  # of pictures with colours, from which on a grey one is odd; and the other way round
DEVIATIONS = 5.0  # from the median
NORMAL = 1.4826  # median absolute deviations of a normal distribution in one standard deviation
SMALLER, LONGER = 3.0, 2.0  # times the median: a picture may differ by so much in side, and in the sides' ratio


@dataclass(frozen=True)
class Looks:
    """A picture in numbers: its sides in pixels, its brightness (0 to 255), and how sharp and how grey it is.

    Attributes:
        width, height: of the file, upright.
        contrast: standard deviation of the brightness.
        low, high: brightness that 2 % of the pixels are below, and above.
        sharpness: standard deviation of the Laplacian, relative to the contrast.
        spread: mean difference between the largest and the smallest channel.
    """

    width: int
    height: int
    contrast: float
    low: float
    high: float
    sharpness: float
    spread: float


def looks_of(image: Image.Image) -> Looks:
    """Measure an RGB picture."""
    small = image.copy()
    small.thumbnail((LOOKED_AT, LOOKED_AT), Image.Resampling.BILINEAR, reducing_gap=2.0)
    colours = np.asarray(small, dtype=np.float32)
    grey = colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    low, high = np.percentile(grey, (2, 98))
    contrast = float(grey.std())
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = float((around - 4 * inner).std()) if inner.size else 0.0
    spread = float((colours.max(2) - colours.min(2)).mean())
    return Looks(image.width, image.height, contrast, float(low), float(high), laplacian / max(contrast, 1e-6), spread)


def find_problems(looks: Sequence[Looks]) -> list[tuple[int, Problem, float]]:
    """(position, problem, score) of the pictures that are odd, the oddest first; the score is above 1.

    A picture has one problem, the first that explains the others: a blank one is not also called blurred.
    """
    if not looks:
        return []
    sides = np.array([min(one.width, one.height) for one in looks], dtype=float)
    shapes = np.log([one.width / one.height for one in looks])
    sharp = np.log(np.array([max(one.sharpness, 1e-6) for one in looks]))
    with_colours = np.array([one.spread > GREY for one in looks])
    share = float(with_colours.mean())
    smaller = np.median(sides) / sides
    longer = np.exp(np.abs(shapes - np.median(shapes)))
    unsharp = -deviations(sharp)
    found: list[tuple[int, Problem, float]] = []
    for i, one in enumerate(looks):
        scores: dict[Problem, float] = {
            "blank": BLANK / max(one.contrast, 1e-3) if one.contrast < BLANK else 0.0,
            "dark": DARK / max(one.high, 1.0),
            "bright": one.low / BRIGHT,
            "tiny": smaller[i] / SMALLER,
            "stretched": longer[i] / LONGER,
            "blurred": unsharp[i] / DEVIATIONS,
            "grey": share / USUAL_SHARE if not with_colours[i] and share < 1 else 0.0,
            "colour": (1 - share) / USUAL_SHARE if with_colours[i] and share > 0 else 0.0,
        }
        problem = next((name for name, score in scores.items() if score > 1), None)
        if problem is not None:
            found.append((i, problem, round(float(scores[problem]), 3)))
    return sorted(found, key=lambda finding: -finding[2])


def deviations(values: NDArray[Any]) -> NDArray[Any]:
    """How many standard deviations each value is above the median; 0 where more than half are the same."""
    off = values - np.median(values)
    spread = NORMAL * np.median(np.abs(off))
    return off / spread if spread > 0 else np.zeros_like(off)
