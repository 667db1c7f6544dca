"""Two domains on a plane."""

from collections.abc import Sequence

from resnet_space.plots import palette
from resnet_space.plots.base import Chart, chart, cloud

Points = Sequence[Sequence[float]]


def domains_chart(
    title: str,
    source: tuple[str, Points, Sequence[str]],
    target: tuple[str, Points, Sequence[str]],
    shares: tuple[float, float],
) -> Chart:
    """The features of both domains, each as (name, points [n, 2], classes), told apart by colour and by shape."""
    traces = []
    for i, (symbol, (name, points, classes)) in enumerate(zip(("circle", "diamond"), (source, target), strict=True)):
        marker = {"symbol": symbol, "size": 6, "color": palette.category(i), "opacity": 0.7}
        xs, ys = ([float(point[axis]) for point in points] for axis in (0, 1))
        traces.append(cloud(name, xs, ys, f"{name}<br>%{{text}}", marker=marker, text=list(classes)))
    x, y = ({"title": f"component {i}: {share:.0%} of the variance"} for i, share in enumerate(shares, 1))
    return chart(title, traces, x, y)
