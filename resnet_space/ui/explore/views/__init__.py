"""The views of what was measured. A new one is a file with a subclass of `View`, and a line below."""

from resnet_space.ui.explore.views.change import Change
from resnet_space.ui.explore.views.direction import Direction
from resnet_space.ui.explore.views.early import Early
from resnet_space.ui.explore.views.gradient import Gradient
from resnet_space.ui.explore.views.lesion import Lesion
from resnet_space.ui.explore.views.norms import Norms
from resnet_space.ui.explore.views.responses import Responses
from resnet_space.ui.explore.views.view import View

# In the order of their tabs.
VIEWS: list[View] = [Norms(), Direction(), Responses(), Lesion(), Early(), Gradient(), Change()]
