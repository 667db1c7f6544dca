"""Words that several views and figures share."""

from functools import partial

from resnet_space.common import text

NORM = "‖·‖: l2 norm over channels and positions, per image."
RESIDUAL = "F(x): output of the residual branch; x: output of the shortcut."
QUARTILES = ("lower quartile", "median", "upper quartile")
percent = partial(text.percent, space=text.NO_BREAK)
