"""The page's address: `?tab=explore&run=NAME` opens the tab with this run, and `&with=A,B` what to compare it with."""

from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore.compare import MOST
from resnet_space.ui.explore.subjects import run_of, subject_names

# The tab's part of the address, where the page's script keeps one for each tab.
TELL_RUN = "(run) => { window.resnetSpace?.show?.('explore', { run }); }"
# What a page was opened with stays in its address, although nothing has changed since. The script may come late.
TELL_LINKED = """(others) => {
  const tell = () =>
    window.resnetSpace ? window.resnetSpace.show('explore', { with: others }) : setTimeout(tell, 100);
  if (others) tell();
}"""
TELL_COMPARED = "(names) => { window.resnetSpace?.show?.('explore', { with: (names ?? []).slice(1).join(',') }); }"


def linked_names(workshop: Workshop, asked: dict[str, str]) -> list[str]:
    """The networks that an address names, and that there are: the run, then those to compare it with."""
    if asked.get("tab") != "explore":
        return []
    wanted = [asked.get("run", ""), *asked.get("with", "").split(",")]
    return [name for name in dict.fromkeys(wanted) if name and _is_there(workshop, name)]


def wire_address(workshop: Workshop, app: gr.Blocks, run: gr.Dropdown, compared: gr.Dropdown) -> Dependency:
    """Choose what the address names when the page opens, and keep the choice in it."""

    def open_link(request: gr.Request) -> Any:
        names = linked_names(workshop, dict(request.query_params))
        if not names:
            return gr.skip(), gr.skip(), ""
        choices = [*dict.fromkeys([*names, *subject_names(workshop.trained_names())])]
        several = gr.update(choices=choices, value=names[:MOST]) if len(names) > 1 else gr.skip()
        return gr.update(choices=choices, value=names[0]), several, ",".join(names[1:MOST])

    quiet: Any = {"api_visibility": "private", "show_progress": "hidden"}
    run.change(None, run, None, js=TELL_RUN, **quiet)
    compared.change(None, compared, None, js=TELL_COMPARED, **quiet)
    others = gr.Textbox(visible=False)
    opened = app.load(open_link, None, [run, compared, others], **quiet)
    told: Dependency = opened.then(None, others, None, js=TELL_LINKED, **quiet)
    return told


def _is_there(workshop: Workshop, name: str) -> bool:
    if name in subject_names([]):
        return True
    try:
        return workshop.library.open(run_of(name) or "").has_weights
    except UserError:
        return False
