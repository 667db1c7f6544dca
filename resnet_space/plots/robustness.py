"""A stress test as a heat map: a row for each corruption, a column for each severity."""

from collections.abc import Mapping, Sequence

from resnet_space.plots.base import Chart, chart


def stress_chart(rows: Mapping[str, Sequence[float]], title: str) -> Chart:
    """Shares by corruption and severity, whose colours are those of the page's other heat maps.

    Args:
        rows: label of the corruption -> a share for each severity, from that of the images as they are on.
        title: of the chart.
    """
    longest = max(map(len, rows.values()), default=1)
    names = list(rows)
    cells = [[*shares, *[None] * (longest - len(shares))] for shares in rows.values()]
    columns = ["none", *(str(severity) for severity in range(1, longest))]
    trace = {
        "type": "heatmap",
        "x": columns,
        "y": names,
        "z": cells,
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Viridis",
        "colorbar": {"tickformat": ".0%", "thickness": 8, "outlinewidth": 0, "tickfont": {"size": 10}, "xpad": 4},
        "text": [["" if share is None else f"{100 * share:.0f}" for share in shares] for shares in cells],
        "texttemplate": "%{text}",
        "hovertemplate": "%{y}, severity %{x}: %{z:.1%}<extra></extra>",
    }
    return chart(
        title,
        [trace],
        {"title": "severity", "type": "category", "showgrid": False},
        {"title": "", "type": "category", "showgrid": False, "autorange": "reversed"},
        height=max(90 + 26 * len(names), 200),
        showlegend=False,
        margin={"l": 100, "r": 10, "t": 40, "b": 48},
    )
