"""How strongly each 3x3 convolution answers."""

from collections.abc import Sequence

from resnet_space.plots import Chart
from resnet_space.plots.residuals.profiles import responses_chart
from resnet_space.ui.explore.measuring import Findings
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views.view import Table, View, rounded


class Responses(View):
    key = "responses"
    title = "Responses"
    about = (
        "How strongly each 3x3 convolution answers: the standard deviation of its output after BatchNorm, before ReLU "
        "or the addition, over all images, channels and positions."
    )
    charts = 2
    definitions = (
        "Standard deviation of the output of each 3x3 convolution after its BatchNorm, before ReLU or the addition, "
        "over all images, channels and positions (He et al. 2015, figure 7)."
    )
    lines = Python("last, measure", "last(measure(model, images))", "found.responses.layers, found.responses.std")

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
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
    """Where the network answers loudly and where softly."""
    if not layers:
        return "Responses are measured in the 3x3 convolutions of ResNets; this network is none."
    loud, soft = max(range(len(std)), key=std.__getitem__), min(range(len(std)), key=std.__getitem__)
    mean = sum(std) / len(std)
    return (
        f"The {len(layers)} layers respond with a standard deviation of {mean:.2f} on average; **{layers[loud]}** most "
        f"({std[loud]:.2f}), **{layers[soft]}** least ({std[soft]:.2f}). He et al. (2015) found that deeper residual "
        "networks have smaller responses: compare two depths in **Compare**."
    )
