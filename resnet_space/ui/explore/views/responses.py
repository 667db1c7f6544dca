"""The spread of the output of each 3x3 convolution."""

from collections.abc import Sequence

from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import responses_chart
from resnet_space.ui.explore.measuring import Findings
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, rounded


class Responses(View):
    key = "responses"
    title = "Layer outputs"
    about = (
        "The standard deviation of the output of each 3x3 convolution, after BatchNorm and before ReLU or the "
        "addition, over all images, channels and positions."
    )
    charts = 2
    reserved = 340
    definitions = (
        "Standard deviation of the output of each 3x3 convolution after BatchNorm, before ReLU or the addition (He et "
        "al. 2015, figure 7)."
    )
    lines = Python("last, measure", "last(measure(model, images))", "found.responses.layers, found.responses.std")

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        if not findings.measured.responses.layers:
            return [None, None]
        layers = {findings.network.label: layers_of(findings)}
        return [responses_chart(layers, ordered=ordered) for ordered in (False, True)]

    def words(self, findings: Findings, variant: str = "") -> str:
        responses = findings.measured.responses
        return responses_words(responses.layers, responses.std.tolist())

    def table(self, findings: Findings, variant: str = "") -> Table:
        return ["layer", "standard deviation"], [[name, rounded(std)] for name, std in layers_of(findings)]


def layers_of(findings: Findings) -> list[tuple[str, float]]:
    """(layer, standard deviation)"""
    responses = findings.measured.responses
    return [*zip(responses.layers, responses.std.tolist(), strict=True)]


def responses_words(layers: Sequence[str], std: Sequence[float]) -> str:
    """Which layers have the largest and the smallest outputs."""
    if not layers:
        return "Layer outputs are measured at the 3x3 convolutions of ResNets; this network is not a ResNet."
    loud, soft = max(range(len(std)), key=std.__getitem__), min(range(len(std)), key=std.__getitem__)
    mean = sum(std) / len(std)
    return (
        f"The standard deviation over the {len(layers)} layers is {mean:.2f} on average, largest in "
        f"**{layers[loud]}** ({std[loud]:.2f}) and smallest in **{layers[soft]}** ({std[soft]:.2f}). He et al. (2015) "
        "found smaller responses in deeper residual networks: see **Compare**."
    )
