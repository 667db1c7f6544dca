"""What a visitor has set in the form stays in it when the page is loaded anew, which Gradio does by itself when the
app was away for a while. The browser keeps it for as long as the tab is open."""

from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.serve.workshop import Workshop
from resnet_space.ui.finetune.fields import Fields, offered_by

STORE = "resnet_space.form"
KEEP = f"(...values) => sessionStorage.setItem('{STORE}', JSON.stringify(values))"
# At once, as what a fast visitor sets while the page is still opening is kept, too, field by field.
FIND = f"""(...values) => {{
  window.resnetSpaceForm = {{ first: values, kept: JSON.parse(sessionStorage.getItem('{STORE}') ?? '[]') }};
}}"""
# Neither what another version of the app has kept, with other fields, nor over what was set since the page came up.
TAKE_BACK = """(...values) => {
  const { first, kept } = window.resnetSpaceForm;
  return kept.length === values.length ? values.map((value, i) => (value === first[i] ? kept[i] : value)) : values;
}"""


def keep_entries(workshop: Workshop, app: gr.Blocks, form: Fields, opened: Dependency) -> None:
    """Keep what the form has at every change; take it back after the event by which the page was opened."""
    quiet: Any = {"api_visibility": "private", "show_progress": "hidden"}
    app.load(None, form.components, None, js=FIND, **quiet)
    gr.on([component.change for component in form.components], None, form.components, None, js=KEEP, **quiet)
    opened.then(None, form.components, form.components, js=TAKE_BACK, **quiet).then(
        lambda start: offered_by(workshop, start),
        form.start,
        [form.architecture_row, form.architecture, form.settings["shortcut"]],
        preprocess=False,
        **quiet,
    )
