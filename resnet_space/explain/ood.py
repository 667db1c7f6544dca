"""Is an image unlike the training images? A distance between channel means of the stages.

For each image: the mean of every channel after the stem and after each stage. How these vary together over training
images is kept as a Gaussian with k free directions and one variance for all others (probabilistic PCA, Tipping & Bishop
1999), and an image's ood_score is its Mahalanobis distance (Lee et al. 2018, arXiv:1807.03888), as a multiple of the
limit within which 95 % of the validation images lie.

Chosen by measurement on the shipped CIFAR-10 model (`benchmarks/novelty.py`): the energy score (Liu et al. 2020,
arXiv:2010.03759) detects photographs of other things, but neither noise nor blank images: the logits of this network do
not separate them from photographs, but its early stages do.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.runs import FEATURE_STATISTICS, Run, names_of, replaced_atomically
from resnet_space.runs.weights import array_problem

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.models import Backbone

DIRECTIONS = 64
WITHIN = 0.95  # of the validation images
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Statistics of D channel means over training images.

    Attributes:
        mean: [D].
        scale: [D], their standard deviations.
        directions: [k, D] orthonormal, of the scaled differences from the mean: those of the largest variances.
        variances: [k], theirs.
        rest: [1], the variance in every other direction.
        limit: [1], the squared distance within which 95 % of the validation images lie.
    """

    mean: Floats
    scale: Floats
    directions: Floats
    variances: Floats
    rest: Floats
    limit: Floats

    def ood_score(self, means: Floats) -> Floats:
        """Channel means [N, D] -> [N], from 0; above 1: farther away than 95 % of the validation images."""
        return self._distances(means) / self.limit

    def _distances(self, means: Floats) -> Floats:
        """Squared Mahalanobis distances [N]."""
        scaled = (means - self.mean) / self.scale
        along = scaled @ self.directions.T
        beside = np.maximum((scaled**2).sum(1) - (along**2).sum(1), 0)
        distances: Floats = ((along**2 / self.variances).sum(1) + beside / self.rest).astype(np.float32)
        return distances


def fit_feature_statistics(
    training: Floats, validation: Floats, directions: int = DIRECTIONS
) -> FeatureStatistics | None:
    """Fit to the channel means [n, D] of training images, and set the limit by those of validation images.

    The limit is that of split conformal prediction (Vovk et al. 2005); of fewer than 19 validation images the largest.
    None if there are too few images.
    """
    n, d = training.shape
    k = min(directions, n // 3, d - 1)
    if k < 1 or not len(validation):
        return None
    mean = training.mean(0, dtype=np.float64)
    scale = training.std(0, dtype=np.float64) + 1e-6 * (1 + np.abs(mean))  # of a channel that is dead, too
    scaled = (training - mean) / scale
    _, singular, rows = np.linalg.svd(scaled, full_matrices=False)
    variances = singular**2 / (n - 1)
    rest = max(variances[k:].sum() / (d - k), 1e-6)
    learned = (mean, scale, rows[:k], np.maximum(variances[:k], rest), [rest], [1.0])
    unlimited = FeatureStatistics(*(np.ascontiguousarray(values, dtype=np.float32) for values in learned))
    limit = conformal_limit(unlimited._distances(validation))
    return replace(unlimited, limit=np.array([max(limit, 1e-6)], np.float32))


def conformal_limit(values: Floats) -> float:
    """Within which a new value of the same kind lies with a probability of `WITHIN`, from values [n] that were held
    out; of fewer than 19 the largest (split conformal prediction, Vovk et al. 2005).
    """
    position = min(int(np.ceil((len(values) + 1) * WITHIN)), len(values)) - 1
    return float(np.sort(values)[position])


# Channel means


@contextmanager
def recorded_means(model: "Backbone") -> "Generator[list[Tensor]]":
    """Fill a list with the channel means float32 [N, D] of each forward pass inside the `with`; readable at its end."""
    import torch

    from resnet_space.models.hooks import recorded

    means: list[Tensor] = []
    names = model.observed()

    def mean(_inputs: "tuple[Tensor, ...]", output: "Tensor") -> "Tensor":
        return model.to_map(output).float().mean((2, 3)).cpu()

    with recorded(model, dict.fromkeys(names, mean)) as found:
        yield means
    means += [torch.cat(parts, 1) for parts in zip(*(found[name] for name in names), strict=True)]


# The file


def save_feature_statistics(statistics: FeatureStatistics, run: Run) -> None:
    with replaced_atomically(run.path / FEATURE_STATISTICS) as file:
        save_file(vars(statistics), file)
        file.chmod(0o644)  # safetensors keeps it from other users, who may serve the app
    for former in names_of(FEATURE_STATISTICS)[1:]:
        (run.path / former).unlink(missing_ok=True)


def load_feature_statistics(run: Run) -> FeatureStatistics | None:
    """The statistics in the run's folder; None for an older run, or one with too few images.

    Raises:
        UserError: if the file is damaged, or does not fit the run's model.
    """
    arrays = run.load_arrays(FEATURE_STATISTICS)
    if arrays is None:
        return None
    problem = _problem(arrays, run.config.model)
    if problem:
        raise UserError(f"The {FEATURE_STATISTICS} of {run.name} does not fit its model: {problem}.")
    return FeatureStatistics(**arrays)


def _problem(arrays: dict[str, NDArray[Any]], model: ModelConfig) -> str:
    """Why arrays from a file, which may come from anyone, are not a model's statistics; nothing if they are."""
    d = sum(model.shape.channels)
    k = arrays["variances"].size if "variances" in arrays else 0
    shapes = {"mean": (d,), "scale": (d,), "directions": (k, d), "variances": (k,), "rest": (1,), "limit": (1,)}
    if problem := array_problem(arrays, {name: ("float32", shape) for name, shape in shapes.items()}):
        return problem
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            return f"{name} has values that are not finite numbers"
        if name not in ("mean", "directions") and not (values > 0).all():
            return f"{name} must be above 0"
    return ""
