"""Small drawings as inline SVG, in the colours of the page's theme."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 320, 90


def bars(values: Sequence[float], neutral: float, said: str) -> str:
    """Values 0..1 as bars from the neutral one: above it in one colour, below it in another.

    Args:
        values: at least one.
        neutral: where the bars begin.
        said: what it shows, for those who do not see it.
    """
    step = WIDTH / len(values)
    width = step * (0.85 if step > 2 else 1)
    base = HEIGHT * (1 - neutral)
    paths = {"up": "", "down": ""}
    for i, value in enumerate(values):
        top = HEIGHT * (1 - value)
        paths["up" if value >= neutral else "down"] += f"M{i * step:.1f} {base:.1f}V{top:.1f}h{width:.1f}V{base:.1f}z"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(said)}">'
        f'<path class="up" d="{paths["up"]}"/><path class="down" d="{paths["down"]}"/>'
        f'<line x1="0" x2="{WIDTH}" y1="{base:.1f}" y2="{base:.1f}"/></svg>'
    )
