"""The pictures that come with the app: chosen below the picture, and by name in the page's address."""

import filecmp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.ui.live import SCRIPTS
from resnet_space.ui.pictures import data_url

EXAMPLES = Path(__file__).parents[2] / "datasets" / "examples"
FIRST = "cat"  # what the tab shows before anything was chosen
# An example comes from the server; what was chosen meanwhile is what is wanted.
TAKE = "(example, name, now) => (name === window.resnetSpaceExample ? example : now)"
TAKE_FIRST = "(example, name, now) => now ?? example"


def example_names() -> list[str]:
    """Their names, in alphabetical order."""
    return sorted(path.stem for path in EXAMPLES.glob("*.jpg"))


def example_file(name: object) -> str:
    """The picture of an example, of the first one for an unknown name."""
    return str(EXAMPLES / f"{name if name in example_names() else FIRST}.jpg")


def example_of(payload: dict[str, Any] | None) -> str | None:
    """Which example the picture in a component's payload is; None for a visitor's own."""
    path = Path(str((payload or {}).get("path")))
    if path.stem in example_names() and filecmp.cmp(path, EXAMPLES / f"{path.stem}.jpg", shallow=False):
        return path.stem
    return None


def build_examples(picture: gr.Image) -> Callable[[Callable[..., Dependency]], Dependency]:
    """Place them as small pictures, each a button that says what it is, and wire their clicks.

    Returns:
        What shows the first one after an event, `then` after one or at one, where there is no picture yet.
    """
    buttons = "".join(
        f'<button type="button" data-example="{name}" aria-label="Example: {name}" title="{name}"><img alt="" '
        f'src="{data_url((EXAMPLES / f"{name}.jpg").read_bytes(), "image/jpeg")}"></button>'
        for name in example_names()
    )
    examples = gr.HTML(
        f'<p class="note">Examples: CIFAR-10 test images, 32 x 32 pixels</p><div class="examples">{buttons}</div>',
        js_on_load="resnetSpace.predict.examples(element, trigger)",
        elem_id="examples",
        head=SCRIPTS,
        apply_default_css=False,
    )

    example, named = gr.Image(type="filepath", visible=False), gr.Textbox(visible=False)
    quiet: Any = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}

    def on_example(event: gr.EventData) -> tuple[str, str]:
        return example_file(event.name), str(event.name)

    def offer(listen: Callable[..., Dependency], handler: Callable[..., Any], js: str) -> Dependency:
        # Each click: "always_last" would give the handler the first of several once more.
        asked = listen(handler, None, [example, named], trigger_mode="multiple", **quiet)
        shown: Dependency = asked.success(None, [example, named, picture], picture, js=js, **quiet)
        return shown

    offer(examples.select, on_example, TAKE)
    picture.input(None, None, None, js="() => { window.resnetSpaceExample = null; }", **quiet)
    return lambda listen: offer(listen, lambda: (example_file(FIRST), FIRST), TAKE_FIRST)
