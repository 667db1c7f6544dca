"""The cost of computing time on this machine, if its owner has set a price."""

import os

PRICE_VARIABLE = "RESNET_SPACE_PRICE_PER_HOUR"  # of this machine, in US dollars


def cost(seconds: float) -> float | None:
    """In US dollars; None if the price is unknown."""
    try:
        return float(os.environ[PRICE_VARIABLE]) * seconds / 3600
    except (KeyError, ValueError):
        return None


def cost_words(seconds: float) -> str:
    """The cost as text, such as "$0.12"; empty if the price is unknown."""
    dollars = cost(seconds)
    if dollars is None:
        return ""
    return f"${dollars:.2f}" if dollars >= 0.01 else "less than $0.01"
