"""What visitors have entered in the form: it stays over a reload, and no proposal goes over it.

An answer takes its time, over a slow network or while a dataset of the Hub is looked up. Only the browser knows what
its fields have by then, and which of it was proposed, so it has the last word: see `form` in `static/state.js`.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from resnet_space.ui.events import LATEST, QUIET


def keep_entries(app: gr.Blocks, components: Mapping[str, Any], opened: Dependency) -> Dependency:
    """Keep what the form has at every change. Returns what takes it back, after the event that opened the page.

    Args:
        app: the page.
        components: the form's, by the names of its fields; as the page comes up they have what is proposed.
        opened: the event.
    """
    fields = list(components.values())
    # Not as the browser has it: a fast visitor has set something by then.
    first = {name: component.value for name, component in components.items()}
    app.load(None, None, None, js=f"() => resnetSpace.form.find({json.dumps(first)})", **QUIET)
    gr.on([component.change for component in fields], None, fields, None, js="resnetSpace.form.keep", **QUIET)
    taken: Dependency = opened.then(None, fields, fields, js="resnetSpace.form.takeBack", **QUIET)
    return taken


def own_fields(seen: Mapping[str, Any], proposed_before: object) -> dict[str, Any]:
    """What of the form a visitor has set: what is not as it was proposed last, as the browser remembers it."""
    before = proposed_before if isinstance(proposed_before, dict) else {}
    return {name: value for name, value in seen.items() if name in before and before[name] != value}


def wire_proposal(
    listen: Callable[..., Dependency],
    handler: Callable[..., Mapping[str, Any]],
    inputs: Sequence[Component],
    fields: Mapping[str, Component],
    *,
    over: Collection[str] = (),
) -> Dependency:
    """Let an event propose values for some fields. What the visitor has set stays, unless the event is about it.

    Args:
        listen: a component's event, or what comes `then` after another one.
        handler: takes what of the fields the visitor has set themselves, by name, and the values of `inputs`. It gives
            the proposed values by the names of fields; the rest stays.
        inputs: what it looks at.
        fields: by their names.
        over: the fields of which the proposal also replaces what the visitor had set before the event.
    """
    proposals, before = gr.JSON(visible=False), gr.JSON(visible=False)
    outputs = list(fields.values())

    def propose(*values: Any) -> list[dict[str, Any]]:
        *asked, proposed_before = values
        seen = dict(zip(fields, asked[len(inputs) :], strict=True))
        proposed = handler(own_fields(seen, proposed_before), *asked[: len(inputs)])
        return [
            {"field": name, "seen": seen[name], "proposed": value, "over": name in over}
            for name, value in proposed.items()
            if name in seen
        ]

    asked = listen(propose, [*inputs, *outputs, before], proposals, js="resnetSpace.form.withProposed", **LATEST)
    names = json.dumps(list(fields))
    taken: Dependency = asked.success(
        None,
        [proposals, *outputs],
        outputs,
        js=f"(proposals, ...values) => resnetSpace.form.takeProposals(proposals, {names}, values)",
        **LATEST,
    )
    return taken
