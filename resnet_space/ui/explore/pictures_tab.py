"""The sub-tab of one block's pictures for one image."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space.serve.handlers import costly
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore.exports import stem
from resnet_space.ui.explore.findings import Findings
from resnet_space.ui.explore.held import Held
from resnet_space.ui.explore.keep import Kept, place_keep, wire_keep
from resnet_space.ui.explore.pictures import look, looked_html, pictures_caption, pictures_rows
from resnet_space.ui.explore.places import needed
from resnet_space.ui.explore.snippets import python_lines

ABOUT = (
    "What one block changes in one image: **x** as it comes in, **F(x)**, and their sum before the last ReLU, in one "
    "colour scale; the mean over the channels, or one of them. Where F(x) is at 0 in the scale, x passes unchanged."
)


@dataclass(frozen=True)
class PicturesTab:
    """What a click on a point sets."""

    block: gr.Dropdown
    image: gr.Number

    @property
    def outputs(self) -> list[Any]:
        return [self.block, self.image]

    def update(self, found: Findings) -> dict[Any, Any]:
        """For what was just measured: the block that changes its input most is a good start."""
        blocks = found.measured.norms.blocks
        return {
            self.block: gr.update(choices=blocks, value=blocks[0]),
            self.image: gr.update(value=0, maximum=found.measured.images - 1, info=_info(found)),
        }


def _info(found: Findings) -> str:
    return f"0 to {found.measured.images - 1:,}, in the order they were measured"


def build_pictures(workshop: Workshop, found: gr.State) -> PicturesTab:
    """Place the sub-tab and wire its events; `found` is a handle of the Findings."""
    with gr.Tab("Pictures", id="pictures") as tab:
        gr.Markdown(ABOUT, elem_classes="about")
        with gr.Row():
            block = gr.Dropdown([], label="Block", min_width=120)
            image = gr.Number(0, label="Image", precision=0, minimum=0, min_width=120)
            channel = gr.Textbox("", label="Channel", placeholder="the mean over all", max_lines=1, min_width=120)
        shown = gr.HTML('<p class="note">Press Measure first.</p>', apply_default_css=False, elem_id="pictures-shown")
        keep = place_keep()
    chosen = [found, block, image, channel]

    @costly
    def on_change(held: Held[Findings] | None, *values: Any) -> Any:
        if not isinstance(held, Held):
            return gr.skip()
        return looked_html(look(workshop, needed(held), *values))

    def provide(held: Held[Findings] | None, *values: Any) -> Kept:
        from resnet_space.plots.pictures import pictures_figure

        looked = look(workshop, needed(held), *values)
        p, caption = looked.pictures, pictures_caption(looked)
        columns, rows = pictures_rows(looked)
        return Kept(
            stem(looked.found.subject, p.block, "pictures"),
            [],
            caption,
            columns,
            rows,
            python_lines(
                "pictures",
                looked.found.subject,
                looked.found.images,
                block=p.block,
                channel=p.channel,
                index=looked.index,
            ),
            lambda: pictures_figure(looked.image, looked.maps, p.low, p.high, caption),
        )

    quiet: Any = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}
    gr.on(
        [block.change, image.change, channel.submit, channel.blur, tab.select],
        on_change,
        chosen,
        shown,
        trigger_mode="always_last",
        **quiet,
    )
    wire_keep(keep, chosen, provide)
    return PicturesTab(block, image)
