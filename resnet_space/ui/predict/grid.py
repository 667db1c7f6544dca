"""Many predictions as a grid of thumbnails: the mistakes first, each with its answer."""

from collections.abc import Callable, Sequence
from html import escape

from PIL.Image import Image

from resnet_space.ui.html import note_html
from resnet_space.ui.pictures import jpeg_url
from resnet_space.ui.predict.answer import percent
from resnet_space.ui.predict.batch import Row

SHOWN = 120  # thumbnails on the page
SIDE = 96  # pixels of one
LONGEST_NAME = 20  # letters


def thumbnails() -> Callable[[Image, bool], str]:
    """What keeps the thumbnails of one job: of as many mistakes, and of as many others, as the grid may show."""
    kept = {True: 0, False: 0}

    def thumbnail(image: Image, is_wrong: bool) -> str:
        if kept[is_wrong] == SHOWN:
            return ""
        kept[is_wrong] += 1
        small = image.copy()
        small.thumbnail((SIDE, SIDE))
        return jpeg_url(small)

    return thumbnail


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Those with thumbnails: the mistakes first, the most confident of them first, then what is unusual, then the
    rest; at most as many as the grid shows.
    """
    kept = [row for row in rows if row.thumbnail]
    return sorted(kept, key=_place)[:SHOWN]


def _place(row: Row) -> tuple[int, float]:
    if row.right is False:
        return 0, -row.probabilities[0]
    return (1 if row.unusual else 2), 0.0


def grid_html(rows: Sequence[Row]) -> str:
    """Empty where there is nothing to show."""
    shown = in_order(rows)
    if not shown:
        return ""
    count = f"{len(shown):,} of {len(rows):,} pictures" if len(shown) < len(rows) else f"{len(rows):,} pictures"
    mistakes = ", mistakes first" if any(row.right is False for row in shown) else ""
    cards = "".join(map(_card, shown))
    return f'{note_html(count + mistakes)}<ul class="grid">{cards}</ul>'


def short_name(file: str) -> str:
    """A file's name without its folders; of a long one the beginning and the end, where a camera's differ."""
    name = file.rpartition("/")[2]
    return name if len(name) <= LONGEST_NAME else f"{name[:8]}…{name[9 - LONGEST_NAME :]}"


def _card(row: Row) -> str:
    label = ""
    if row.right is not None:
        mark, state = ("✓", "right") if row.right else ("✗", "wrong")
        label = f'<p class="truth {state}"><span aria-hidden="true">{mark}</span> labelled {escape(row.folder)}</p>'
    unusual = '<p class="unlike">unlike training images</p>' if row.unusual else ""
    return (
        f'<li><img alt="" src="{row.thumbnail}" loading="lazy"><p><b>{escape(row.classes[0])}</b> '
        f"{percent(row.probabilities[0])}</p>{label}{unusual}"
        f'<p class="file" title="{escape(row.file)}">{escape(short_name(row.file))}</p></li>'
    )
