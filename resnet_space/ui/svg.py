"""matplotlib figures as SVG that takes its text colour from the page's theme."""

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def themed_svg(figure: "Figure") -> str:
    """The figure as inline SVG: transparent, with black text and lines in the colour of the text around it."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("#000000", "currentColor")
    # Text has no colour of its own when it is black.
    return re.sub(r"<text ", '<text fill="currentColor" ', svg)
