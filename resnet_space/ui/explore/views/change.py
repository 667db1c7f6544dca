"""What training changed since the start: the weights of each part, and the features of each layer."""

from typing import TYPE_CHECKING

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import change_chart
from resnet_space.serve.context import AppContext
from resnet_space.ui.explore.measuring import Findings, OnDemand
from resnet_space.ui.explore.networks import RUN, Network
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, rounded

if TYPE_CHECKING:
    from torch import nn

    from resnet_space.residuals import Changes, Trend


def before_training(context: AppContext, network: Network) -> "nn.Module":
    """The network with the weights that its run started from. Raises UserError where they are not at hand."""
    from resnet_space.training.state import model_before

    if network.kind != RUN:
        raise UserError(f"{network.label} was not trained: choose a run that was fine-tuned.")
    return model_before(context.library.open(network.name))


CHANGES: "OnDemand[Changes]" = OnDemand(
    "changes",
    "Compare with the start",
    "what changed",
    lambda residuals, model, batches, before: residuals.changes(before, model, batches),
    passes=lambda _blocks: 2,
    beside=before_training,
)


class Change(View):
    key = "change"
    title = "What changed"
    about = (
        "How far fine-tuning moved each part's weights, and how much it changed each layer's features, compared with "
        "the weights that the run started from. Yosinski et al. (2014) found that early layers are general and late "
        "ones specific."
    )
    charts = 2
    definitions = (
        "Weights: ‖after - before‖ / ‖before‖ of all parameters of a part. Features: 1 - linear CKA (Kornblith et al. "
        "2019), with the unbiased HSIC over batches; 0 for features that differ by a rotation and a scale only. Trend: "
        "Spearman's rank correlation with depth, two-sided permutation test."
    )
    on_demand = (CHANGES,)
    lines = Python(
        "changes, last",
        "last(changes(model_before(run), model, batches))",
        "found.trend, found.layers, found.cka, found.parts, found.weights",
        "from resnet_space.training.state import model_before",
    )

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        if (found := CHANGES.of(findings)) is None:
            return [None, None]
        features = [1 - value for value in found.cka.tolist()]
        return [
            change_chart(found.layers, features, "Change of the features: 1 - CKA", "1 - CKA"),
            change_chart(found.parts, found.weights, "Change of the weights", "‖after - before‖ / ‖before‖"),
        ]

    def words(self, findings: Findings, variant: str = "") -> str:
        found = CHANGES.of(findings)
        return "" if found is None else change_words(found)

    def table(self, findings: Findings, variant: str = "") -> Table:
        columns = ["layer", "1 - CKA of its features", "relative change of its weights"]
        if (found := CHANGES.of(findings)) is None:
            return columns, []
        features = dict(zip(found.layers, (1 - found.cka).tolist(), strict=True))
        weights = dict(zip(found.parts, found.weights, strict=True))

        def cell(values: dict[str, float], name: str) -> float | None:
            return rounded(values[name]) if name in values else None

        names = dict.fromkeys([*weights, *features])
        return columns, [[name, cell(features, name), cell(weights, name)] for name in names]


def _trend(trend: "Trend") -> str:
    p = "p < 0.001" if trend.p_value < 0.001 else f"p = {trend.p_value:.3f}"
    return f"{trend.correlation:+.2f}, {p}"


def change_words(found: "Changes") -> str:
    """Whether the later layers changed more, by the rule of the trend; and which changed most."""
    trend, features = found.trend, (1 - found.cka).tolist()
    most = max(range(len(features)), key=features.__getitem__)
    moved = max(range(len(found.weights)), key=found.weights.__getitem__)
    measured = f"Spearman's rank correlation of depth with 1 - CKA is {_trend(trend)}"
    if trend.is_clear and trend.correlation > 0:
        said = f"**General early, specific late:** the later the layer, the more its features changed ({measured})."
    elif trend.is_clear:
        said = f"**Not general early, specific late:** earlier layers changed more ({measured})."
    else:
        said = f"**No clear trend with depth:** {measured}, which chance alone may give."
    return (
        f"{said} The distance of the weights from their start correlates with depth by {_trend(found.weight_trend)}. "
        f"The features of **{found.layers[most]}** changed most (1 - CKA {features[most]:.3f}); the weights of "
        f"**{found.parts[moved]}** moved farthest ({found.weights[moved]:.2f} of their norm)."
    )
