"""What one or two runs make of a picture: loaded once, looked at in one forward pass each."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from resnet_space.data.images import to_model_size
from resnet_space.serve.context import AppContext
from resnet_space.ui.pictures import ENOUGH, jpeg_url, read_picture
from resnet_space.ui.predict.choice import Choice, choose_run

if TYPE_CHECKING:
    from PIL.Image import Image

    from resnet_space.explain.saliency import ClassMaps
    from resnet_space.inference import Classifier, Prediction


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
    picture: "Image"
    prediction: "Prediction"

    @cached_property
    def view(self) -> "Image":
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

    @cached_property
    def class_maps(self) -> "dict[str, ClassMaps]":
        """Where it finds each of its top classes, by the name of the method."""
        from resnet_space.explain.saliency import METHODS

        return {
            method: self.classifier.class_maps(self.prediction, self.prediction.indices, method) for method in METHODS
        }


def look(context: AppContext, picture: "Image", name: str, *, features: bool = True) -> Look:
    """Raises UserError where the run cannot be used."""
    classifier = context.classifier(name)
    return Look(name, classifier, picture, classifier.predict(picture, features=features))


def looks(
    context: AppContext, payload: dict[str, Any] | None, chosen: str | None, other: str | None = None
) -> tuple[Choice, list[Look]]:
    """A look at the picture in a component's payload, of the run that answers it, and of another beside it.

    Args:
        context: what all share.
        payload: of the component.
        chosen: the run that the visitor chose, if any.
        other: a run to compare with, if any.

    Raises:
        UserError: for a picture or a run that cannot be used.
    """
    with context.slots.taken("predictions"):
        picture = read_picture(payload)
        choice = choose_run(context, min(picture.size), chosen)
        return choice, [look(context, picture, name) for name in dict.fromkeys(filter(None, (choice.name, other)))]
