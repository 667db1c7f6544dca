"""The answer to take away: the picture, the heatmaps and the classes as a figure, the probabilities as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from resnet_space.common.errors import UserError
from resnet_space.ui.exports import Export, stem
from resnet_space.ui.predict.looks import Look
from resnet_space.ui.predict.wanted import Shown, Wanted, told_by_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_space.plots.export import Size

COLUMNS = ("run", "rank", "class", "probability %", "label")
PYTHON = """\
from PIL import Image
from resnet_space.inference import Classifier
from resnet_space.runs import Run

picture = Image.open({picture!r})
for run in {runs!r}:
    prediction = Classifier(Run.open(f"checkpoints/{{run}}")).predict(picture.convert("RGB"))
    print(run, dict(zip(prediction.classes, prediction.probabilities)))
"""


@dataclass(frozen=True)
class View:
    """Which heatmaps the page shows: the method, and by side the index of the class beside the first."""

    method: str = ""
    classes: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """As the page's script writes it; whatever else it says is left out."""
        from resnet_space.explain.saliency import METHODS

        told = told_by_page(text)
        classes = told.get("classes")
        numbers = [index for index in classes if type(index) is int] if isinstance(classes, list) else []
        method = str(told.get("method"))
        return cls(method if method in METHODS else next(iter(METHODS)), tuple(numbers[:2]))

    def ranks(self, look: Look, side: int) -> list[int]:
        """Of the shown classes among the top ones: the first, and the chosen one or the second."""
        indices = look.prediction.indices
        chosen = self.classes[side] if side < len(self.classes) else -1
        return [0, indices.index(chosen) if chosen in indices[1:] else 1][: len(indices)]


def export_of(looks: Sequence[Look], shown: Shown, wanted: Wanted, view: View) -> Export:
    """What can be taken away of an answer. Raises UserError where there is none."""
    from resnet_space.explain.saliency import METHODS

    if not looks:
        raise UserError("There is no prediction yet: choose a picture first.")
    rows = [
        (look.name, rank, name, round(100 * share, 2), shown.label)
        for look in looks
        for rank, (name, share) in enumerate(
            zip(look.prediction.classes, look.prediction.probabilities, strict=True), 1
        )
    ]
    names = [look.name for look in looks]
    labelled = f" Label: {shown.label}." if shown.label else ""
    maps = f"{METHODS[view.method]}, {looks[0].source}"
    caption = f"Most probable classes by {' and '.join(names)}, and the evidence for two of them ({maps}).{labelled}"

    def figure(size: "Size") -> "Figure":
        from resnet_space.plots.prediction import PredictedSide, prediction_figure

        sides = []
        for i, look in enumerate(looks):
            top, raw = look.prediction.classes, look.class_maps[view.method].raw
            classes = list(zip(top, look.prediction.probabilities, strict=True))
            sides.append(PredictedSide(look.name, look.view, classes, [(top[k], raw[k]) for k in view.ranks(look, i)]))
        return prediction_figure(sides, caption, size)

    python = PYTHON.format(picture=picture_path(wanted, shown), runs=names)
    return Export(stem(looks[0].name, "prediction"), (), caption, (COLUMNS, rows), python, figure)


def picture_path(wanted: Wanted, shown: Shown) -> str:
    """The picture's file for lines of Python: an example's own, or a name to be replaced."""
    from resnet_space.ui.predict.examples import examples

    if not wanted.example:
        return "picture.jpg"
    return f"resnet_space/datasets/{examples()[wanted.example].parent.name}/{shown.name}"
