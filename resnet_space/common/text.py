"""Names that come from outside, such as those of classes, put where something reads text as more than text."""

import re

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$<>&])")
_UNSAFE = re.compile(r"[^\w.+-]+")


def plotly_text(text: str) -> str:
    """For Plotly, whose labels, hovers and legends take some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_text(text: str) -> str:
    """For Markdown: in one line, without meaning as markup, HTML or a formula."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def csv_cell(value: object) -> object:
    """For a CSV file, of which spreadsheets read a text that begins like a formula as one. Numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def shortened(name: str, most: int = 24) -> str:
    """For a label of so many letters."""
    return name if len(name) <= most else name[: most - 1] + "…"


def quoted(value: object) -> str:
    """Of what a stranger wrote, for a message."""
    return shortened(repr(value), 200)


def file_name(text: str) -> str:
    """For a file that a visitor keeps: letters, digits and a few signs, on any system."""
    return _UNSAFE.sub("-", text).strip("-.")[:120] or "file"


def percent(share: float, digits: int = 1) -> str:
    """ "61.9 %" of 0.619."""
    return f"{100 * share:.{digits}f} %"
