"""Plain data -> interactive Plotly charts for the page."""

from resnet_space.plots.base import MAX_POINTS, Chart, figure, thinned
from resnet_space.plots.domains import domains_chart
from resnet_space.plots.evaluation import confusion_chart, reliability_chart
from resnet_space.plots.prediction import MeasuredMap, curves_chart, evidence_chart
from resnet_space.plots.training import (
    accuracy_chart,
    loss_chart,
    memory_chart,
    range_chart,
    rates_chart,
    speed_chart,
)

__all__ = [
    "MAX_POINTS",
    "Chart",
    "MeasuredMap",
    "accuracy_chart",
    "confusion_chart",
    "curves_chart",
    "domains_chart",
    "evidence_chart",
    "figure",
    "loss_chart",
    "memory_chart",
    "range_chart",
    "rates_chart",
    "reliability_chart",
    "speed_chart",
    "thinned",
]
