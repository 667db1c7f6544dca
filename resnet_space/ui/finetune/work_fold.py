"""Work that a process of its own does, in a fold of the form: start it, watch it, stop it, also after a reload."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import gradio as gr
from gradio.blocks import BlockContext
from gradio.components import Component
from gradio.events import Dependency

from resnet_space.serve.works import Works
from resnet_space.training.work import Work
from resnet_space.ui.events import QUIET, Update
from resnet_space.ui.html import DRAW, place_html, place_report, progress_html
from resnet_space.ui.subject import Shared

W = TypeVar("W", bound=Work)


class WorkFold(Generic[W]):
    """The parts of a fold that every kind of work has. Place them with the methods, then `wire` their events.

    `name` is the first word of its elements' ids.

    Attributes:
        start, stop: the buttons.
        progress: a line on how it stands.
        report: what was found, drawn by a script of the page.
        shown: the name of the work that is shown, or "".
        known: which of its states is drawn; changes as results come.
    """

    start: gr.Button
    stop: gr.Button
    progress: gr.HTML
    report: gr.HTML

    def __init__(self, shared: Shared, works: Works[W], name: str) -> None:
        self.context, self.visitor, self.works, self.name = shared.context, shared.visitor, works, name
        self.shown = gr.Textbox("", visible="hidden")
        self.known = gr.State(None)

    def place_buttons(self, label: str, *, min_width: int) -> None:
        self.start = gr.Button(label, variant="primary", min_width=min_width, scale=0, elem_id=f"{self.name}-start")
        self.stop = gr.Button(
            "Stop", variant="stop", min_width=110, scale=0, visible=False, elem_id=f"{self.name}-stop"
        )

    def place_progress(self) -> None:
        self.progress = place_html(elem_id=f"{self.name}-progress")

    def place_report(self, script: str = DRAW) -> None:
        self.report = place_report(f"{self.name}-report", script=script)

    def wire(
        self,
        on_start: Callable[..., str],
        asked: Sequence[Component],
        progress_of: Callable[[W], str],
        draw: Callable[[W], Update],
        ended: Sequence[Component | BlockContext] = (),
        *,
        seconds: float = 1.0,
    ) -> Dependency:
        """Start by the button, look every few seconds while it runs, stop by the other button.

        Args:
            on_start: of the values of `asked`, starts it and gives its name.
            progress_of: the line on how it stands.
            draw: the updates of `report` and of `ended`, when there are new results.
            ended: what is seen only where there are results.
            seconds: between two looks.

        Returns:
            The event after which `shown` names work that was just started.
        """
        timer = gr.Timer(seconds, active=False)
        self._views = [self.progress, self.report, self.start, self.stop, timer, self.known, *ended]

        def look(name: str | None, drawn: object) -> Update:
            if not name:
                return {timer: gr.Timer(active=False), self.progress: "", self.start: gr.update(interactive=True)}
            found = self.works.open(name)
            running = found.state == "running"
            now = [name, found.results, found.state]
            update: Update = {self.progress: progress_of(found)}
            if now != drawn:
                update |= draw(found) | {
                    self.start: gr.update(visible=not running, interactive=True),
                    self.stop: gr.update(visible=running, interactive=True),
                    timer: gr.Timer(active=running),
                    self.known: now,
                }
            return update

        def on_press() -> Update:
            off = {self.start: gr.update(interactive=False), self.progress: progress_html("Starting.")}
            return off | {self.report: None} | dict.fromkeys(ended, gr.update(visible=False))

        def on_stop(name: str, key: str | None) -> Update:
            self.context.require_writable()
            self.works.stop(name, key)
            return {self.stop: gr.update(interactive=False)}

        self._look = look
        pressed = self.start.click(on_press, None, self._views, queue=False, **QUIET)
        started: Dependency = pressed.then(on_start, asked, self.shown, **QUIET)
        started.failure(lambda name: look(name, None), self.shown, self._views, **QUIET)
        self.look_on(started.success)
        self.look_on(timer.tick)
        self.stop.click(on_stop, [self.shown, self.visitor], self.stop, **QUIET)
        return started

    def look_on(self, listen: Callable[..., Any]) -> None:
        """Show how the work stands after an event. Only after `wire`."""
        listen(self._look, [self.shown, self.known], self._views, **QUIET)

    def look_on_newest(self, listen: Callable[..., Dependency]) -> None:
        """Show the visitor's newest work after an event. Only after `wire`."""
        self.look_on(listen(lambda key: self.works.newest(key) or "", self.visitor, self.shown, **QUIET).then)
