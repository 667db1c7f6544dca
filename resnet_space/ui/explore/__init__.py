"""The explore tab: what the residual blocks of a network do to their input, measured on images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.serve.handlers import costly
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.explore.address import wire_address
from resnet_space.ui.explore.api import build_api
from resnet_space.ui.explore.choice import Controls, chosen_images, place_controls, wire_controls
from resnet_space.ui.explore.compare_tab import build_compare
from resnet_space.ui.explore.exports import stem
from resnet_space.ui.explore.findings import Findings, Kind, Stops, asked_for, measured
from resnet_space.ui.explore.growth_tab import build_growth
from resnet_space.ui.explore.held import HOLDING, Held
from resnet_space.ui.explore.keep import wire_download
from resnet_space.ui.explore.pictures import look, looked_html
from resnet_space.ui.explore.pictures_tab import PicturesTab, build_pictures
from resnet_space.ui.explore.places import ViewPlaces, needed, place_view, wire_view
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.explore.views.norms import GATED, NORMS, UNGATED, all_values
from resnet_space.ui.pull import wire_pull

KEPT_SECONDS = 1_800  # of a page's findings after its last event
ABOUT = """
**What is a residual?** The adjustment that a block makes to its input **x**: it gives **x + F(x)**. To make F(x) small
is easy to learn, and leaves x as it is: that is why very deep residual networks can be trained. Here it is measured.
"""

READING = '<div class="status measuring"><div class="line">Reading the images ...</div></div>'

# So many measure at once, others wait.
LIMITS: Any = {"concurrency_limit": 2, "concurrency_id": "explore"}
QUIET: Any = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


@dataclass(frozen=True)
class ExploreTab:
    """What the other tabs need."""

    run: gr.Dropdown
    opened: Dependency  # what the page's address names was chosen
    with_own_data: Callable[..., Dependency]  # `(listen, run)`: after an event, the images are those of the run's data


@dataclass(frozen=True)
class _Page:
    """What the tab's handlers share."""

    workshop: Workshop
    stops: Stops
    controls: Controls
    found: gr.State  # a handle of the Findings of the last press of Measure
    gate: gr.Radio
    progress: gr.HTML
    stop: gr.Button
    places: dict[str, ViewPlaces]
    pictures: PicturesTab
    clicked: gr.HTML


def build_explore(workshop: Workshop, app: gr.Blocks, visitor: gr.BrowserState, names: gr.State) -> ExploreTab:
    """Place the tab's components and wire its events; `names` are the runs that can be measured."""
    stops = Stops()
    found = gr.State(None, time_to_live=KEPT_SECONDS)
    gr.Markdown(ABOUT)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            controls = place_controls(workshop, visitor)
            measure = gr.Button("Measure", variant="primary", elem_id="measure")
            gate = gr.Radio(
                [GATED, UNGATED],
                value=GATED,
                label="F(x) is",
                info="the blocks of this network have a CBAM at the end of their branch",
                visible=False,
            )
            progress = gr.HTML("", apply_default_css=False)
            stop = gr.Button("Stop measuring", size="sm", visible=False)
        with gr.Column(scale=2, min_width=320), gr.Tabs(elem_id="explore-views"):
            places = {view.key: place_view(view) for view in VIEWS}
            with places[NORMS.key].more:
                clicked = gr.HTML("", apply_default_css=False, elem_id="clicked")
                values_button = gr.Button("All values as CSV", size="sm")
            pictures = build_pictures(workshop, found)
            build_growth(workshop, controls.run)
            compared = build_compare(workshop, visitor, names, controls.images, stops, LIMITS)

    page = _Page(workshop, stops, controls, found, gate, progress, stop, places, pictures, clicked)
    with_own_data = wire_controls(workshop, visitor, controls, names)
    _wire_measure(page, measure, visitor)
    for place in places.values():
        wire_view(place, found, gate)
        for (kind, _), button in zip(place.view.kinds, place.buttons, strict=True):
            _wire_asked(page, kind, button)
    _wire_norms(page, values_button)
    wire_pull(controls.pulled, names, controls.run)
    build_api(workshop, LIMITS)
    return ExploreTab(controls.run, wire_address(workshop, app, controls.run, compared), with_own_data)


