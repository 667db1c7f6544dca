"""Objectives: an objective receives the model and a batch, and returns the loss in named parts.

Each registers itself by its id, which `TrainConfig.objective` names. To add one, write a file here with a subclass of
`Objective` and `@register_objective`, and import it below. The loop sums the parts, and if there are several, logs each
by its name. Nothing here imports torch before it is used: a configuration is checked without it.
"""

from resnet_space.config import OBJECTIVES as OBJECTIVES
from resnet_space.training.objectives import adabn, adversarial, coral, cross_entropy, mmd  # which register themselves
from resnet_space.training.objectives.base import Batch as Batch
from resnet_space.training.objectives.base import Losses as Losses
from resnet_space.training.objectives.base import Objective as Objective
from resnet_space.training.objectives.base import objective_of as objective_of
from resnet_space.training.objectives.base import register_objective as register_objective

__all__ = ["adabn", "adversarial", "coral", "cross_entropy", "mmd"]
