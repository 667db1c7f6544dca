"""A choice whose values come and go while the app is up."""

from collections.abc import Sequence
from typing import Any

import gradio as gr


def run_dropdown(
    names: Sequence[str | tuple[str, str]], value: str | None, label: str = "Run", info: str | None = None
) -> gr.Dropdown:
    """A choice of runs; `info` is told below its label.

    Gradio would describe its values to programs, and with them the runs that there were at the start; an MCP client
    then refuses to name any other.
    """
    dropdown = gr.Dropdown(list(names), value=value, label=label, info=info)
    described: dict[str, Any] = {"type": "string"}
    # In the instance: of a subclass of its components gradio writes a .pyi file beside ours.
    vars(dropdown)["api_info"] = lambda: described
    return dropdown
