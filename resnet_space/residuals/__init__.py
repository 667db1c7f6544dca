"""What residual blocks do to their input, measured.

Every measure goes over its images batch by batch, is a generator that can be left at any time with what it has so far,
and leaves the model as it was: no hook stays on it, not even between two batches.
"""

from resnet_space.models.additions import Addition, NoResidualBlocksError
from resnet_space.residuals.adapters import additions
from resnet_space.residuals.backward import Gradients, gradients
from resnet_space.residuals.change import Changes, Trend, changes, rank_trend
from resnet_space.residuals.history import Growth, recorded_growth
from resnet_space.residuals.lesions import Lesion, Lesioned, lesioned, random_drops, single_drops, swaps
from resnet_space.residuals.norms import LayerResponses, Measured, ResidualNorms, measure, residual_norms
from resnet_space.residuals.pictures import BlockPictures, block_pictures
from resnet_space.residuals.probes import balanced, labels_for, last, probe, probe_batches
from resnet_space.residuals.reading import Readings, early_readings

__all__ = [
    "Addition",
    "BlockPictures",
    "Changes",
    "Gradients",
    "Growth",
    "LayerResponses",
    "Lesion",
    "Lesioned",
    "Measured",
    "NoResidualBlocksError",
    "Readings",
    "ResidualNorms",
    "Trend",
    "additions",
    "balanced",
    "block_pictures",
    "changes",
    "early_readings",
    "gradients",
    "labels_for",
    "last",
    "lesioned",
    "measure",
    "probe",
    "probe_batches",
    "random_drops",
    "rank_trend",
    "recorded_growth",
    "residual_norms",
    "single_drops",
    "swaps",
]
