"""The buttons below a view: its figure as PNG and SVG, its table as CSV, and itself as lines of Python.

A file is made when it is asked for, and then handed to the browser: drawing all of them beforehand would take longer
than measuring.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
from gradio.components import Component

from resnet_space.common.errors import UserError
from resnet_space.common.text import file_name
from resnet_space.plots import Chart
from resnet_space.ui.downloads import csv_file, own_folder
from resnet_space.ui.events import PRIVATE, QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]

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


def stem(*parts: str) -> str:
    """A file's name without its ending, of letters, digits and a few signs: names may come from outside."""
    return file_name("-".join(parts))


@dataclass(frozen=True)
class Export:
    """What a view gives to take away. Its methods raise UserError where there is nothing yet.

    Attributes:
        stem: of its files.
        charts: what is drawn.
        caption: below the figure.
        table: its columns and rows.
        python: lines that print the numbers; None where there are none.
        figure: instead of the charts, where they are not Plotly's.
    """

    stem: str
    charts: Sequence[Chart | None]
    caption: str
    table: tuple[Sequence[str], Sequence[Sequence[object]]]
    python: str | None
    figure: "Callable[[], Figure] | None" = None

    def figure_file(self, kind: Format) -> str:
        """The figure's path: the charts that there are, below one another, with the caption."""
        from resnet_space.plots.figures import save_png, save_svg
        from resnet_space.plots.paper import paper_figure

        charts = [chart for chart in self.charts if chart]
        if not charts and self.figure is None:
            raise UserError("There is no figure yet: measure first.")
        figure = self.figure() if self.figure else paper_figure(charts, self.caption)
        with own_folder() as folder:
            path = folder / f"{self.stem}.{kind}"
            (save_png if kind == "png" else save_svg)(figure, path)
        return str(path)

    def table_file(self) -> str:
        """The path of the table as CSV."""
        columns, rows = self.table
        if not rows:
            raise UserError("There is no table yet: measure first.")
        return csv_file(self.stem, columns, rows)

    def code(self) -> str:
        """The lines of Python."""
        if self.python is None:
            raise UserError("There are no lines of Python for this view: keep its table as CSV.")
        return self.python


def place_exports(inputs: Sequence[Component], export: Callable[..., Export]) -> gr.File:
    """The buttons, the code, which is shown when it is asked for, and the file through which others can be handed over.

    `export` gives what there is for the inputs' values; it raises UserError where there is nothing yet.
    """

    def figure(kind: Format, *values: Any) -> str:
        return export(*values).figure_file(kind)

    def table(*values: Any) -> str:
        return export(*values).table_file()

    def python(*values: Any) -> Any:
        return gr.update(value=export(*values).code(), visible=True)

    with gr.Row(elem_classes="keep"):
        buttons = [
            gr.Button(label, size="sm", min_width=80) for label in ("PNG", "SVG", "Table as CSV", "Copy as Python")
        ]
    code = gr.Code(language="python", label="As Python, in the folder of this app", visible=False, interactive=False)
    file = gr.File(visible="hidden", show_label=False)
    handlers: list[Callable[..., str]] = [partial(figure, "png"), partial(figure, "svg"), table]
    for button, handler in zip(buttons[:3], handlers, strict=True):
        wire_download(button, handler, inputs, file)
    buttons[-1].click(python, inputs, code, **QUIET).success(None, code, None, js=COPY, **QUIET)
    return file


def wire_download(button: gr.Button, handler: Callable[..., str], inputs: Sequence[Component], file: gr.File) -> None:
    """A button that makes a file and hands it to the browser."""
    made = button.click(handler, list(inputs), file, show_progress="minimal", show_progress_on=button, **PRIVATE)
    made.success(None, file, None, js=DOWNLOAD, **PRIVATE)
