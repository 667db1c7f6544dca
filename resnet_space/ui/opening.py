"""What a tab has to ask for waits until somebody looks at it: the tab that a page's address names is there sooner."""

from collections.abc import Callable

import gradio as gr
from gradio.events import Dependency

from resnet_space.ui.events import QUIET

Listen = Callable[..., Dependency]


class Looks:
    """When a tab is looked at, as listeners. Made outside of all tabs, as what is in one that is closed hears nothing.

    Attributes:
        first: once, as soon as it is looked at.
        opened: once, as soon as it is looked at and what `wire` was given as needed is there.
        again: after that, when it is opened once more, and at those of the events given to `wire` that come while it is
            open.
    """

    first: Listen
    opened: Listen
    again: Listen

    def __init__(self, name: str) -> None:
        self._name = name
        self._boxes = [gr.Textbox("", visible="hidden") for _ in ("first", "opened", "again")]
        self.first, self.opened, self.again = (box.change for box in self._boxes)

    def wire(self, tab: gr.Tab, load: Listen, needed: Listen, *events: Listen) -> None:
        """Listen to the tab, to the page's load, to the event before `opened`, and to those for `again`."""
        first, opened, again = self._boxes
        for box, there in ((first, load), (opened, needed)):
            what = f"'{self._name}', {box._id}"
            there(None, None, box, js=f"() => resnetSpace.opens({what}, true)", **QUIET)
            tab.select(None, None, box, js=f"() => resnetSpace.opens({what})", **QUIET)
        for listen in (tab.select, *events):
            listen(None, again, again, js=f"(before) => resnetSpace.look({what}, before)", **QUIET)
