"""A network's block as a drawing: inline SVG, from the input at the top to the output at the bottom.

Lines and letters have the colour of the text around them, so it fits light and dark pages.
"""

from collections.abc import Sequence
from html import escape

from resnet_space.models.ideas import ADD, JOIN, SPLIT, Step

WIDTH, BOX, GAP = 300, 30, 18  # pixels: of the drawing, and the height of a box and of the arrow below it
LEFT, RIGHT = 20, 244  # of the boxes; shortcuts pass on their right
MIDDLE = (LEFT + RIGHT) / 2
SHORTCUT = 276
TURN = 8  # radius of a shortcut's corners
HEAD = 5  # length of an arrow's head
SUM = 10  # radius of a sum
CONCATENATION = "Concatenation"


def block_svg(steps: Sequence[Step], title: str) -> str:
    """The drawing, with a description for screen readers."""
    parts: list[str] = [_text(MIDDLE, 12, "x")]
    y, begun = 18.0, 0.0
    for step in steps:
        if step == SPLIT:
            begun = y + GAP / 3
        elif step == ADD:
            centre = _arrow(parts, MIDDLE, y, GAP) + SUM
            parts.append(f'<circle cx="{MIDDLE}" cy="{centre:.0f}" r="{SUM}"/>{_text(MIDDLE, centre, "+")}')
            parts.append(_shortcut(begun, centre, MIDDLE + SUM))
            y = centre + SUM
        elif step == JOIN:
            y = _box(parts, LEFT, RIGHT, _arrow(parts, MIDDLE, y, GAP), CONCATENATION)
            parts.append(_shortcut(begun, y - BOX / 2, RIGHT))
        elif isinstance(step, str):
            y = _box(parts, LEFT, RIGHT, _arrow(parts, MIDDLE, y, GAP), step)
        else:
            y = _branches(parts, step, y)
    y = _arrow(parts, MIDDLE, y, GAP)
    words = escape(f"{title}: {description(steps)}")
    return (
        f'<svg class="drawing" viewBox="0 0 {WIDTH} {y + 4:.0f}" role="img" aria-label="{words}"><title>{words}</title>'
        f"{''.join(parts)}</svg>"
    )


def description(steps: Sequence[Step]) -> str:
    """ "3x3, ReLU, then 3x3, then plus x"."""
    names = {ADD: "plus the block's input", JOIN: "concatenated with the input"}
    told: list[str] = []
    for step in steps:
        if isinstance(step, str):
            told += [] if step == SPLIT else [names.get(step, step)]
        else:
            told.append("side by side " + " | ".join(" to ".join(branch) for branch in step) + ", concatenated")
    return "; then ".join(told)


def _branches(parts: list[str], branches: Sequence[Sequence[str]], top: float) -> float:
    """Side by side, from one line to one box; returns where they end."""
    width = (RIGHT - LEFT) / len(branches)
    split, longest = top + GAP / 2, max(map(len, branches))
    join = split + longest * (BOX + GAP) + GAP / 2
    centres = [LEFT + width * (i + 0.5) for i in range(len(branches))]
    parts.append(_line(f"M{MIDDLE} {top:.0f}V{split:.0f}M{centres[0]:.0f} {split:.0f}H{centres[-1]:.0f}"))
    for centre, branch in zip(centres, branches, strict=True):
        y = split
        for name in branch:
            y = _box(parts, centre - width / 2 + 3, centre + width / 2 - 3, _arrow(parts, centre, y, GAP), name)
        parts.append(_line(f"M{centre:.0f} {y:.0f}V{join:.0f}"))
    parts.append(_line(f"M{centres[0]:.0f} {join:.0f}H{centres[-1]:.0f}"))
    return _box(parts, LEFT, RIGHT, _arrow(parts, MIDDLE, join, GAP), CONCATENATION)


def _box(parts: list[str], left: float, right: float, top: float, name: str) -> float:
    parts.append(f'<rect x="{left:.0f}" y="{top:.0f}" width="{right - left:.0f}" height="{BOX}" rx="4"/>')
    parts.append(_text((left + right) / 2, top + BOX / 2, name))
    return top + BOX


def _arrow(parts: list[str], x: float, top: float, length: float) -> float:
    """Down; returns where it ends."""
    end = top + length
    head = f"M{x - HEAD:.0f} {end - HEAD:.0f}L{x:.0f} {end:.0f}L{x + HEAD:.0f} {end - HEAD:.0f}"
    parts.append(_line(f"M{x:.0f} {top:.0f}V{end:.0f}{head}"))
    return end


def _shortcut(top: float, bottom: float, to: float) -> str:
    """From the line in the middle around the boxes, and back from the right."""
    corner = f"q{TURN} 0 {TURN} {TURN}V{bottom - TURN:.0f}q0 {TURN} -{TURN} {TURN}"
    head = f"M{to + HEAD:.0f} {bottom - HEAD:.0f}L{to:.0f} {bottom:.0f}L{to + HEAD:.0f} {bottom + HEAD:.0f}"
    return _line(f"M{MIDDLE} {top:.0f}H{SHORTCUT - TURN}{corner}H{to:.0f}{head}", "shortcut")


def _line(path: str, kind: str = "") -> str:
    return f'<path{f" class={chr(34)}{kind}{chr(34)}" if kind else ""} d="{path}"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'
