"""Which run answers a picture: the one that the visitor chose, or the one that fits the picture's size."""

from dataclasses import dataclass

from resnet_space.common.errors import UserError
from resnet_space.serve.context import AppContext

SMALL = 64  # pixels: a short side of up to so many is that of a picture like CIFAR-10's, not of a photograph
NOBODY = "There is no trained run here yet: train one in Fine-tune, or download one from the Hub."


@dataclass(frozen=True)
class Choice:
    """Which run answers.

    Attributes:
        name: the run.
        is_visitors: whether the visitor chose it; otherwise the size of the picture did.
        instead: the run that is one click away; None where there is none to offer.
        is_small: whether the picture is as small as those of CIFAR-10.
    """

    name: str
    is_visitors: bool
    instead: str | None = None
    is_small: bool = False


def choose(short_side: int, chosen: str | None, default: str | None, photo: str | None) -> Choice:
    """Which run answers a picture.

    Args:
        short_side: of the picture, in pixels.
        chosen: the run that the visitor chose; None or empty: none.
        default: the run for small pictures.
        photo: the run for photographs; None where the app has none.

    Raises:
        UserError: where there is no run at all.
    """
    small = short_side <= SMALL
    fitting = default or photo if small else photo or default
    name = chosen or fitting
    if not name:
        raise UserError(NOBODY)
    other = fitting if name != fitting else default
    return Choice(name, bool(chosen), other if other != name else None, small)


def choose_run(context: AppContext, short_side: int, chosen: str | None) -> Choice:
    """`choose` among the runs of this app. Raises UserError."""
    return choose(short_side, chosen, context.default_name(), context.photo_name())
