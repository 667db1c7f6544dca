"""What happens when something is to be measured: on opening, on a change, and by a button."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext
from resnet_space.ui.events import Update
from resnet_space.ui.explore.address import COMPARE, shared
from resnet_space.ui.explore.compare import CompareTab
from resnet_space.ui.explore.comparing import Comparison, compare
from resnet_space.ui.explore.controls import Controls, chosen_images
from resnet_space.ui.explore.images import OWN, Images
from resnet_space.ui.explore.measuring import Findings, OnDemand, is_quick, measure_network, measure_on_demand
from resnet_space.ui.explore.memory import MEMORY, Handle
from resnet_space.ui.explore.networks import Network, config_of
from resnet_space.ui.explore.pictures import PicturesTab
from resnet_space.ui.explore.view_tab import ViewTab
from resnet_space.ui.finetune.status import duration
from resnet_space.ui.html import progress_html
from resnet_space.ui.stops import Stop, Stops
from resnet_space.ui.subject import Shared

GROWTH, PICTURES = "growth", "pictures"  # views by their keys; the first needs nothing measured
SLOW = 5.0  # passes that are quick where one takes so short that nothing need be told of it


def status_html(words: str, numbers: str = "", *, stale: bool = False) -> str:
    """The line above the views; `stale`: what they show is not what is chosen, which dims them."""
    return progress_html(words, numbers, state="measuring stale" if stale else "measuring")


READING = status_html("Reading the images ...")


@dataclass(frozen=True)
class Asked:
    """What a page's components say when something is to be measured.

    Attributes:
        view: the key of the open view; empty where another tab is open.
        findings, comparison: what is on the page.
        network: which is to be measured.
        subject: the page's run.
        others: what to compare it with.
        picture: block, image and channel of one picture.
        variants: of each view.
        sources: the values that say which images.
        key: the visitor's.
    """

    view: str
    findings: Findings | None
    comparison: Comparison | None
    network: Network
    subject: str | None
    others: tuple[Network, ...]
    picture: tuple[Any, ...]
    variants: tuple[Any, ...]
    sources: tuple[Any, ...]
    key: str | None

    def images(self, context: AppContext) -> Images:
        """Raises UserError."""
        return chosen_images(context, self.key, self.sources)


@dataclass(frozen=True)
class Page:
    """What the tab's handlers share.

    Attributes:
        view: hidden; it changes where the open view may need a measurement. As an input it is the open view.
        findings: a handle of what was measured last.
        status: the line above the views.
        address: the part of the page's address for what was measured.
        emptied: the components that a new measurement empties.
        stops: who measures.
        under_way: by session, what is measured right now.
    """

    shared: Shared
    controls: Controls
    view: gr.Textbox
    findings: gr.State
    status: gr.HTML
    stop: gr.Button
    address: gr.Textbox
    tabs: list[ViewTab]
    pictures: PicturesTab
    compared: CompareTab
    emptied: list[Component]
    stops: Stops = field(default_factory=Stops)
    under_way: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> AppContext:
        return self.shared.context

    @property
    def inputs(self) -> list[Any]:
        """As `asked` reads them; the first is the open view."""
        fixed = [self.view, self.findings, self.compared.comparison, self.shared.subject.run, self.controls.network]
        fixed += [self.shared.visitor, self.compared.others, *self.pictures.chosen]
        return [*fixed, *(tab.variant for tab in self.tabs), *self.controls.images]

    @property
    def chosen(self) -> list[Any]:
        """What says what is to be measured."""
        controls = self.controls
        chosen = [controls.network, controls.dataset, controls.split, controls.count, self.compared.others]
        return [*self.shared.subject.outputs, *chosen]

    @property
    def outputs(self) -> list[Any]:
        fixed = [self.findings, self.status, self.stop, self.address, *self.emptied, *self.pictures.outputs]
        fixed += [tab.variant for tab in self.tabs if tab.view.variants]
        return [*fixed, *self.compared.outputs, *(component for tab in self.tabs for component in tab.outputs)]

    def asked(self, values: Sequence[Any]) -> Asked:
        view, findings, comparison, subject, network, key, others, *rest = values
        picture, rest = tuple(rest[:3]), rest[3:]
        return Asked(
            str(view or ""),
            findings.value if isinstance(findings, Handle) else None,
            comparison.value if isinstance(comparison, Handle) else None,
            Network.parse(network).about(subject),
            subject,
            tuple(Network.parse(other).about(subject) for other in others or ()),
            picture,
            tuple(rest[: len(self.tabs)]),
            tuple(rest[len(self.tabs) :]),
            key,
        )

    # Measuring

    def measured(self, request: gr.Request, asked: Asked, *, pressed: bool = False) -> Iterator[Update | None]:
        """Measure what the open view needs and does not have yet; updates of the page, None where they are outdated.

        Args:
            request: of the page.
            asked: what its components say.
            pressed: a button was pressed: also what takes long is measured, and a refusal is an error. Else it is told
                above the views.
        """
        if not asked.view:
            return
        if asked.view == GROWTH:
            yield {self.status: status_html(f"<b>{escape(asked.network.label)}</b>, as recorded during training")}
            return
        handler = self._compared if asked.view == COMPARE else self._network
        try:
            images = asked.images(self.context)
            # As a page opens, several of its events ask for the same.
            wanted = (asked.view, asked.network, images, asked.others, asked.picture)
            session = str(request.session_hash)
            if not pressed and self.under_way.get(session) == wanted:
                return
            with self.stops.asked(request, instead=True) as stop:
                self.under_way[session] = wanted
                try:
                    yield from handler(asked, images, stop, pressed=pressed)
                finally:
                    if self.under_way.get(session) is wanted:
                        del self.under_way[session]
                if stop.replaced:
                    yield None
        except UserError as error:
            if pressed:
                raise
            yield {self.status: status_html(f"<b>Not measured.</b> {escape(str(error))}", stale=True)} | self._idle

    @property
    def _idle(self) -> Update:
        return {self.stop: gr.update(visible=False)}

    def _too_long(self, network: Network, images: Images) -> Update:
        size = config_of(self.context, network).image_size
        words = (
            f"<b>Not measured yet:</b> {escape(network.label)} on {images.count or len(images.files):,} images of "
            f"{size} x {size} pixels takes more than a few seconds. Press <b>Measure</b>."
        )
        return {self.status: status_html(words, stale=True)} | self._idle

    def _network(self, asked: Asked, images: Images, stop: Stop, *, pressed: bool) -> Iterator[Update]:
        """Few updates: each costs the server some time for every component of the tab."""
        findings, began, count = asked.findings, time.monotonic(), images.count or len(images.files)
        there = findings is not None and findings.are_of(asked.network, images)
        update: Update = {}
        if not there or pressed:
            if not pressed and not is_quick(self.context, asked.network, count):
                yield self._too_long(asked.network, images)
                return
            if not is_quick(self.context, asked.network, count, SLOW):
                yield {self.stop: gr.update(visible=True), self.status: READING}
            for progress, findings, draws in measure_network(self.context, asked.network, images, stop):
                if stop.replaced:
                    return
                if progress.done < progress.total and not progress.stopped:
                    # Stop each time: another press of Measure that is refused takes it away.
                    shown = {self.stop: gr.update(visible=True), self.status: progress.html}
                    yield shown | (self._view(asked, findings) if draws else {})
            assert findings is not None  # without images it would have been refused
            update = self._measured(asked, findings)
        assert findings is not None
        update |= self._view(asked, findings)
        missing = self._missing(asked, findings)
        if not missing:
            update |= {self.status: self._shown(asked, findings, time.monotonic() - began, stop)} | self._idle
        yield update
        for wanted in missing:
            yield from self.more(asked, findings, wanted, stop)
            if stop.is_set():
                break
        if missing and not stop.replaced:
            yield {self.status: self._shown(asked, findings, time.monotonic() - began, stop)} | self._idle

    def _shown(self, asked: Asked, findings: Findings, seconds: float, stop: Stop) -> str:
        wanted = asked.sources[3]
        all_there = " (all there are)" if asked.sources[0] != OWN and findings.images.count < (wanted or 0) else ""
        words = f"<b>{escape(findings.network.label)}</b> on {escape(findings.images.words(findings.measured.images))}"
        if findings.stopped or stop.is_set():
            return status_html(f"<b>Stopped.</b> The results so far are of {words}.")
        took = "" if seconds < 0.05 else f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
        return status_html(words + all_there, took)

    def _measured(self, asked: Asked, findings: Findings) -> Update:
        """What has changed for all views."""
        update: Update = {
            self.findings: MEMORY.count(Handle(findings)),
            self.address: shared(findings.network, asked.subject, findings.images),
        }
        for tab in self.tabs:
            if tab.view.variants:
                update[tab.variant] = gr.update(visible=tab.view.variants.apply(findings))
        return update | dict.fromkeys(self.emptied, "") | self.pictures.choices(findings, *asked.picture[:2])

    def _view(self, asked: Asked, findings: Findings) -> Update:
        """The open view. The others are drawn when they are opened."""
        for tab, variant in zip(self.tabs, asked.variants, strict=True):
            if tab.view.key == asked.view:
                return tab.update(findings, variant)
        if asked.view == PICTURES:
            chosen = self.pictures.choices(findings, *asked.picture[:2])
            block, image = (chosen[part]["value"] for part in (self.pictures.block, self.pictures.image))
            return chosen | self.pictures.draw(findings, block, image, asked.picture[2])
        return {}

    def _missing(self, asked: Asked, findings: Findings) -> list[OnDemand[Any]]:
        """What the open view shows and does not have yet, as far as it does not take long."""
        blocks, images = len(findings.measured.norms.blocks), findings.measured.images
        return [
            wanted
            for tab in self.tabs
            if tab.view.key == asked.view and findings.labelled
            for wanted in tab.view.on_demand
            if wanted.id not in findings.on_demand
            and is_quick(self.context, findings.network, images, wanted.passes(blocks))
        ]

    def more(self, asked: Asked, findings: Findings, wanted: OnDemand[Any], stop: Stop) -> Iterator[Update]:
        """Measure more of what is on the page, and draw it in the open view."""
        yield {self.stop: gr.update(visible=True)}
        for progress, result, draws in measure_on_demand(self.context, findings, wanted, stop):
            if stop.replaced:
                return
            findings.on_demand[wanted.id] = result
            yield {self.status: progress.html} | (self._view(asked, findings) if draws else {})

    def _compared(self, asked: Asked, images: Images, stop: Stop, *, pressed: bool) -> Iterator[Update]:
        networks = list(dict.fromkeys([asked.network, *asked.others]))
        before, began = asked.comparison, time.monotonic()
        if before and not pressed and before.is_of(networks, images):
            yield {self.status: self._compared_status(before, None)} | self._idle
            return
        count = images.count or len(images.files)
        slow = next((network for network in networks if not is_quick(self.context, network, count)), None)
        if slow is not None and not pressed:
            yield self._too_long(slow, images)
            return
        yield {self.stop: gr.update(visible=True), self.status: READING}
        comparison = None
        for progress, comparison in compare(self.context, networks, images, stop, costly=pressed):
            if stop.replaced:
                return
            done = progress.done == progress.total
            yield {self.status: progress.html} | (self.compared.update(comparison) if done else {})
        if comparison is not None and not stop.replaced:
            yield {
                self.compared.comparison: MEMORY.count(Handle(comparison)),
                self.compared.address: self.compared.shared(comparison),
                self.address: shared(asked.network, asked.subject, images),
                self.status: self._compared_status(comparison, time.monotonic() - began),
                **self.compared.update(comparison),
            } | self._idle

    def _compared_status(self, comparison: Comparison, seconds: float | None) -> str:
        first = comparison.findings[0]
        labels = ", ".join(f"<b>{escape(findings.network.label)}</b>" for findings in comparison.findings)
        words = f"{labels} on {escape(first.images.words(first.measured.images))}"
        return status_html(words, "" if seconds is None else f"{seconds:.1f} s")
