"""What a choice sets in other fields, but never over what the visitor has set in them since.

An answer takes its time, over a slow network or while a data set of the Hub is looked up. Only the browser knows what
its fields have by then, and which of it was proposed, so it has the last word.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

TAKE = """(proposals, ...now) => now.map((value, i) => {
  const { field, seen, proposed } = proposals[i];
  const before = (window.resnetSpaceProposed ??= {});
  return value === seen || value === before[field] ? (before[field] = proposed) : value;
})"""


def wire_proposal(
    listen: Callable[..., Dependency],
    handler: Callable[..., Mapping[str, Any]],
    inputs: Sequence[Component],
    fields: Mapping[str, Component],
    options: Mapping[str, Any],
) -> Dependency:
    """Let an event propose values for some fields.

    Args:
        listen: a component's event, or what comes `then` after another one.
        handler: takes the values of `inputs`, and gives the proposed ones by the names of fields; the rest stays.
        inputs: what it looks at.
        fields: by their names.
        options: of both events.
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

    asked = listen(propose, [*inputs, *outputs], proposals, **options)
    taken: Dependency = asked.success(None, [proposals, *outputs], outputs, js=TAKE, **options)
    return taken
