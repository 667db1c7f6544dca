"""The views of what was measured: for each its charts, its words, its table, and what a paper's caption has to say."""

from collections.abc import Sequence

from resnet_space.ui.explore.views.direction import DIRECTION
from resnet_space.ui.explore.views.early import EARLY
from resnet_space.ui.explore.views.gradient import GRADIENT
from resnet_space.ui.explore.views.lesion import LESION
from resnet_space.ui.explore.views.norms import NORMS
from resnet_space.ui.explore.views.responses import RESPONSES
from resnet_space.ui.explore.views.view import View

VIEWS: Sequence[View] = (NORMS, DIRECTION, RESPONSES, LESION, EARLY, GRADIENT)
