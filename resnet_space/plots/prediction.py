"""One picture: whether its heatmaps are faithful, and the answer as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet_space.common.text import plotly_text, shortened
from resnet_space.plots import palette
from resnet_space.plots.base import Chart, chart, cloud, curve

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray
    from PIL.Image import Image

    from resnet_space.plots.export import Size


@dataclass(frozen=True)
class MeasuredMap:
    """One measure of a map and of its baselines; `label` says which way is better."""

    label: str
    value: float
    random: tuple[float, ...]
    centre: float


def evidence_chart(title: str, measures: Sequence[MeasuredMap]) -> Chart:
    """A row a measure: the map, the random maps and the blob in the centre on one axis of probability."""
    labels = [plotly_text(measure.label) for measure in measures]
    random = cloud(
        "random",
        [value for measure in measures for value in measure.random],
        [label for label, measure in zip(labels, measures, strict=True) for _ in measure.random],
        "a random map: %{x:.3f}",
        marker={"symbol": "line-ns-open", "size": 13, "color": "#888", "line": {"width": 1.4}},
    )
    named = [
        cloud(
            name,
            values,
            labels,
            f"{name}: %{{x:.3f}}",
            marker={"symbol": symbol, "size": 12, "color": colour, "line": {"color": "#fff", "width": 1}},
        )
        for name, symbol, colour, values in (
            ("centre", "diamond", palette.category(1), [measure.centre for measure in measures]),
            ("this map", "circle", palette.category(0), [measure.value for measure in measures]),
        )
    ]
    return chart(
        plotly_text(title),
        [random, *named],
        {"title": "probability", "tickformat": ".2f", "nticks": 6},
        {"title": "", "type": "category", "autorange": "reversed", "showgrid": True},
        height=250,
        margin={"l": 120, "r": 16, "t": 64, "b": 44},
    )


def curves_chart(fractions: Sequence[float], insertion: Sequence[float], deletion: Sequence[float]) -> Chart:
    """The class's probability while pixels are inserted or deleted, the map's brightest first."""
    traces = [
        curve(name, fractions, values, colour, "%{x:.0%} of the pixels: %{y:.2f}", width=2, dash=dash)
        for name, values, colour, dash in (
            ("insertion", insertion, palette.category(0), "solid"),
            ("deletion", deletion, palette.category(1), "dot"),
        )
    ]
    return chart(
        "Brightest pixels first",
        traces,
        {"title": "pixels", "range": [0, 1], "tickformat": ".0%"},
        {"title": "probability", "range": [0, 1.02], "tickformat": ".1f"},
        height=250,
        margin={"l": 52, "r": 16, "t": 64, "b": 44},
    )


@dataclass(frozen=True)
class PredictedSide:
    """What a run makes of a picture.

    Attributes:
        run: its name.
        image: the picture as the run sees it.
        classes: the top ones with their probabilities, best first.
        maps: the heatmaps [h, w] of some of them, on one scale.
    """

    run: str
    image: "Image"
    classes: Sequence[tuple[str, float]]
    maps: "Sequence[tuple[str, NDArray[np.float32]]]"


def prediction_figure(sides: Sequence[PredictedSide], caption: str, size: "Size") -> "Figure":
    """The picture, the heatmaps over it, and the classes as bars; a row a run.

    In a paper's column the bars stand below the pictures.
    """
    from resnet_space.plots.export import captioned

    is_wide = size.height is not None
    figure, room = captioned((0.62 if not is_wide else 0.3) * size.width * len(sides), caption, size)
    for panel, side in zip(room.subfigures(len(sides), 1, squeeze=False)[:, 0], sides, strict=True):
        if len(sides) > 1:
            panel.suptitle(side.run, fontsize=size.text, parse_math=False)
        shape = (1, 2) if is_wide else (2, 1)
        pictures, chart = panel.subfigures(*shape, **({"width_ratios": (7, 4)} if is_wide else {}))
        _draw_maps(pictures, side, size)
        _draw_classes(chart, side.classes, size)
    return figure


def _draw_maps(panel: "SubFigure", side: PredictedSide, size: "Size") -> None:
    high = max((float(values.max()) for _, values in side.maps), default=0) or 1.0
    edges = (0, side.image.width, side.image.height, 0)
    several = panel.subplots(1, 1 + len(side.maps), squeeze=False)[0]
    for axes, (name, values) in zip(several, [("picture", None), *side.maps], strict=True):
        axes.imshow(side.image if values is None else side.image.convert("L"), cmap="gray", extent=edges)
        if values is not None:
            axes.imshow(values, cmap="viridis", vmin=0, vmax=high, alpha=0.6, extent=edges, interpolation="bilinear")
        axes.set(xticks=[], yticks=[])
        axes.set_title(shortened(name, 16), fontsize=size.text, parse_math=False)


def _draw_classes(panel: "SubFigure", classes: Sequence[tuple[str, float]], size: "Size") -> None:
    axes = panel.subplots()
    places = range(len(classes))
    bars = axes.barh(places, [100 * share for _, share in classes], color=palette.category(0))
    axes.bar_label(bars, [f"{100 * share:.1f} %" for _, share in classes], padding=3, fontsize=0.9 * size.text)
    axes.set_yticks(places, [shortened(name) for name, _ in classes], fontsize=size.text, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 118)  # room for the numbers
    axes.set_xlabel("probability (%)", fontsize=size.text)
    axes.set_xticks([0, 50, 100])
    axes.tick_params(axis="x", labelsize=0.9 * size.text)
    axes.spines[["top", "right"]].set_visible(False)


def heads_figure(
    runs: "Sequence[tuple[str, Image, Mapping[str, NDArray[np.float32]]]]", caption: str, size: "Size"
) -> "Figure":
    """The picture and the maps over it, each on its own scale; a group of rows a run.

    Args:
        runs: each with its name, the picture as it sees it, and its maps [h, w] by their titles.
        caption: below.
        size: what it is for.
    """
    from resnet_space.plots.export import captioned

    most = max(1 + len(maps) for _, _, maps in runs)
    columns = min(most, 4 if size.height is None else 8)
    rows = -(-most // columns)
    figure, room = captioned(1.2 * size.width / columns * rows * len(runs), caption, size)
    for panel, (run, image, maps) in zip(room.subfigures(len(runs), 1, squeeze=False)[:, 0], runs, strict=True):
        if len(runs) > 1:
            panel.suptitle(run, fontsize=size.text, parse_math=False)
        edges = (0, image.width, image.height, 0)
        places = panel.subplots(rows, columns, squeeze=False).ravel()
        for axes in places:
            axes.set_axis_off()
        for axes, (title, values) in zip(places, [("Picture", None), *maps.items()], strict=False):
            axes.imshow(image if values is None else image.convert("L"), cmap="gray", extent=edges)
            if values is not None:
                axes.imshow(values, cmap="viridis", alpha=0.6, extent=edges, interpolation="bilinear")
            axes.set_title(title, fontsize=0.8 * size.text, parse_math=False)
    return figure
