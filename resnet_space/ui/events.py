"""What the events of the page have in common.

Errors, rates and who asks are settled for all handlers at once (`serve.handlers`): a handler raises `UserError`, and
says by `costly` that it takes the machine's time. It returns a dict by component; what is not in it stays as it is.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any

import gradio as gr
from gradio.events import Dependency

Listen = Callable[..., Dependency]
Update = dict[Any, Any]  # what a handler returns: new values or properties by component
Payload = dict[str, Any] | None  # of a component with a file, as it came
SignedIn = gr.OAuthToken | None

# No endpoint for programs. Not preprocessed: Gradio refuses a choice that appeared after the page was built; the
# handlers ask the library what there is.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
QUIET: dict[str, Any] = PRIVATE | {"show_progress": "hidden"}
# The last choice counts, also when it comes before the answer to the one before.
LATEST: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
# Each click counts: "always_last" would give the handler the first of several once more.
EACH: dict[str, Any] = PRIVATE | {"trigger_mode": "multiple"}


def cumulative(updates: Iterable[Update | None], nothing: Any) -> Iterator[Update]:
    """What a generator yields, each time with all that it yielded before.

    Gradio sends what has changed since the last yield. In the browser an update that is followed at once by one without
    it is undone before it is shown: charts then do not appear. When the generator ends, Gradio sends the last one once
    more.

    Args:
        updates: of components; None: what was yielded is outdated, and not to be sent once more.
        nothing: an output that stays as it is where there are no updates: without any, Gradio would empty all outputs.
    """
    so_far: Update = {}
    for update in updates:
        if update is None:
            so_far = {}
            continue
        so_far |= update
        # Copies, as Gradio takes values out of what it is given.
        yield {component: copy(value) for component, value in so_far.items()}
    if not so_far:
        yield {nothing: gr.skip()}


PROGRESS = gr.Progress()  # the default of a handler's argument: by it Gradio sees that the handler reports progress


def reporter(progress: gr.Progress, description: str) -> Callable[[int, int], None]:
    """A callback (done, total) that moves the component's progress bar; `{mb}` in the words is the total in MB."""

    def report(done: int, total: int) -> None:
        progress(done / max(total, 1), desc=description.format(mb=f"{total / 1e6:,.1f} MB"))

    return report


class Looks:
    """When a tab is looked at, as listeners: what it has to ask for waits until then.

    Made outside of all tabs, as what is in one that is closed hears nothing.

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
