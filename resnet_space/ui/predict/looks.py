"""Which run answers a picture, and the predictions of one or two runs for it.

The visitor's choice answers, or the run that fits the picture's size. Each model is loaded once and makes one forward
pass.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from PIL.Image import Image

from resnet_space.common.errors import UserError
from resnet_space.data.images import to_model_size
from resnet_space.serve.context import AppContext
from resnet_space.ui.events import Payload
from resnet_space.ui.pictures import ENOUGH, jpeg_url
from resnet_space.ui.predict.wanted import Shown, Wanted

if TYPE_CHECKING:
    from resnet_space.explain.saliency import ClassMaps
    from resnet_space.inference import Classifier, Prediction


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
    """Which run answers a picture: the one that the visitor chose, that for small pictures, or that for photographs.

    `short_side` is in pixels. Raises UserError where there is no run at all.
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


@dataclass(frozen=True)
class Look:
    """A run's prediction for a picture.

    Attributes:
        name: of the run.
        classifier: its model.
        picture: what it was shown.
        prediction: of one forward pass, with the maps that come from the same.
    """

    name: str
    classifier: "Classifier"
    picture: Image
    prediction: "Prediction"

    @cached_property
    def view(self) -> Image:
        """The part of the picture that the model sees, with as many pixels as there are, at most `ENOUGH`."""
        config = self.classifier.config
        side = min(*self.picture.size, ENOUGH)
        cut = max(round(side * config.image_size / config.stored_size), 1)
        whole = to_model_size(self.picture, side)
        left = (side - cut) // 2
        return whole.crop((left, left, left + cut, left + cut))

    @cached_property
    def view_url(self) -> str:
        """The same for the page."""
        return jpeg_url(self.view)

    @property
    def source(self) -> str:
        """Where its class maps come from, in words: "output of layer3, 8 x 8 positions"."""
        maps = next(iter(self.class_maps.values()))
        height, width = maps.raw.shape[1:]
        return f"output of {maps.stage}, {height} x {width} positions"

    @cached_property
    def class_maps(self) -> "dict[str, ClassMaps]":
        """The evidence for each of its top classes, by the name of the method."""
        from resnet_space.explain.saliency import METHODS

        return {
            method: self.classifier.class_maps(self.prediction, self.prediction.indices, method) for method in METHODS
        }


def look(context: AppContext, picture: Image, name: str, *, features: bool = True) -> Look:
    """Raises UserError where the run cannot be used."""
    classifier = context.classifier(name)
    return Look(name, classifier, picture, classifier.predict(picture, features=features))


def looks(context: AppContext, wanted: Wanted, payload: Payload) -> tuple[Choice, Shown, list[Look]]:
    """A look at the picture by the run that answers it, and by another beside it if one is wanted.

    `payload`: of the component with the visitor's own picture. Raises UserError for what cannot be used.
    """
    with context.slots.taken("predictions"):
        shown = wanted.shown(context, payload)
        choice = choose_run(context, min(shown.image.size), wanted.run)
        names = dict.fromkeys(filter(None, (choice.name, wanted.other)))
        return choice, shown, [look(context, shown.image, name) for name in names]


def looked_at(context: AppContext, text: str, payload: Payload) -> tuple[Wanted, Choice, Shown, list[Look]]:
    """As `looks`, for what the page's script writes; with what that was."""
    wanted = Wanted.parse(text).found(context)
    return wanted, *looks(context, wanted, payload)
