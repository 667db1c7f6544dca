"""How well a model did on its test images."""

import math
from collections.abc import Sequence

from resnet_space.common.text import plotly_text, shortened
from resnet_space.plots import palette
from resnet_space.plots.base import Chart, chart, curve

LONGEST_TICK = 18  # letters
SCALE = (0, 0.02, 0.1, 0.25, 0.5, 1)  # shares beside the colours of a confusion matrix
MOST_CELLS_WITH_NUMBERS = 15  # classes of a confusion matrix whose counts fit into its cells


def confusion_chart(
    counts: Sequence[Sequence[int]],
    classes: Sequence[str],
    title: str = "Share of each true class: click a cell for its pictures",
) -> Chart:
    """A confusion matrix [C, C] as a square heat map: a row for each true class, a column for each predicted one;
    colours are shares of the row.

    A square root between share and colour: a few per cent of mistakes are what one looks for.
    """
    names = list(map(plotly_text, classes))
    # An upload's folders may have any names; the matrix needs the room.
    ticks = {"tickvals": names, "ticktext": [plotly_text(shortened(name, LONGEST_TICK)) for name in classes]}
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    cells = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": [[round(math.sqrt(share), 4) for share in row] for row in shares],
        "customdata": [
            [[count, share] for count, share in zip(*rows, strict=True)] for rows in zip(counts, shares, strict=True)
        ],
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Viridis",
        "colorbar": {
            "tickvals": [math.sqrt(share) for share in SCALE],
            "ticktext": [f"{share:.0%}".replace("%", " %") for share in SCALE],
            "thickness": 8,
            "outlinewidth": 0,
            "tickfont": {"size": 10},
            "xpad": 4,
        },
        "hovertemplate": "%{y}, predicted as %{x}:<br>%{customdata[0]} images, %{customdata[1]:.1%}<extra></extra>",
    }
    if len(classes) <= MOST_CELLS_WITH_NUMBERS:
        cells |= {"text": [[str(count) if count else "" for count in row] for row in counts], "texttemplate": "%{text}"}
    side = min(max(340, 32 * len(classes) + 130), 760)
    return chart(
        title,
        [cells],
        {"title": "predicted class", "type": "category", "showgrid": False, "tickangle": -45, "constrain": "domain"}
        | ticks,
        {"title": "true class", "type": "category", "showgrid": False, "autorange": "reversed"}
        | ticks
        | {"scaleanchor": "x", "constrain": "domain"},
        height=side,
        showlegend=False,
        margin={"l": 70, "r": 10, "t": 40, "b": 70},
    )


def reliability_chart(bins: Sequence[tuple[float, float, int]]) -> Chart:
    """Accuracy against confidence, of (mean confidence, accuracy, images) a bin, with the diagonal where both agree."""
    diagonal = curve("perfect calibration", [0, 1], [0, 1], "#888", width=1.2, dash="dash")
    largest = max((count for *_, count in bins), default=1)
    accuracy = curve(
        "this model (larger points: more images)",
        [confidence for confidence, _, _ in bins],
        [accuracy for _, accuracy, _ in bins],
        palette.category(0),
        "%{text}<br>confidence %{x:.1%}<br>accuracy %{y:.1%}",
        width=1.5,
        mode="lines+markers",
        marker={"size": [6 + 14 * math.sqrt(count / largest) for *_, count in bins]},
        text=[f"{count:,} images" for *_, count in bins],
    )
    return chart(
        "Calibration: accuracy by confidence",
        [diagonal, accuracy],
        {"title": "confidence", "range": [0, 1.02], "tickformat": ".0%"},
        {"title": "accuracy", "range": [0, 1.02], "tickformat": ".0%"},
    )
