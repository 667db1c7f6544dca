"""What time on this machine costs, where its owner has said so."""

import os

PRICE_VARIABLE = "RESNET_SPACE_PRICE_PER_HOUR"  # of this machine, in US dollars


def cost(seconds: float) -> float | None:
    """In US dollars; None where the price is not known."""
    try:
        return float(os.environ[PRICE_VARIABLE]) * seconds / 3600
    except (KeyError, ValueError):
        return None


def cost_words(seconds: float) -> str:
    """As people say it, or nothing where the price is not known: "$0.12"."""
    dollars = cost(seconds)
    if dollars is None:
        return ""
    return f"${dollars:.2f}" if dollars >= 0.01 else "less than $0.01"
