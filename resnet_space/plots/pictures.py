"""Maps of one block for one image: as small pictures for the page, and as a figure for a paper."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

SIZE = 224  # pixels on the page


def map_png(values: NDArray[np.float32], low: float, high: float) -> bytes:
    """[H, W] in the colours of viridis from low to high, enlarged without smoothing: what is there is seen."""
    scaled = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    picture = Image.fromarray((colormaps["viridis"](scaled)[..., :3] * 255 + 0.5).astype(np.uint8))
    buffer = io.BytesIO()
    picture.resize((SIZE, SIZE), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def pictures_figure(
    image: Image.Image, maps: Sequence[tuple[str, NDArray[np.float32]]], low: float, high: float, caption: str
) -> Figure:
    """The image and the maps, all in one colour scale, with a caption below."""
    lines = textwrap.wrap(" ".join(caption.split()), 118)
    height = 1.9
    below = 0.16 * len(lines) + 0.1
    share = below / (height + below)
    layout = ConstrainedLayoutEngine(rect=(0, share, 1, 1 - share))
    figure = Figure(figsize=(7.2, height + below), layout=layout)
    places = figure.subplots(1, 1 + len(maps))
    places[0].imshow(image)
    places[0].set_title("image", fontsize=8)
    shown = None
    for axes, (name, values) in zip(places[1:], maps, strict=True):
        shown = axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
        axes.set_title(name, fontsize=8)
    for axes in places:
        axes.set(xticks=[], yticks=[])
    if shown is not None:
        bar = figure.colorbar(shown, ax=places, shrink=0.7)
        bar.ax.tick_params(labelsize=7)
    figure.text(0.012, 0.25 * share, "\n".join(lines), fontsize=7.5, va="bottom", parse_math=False)
    return figure
