"""Do a model's maps depend on what it has learned? (Adebayo et al. 2018, arXiv:1810.03292)

The weights are made random, from the head down to the stem, one part more each time. Maps that stay as they were show
the picture's edges rather than what the model knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resnet_space.runs import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.models import ResNet

GATES = "gates"  # the method's name for the last CBAM's spatial gate
SANITY_IMAGES = 16


@dataclass(frozen=True)
class SanityCheck:
    """How like the maps of a model with more and more random weights are to its own.

    Attributes:
        method: of `saliency.METHODS`, or `GATES`.
        parts: what was made random one after the other, such as "head", "layer3", "layer2", "layer1", "stem".
        correlations: the mean rank correlation (Spearman) over the images after each of them, -1..1.
        images: how many.
    """

    method: str
    parts: tuple[str, ...]
    correlations: tuple[float, ...]
    images: int

    @property
    def passed(self) -> bool:
        """Whether little is left of the maps once all weights are random."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """What the numbers mean, in plain sentences."""
        raise NotImplementedError


def sanity_check(model: "ResNet", images: "Tensor", method: str, *, seed: int = 0) -> SanityCheck:
    """The check for the predicted class's maps of images float [N, 3, H, W], already normalised; the model stays."""
    raise NotImplementedError


def sanity_checks(metrics: Sequence[Metric]) -> list[SanityCheck]:
    """Those that were made at the end of a run's training, from its metrics; none for a run from before there were."""
    raise NotImplementedError
