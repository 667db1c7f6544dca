"""What a visitor keeps of a view: figures for a paper, tables, and the lines of Python that make the numbers again."""

import csv
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resnet_space.charts import Chart
from resnet_space.text import csv_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]
_UNSAFE = re.compile(r"[^\w.+-]+")


def stem(*parts: str) -> str:
    """A file's name without its ending, of letters, digits and a few signs: names may come from outside."""
    return _UNSAFE.sub("-", "-".join(parts)).strip("-.")[:120] or "residuals"


def figure_file(name: str, charts: Sequence[Chart | None], caption: str, kind: Format) -> str:
    """The charts that there are, below one another, with a caption; returns the file's path."""
    from resnet_space.figures.paper import paper_figure

    return save_figure(name, paper_figure([chart for chart in charts if chart is not None], caption), kind)


def save_figure(name: str, figure: "Figure", kind: Format) -> str:
    """Returns the file's path."""
    from resnet_space import figures

    path = _folder() / f"{name}.{kind}"
    if kind == "png":
        figures.save_png(figure, path)
    else:
        figures.save_svg(figure, path)
    return str(path)


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; returns the file's path."""
    path = _folder() / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([csv_cell(column) for column in columns])
        writer.writerows([csv_cell(cell) for cell in row] for row in rows)
    return str(path)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="resnet-space-"))
