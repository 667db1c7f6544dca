"""How strongly each 3x3 convolution answers."""

from resnet_space.plots import Chart, residuals
from resnet_space.ui.explore import words
from resnet_space.ui.explore.findings import Findings
from resnet_space.ui.explore.views.view import Table, View, rounded


def _layers(found: Findings) -> dict[str, list[tuple[str, float]]]:
    responses = found.measured.responses
    return {found.subject: [*zip(responses.layers, responses.std.tolist(), strict=True)]}


def _draw_responses(found: Findings, _: bool) -> list[Chart | None]:
    layers = _layers(found)
    return [residuals.responses_chart(layers), residuals.responses_chart(layers, ordered=True)]


def _responses_words(found: Findings, _: bool) -> str:
    responses = found.measured.responses
    return words.responses_words(responses.layers, responses.std.tolist())


def _responses_table(found: Findings, _: bool) -> Table:
    (layers,) = _layers(found).values()
    return ["layer", "standard deviation"], [[name, rounded(std)] for name, std in layers]


RESPONSES = View(
    "responses",
    "Responses",
    "How strongly each 3x3 convolution answers: the standard deviation of its output after BatchNorm, before ReLU or "
    "the addition, over all images, channels and places.",
    2,
    _draw_responses,
    _responses_words,
    _responses_table,
    "Standard deviation of the output of each 3x3 convolution after its BatchNorm, before ReLU or the addition, over "
    "all images, channels and places (He et al. 2015, figure 7).",
)