def _wire_measure(page: _Page, measure: gr.Button, visitor: gr.BrowserState) -> None:
    norms = page.places[NORMS.key]

    @costly
    def on_measure(
        request: gr.Request, name: str | None, key: str | None, chosen: str, *values: Any
    ) -> Iterator[dict[Any, Any]]:
        images = chosen_images(page.workshop, key, values)
        findings = None
        with page.stops.asked(str(request.session_hash), instead=True) as event:
            yield {page.stop: gr.update(visible=True), page.progress: READING}
            for told, findings, draws in measured(page.workshop, name, images, event):
                if event.replaced:
                    return
                # Stop each time: another press of Measure that is refused takes it away.
                shown = {page.stop: gr.update(visible=True), page.progress: told.html}
                yield shown | (norms.update(findings, False) if draws else {})
        assert findings is not None  # without images it would have been refused
        gates = findings.measured.has_gates
        update = {page.found: HOLDING.hold(Held(findings)), page.clicked: "", page.gate: gr.update(visible=gates)}
        for place in page.places.values():
            update |= place.update(findings, gates and chosen == UNGATED)
        yield update | page.pictures.update(findings) | {page.stop: gr.update(visible=False)}

    def on_stop(request: gr.Request) -> None:
        page.stops.stop(str(request.session_hash))

    outputs = [page.found, page.progress, page.stop, page.gate, page.clicked, *page.pictures.outputs]
    outputs += [component for place in page.places.values() for component in place.outputs]
    inputs = [page.controls.run, visitor, page.gate, *page.controls.images]
    # Of several presses the last one counts: it ends those before.
    pressed = measure.click(on_measure, inputs, outputs, trigger_mode="multiple", **QUIET, **LIMITS)
    _clear_where_refused(page, pressed)
    page.stop.click(on_stop, None, None, queue=False, **QUIET)


def _wire_asked(page: _Page, kind: Kind, button: gr.Button) -> None:
    """A button that measures more, of the same network and images."""
    fed = [place for place in page.places.values() if kind in dict(place.view.kinds)]

    @costly
    def on_asked(request: gr.Request, held: Held[Findings] | None, chosen: str) -> Iterator[dict[Any, Any]]:
        findings = needed(held)
        with page.stops.asked(str(request.session_hash)) as event:
            yield {page.stop: gr.update(visible=True)}
            for told, result, draws in asked_for(page.workshop, findings, kind, event):
                if event.replaced:
                    return
                findings.asked[kind] = result
                update = {page.progress: told.html}
                for place in fed if draws else ():
                    update |= place.update(findings, chosen == UNGATED)
                yield update
        assert held is not None
        HOLDING.hold(held)  # it has grown
        yield {page.stop: gr.update(visible=False)}

    outputs = [page.progress, page.stop, *(component for place in fed for component in place.outputs)]
    _clear_where_refused(page, button.click(on_asked, [page.found, page.gate], outputs, **QUIET, **LIMITS))


def _clear_where_refused(page: _Page, started: Any) -> None:
    started.failure(lambda: ("", gr.update(visible=False)), None, [page.progress, page.stop], **QUIET)


def _wire_norms(page: _Page, values_button: gr.Button) -> None:
    """What only the first view has: the gate's switch, all values, and a click on a point."""
    norms, pictures = page.places[NORMS.key], page.pictures

    def on_gate(held: Held[Findings] | None, chosen: str) -> Any:
        return norms.update(needed(held), chosen == UNGATED)

    def values(held: Held[Findings] | None) -> str:
        findings = needed(held)
        return csv_file(stem(findings.subject, "residual-norms-all-images"), *all_values(findings))

    @costly
    def on_point(held: Held[Findings] | None, event: gr.EventData) -> Any:
        findings = needed(held)
        try:
            block, index = (int(number) for number in event.point)
            name = findings.measured.norms.blocks[block]
        except (AttributeError, TypeError, ValueError, IndexError):  # a line was clicked, or it is a raw request
            return {page.clicked: gr.skip()}
        html = looked_html(look(page.workshop, findings, name, index, None))
        return {page.clicked: html, pictures.block: name, pictures.image: index}

    page.gate.input(on_gate, [page.found, page.gate], norms.outputs, **QUIET)
    wire_download(values_button, values, [page.found], norms.keep.file)
    for chart in norms.charts:
        chart.select(
            on_point, page.found, [page.clicked, pictures.block, pictures.image], trigger_mode="multiple", **QUIET
        )
