"""Does a map show what the model looks at? Three measures for one image and class, beside maps that know nothing.

- Insertion (Petsiuk et al. 2018, arXiv:1806.07421): the image starts blurred, and its pixels come back in the map's
  order; the mean probability of the class on the way. Higher is better.
- Deletion (the same): pixels are replaced by the mean colour in the map's order. Lower is better.
- ROAD (Rong et al. 2022, arXiv:2202.00449): the most, and the least important pixels are replaced by what their
  neighbours suggest; half of the difference in probability between the two. Higher is better.

Each number means nothing alone, as it depends on the image and class. So the same is measured for random maps as coarse
as the one that is judged, and for a bright blob in the centre, where photographs have their subject.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

MEASURES = {"insertion": "Insertion", "deletion": "Deletion", "road": "ROAD"}  # name -> label
STEPS = 16  # of insertion and deletion
RANDOM_MAPS = 19  # a map that knows nothing beats all of them once in 20 times

Verdict = Literal["better", "chance", "worse"]
FloatMap = NDArray[np.float32]


@dataclass(frozen=True)
class Measure:
    """One measure of one map, beside the same of maps that know nothing.

    Attributes:
        name: of `MEASURES`.
        value: of the map; probabilities, so 0..1, or -0.5..0.5 for ROAD.
        random: of `RANDOM_MAPS` random maps.
        centre: of a blob in the centre.
    """

    name: str
    value: float
    random: tuple[float, ...]
    centre: float

    @property
    def higher_is_better(self) -> bool:
        return self.name != "deletion"

    @property
    def random_mean(self) -> float:
        raise NotImplementedError

    @property
    def random_spread(self) -> float:
        """Their standard deviation."""
        raise NotImplementedError

    @property
    def beaten(self) -> int:
        """How many of the random maps it is better than."""
        raise NotImplementedError

    @property
    def verdict(self) -> Verdict:
        """ "better" than all random maps, "worse" than all of them, or else "chance"."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """What the number means, in one or two plain sentences."""
        raise NotImplementedError


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against one map of one image and class.

    Attributes:
        class_index: whose probability was measured.
        start: the class's probability for the whole image, 0..1.
        measures: by their names, in the order of `MEASURES`.
        fractions: [steps + 1] shares of the pixels inserted or deleted, 0..1.
        insertion_curve, deletion_curve: [steps + 1] the class's probability on the way.
    """

    class_index: int
    start: float
    measures: Mapping[str, Measure]
    fractions: tuple[float, ...]
    insertion_curve: tuple[float, ...]
    deletion_curve: tuple[float, ...]

    @property
    def verdict(self) -> Verdict:
        """Of the majority of the measures; "chance" where there is none."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """The verdict in plain words: one or two sentences."""
        raise NotImplementedError


def evidence(
    model: "nn.Module",
    image: "Tensor",
    class_index: int,
    maps: Mapping[str, FloatMap],
    *,
    temperature: float = 1.0,
    steps: int = STEPS,
    random_maps: int = RANDOM_MAPS,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Evidence]:
    """Judge maps of one image float [1, 3, H, W], already normalised, for one class.

    `Classifier.evidence` is this for a model that others use at the same time.

    Args:
        model: gives logits [N, C]; it must be in eval mode.
        image: as the model expects it.
        class_index: whose probability is measured.
        maps: name -> [h, w] at its own resolution, not enlarged: random maps are as coarse, and made once for all maps
            of one resolution. A class's map (`ClassMaps.raw[k]`) or a CBAM's spatial gate.
        temperature: of the softmax.
        steps: in which insertion and deletion go.
        random_maps: to compare with.
        seed: of the random maps.
        progress: is told the share that is done, 0..1, now and then.

    Returns:
        name -> its evidence.
    """
    raise NotImplementedError
