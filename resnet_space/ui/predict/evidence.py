"""Whether a heatmap is faithful to the model: measured on demand, for this picture, beside random maps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.ui.predict.gates import gate_words
from resnet_space.ui.predict.heads import Attended, judged_maps
from resnet_space.ui.predict.looks import Look

if TYPE_CHECKING:
    from resnet_space.explain.faithfulness import Evidence

GATES, HEADS = "gates", "heads"  # the methods' names for the spatial gates, and for attention heads and rollout
MARKS = {"better": "✓", "chance": "?", "worse": "✗"}
HOW = """
<details><summary>How faithfulness is measured</summary><p>Insertion: the picture starts blurred, and its pixels are
restored, the brightest of the map first. The measure is the area under the curve of the class's probability; higher is
better. Deletion: pixels are removed instead, the brightest first; lower is better (Petsiuk et al. 2018). ROAD: the
brightest and the darkest pixels are imputed from their neighbours; half of the difference in probability; higher is
better (Rong et al. 2022). Grey lines are random maps of the same resolution; the diamond is a blob in the centre, where
photographs usually have their subject. The results hold for this picture and class only.</p></details>
"""


class StoppedTestError(Exception):
    """A test is not wanted any more."""


@dataclass(frozen=True)
class Judged:
    """Which maps are tested: those of some classes by one method, or the gates or heads as maps of one class.

    Attributes:
        method: of `saliency.METHODS`, or `GATES` or `HEADS`.
        classes: indices among the run's classes.
        side: 1 where it is the run beside the first.
        attended: the layer and the query of the heads.
    """

    method: str
    classes: tuple[int, ...]
    side: int = 0
    attended: Attended = field(default_factory=Attended)

    @classmethod
    def of(cls, event: Any) -> Self:
        """As the page's script tells it. Raises UserError."""
        from resnet_space.explain.saliency import METHODS

        classes, method, side = (getattr(event, name, None) for name in ("classes", "method", "side"))
        classes = classes if isinstance(classes, list) else []
        if not classes or len(classes) > 2 or not all(type(index) is int for index in classes):
            raise UserError("Choose a class first.")
        if method not in (*METHODS, GATES, HEADS):
            raise UserError(f"Choose a method first: one of {', '.join(METHODS)}.")
        attended = Attended.parse(getattr(event, "attended", None))
        return cls(str(method), tuple(dict.fromkeys(classes)), int(side == 1), attended)

    def maps(self, look: Look) -> dict[str, tuple[int, NDArray[np.float32]]]:
        """Label -> (class, map). Raises UserError for a class that is not among the top."""
        if not set(self.classes) <= set(look.prediction.indices):
            raise UserError("Only the five most probable classes have heatmaps: choose one of them.")
        names = look.classifier.config.classes
        if self.method not in _OF_NO_CLASS:
            raw = look.class_maps[self.method].raw
            return {names[index]: (index, raw[look.prediction.indices.index(index)]) for index in self.classes}
        index = self.classes[0]
        named = _OF_NO_CLASS[self.method](look, self.attended)
        return {f"{label}, for {names[index]}": (index, values) for label, values in named.items()}


def _gate_maps(look: Look, _: Attended) -> dict[str, NDArray[np.float32]]:
    gates = look.prediction.attention.spatial
    if not gates:
        raise UserError(f"{look.name} has no CBAM, so it has no gates to test.")
    return {f"Spatial gate {gate_words(module)}": gate[0].numpy() for module, gate in gates.items()}


# Maps that are the same for every class, by the method's name: what gives them by their titles.
_OF_NO_CLASS = {GATES: _gate_maps, HEADS: judged_maps}


def evidence_value(look: Look, judged: Judged, progress: Callable[[float], None]) -> dict[str, Any]:
    """What the panel draws: its HTML, and the figures in it by their names. Raises UserError."""
    found = judged.maps(look)
    class_of = {label: index for label, (index, _) in found.items()}
    maps = {label: values for label, (_, values) in found.items()}
    return panel(look.name, judged.method, look.classifier.evidence(look.picture, class_of, maps, progress=progress))


def panel(run: str, method: str, evidences: "Mapping[str, Evidence]") -> dict[str, Any]:
    """The measures as a chart and words for each map."""
    from resnet_space.explain.saliency import METHODS

    parts, figures = list[str](), dict[str, plots.Chart]()
    for i, (label, evidence) in enumerate(evidences.items()):
        numbers = "".join(f"<li>{escape(measure.words)}</li>" for measure in evidence.measures.values())
        parts.append(
            f'<section class="evidence {evidence.verdict}"><h4><span class="mark" aria-hidden="true">'
            f"{MARKS[evidence.verdict]}</span> <b>{escape(label)}</b></h4><p>{escape(evidence.words)}</p>"
            f'<div class="chart short" data-chart="{i}"></div>'
            f'<details><summary>Curves and numbers</summary><div class="chart short" data-chart="{i}c"></div>'
            f"<ul>{numbers}</ul></details></section>"
        )
        figures[str(i)] = plots.evidence_chart(
            "This map and its baselines",
            [
                plots.MeasuredMap(_label(name), measure.value, measure.random, measure.centre)
                for name, measure in evidence.measures.items()
            ],
        )
        figures[f"{i}c"] = plots.curves_chart(evidence.fractions, evidence.insertion_curve, evidence.deletion_curve)
    title = escape(f"Faithfulness of {METHODS.get(method, f'the {method}')}, {run}")
    return {"html": f'<h3>{title}</h3><div class="verdicts">{"".join(parts)}</div>{HOW}', "figures": figures}


def _label(measure: str) -> str:
    from resnet_space.explain.faithfulness import MEASURES

    return f"{MEASURES[measure]} {'↓' if measure == 'deletion' else '↑'}"
