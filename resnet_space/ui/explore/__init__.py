"""The explore tab: what the residual blocks of a network do to their input, measured on images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.events import QUIET
from resnet_space.ui.explore.address import wire_address
from resnet_space.ui.explore.api import build_api
from resnet_space.ui.explore.compare import build_compare
from resnet_space.ui.explore.controls import Controls, chosen_images, place_controls, wire_controls
from resnet_space.ui.explore.growth import build_growth
from resnet_space.ui.explore.measuring import Findings, OnDemand, findings_of, measure_network, measure_on_demand
from resnet_space.ui.explore.memory import MEMORY, Handle
from resnet_space.ui.explore.networks import Network
from resnet_space.ui.explore.pictures import PicturesTab, build_pictures
from resnet_space.ui.explore.view_tab import ViewTab, place_variant, place_view
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.pull import wire_pull
from resnet_space.ui.stops import Stops
from resnet_space.ui.subject import Subject

FINDINGS_SECONDS = 1_800  # that a page's findings stay after its last event
ABOUT = """
**What is a residual?** The adjustment that a block makes to its input **x**: it gives **x + F(x)**. To make F(x) small
is easy to learn, and leaves x as it is: that is why very deep residual networks can be trained. Here it is measured.
"""

READING = '<div class="status measuring"><div class="line">Reading the images ...</div></div>'

# So many measure at once, others wait.
LIMITS: Any = {"concurrency_limit": 2, "concurrency_id": "explore"}


@dataclass(frozen=True)
class ExploreTab:
    """What the other tabs need."""

    with_own_data: Callable[..., Dependency]  # `(listen, run)`: after an event, the images are those of the run's data


@dataclass(frozen=True)
class _Page:
    """What the tab's handlers share.

    Attributes:
        findings: a handle of those of the last press of Measure.
        emptied: the components that a new measurement empties.
    """

    context: AppContext
    stops: Stops
    controls: Controls
    findings: gr.State
    progress: gr.HTML
    stop: gr.Button
    tabs: list[ViewTab]
    pictures: PicturesTab
    emptied: list[Component]


def build_explore(
    context: AppContext, subject: Subject, visitor: gr.BrowserState, names: gr.State, settled: Dependency
) -> ExploreTab:
    """Place the tab's components and wire its events.

    Args:
        context: what all share.
        subject: the run that is measured, if nothing else is chosen here.
        visitor: the key that a browser is known by.
        names: the runs that can be measured.
        settled: the event after which the subject is that of the page's address.
    """
    stops = Stops()
    findings = gr.State(None, time_to_live=FINDINGS_SECONDS)
    gr.Markdown(ABOUT)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            controls = place_controls(context, subject, visitor)
            measure = gr.Button("Measure", variant="primary", elem_id="measure")
            variants = [place_variant(view) for view in VIEWS]
            progress = gr.HTML("", apply_default_css=False)
            stop = gr.Button("Stop measuring", size="sm", visible=False)
        with gr.Column(scale=2, min_width=320), gr.Tabs(elem_id="explore-views"):
            tabs = [place_view(view, variant, findings) for view, variant in zip(VIEWS, variants, strict=True)]
            pictures = build_pictures(context, findings)
            build_growth(context, controls.network)
            compared = build_compare(context, visitor, names, controls.images, stops, LIMITS)
    emptied = [component for tab in tabs for component in tab.view.extend(tab, context, findings, pictures)]

    page = _Page(context, stops, controls, findings, progress, stop, tabs, pictures, emptied)
    with_own_data = wire_controls(context, visitor, controls, names, subject)
    _wire_measure(page, measure, visitor)
    for tab in tabs:
        for wanted, button in zip(tab.view.on_demand, tab.buttons, strict=True):
            _wire_on_demand(page, wanted, button)
    wire_pull(controls.pulled, names, subject)
    build_api(context, LIMITS)
    wire_address(context, settled, controls.network, compared)
    return ExploreTab(with_own_data)


def _wire_measure(page: _Page, measure: gr.Button, visitor: gr.BrowserState) -> None:
    first = page.tabs[0]
    radios = [tab for tab in page.tabs if tab.view.variants]

    @costly
    def on_measure(request: gr.Request, network: str | None, key: str | None, *values: Any) -> Iterator[dict[Any, Any]]:
        variants, chosen = values[: len(page.tabs)], values[len(page.tabs) :]
        images = chosen_images(page.context, key, chosen)
        findings = None
        with page.stops.asked(str(request.session_hash), instead=True) as event:
            yield {page.stop: gr.update(visible=True), page.progress: READING}
            for progress, findings, draws in measure_network(page.context, Network.parse(network), images, event):
                if event.replaced:
                    return
                # Stop each time: another press of Measure that is refused takes it away.
                shown = {page.stop: gr.update(visible=True), page.progress: progress.html}
                yield shown | (first.update(findings, "") if draws else {})
        assert findings is not None  # without images it would have been refused
        update: dict[Any, Any] = {page.findings: MEMORY.count(Handle(findings)), page.stop: gr.update(visible=False)}
        update |= dict.fromkeys(page.emptied, "")
        for tab, variant in zip(page.tabs, variants, strict=True):
            update |= tab.update(findings, variant)
        for tab in radios:
            assert tab.view.variants is not None
            update[tab.variant] = gr.update(visible=tab.view.variants.apply(findings))
        yield update | page.pictures.update(findings)

    def on_stop(request: gr.Request) -> None:
        page.stops.stop(str(request.session_hash))

    outputs = [page.findings, page.progress, page.stop, *(tab.variant for tab in radios), *page.emptied]
    outputs += [*page.pictures.outputs, *(component for tab in page.tabs for component in tab.outputs)]
    inputs = [page.controls.network, visitor, *(tab.variant for tab in page.tabs), *page.controls.images]
    # Of several presses the last one counts: it ends those before.
    pressed = measure.click(on_measure, inputs, outputs, trigger_mode="multiple", **QUIET, **LIMITS)
    _clear_where_refused(page, pressed)
    page.stop.click(on_stop, None, None, queue=False, **QUIET)


def _wire_on_demand(page: _Page, wanted: OnDemand[Any], button: gr.Button) -> None:
    """A button that measures more, of the same network and images."""
    shown_by = [tab for tab in page.tabs if wanted in tab.view.on_demand]

    @costly
    def on_press(request: gr.Request, handle: Handle[Findings] | None, *variants: Any) -> Iterator[dict[Any, Any]]:
        findings = findings_of(handle)
        with page.stops.asked(str(request.session_hash)) as event:
            yield {page.stop: gr.update(visible=True)}
            for progress, result, draws in measure_on_demand(page.context, findings, wanted, event):
                if event.replaced:
                    return
                findings.on_demand[wanted.id] = result
                update = {page.progress: progress.html}
                for tab, variant in zip(shown_by, variants, strict=True) if draws else ():
                    update |= tab.update(findings, variant)
                yield update
        assert handle is not None
        MEMORY.count(handle)  # it has grown
        yield {page.stop: gr.update(visible=False)}

    outputs = [page.progress, page.stop, *(component for tab in shown_by for component in tab.outputs)]
    inputs = [page.findings, *(tab.variant for tab in shown_by)]
    _clear_where_refused(page, button.click(on_press, inputs, outputs, **QUIET, **LIMITS))


def _clear_where_refused(page: _Page, started: Any) -> None:
    started.failure(lambda: ("", gr.update(visible=False)), None, [page.progress, page.stop], **QUIET)
