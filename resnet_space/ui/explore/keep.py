"""The buttons below a view: its figure as PNG and SVG, its table as CSV, and itself as Python.

A file is made when it is asked for, and then handed to the browser: drawing all of them beforehand would take longer
than measuring.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from resnet_space.plots import Chart
from resnet_space.serve.refusals import refusal
from resnet_space.ui.downloads import csv_file
from resnet_space.ui.explore.exports import Format, figure_file, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The file's address is in the component's value by the time that this runs.
DOWNLOAD = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name ?? "";
  link.click();
}"""
# Browsers let a page write to the clipboard on https and on one's own machine only: else the code is there to copy.
COPY = "(code) => { if (code) navigator.clipboard?.writeText(code).catch(() => {}); }"


@dataclass(frozen=True)
class Kept:
    """What a view has to give.

    Attributes:
        stem: of its files.
        charts: what is drawn.
        caption: below the figure.
        columns, rows: the table.
        python: lines that print the numbers; None where there are none.
        figure: in the place of the charts, where they are none of Plotly's.
    """

    stem: str
    charts: Sequence[Chart | None]
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    python: str | None
    figure: "Callable[[], Figure] | None" = None

    def figure_file(self, kind: Format) -> str:
        """The figure's path. Raises gr.Error where there is none yet; so do the others."""
        if self.figure is not None:
            return save_figure(self.stem, self.figure(), kind)
        if not any(self.charts):
            raise refusal("There is no figure yet: measure first.")
        return figure_file(self.stem, self.charts, self.caption, kind)

    def table_file(self) -> str:
        """The path of the table as CSV."""
        if not self.rows:
            raise refusal("There is no table yet: measure first.")
        return csv_file(self.stem, self.columns, self.rows)

    def lines(self) -> str:
        """The lines of Python."""
        if self.python is None:
            raise refusal("There are no lines of Python for this view: keep its table as CSV.")
        return self.python


@dataclass(frozen=True)
class KeepButtons:
    png: gr.Button
    svg: gr.Button
    table: gr.Button
    python: gr.Button
    code: gr.Code
    file: gr.File


def place_keep() -> KeepButtons:
    """Place the buttons, and the place of the code, which is shown when it is asked for."""
    with gr.Row(elem_classes="keep"):
        png, svg, table, python = (
            gr.Button(label, size="sm", min_width=80) for label in ("PNG", "SVG", "Table as CSV", "Copy as Python")
        )
    code = gr.Code(language="python", label="As Python, in the folder of this app", visible=False, interactive=False)
    file = gr.File(visible="hidden", show_label=False)
    return KeepButtons(png, svg, table, python, code, file)


def wire_keep(buttons: KeepButtons, inputs: Sequence[Component], provide: Callable[..., Kept]) -> None:
    """`provide` gives what there is for the inputs' values; it raises gr.Error where there is nothing yet."""

    def figure(kind: Format, *values: Any) -> str:
        return provide(*values).figure_file(kind)

    def table(*values: Any) -> str:
        return provide(*values).table_file()

    def code(*values: Any) -> Any:
        return gr.update(value=provide(*values).lines(), visible=True)

    quiet: Any = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}
    for button, handler in ((buttons.png, partial(figure, "png")), (buttons.svg, partial(figure, "svg"))):
        wire_download(button, handler, inputs, buttons.file)
    wire_download(buttons.table, table, inputs, buttons.file)
    buttons.python.click(code, inputs, buttons.code, **quiet).success(None, buttons.code, None, js=COPY, **quiet)


def wire_download(button: gr.Button, handler: Callable[..., str], inputs: Sequence[Component], file: gr.File) -> None:
    """A button that makes a file and hands it to the browser."""
    private: Any = {"api_visibility": "private", "preprocess": False}
    made = button.click(handler, list(inputs), file, show_progress="minimal", show_progress_on=button, **private)
    made.success(None, file, None, js=DOWNLOAD, **private)
