"""The explore tab: what the residual blocks of a network do to their input, measured on images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.serve.handlers import costly, costs
from resnet_space.ui.events import LATEST, QUIET, Update, cumulative
from resnet_space.ui.explore.address import Link, link_of
from resnet_space.ui.explore.api import build_api
from resnet_space.ui.explore.compare import CompareTab
from resnet_space.ui.explore.controls import Controls, wire_controls
from resnet_space.ui.explore.growth import build_growth
from resnet_space.ui.explore.history import build_history
from resnet_space.ui.explore.measuring import Findings, OnDemand, findings_of
from resnet_space.ui.explore.memory import MEMORY, Handle
from resnet_space.ui.explore.networks import Network, other_choices
from resnet_space.ui.explore.pictures import PicturesTab
from resnet_space.ui.explore.questions import Card, card_value, place_questions
from resnet_space.ui.explore.running import Page, status_html
from resnet_space.ui.explore.view_tab import ViewTab, place_variant
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.html import place_html
from resnet_space.ui.pull import wire_pull
from resnet_space.ui.subject import Shared

FINDINGS_SECONDS = 1_800  # that a page's findings stay after its last event
ABOUT = (
    "A **residual block** adds **F(x)** to its input **x**. A block that should do nothing only has to make F(x) "
    "small, which is why very deep networks can be trained. Here F(x) is measured in your run, or in any network."
)
INPUTS = "(...values) => resnetSpace.explore.inputs(...values)"
ASK = "() => resnetSpace.explore.ask('{}')"

# So many measure at once, others wait.
LIMITS: Any = {"concurrency_limit": 2, "concurrency_id": "explore"}
# Of several the last one counts: it ends those before.
ANEW: Any = QUIET | LIMITS | {"trigger_mode": "multiple"}


@dataclass(frozen=True)
class ExploreTab:
    """What the other tabs need."""

    with_own_data: Callable[..., Dependency]  # `(listen, run)`: after an event, the images are those of the run's data


def build_explore(shared: Shared, tab: gr.Tab) -> ExploreTab:
    """Place the tab's components and wire its events. If nothing else is chosen in it, the subject is measured."""
    context, subject = shared.context, shared.subject
    findings = gr.State(None, time_to_live=FINDINGS_SECONDS)
    gr.Markdown(ABOUT, elem_id="explore-about")
    cards = place_questions(context)
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            controls = Controls(shared)
            variants = [place_variant(view) for view in VIEWS]
            measure = gr.Button("Measure", variant="primary", elem_id="measure")
        with gr.Column(scale=4, min_width=320, elem_id="explore-shown"):
            view, address = gr.Textbox("0", visible="hidden"), gr.Textbox("", visible="hidden")
            with gr.Row(elem_id="explore-status"):
                status = place_html(status_html("Not measured yet."))
                stop = gr.Button("Stop measuring", size="sm", visible=False, scale=0, min_width=140)
            # Gradio would put those that do not fit into a menu; the style sheet lets the row scroll instead.
            with gr.Tabs(elem_id="explore-views", overflow_behavior="wrap") as views:
                tabs = [ViewTab(view, variant, findings) for view, variant in zip(VIEWS, variants, strict=True)]
                pictures = PicturesTab(context, findings)
                growth = build_growth(context, controls.network, subject.run)
                compared = CompareTab(shared)
    build_history(controls.network, shared.settled)
    emptied = [component for tab in tabs for component in tab.view.extend(tab, context, findings, pictures)]
    page = Page(shared, controls, view, findings, status, stop, address, tabs, pictures, compared, emptied)
    chosen = wire_controls(shared, controls)

    @costs(0.2)  # nothing of it takes long, and most of it finds that all is there
    def on_change(request: gr.Request, *values: Any) -> Iterator[Update]:
        yield from cumulative(page.measured(request, page.asked(values)), stop)

    @costly
    def on_measure(request: gr.Request, *values: Any) -> Iterator[Update]:
        yield from cumulative(page.measured(request, page.asked(values), pressed=True), stop)

    def measured(listen: Callable[..., Dependency], opened: str = "") -> Dependency:
        """After an event, measure what the open view needs; `opened`: the view that the event opens."""
        return listen(None, None, view, js=ASK.format(opened), **QUIET)

    view.change(on_change, page.inputs, page.outputs, js=INPUTS, **ANEW)
    changes: list[Any] = [event.then for event in chosen.chosen]
    changes += [control.input for control in (controls.split, controls.count, compared.others)]
    changes += [controls.network.change, controls.pictures.change, subject.run.change, tab.select]
    for listen in changes:
        measured(listen)
    for placed in (*(shown.tab for shown in tabs), pictures.tab, growth, compared.tab):
        measured(placed.select, str(placed.id))
    for button in (measure, compared.button):
        _clear_where_refused(page, button.click(on_measure, page.inputs, page.outputs, js=INPUTS, **ANEW))
    for shown in tabs:
        for wanted, button in zip(shown.view.on_demand, shown.buttons, strict=True):
            _wire_on_demand(page, wanted, button)
    stop.click(page.stops.stop, None, None, queue=False, **QUIET)
    address.change(None, address, None, js="(text) => resnetSpace.explore.shows('all', text)", **QUIET)

    wire_pull(controls.pulled, shared)
    build_api(context, LIMITS)
    _wire_link(page, views)
    _wire_cards(page, cards, views, measured)

    def with_own_data(listen: Callable[..., Dependency], run: gr.Dropdown) -> Dependency:
        return measured(chosen.with_own_data(listen, run).then)

    return ExploreTab(with_own_data)


