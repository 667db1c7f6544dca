"""The pictures that come with the app: chosen below the picture, and by name in the page's address."""

import filecmp
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency
from PIL import Image

from resnet_space.ui.events import EACH, QUIET
from resnet_space.ui.pictures import data_url
from resnet_space.ui.scripts import SCRIPTS

DATASETS = Path(__file__).parents[2] / "datasets"
SMALL, PHOTOGRAPHS = DATASETS / "examples", DATASETS / "photographs"
CREDITS = "credits.json"  # beside the photographs: where each is from
FIRST = "cat"  # what the tab shows before anything was chosen
THUMBNAIL = 96  # pixels


@cache
def examples() -> dict[str, Path]:
    """Their files by name: first those of CIFAR-10, then the photographs, each in alphabetical order."""
    return {path.stem: path for folder in (SMALL, PHOTOGRAPHS) for path in sorted(folder.glob("*.jpg"))}


@dataclass(frozen=True)
class Credit:
    """Where a photograph is from, and what was done to it; `terms` is the address of the licence, or empty."""

    author: str
    licence: str
    terms: str
    source: str
    changes: str

    @property
    def words(self) -> str:
        return f"{self.author}, {self.licence}"


@cache
def photo_credits() -> dict[str, Credit]:
    """Of each photograph, by its name."""
    told = json.loads((PHOTOGRAPHS / CREDITS).read_text(encoding="utf-8"))
    return {name: Credit(**credit) for name, credit in told.items()}


def example_file(name: object) -> str:
    """The picture of an example, of the first one for an unknown name."""
    return str(examples().get(str(name), examples()[FIRST]))


def example_of(payload: dict[str, Any] | None) -> str | None:
    """Which example the picture in a component's payload is; None for a visitor's own."""
    path = Path(str((payload or {}).get("path")))
    if path.stem in examples() and filecmp.cmp(path, examples()[path.stem], shallow=False):
        return path.stem
    return None


def examples_html() -> str:
    """Small pictures, each a button that says what it is, and whose photographs they are."""
    credits = photo_credits()
    small = "".join(_button(name, name) for name, path in examples().items() if path.parent == SMALL)
    photographs = "".join(_button(name, f"{name}, photograph: {credits[name].words}") for name in credits)
    whose = "".join(
        f"<li>{escape(name)}: {escape(credit.author)}, {_linked(credit.licence, credit.terms)}, from "
        f"{_linked(credit.source, credit.source)}; {escape(credit.changes)}</li>"
        for name, credit in credits.items()
    )
    return (
        '<p class="note">Examples: CIFAR-10 test images, 32 x 32 pixels, and photographs</p>'
        f'<div class="examples">{small}{photographs}</div>'
        f'<details class="note"><summary>Photo credits</summary><ul>{whose}</ul></details>'
    )


def _button(name: str, title: str) -> str:
    content = examples()[name].read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        if max(picture.size) > THUMBNAIL:
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            small = io.BytesIO()
            picture.save(small, "JPEG", quality=85)
            content = small.getvalue()
    url = data_url(content, "image/jpeg")
    return (
        f'<button type="button" data-example="{escape(name)}" aria-label="Example: {escape(name)}" '
        f'title="{escape(title)}"><img alt="" src="{url}"></button>'
    )


def _linked(words: str, address: str) -> str:
    if not address.startswith("https://"):
        return escape(words)
    return f'<a href="{escape(address)}" target="_blank" rel="noopener">{escape(words)}</a>'


def build_examples(picture: gr.Image) -> Callable[[Callable[..., Dependency]], Dependency]:
    """Place them and wire their clicks.

    Returns:
        What shows the first one after an event, `then` after one or at one, where there is no picture yet.
    """
    shown = gr.HTML(
        examples_html(),
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
        taken: Dependency = asked.success(None, [example, named, picture], picture, js=js, **QUIET)
        return taken

    offer(shown.select, on_example, "takeExample")
    picture.input(None, None, None, js="() => resnetSpace.picture.chooseExample(null)", **QUIET)
    return lambda listen: offer(listen, lambda: (example_file(FIRST), FIRST), "takeFirstExample")
