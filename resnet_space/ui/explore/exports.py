"""The figures of a view for a paper, as files that a visitor keeps, and the names of all such files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from resnet_space.common.text import file_name
from resnet_space.plots import Chart
from resnet_space.ui.downloads import own_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]


def stem(*parts: str) -> str:
    """A file's name without its ending, of letters, digits and a few signs: names may come from outside."""
    return file_name("-".join(parts))


def figure_file(name: str, charts: Sequence[Chart | None], caption: str, kind: Format) -> str:
    """The charts that there are, below one another, with a caption; returns the file's path."""
    from resnet_space.plots.paper import paper_figure

    return save_figure(name, paper_figure([chart for chart in charts if chart is not None], caption), kind)


def save_figure(name: str, figure: "Figure", kind: Format) -> str:
    """Returns the file's path."""
    from resnet_space.plots import figures

    with own_folder() as folder:
        path = folder / f"{name}.{kind}"
        if kind == "png":
            figures.save_png(figure, path)
        else:
            figures.save_svg(figure, path)
    return str(path)
