"""What residual blocks do to their input."""

from resnet_space.plots.residuals.depth import (
    MOST_POINTS,
    Block,
    fewer_points_words,
    quartiles,
    shown_images,
    spread_chart,
    stage_names,
)
from resnet_space.plots.residuals.growth import growth_chart
from resnet_space.plots.residuals.norms import BlockNorms, norms_chart, ratio_chart
from resnet_space.plots.residuals.profiles import (
    compare_chart,
    early_chart,
    gradient_chart,
    lesion_chart,
    responses_chart,
    several_chart,
)

__all__ = [
    "MOST_POINTS",
    "Block",
    "BlockNorms",
    "compare_chart",
    "early_chart",
    "fewer_points_words",
    "gradient_chart",
    "growth_chart",
    "lesion_chart",
    "norms_chart",
    "quartiles",
    "ratio_chart",
    "responses_chart",
    "several_chart",
    "shown_images",
    "spread_chart",
    "stage_names",
]