def _wire_on_demand(page: Page, wanted: OnDemand[Any], button: gr.Button) -> None:
    """A button that measures more, of the network and images on the page."""

    @costly
    def on_press(request: gr.Request, *values: Any) -> Iterator[Update]:
        handle: Handle[Findings] | None = values[1]
        findings = findings_of(handle)
        assert handle is not None

        def updates() -> Iterator[Update]:
            with page.stops.asked(request) as stop:
                yield from page.more(page.asked(values), findings, wanted, stop)
            yield {page.stop: gr.update(visible=False)}

        yield from cumulative(updates(), page.stop)
        MEMORY.count(handle)  # it has grown

    outputs = [page.status, page.stop]
    outputs += [part for tab in page.tabs if wanted in tab.view.on_demand for part in tab.outputs]
    _clear_where_refused(page, button.click(on_press, page.inputs, outputs, js=INPUTS, **QUIET, **LIMITS))


def _clear_where_refused(page: Page, started: Any) -> None:
    refused = status_html("Not measured.", stale=True)
    started.failure(lambda: (refused, gr.update(visible=False)), None, [page.status, page.stop], **QUIET)


def _wire_link(page: Page, views: gr.Tabs) -> None:
    """Choose what the address names when the page opens, and measure it in the same event."""
    controls, compared, subject = page.controls, page.compared, page.shared.subject

    def update_of(link: Link, run: str | None, runs: list[str], key: str | None) -> Update:
        update = subject.become(run, runs) if run and link.subject else {}
        update |= {controls.network: str((link.network or Network("")).beside(run))}
        update |= {views: gr.Tabs(selected=link.view) if link.view else gr.skip()} | _images_update(page, link, key)
        if link.others:
            others = [str(other.beside(run)) for other in link.others]
            update[compared.others] = gr.update(choices=other_choices(runs, others), value=others)
        block = gr.update(choices=[link.block], value=link.block) if link.block else gr.skip()
        image, channel = link.picture, link.channel
        return update | {page.pictures.block: block, page.pictures.image: image, page.pictures.channel: channel}

    @costs(0.2)
    def on_open(request: gr.Request, runs: list[str], *values: Any) -> Iterator[Update]:
        def updates() -> Iterator[Update | None]:
            link = link_of(page.context, dict(request.query_params))
            if link is None:
                return
            asked = page.asked(values)
            run = link.subject or asked.subject
            update = update_of(link, run, runs, asked.key)
            source, data, split, _, pictures = asked.sources
            chosen = replace(
                asked,
                view=link.view or VIEWS[0].key,
                subject=run,
                network=(link.network or Network("")).about(run),
                others=link.others or tuple(other.beside(asked.subject).about(run) for other in asked.others),
                picture=(link.block or None, link.picture, link.channel),
                sources=(source, link.data or data, link.split or split, link.count, pictures),
            )
            for measured in page.measured(request, chosen):
                yield update | measured if measured is not None else None
                update = Update()
            if update:
                yield update

        yield from cumulative(updates(), page.stop)

    outputs = [views, *page.chosen]
    opened = page.shared.settled.then(on_open, [page.shared.names, *page.inputs], [*outputs, *page.outputs], **ANEW)
    opened.then(None, None, page.view, js="() => resnetSpace.explore.ready()", **QUIET)


def _images_update(page: Page, link: Link, key: str | None) -> Update:
    known = [value for _, value in page.context.datasets.choices(key)]
    update: Update = {page.controls.count: link.count}
    if link.data in known:
        update[page.controls.dataset] = link.data
    if link.split:
        update[page.controls.split] = gr.update(choices=[link.split, "train", "test"], value=link.split)
    return update


def _wire_cards(page: Page, cards: list[Card], views: gr.Tabs, measured: Any) -> None:
    """Answer the questions when the tab is opened; a click opens the view that shows more."""
    places = [card.shown for card in cards]
    answered = gr.State(False)

    @costs(0.2)
    def on_open(view: str, done: bool) -> Iterator[Update]:
        """One card after the other: the first costs nothing."""

        def answers() -> Iterator[Update]:
            for card in cards if view and not done else ():
                yield {card.shown: card_value(page.context, card.question), answered: True}

        yield from cumulative(answers(), answered)

    if cards:
        for listen in (page.shared.settled.then, page.view.change):
            listen(on_open, [page.view, answered], [*places, answered], js=INPUTS, **QUIET, **LIMITS)

    def opening(card: Card) -> Callable[..., Update]:
        question = card.question
        name, *others = question.networks

        def on_more(runs: list[str]) -> Update:
            update = page.shared.subject.become(name, runs) | {page.controls.network: str(Network(""))}
            update |= {views: gr.Tabs(selected=question.view), page.controls.count: question.images.count}
            update |= {page.controls.dataset: question.images.dataset, page.controls.split: question.images.split}
            if others:
                update[page.compared.others] = gr.update(choices=other_choices(runs, others), value=others)
            return update

        return on_more

    outputs = [views, *page.chosen]
    for card in cards:
        led = card.open.click(opening(card), page.shared.names, outputs, **LATEST)
        shown = f"() => {{ resnetSpace.explore.open('{card.question.view}'); resnetSpace.explore.reveal(); }}"
        measured(led.then(None, js=shown, **QUIET).then)
