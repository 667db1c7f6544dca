"""What visitors have entered in the form: it stays over a reload, and no proposal goes over it.

An answer takes its time, over a slow network or while a data set of the Hub is looked up. Only the browser knows what
its fields have by then, and which of it was proposed, so it has the last word: see `form` in `state.js`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from resnet_space.ui.events import LATEST, QUIET


def keep_entries(app: gr.Blocks, components: Sequence[Any], opened: Dependency) -> Dependency:
    """Keep what the form has at every change. Returns what takes it back, after the event that opened the page."""
    fields = list(components)
    app.load(None, fields, None, js="resnetSpace.form.find", **QUIET)
    gr.on([component.change for component in fields], None, fields, None, js="resnetSpace.form.keep", **QUIET)
    taken: Dependency = opened.then(None, fields, fields, js="resnetSpace.form.takeBack", **QUIET)
    return taken


def wire_proposal(
    listen: Callable[..., Dependency],
    handler: Callable[..., Mapping[str, Any]],
    inputs: Sequence[Component],
    fields: Mapping[str, Component],
) -> Dependency:
    """Let an event propose values for some fields.

    Args:
        listen: a component's event, or what comes `then` after another one.
        handler: takes the values of `inputs`, and gives the proposed ones by the names of fields; the rest stays.
        inputs: what it looks at.
        fields: by their names.
    """
    proposals = gr.JSON(visible=False)
    outputs = list(fields.values())

    def propose(*values: Any) -> list[dict[str, Any]]:
        seen = values[len(inputs) :]
        proposed = handler(*values[: len(inputs)])
        return [
            {"field": name, "seen": value, "proposed": proposed.get(name, value)}
            for name, value in zip(fields, seen, strict=True)
        ]

    asked = listen(propose, [*inputs, *outputs], proposals, **LATEST)
    taken: Dependency = asked.success(
        None, [proposals, *outputs], outputs, js="resnetSpace.form.takeProposals", **LATEST
    )
    return taken
