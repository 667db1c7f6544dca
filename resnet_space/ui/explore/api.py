"""What programs can ask of the explore tab: `gradio_client`, plain HTTP, MCP."""

import threading
from typing import Any

import gradio as gr

from resnet_space import plots
from resnet_space.common.text import markdown_text
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.explore.images import MAX_IMAGES, images_from
from resnet_space.ui.explore.measuring import measure_network
from resnet_space.ui.explore.networks import Network
from resnet_space.ui.explore.views.norms import Norms, all_values
from resnet_space.ui.exports import stem
from resnet_space.ui.subject import run_dropdown

SOURCE = "test images of cifar10-mini"


def build_api(context: AppContext, limits: dict[str, Any]) -> None:
    """The endpoint /explore_residuals, on components that no page shows; `limits` are of how many measure at once."""
    with gr.Group(visible=False):
        run = run_dropdown(context.trained_names(), context.default_name())
        source = gr.Textbox(SOURCE, label="Source")
        count = gr.Number(64, label="Count", minimum=1, maximum=MAX_IMAGES, precision=0)
        image = gr.Image(label="Image", type="filepath")
        scatter, ratios = gr.Plot(label="Norms"), gr.Plot(label="Ratios")
        words = gr.Markdown(label="What they say")
        table = gr.Dataframe(label="By block")
        table_file, values_file = gr.File(label="Table"), gr.File(label="All values")
        button = gr.Button()

    @costly
    def explore_residuals(run: str, source: str, count: float, image: dict[str, Any] | None) -> tuple[Any, ...]:
        """Measure what the residual blocks of a run do to their input.

        Args:
            run: a run's name, such as resnet20-cbam-cifar10, or "untrained:" and that for random weights.
            source: such as "test images of cifar10-mini", or "one picture of your own".
            count: how many images of the dataset, at most 10,000.
            image: the picture, if it is your own.

        Returns:
            Two Plotly figures, a sentence on them, the table by block, and two CSV files: by block, and of every image.
        """
        images, norms = images_from(context, source, count, image), Norms()
        *_, (_, findings, _) = measure_network(context, Network.parse(run), images, threading.Event())
        columns, rows = norms.table(findings)
        scatter, ratios = (plots.figure(chart) for chart in norms.draw(findings) if chart is not None)
        label = findings.network.label
        return (
            scatter,
            ratios,
            f"**{markdown_text(findings.words)}.** {norms.words(findings)}",
            {"headers": columns, "data": rows},
            csv_file(stem(label, norms.file), columns, rows),
            csv_file(stem(label, f"{norms.file}-all-images"), *all_values(findings)),
        )

    button.click(
        explore_residuals,
        [run, source, count, image],
        [scatter, ratios, words, table, table_file, values_file],
        api_name="explore_residuals",
        preprocess=False,
        **limits,
    )
