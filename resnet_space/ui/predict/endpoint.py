"""The endpoint /predict, for HTTP, gradio_client and MCP."""

from html import escape
from typing import Any

import gradio as gr

from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.html import note_html
from resnet_space.ui.pictures import read_picture
from resnet_space.ui.predict.answer import warnings_html
from resnet_space.ui.predict.gates import gates_html
from resnet_space.ui.predict.heads import Attended, heads_html
from resnet_space.ui.predict.looks import Look, choose_run, look


def build_endpoint(context: AppContext, picture: gr.Image) -> None:
    """Place its components, hidden, and wire it; `picture` is the tab's."""
    with gr.Column(visible=False):
        name = gr.Textbox("", label="Run")
        label = gr.Label(label="Top 5", num_top_classes=5)
        maps = gr.HTML(label="Attention maps")
        answered = gr.JSON(label="The run and its warnings")
        ask = gr.Button()

    @costly
    def predict(image: dict[str, Any] | None, run: str = "") -> tuple[dict[str, float], str, dict[str, Any]]:
        """Classify a picture.

        Args:
            image: a photograph of at most 50 million pixels, uploaded or as a data: URL; JPEG, PNG, WebP, GIF, TIFF.
            run: the name of a trained run; if empty, the picture's size decides (up to 64 pixels, or a photograph).

        Returns:
            The five most probable classes with their probabilities; the attention maps as HTML; and {"run": the run
            that answered, "warnings": sentences}. Warnings concern pictures unlike the training images, uncalibrated
            probabilities, and how pictures of 16 bits or several bands were read.
        """
        with context.slots.taken("predictions"):
            opened = read_picture(image)
            choice = choose_run(context, min(opened.size), run)
            looked = look(context, opened, choice.name, features=False)
        prediction = looked.prediction
        top = dict(zip(prediction.classes, prediction.probabilities, strict=True))
        return top, program_html(looked), {"run": looked.name, "warnings": prediction.warnings}

    ask.click(predict, [picture, name], [label, maps, answered], api_name="predict", preprocess=False)


def program_html(look: Look) -> str:
    """The warnings, the gates, the heads of the last layer, the preprocessing."""
    note = note_html(f"Preprocessing of {escape(look.name)}: {escape(look.classifier.preprocessing)}.")
    return f"{warnings_html(look)}{gates_html([look])}{heads_html([look], Attended())}{note}"
