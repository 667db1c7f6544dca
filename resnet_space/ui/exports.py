"""The buttons below a view: its figure as PNG and SVG for a slide or a paper, its table as CSV, itself as Python.

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

    from resnet_space.plots.export import Size

Format = Literal["png", "svg"]
FORMATS: tuple[Format, ...] = ("png", "svg")

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
        figure: instead of the charts, where they are not Plotly's, for a size.
    """

    stem: str
    charts: Sequence[Chart | None]
    caption: str
    table: tuple[Sequence[str], Sequence[Sequence[object]]]
    python: str | None
    figure: "Callable[[Size], Figure] | None" = None

    def figure_file(self, kind: Format, size: str = "slide") -> str:
        """The figure's path: the charts that there are, and the caption below them. `size`: one of `SIZES`."""
        from resnet_space.plots.export import SIZES, exported_figure
        from resnet_space.plots.figures import save_png, save_svg

        if size not in SIZES:
            raise UserError(f"There is no size {size!r}: choose one of {', '.join(SIZES)}.")
        charts = [chart for chart in self.charts if chart]
        if not charts and self.figure is None:
            raise UserError("There is no figure yet.")
        chosen = SIZES[size]
        figure = self.figure(chosen) if self.figure else exported_figure(charts, self.caption, chosen)
        with own_folder() as folder:
            path = folder / f"{self.stem}-{size}.{kind}"
            (save_png if kind == "png" else save_svg)(figure, path)
        return str(path)

    def table_file(self) -> str:
        """The path of the table as CSV."""
        columns, rows = self.table
        if not rows:
            raise UserError("There is no table yet.")
        return csv_file(self.stem, columns, rows)

    def code(self) -> str:
        """The lines of Python."""
        if self.python is None:
            raise UserError("This view has no Python code: download its table as CSV.")
        return self.python


@dataclass(frozen=True)
class Exports:
    """The buttons on the page.

    Attributes:
        row: all of them, to be hidden while there is nothing to export.
        file: the file through which others can be handed over.
    """

    row: gr.Row
    file: gr.File


def place_exports(inputs: Sequence[Component], export: Callable[..., Export], *, visible: bool = True) -> Exports:
    """Place the buttons; code is shown when it is asked for.

    Args:
        inputs: what says what is on the page.
        export: gives what there is for the inputs' values; it raises UserError where there is nothing yet.
        visible: whether there is something to export from the start.
    """

    def figure(kind: Format, size: str, *values: Any) -> str:
        return export(*values).figure_file(kind, size)

    def table(*values: Any) -> str:
        return export(*values).table_file()

    def python(*values: Any) -> Any:
        return gr.update(value=export(*values).code(), visible=True)

    file = gr.File(visible="hidden", show_label=False)
    with gr.Row(elem_classes="exports", visible=visible) as row:
        sizes = [("Slide, 16:9", "slide"), ("Paper, one column", "paper")]
        size = gr.Dropdown(sizes, value="slide", label="Figure for", min_width=150, scale=0)
        for kind in FORMATS:
            button = gr.Button(kind.upper(), size="sm", min_width=70, scale=0)
            wire_download(button, partial(figure, kind), [size, *inputs], file)
        wire_download(gr.Button("Table as CSV", size="sm", min_width=110, scale=0), table, inputs, file)
        copy = gr.Button("Copy as Python", size="sm", min_width=130, scale=0)
    code = gr.Code(language="python", label="As Python, in the folder of this app", visible=False, interactive=False)
    copy.click(python, list(inputs), code, **QUIET).success(None, code, None, js=COPY, **QUIET)
    return Exports(row, file)


def wire_download(button: gr.Button, handler: Callable[..., str], inputs: Sequence[Component], file: gr.File) -> None:
    """A button that makes a file and hands it to the browser."""
    made = button.click(handler, list(inputs), file, show_progress="minimal", show_progress_on=button, **PRIVATE)
    made.success(None, file, None, js=DOWNLOAD, **PRIVATE)
