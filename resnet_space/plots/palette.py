"""Colours that colour-blind readers tell apart, on light and on dark ground."""

# Okabe & Ito 2008, "Color Universal Design", without black and yellow, which vanish on one of the grounds.
CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")

# Viridis (van der Walt & Smith 2015) without its darkest and lightest parts, which vanish on dark and on light ground.
_VIRIDIS = ("#3B528B", "#2C728E", "#21918C", "#28AE80", "#5EC962", "#84D44B")


def category(index: int) -> str:
    """A colour for the index-th of several unordered things; they repeat after six."""
    return CATEGORIES[index % len(CATEGORIES)]


def in_order(index: int, count: int) -> str:
    """A colour for the index-th of `count` ordered things, such as blocks by depth."""
    position = index / max(count - 1, 1) * (len(_VIRIDIS) - 1)
    low = min(int(position), len(_VIRIDIS) - 2)
    share = position - low
    mixed = (
        round(int(a, 16) * (1 - share) + int(b, 16) * share)
        for a, b in ((_VIRIDIS[low][i : i + 2], _VIRIDIS[low + 1][i : i + 2]) for i in (1, 3, 5))
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)
