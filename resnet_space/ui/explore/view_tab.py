"""A view on the page: what it is about, its words, its charts, its table, and the buttons below."""

from typing import Any

import gradio as gr
from gradio.components import Component

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.ui.events import QUIET, Update
from resnet_space.ui.explore.measuring import UNLABELLED, Findings, findings_of
from resnet_space.ui.explore.memory import Handle
from resnet_space.ui.explore.views.view import View
from resnet_space.ui.exports import Export, place_exports, stem
from resnet_space.ui.html import place_html

PRESS = "*Not measured yet: press a button above.*"


def place_chart(elem_id: str, reserved: int = 0) -> gr.HTML:
    """A Plotly chart whose points answer clicks.

    It is always on the page, and hides itself while it is empty: an update that makes a component visible is lost
    where its tab is just opening.

    `reserved`: pixels kept free for it from the start; 0: it takes no room before it is drawn.
    """
    kept = f'style="min-height: {reserved}px"' if reserved else "hidden"
    template = f'<div class="chart" {kept}></div>'
    return place_html(None, "points", html_template=template, elem_id=elem_id)


def charts_update(places: list[gr.HTML], charts: list[Chart | None]) -> Update:
    return {place: chart or {} for place, chart in zip(places, charts, strict=True)}


def place_variant(view: View) -> Component:
    """The choice among a view's variants, shown where a network has them; a hidden state where there are none."""
    if view.variants is None:
        return gr.State("")
    choices = list(view.variants.choices)
    return gr.Radio(choices, value=choices[0][1], label=view.variants.label, info=view.variants.info, visible=False)


class ViewTab:
    """A view as a sub-tab, placed and wired.

    Args:
        variant: the choice among its variants, of `place_variant`.
        findings: the handle of those of the page.

    Attributes:
        buttons: of what is measured on demand, in the view's order.
        extra: room for what only this view has.
    """

    def __init__(self, view: View, variant: Component, findings: gr.State) -> None:
        self.view, self.variant = view, variant
        with gr.Tab(view.title, id=view.key) as self.tab:
            gr.Markdown(view.about, elem_classes="about")
            self.buttons: list[gr.Button] = []
            if view.on_demand:
                with gr.Row(elem_classes="keep"):
                    self.buttons = [gr.Button(one.label, size="sm", min_width=160, scale=0) for one in view.on_demand]
            self.words = gr.Markdown("", elem_classes="said")
            self.charts = [place_chart(f"{view.key}-{i}", view.reserved if i == 0 else 0) for i in range(view.charts)]
            self.extra = gr.Column()
            with gr.Accordion("Table", open=False):
                table_id = f"{view.key}-table"
                self.table = gr.Dataframe(interactive=False, wrap=True, elem_classes="numbers", elem_id=table_id)
            inputs = [findings, variant]
            self.exports = place_exports(inputs, lambda handle, chosen: export_of(view, findings_of(handle), chosen))
        if isinstance(variant, gr.Radio):

            def on_variant(handle: Handle[Findings] | None, chosen: str) -> Update:
                return self.update(findings_of(handle), chosen)

            variant.input(on_variant, inputs, self.outputs, **QUIET)

    @property
    def outputs(self) -> list[Any]:
        """What an update changes."""
        return [self.words, *self.charts, self.table]

    def update(self, findings: Findings, variant: object) -> Update:
        """What is shown of the findings; `variant` is the choice's value."""
        chosen = self.view.variant_of(findings, variant)
        charts, words = self.view.draw(findings, chosen), self.view.words(findings, chosen)
        columns, rows = self.view.table(findings, chosen)
        missing = PRESS if findings.labelled else UNLABELLED
        return {
            self.words: words or missing,
            **charts_update(self.charts, charts),
            self.table: {"headers": columns, "data": rows},
        }


def export_of(view: View, findings: Findings, variant: object = "") -> Export:
    """What a view gives to take away. Raises UserError where it cannot be measured on these images."""
    chosen = view.variant_of(findings, variant)
    charts = view.draw(findings, chosen)
    if not findings.labelled and not any(charts):
        raise UserError(UNLABELLED)
    python = view.python(chosen)
    return Export(
        stem(findings.network.label, view.file or view.key),
        charts,
        f"{findings.words}. {view.caption(chosen)}",
        view.table(findings, chosen),
        python.lines(findings.network, findings.images) if python else None,
    )
