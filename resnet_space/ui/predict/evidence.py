"""Whether a map shows what the model looks at: measured on demand, for this picture, beside maps that know nothing."""

from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from resnet_space import plots
from resnet_space.common.errors import UserError
from resnet_space.ui.predict.looks import Look
from resnet_space.ui.predict.maps import gate_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from resnet_space.explain.faithfulness import Evidence

MARKS = {"better": "✓", "chance": "?", "worse": "✗"}
HOW = """
<details><summary>How this is measured</summary><p>Insertion: the picture begins blurred, and its pixels come back, the
map's brightest first; the area under the class's probability, higher is better. Deletion: they are taken away instead,
the brightest first; lower is better (Petsiuk et al. 2018). ROAD: the brightest and the darkest are replaced by what
their neighbours suggest; half of the difference in probability, higher is better (Rong et al. 2022). The grey lines are
the same numbers of random maps, as coarse as this one; the diamond is that of a blob in the centre, where photographs
have their subject. All is for this picture and class alone.</p></details>
"""


class StoppedTestError(Exception):
    """A test is not wanted any more."""


def maps_to_judge(look: Look, kind: object, index: int) -> "dict[str, NDArray[np.float32]]":
    """The maps that a button stands for, by their labels. Raises UserError for a class that is not among the top."""
    from resnet_space.explain.saliency import METHODS

    if kind == "gates":
        spatial = look.prediction.attention.spatial
        return {f"Spatial gate {gate_words(module)}": gate[0].numpy() for module, gate in spatial.items()}
    if index not in look.prediction.indices:
        raise UserError("Maps are there for the five most probable classes: choose one of them.")
    at = look.prediction.indices.index(index)
    return {METHODS[method]: maps.raw[at] for method, maps in look.class_maps.items()}


def evidence_value(look: Look, kind: object, index: int, progress: Callable[[float], None]) -> dict[str, Any]:
    """What the panel draws: its HTML, and the figures in it by their names."""
    maps = maps_to_judge(look, kind, index)
    if not maps:
        raise UserError(f"{look.name} has no CBAM, so it has no gates to test.")
    evidences = look.classifier.evidence(look.picture, index, maps, progress=progress)
    return panel(look.name, look.classifier.config.classes[index], evidences)


def panel(run: str, name: str, evidences: "Mapping[str, Evidence]") -> dict[str, Any]:
    """The evidence as a chart and words for each map."""
    parts, figures = [], {}
    for i, (label, evidence) in enumerate(evidences.items()):
        numbers = "".join(f"<li>{escape(measure.words)}</li>" for measure in evidence.measures.values())
        parts.append(
            f'<section class="evidence {evidence.verdict}"><h4>{escape(label)}, for <b>{escape(name)}</b></h4>'
            f'<p><span class="mark" aria-hidden="true">{MARKS[evidence.verdict]}</span> {escape(evidence.words)}</p>'
            f'<div class="charts"><div class="chart short" data-chart="{i}"></div>'
            f'<div class="chart short" data-chart="{i}c"></div></div>'
            f"<details><summary>The numbers in words</summary><ul>{numbers}</ul></details></section>"
        )
        figures[str(i)] = plots.evidence_chart(
            "Beside maps that know nothing",
            [
                plots.MeasuredMap(_label(name), measure.value, measure.random, measure.centre)
                for name, measure in evidence.measures.items()
            ],
        )
        figures[f"{i}c"] = plots.curves_chart(evidence.fractions, evidence.insertion_curve, evidence.deletion_curve)
    return {"html": f"<h3>The evidence, of {escape(run)}</h3>{''.join(parts)}{HOW}", "figures": figures}


def _label(measure: str) -> str:
    from resnet_space.explain.faithfulness import MEASURES

    return f"{MEASURES[measure]} {'↓' if measure == 'deletion' else '↑'}"
