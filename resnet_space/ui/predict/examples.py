"""The pictures that come with the app: chosen below the picture, and by name in the page's address."""

import filecmp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from resnet_space.ui.events import EACH, QUIET
from resnet_space.ui.pictures import data_url
from resnet_space.ui.scripts import SCRIPTS

EXAMPLES = Path(__file__).parents[2] / "datasets" / "examples"
FIRST = "cat"  # what the tab shows before anything was chosen


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

    def on_example(event: gr.EventData) -> tuple[str, str]:
        return example_file(event.name), str(event.name)

    def offer(listen: Callable[..., Dependency], handler: Callable[..., Any], take: str) -> Dependency:
        asked = listen(handler, None, [example, named], **QUIET | EACH)
        js = f"resnetSpace.picture.{take}"
        shown: Dependency = asked.success(None, [example, named, picture], picture, js=js, **QUIET)
        return shown

    offer(examples.select, on_example, "takeExample")
    picture.input(None, None, None, js="() => resnetSpace.picture.chooseExample(null)", **QUIET)
    return lambda listen: offer(listen, lambda: (example_file(FIRST), FIRST), "takeFirstExample")
