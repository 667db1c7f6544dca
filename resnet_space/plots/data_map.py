"""The pictures of a dataset on a plane, as a figure to take away; the page draws its own."""

from collections.abc import Sequence

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, chart, cloud

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")  # as on the page


def map_chart(
    xs: Sequence[float], ys: Sequence[float], groups: Sequence[str], order: Sequence[str], title: str
) -> Chart:
    """Points, told apart by colour and by shape.

    Args:
        xs, ys: positions.
        groups: of each point.
        order: the groups; each has the look of its position. Those without points are left out.
        title: of the chart.
    """
    traces = []
    for i, group in enumerate(order):
        rows = [row for row, own in enumerate(groups) if own == group]
        marker = {"symbol": SHAPES[i % len(SHAPES)], "size": 4, "color": palette.category(i), "opacity": 0.7}
        if rows:
            traces.append(cloud(group, [xs[row] for row in rows], [ys[row] for row in rows], "", marker=marker))
    bare: dict[str, list[float]] = {"tickvals": [], "ticktext": []}
    return chart(title, traces, {"title": "t-SNE 1"} | bare, {"title": "t-SNE 2"} | bare, height=520)
