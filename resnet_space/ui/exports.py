"""The buttons below a view: its figure as PNG and SVG for a slide or a paper, its table as CSV, itself as Python.

A file is made when it is asked for, and then handed to the browser: drawing all of them beforehand would take longer
than measuring.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from resnet_space.common.errors import UserError
from resnet_space.common.text import file_name
from resnet_space.plots import Chart
from resnet_space.ui.downloads import csv_file, own_folder
from resnet_space.ui.events import PRIVATE, Update
from resnet_space.ui.html import place_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_space.plots.export import Size

FORMATS = ("png", "svg")

# The buttons are one component: as one each, those of all views would be a quarter of the page, over all of which every
# update of Gradio's walks.
BUTTONS = """<div class="exports"><label>Figure for <select>
<option value="slide">Slide, 16:9</option><option value="paper">Paper, one column</option></select></label>
<button data-what="png">PNG</button><button data-what="svg">SVG</button>
<button data-what="table">Table as CSV</button><button data-what="python">Copy as Python</button></div>"""


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

    def figure_file(self, kind: str, size: str = "slide") -> str:
        """The figure's path: the charts that there are, and the caption below them. `size`: one of `SIZES`."""
        from resnet_space.plots.export import SIZES, exported_figure
        from resnet_space.plots.figures import save_png, save_svg

        for name, value, known in (("size", size, tuple(SIZES)), ("format", kind, FORMATS)):
            if value not in known:
                raise UserError(f"There is no {name} {value!r}: choose one of {', '.join(known)}.")
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
        buttons: all of them, to be hidden while there is nothing to export.
        file: the file through which others can be handed over.
    """

    buttons: gr.HTML
    file: gr.File


def place_exports(inputs: Sequence[Component], export: Callable[..., Export], *, visible: bool = True) -> Exports:
    """Place the buttons; code is shown when it is asked for.

    Args:
        inputs: what says what is on the page.
        export: gives what there is for the inputs' values; it raises UserError where there is nothing yet.
        visible: whether there is something to export from the start.
    """

    def on_press(event: gr.EventData, *values: Any) -> Update:
        what, size = event._data["what"], event._data["size"]
        found = export(*values)
        if what == "python":
            return {file: None, code: gr.update(value=found.code(), visible=True)}
        return {file: found.table_file() if what == "table" else found.figure_file(what, size)}

    file = gr.File(visible="hidden", show_label=False)
    buttons = place_html(None, "exports.buttons(element, trigger)", html_template=BUTTONS, visible=visible)
    code = gr.Code(language="python", label="As Python, in the folder of this app", visible=False, interactive=False)
    progress: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": buttons}
    made = buttons.select(on_press, list(inputs), [file, code], **progress, **PRIVATE)
    made.success(None, [file, code], None, js="resnetSpace.exports.take", **PRIVATE)
    return Exports(buttons, file)


def wire_download(button: gr.Button, handler: Callable[..., str], inputs: Sequence[Component], file: gr.File) -> None:
    """A button that makes a file and hands it to the browser."""
    made = button.click(handler, list(inputs), file, show_progress="minimal", show_progress_on=button, **PRIVATE)
    made.success(None, file, None, js="resnetSpace.exports.take", **PRIVATE)
