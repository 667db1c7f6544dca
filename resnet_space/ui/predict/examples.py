"""The pictures that come with the app, by name: their thumbnails, and whose photographs they are."""

import io
import json
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from PIL import Image

from resnet_space.ui.pictures import data_url

DATASETS = Path(__file__).parents[2] / "datasets"
SMALL, PHOTOGRAPHS = DATASETS / "examples", DATASETS / "photographs"
CREDITS = "credits.json"  # beside the photographs: where each is from
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


def examples_html() -> str:
    """Thumbnails, each a button, and the credits of the photographs."""
    credits = photo_credits()
    small = "".join(_button(name, name) for name, path in examples().items() if path.parent == SMALL)
    photographs = "".join(_button(name, f"{name}, photograph: {credits[name].words}") for name in credits)
    whose = "".join(
        f"<li>{escape(name)}: {escape(credit.author)}, {_linked(credit.licence, credit.terms)}, from "
        f"{_linked(credit.source, credit.source)}; {escape(credit.changes)}</li>"
        for name, credit in credits.items()
    )
    return (
        '<p class="note">Examples: CIFAR-10 test images and photographs</p>'
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
