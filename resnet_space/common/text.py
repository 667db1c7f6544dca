"""Escape names from outside, such as class names, for formats in which text can have a meaning."""

import re

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$<>&])")
_UNSAFE = re.compile(r"[^\w.+-]+")


def plotly_text(text: str) -> str:
    """Escape for Plotly, whose labels, hovers and legends interpret some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_text(text: str) -> str:
    """Escape for Markdown: one line, without markup, HTML or formulas."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def csv_cell(value: object) -> object:
    """Escape for a CSV file, because spreadsheets evaluate text that begins like a formula. Numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def shortened(name: str, most: int = 24) -> str:
    """Cut a name to `most` characters, for a label."""
    return name if len(name) <= most else name[: most - 1] + "…"


def quoted(value: object) -> str:
    """The repr of untrusted input, cut to a length for messages."""
    return shortened(repr(value), 200)


def file_name(text: str) -> str:
    """A file name that is valid on any system: letters, digits and a few signs."""
    return _UNSAFE.sub("-", text).strip("-.")[:120] or "file"


NO_BREAK = "\u00a0"  # a space at which no line breaks


def percent(share: float, digits: int = 1, space: str = " ") -> str:
    """ "61.9 %" of 0.619."""
    return f"{100 * share:.{digits}f}{space}%"
