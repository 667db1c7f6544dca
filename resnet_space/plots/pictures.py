"""Maps of one block for one image: as small pictures for the page, and as a figure to take away."""

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from resnet_space.plots.export import Size, captioned

GATES, SIGNED = "viridis", "RdBu_r"  # colours of values from low to high, and of signed values around zero
SHARP, SMOOTH = 224, 128  # pixels on the page


def map_png(
    values: NDArray[np.float32], low: float, high: float, *, smooth: bool = False, colours: str = GATES
) -> bytes:
    """A map [h, w] as a PNG, low..high in one of matplotlib's colour maps: each position as a square, or `smooth`.

    It is the values that are enlarged and not their colours: between the colours of a high and a low value there are
    others than those of the values between.
    """
    scaled = Image.fromarray(np.clip((values - low) / max(high - low, 1e-9), 0, 1).astype(np.float32))
    side, how = (SMOOTH, Image.Resampling.BILINEAR) if smooth else (SHARP, Image.Resampling.NEAREST)
    enlarged = np.asarray(scaled.resize((side, side), how))
    picture = Image.fromarray((enlarged * 255 + 0.5).astype(np.uint8), "L")
    picture.putpalette(_palette(colours))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


@lru_cache(maxsize=2)
def _palette(colours: str) -> bytes:
    """256 times red, green and blue."""
    of_map: NDArray[np.float64] = colormaps[colours](np.arange(256))[:, :3]
    return (of_map * 255 + 0.5).astype(np.uint8).tobytes()


def pictures_figure(
    image: Image.Image,
    maps: Sequence[tuple[str, NDArray[np.float32]]],
    most: float,
    caption: str,
    size: Size,
) -> Figure:
    """The image and the maps, all in one diverging colour scale from -most to most, with a caption below."""
    figure, room = captioned(0.26 * size.width, caption, size)
    panels = room.subplots(1, 1 + len(maps))
    panels[0].imshow(image)
    panels[0].set_title("image", fontsize=size.text)
    shown = None
    for axes, (name, values) in zip(panels[1:], maps, strict=True):
        shown = axes.imshow(values, cmap=SIGNED, vmin=-most, vmax=most)
        axes.set_title(name, fontsize=size.text)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    if shown is not None:
        bar = room.colorbar(shown, ax=panels, shrink=0.7)
        bar.ax.tick_params(labelsize=0.9 * size.text)
    return figure
