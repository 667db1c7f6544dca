"""Where a view is on the page: what it is about, its words, its charts, and the buttons below."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space.common.text import markdown_text
from resnet_space.serve.refusals import refusal
from resnet_space.ui.explore.exports import stem
from resnet_space.ui.explore.findings import UNLABELLED, Findings
from resnet_space.ui.explore.held import Held, kept
from resnet_space.ui.explore.keep import KeepButtons, Kept, place_keep, wire_keep
from resnet_space.ui.explore.snippets import python_lines
from resnet_space.ui.explore.views.norms import UNGATED
from resnet_space.ui.explore.views.view import View

CHART = '<div class="chart"></div>'
POINTS = "resnetSpace.points(element, props, trigger, watch)"
NOT_YET = "*Press **Measure** first.*"
PRESS = "*Measured: {}. Press a button above.*"


@dataclass(frozen=True)
class ViewPlaces:
    """The components of one view. `more` is a place for what only one view has."""

    view: View
    words: gr.Markdown
    charts: list[gr.HTML]
    buttons: list[gr.Button]
    more: gr.Column
    table: gr.Dataframe
    keep: KeepButtons

    @property
    def outputs(self) -> list[Any]:
        """What an update changes."""
        return [self.words, *self.charts, self.table]

    def update(self, found: Findings, ungated: bool) -> dict[Any, Any]:
        charts = self.view.draw(found, ungated)
        columns, rows = self.view.table(found, ungated)
        words = self.view.words(found, ungated)
        # Beside a network that was chosen since, and is not measured yet.
        measured = markdown_text(found.words)
        named = words if not words or measured in words else f"**{measured}.** {words}"
        return {
            self.words: named or PRESS.format(measured),
            **{
                place: gr.update(value=chart or {}, visible=chart is not None)
                for place, chart in zip(self.charts, charts, strict=True)
            },
            self.table: gr.update(value={"headers": columns, "data": rows}, visible=bool(rows)),
        }


def chart_place(elem_id: str, *, visible: bool = False) -> gr.HTML:
    """A Plotly chart whose points answer clicks."""
    return gr.HTML(
        None, html_template=CHART, js_on_load=POINTS, elem_id=elem_id, apply_default_css=False, visible=visible
    )


def place_view(view: View) -> ViewPlaces:
    """Place a view as a sub-tab."""
    with gr.Tab(view.title, id=view.key):
        gr.Markdown(view.about, elem_classes="about")
        buttons = []
        if view.kinds:
            with gr.Row(elem_classes="keep"):
                buttons = [gr.Button(label, size="sm", min_width=160) for _, label in view.kinds]
        said = gr.Markdown(NOT_YET, elem_classes="said")
        charts = [chart_place(f"{view.key}-{i}") for i in range(view.charts)]
        more = gr.Column()
        with gr.Accordion("Table", open=False):
            table = gr.Dataframe(interactive=False, wrap=True, elem_classes="numbers", elem_id=f"{view.key}-table")
        keep = place_keep()
    return ViewPlaces(view, said, charts, buttons, more, table, keep)


def needed(found: Held[Findings] | None) -> Findings:
    """Raises gr.Error before the first Measure, and for a page that was left for long."""
    findings: Findings = kept(found, "There is nothing measured yet: press Measure first.")
    return findings


def wire_view(place: ViewPlaces, found: gr.State, gate: gr.Radio) -> None:
    """Wire the buttons below a view."""

    def provide(held: Held[Findings] | None, chosen: str) -> Kept:
        return kept_of(place.view, needed(held), chosen == UNGATED)

    wire_keep(place.keep, [found, gate], provide)


def kept_of(view: View, findings: Findings, ungated: bool) -> Kept:
    """What a view has to give. Raises gr.Error where it cannot be measured on these images."""
    if view.kinds and not findings.labelled:
        raise refusal(UNLABELLED)
    columns, rows = view.table(findings, ungated)
    name = "residual-norms" if view.key == "norms" else view.key
    gated = " (before the gate of its CBAM)" if ungated and view.key == "norms" else ""
    return Kept(
        stem(findings.subject, name),
        view.draw(findings, ungated),
        f"{findings.words}. {view.caption}{gated}",
        columns,
        rows,
        python_lines("before-gate" if gated else view.key, findings.subject, findings.images),
    )
