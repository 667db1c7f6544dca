"""Helpers for sentences about names, images and splits."""

import re
from collections.abc import Iterable

MAX_NAMED = 5  # in a sentence


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key that puts "class 2" before "class 10"."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def named(names: Iterable[str]) -> str:
    """'a', 'b' and 7 more"""
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:MAX_NAMED])
    return shown + (f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else "")


def images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def left_out(count: int, split: str) -> str:
    return f"{images(count)} of the {split} split {'was' if count == 1 else 'were'} left out"
