"""The sub-tab of up to four networks side by side on the same images."""

from typing import Any
from urllib.parse import urlencode

import gradio as gr

from resnet_space.ui.events import QUIET, Update
from resnet_space.ui.explore.comparing import CHARTS, MOST_NETWORKS, Comparison
from resnet_space.ui.explore.memory import value_of
from resnet_space.ui.explore.networks import UNTRAINED, Network, other_choices
from resnet_space.ui.explore.view_tab import charts_update, place_chart
from resnet_space.ui.exports import place_exports
from resnet_space.ui.subject import Shared

ABOUT = (
    "The network measured here and up to three others on the same images: accuracy first, then gradients, removed "
    "blocks and the size of F(x)."
)


class CompareTab:
    """The sub-tab, placed and wired.

    Attributes:
        others: the choice of what to compare with.
        button: compares, also where it takes long.
        comparison: the handle of what is shown.
        address: its part of the page's address.
    """

    def __init__(self, shared: Shared) -> None:
        with gr.Tab("Compare", id="compare") as self.tab:
            # Beside the tab, gradio would count it as one and show it twice.
            self.comparison = gr.State(None, time_to_live=1_800)
            self.address = gr.Textbox("", visible="hidden")
            gr.Markdown(ABOUT, elem_classes="about")
            with gr.Row(elem_id="compare-with"):
                self.others = gr.Dropdown(
                    other_choices(shared.context.trained_names()),
                    value=[str(Network("", UNTRAINED))],
                    multiselect=True,
                    max_choices=MOST_NETWORKS - 1,
                    label="Compare with",
                    scale=3,
                )
                vars(self.others)["api_info"] = lambda: {"type": "array", "items": {"type": "string"}}
                self.button = gr.Button("Compare", variant="primary", size="sm", elem_id="compare-networks", scale=0)
            self.words = gr.Markdown("", elem_classes="said")
            self.charts = [place_chart(f"compare-{i}", 300 if i == 0 else 0) for i in range(CHARTS)]
            nothing = "Nothing has been compared yet: press Compare first."
            place_exports([self.comparison], lambda handle: value_of(handle, nothing).export)
        gr.on(
            [shared.names.change, self.others.focus],
            lambda runs, chosen: gr.update(choices=other_choices(runs, chosen or ())),
            [shared.names, self.others],
            self.others,
            **QUIET,
        )
        js = "(text) => resnetSpace.explore.shows('compare', text)"
        self.address.change(None, self.address, None, js=js, **QUIET)

    @property
    def outputs(self) -> list[Any]:
        return [self.comparison, self.words, *self.charts, self.address]

    def update(self, comparison: Comparison) -> Update:
        """What is shown of the networks that were measured so far."""
        return {self.words: comparison.words, **charts_update(self.charts, comparison.charts)}

    def shared(self, comparison: Comparison) -> str:
        """The part of the address that names them."""
        return urlencode({"with": ",".join(str(findings.network) for findings in comparison.findings[1:])})
