"""The page: three tabs, and what they pass to one another."""

from typing import Any

import gradio as gr

from resnet_space.ui.explore import build_explore
from resnet_space.ui.finetune import build_finetune
from resnet_space.ui.identity import sign_in_button
from resnet_space.ui.predict import build_predict
from resnet_space.ui.workshop import Workshop

__all__ = ["Workshop", "build_app"]


def build_app(workshop: Workshop) -> gr.Blocks:
    """The app, ready to launch."""
    app = gr.Blocks(title="resnet_space", delete_cache=(3600, 86400))
    with app:
        with gr.Row(elem_id="head"):
            gr.Markdown(
                "# resnet_space\nFine-tune a ResNet, see what it looks at, and see what its residual blocks do.",
                elem_id="title",
            )
            sign_in_button(app)
        # Kept by the browser, so that whoever started a run is known again after a reload. Nothing secret is in the
        # page itself: the value is, and nobody can guess it.
        visitor = gr.BrowserState(None, storage_key="resnet_space", secret="resnet_space")
        names = gr.State(workshop.trained_names())  # of the runs that can predict
        with gr.Tabs() as tabs:
            with gr.Tab("Fine-tune", id="finetune"):
                finetune = build_finetune(workshop, app, visitor, names)
            with gr.Tab("Predict", id="predict"):
                predict = build_predict(workshop, visitor, names)
            with gr.Tab("Explore residuals", id="explore"):
                explore = build_explore(workshop, visitor, names)

        def show(tab: str) -> Any:
            return lambda name, known: (
                gr.Tabs(selected=tab),
                gr.update(choices=[*dict.fromkeys([*known, name])], value=name),
            )

        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        asked = [finetune.followed, names]
        finetune.try_it.click(show("predict"), asked, [tabs, predict.run], **private)
        finetune.explore_it.click(show("explore"), asked, [tabs, explore.run], **private)
    return app
