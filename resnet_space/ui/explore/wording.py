"""Words that several views and figures share."""

NORM = "‖·‖: l2 norm over channels and positions, per image."
RESIDUAL = "F(x): output of the residual branch; x: output of the shortcut."
QUARTILES = ("lower quartile", "median", "upper quartile")


def percent(share: float, digits: int = 1) -> str:
    """ "61.9 %", with a space at which no line breaks."""
    return f"{100 * share:.{digits}f}\u00a0%"
