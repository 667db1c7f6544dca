"""Runs: a run is a folder (`folder`, its `files`, `weights` and `turn`) with `metrics` (and their `schema`); a
`library` holds many, and a `queue` trains them.
"""

from resnet_space.common.files import discard as discard
from resnet_space.common.files import in_a_sentence as in_a_sentence
from resnet_space.common.files import replaced_atomically as replaced_atomically
from resnet_space.runs.files import *  # noqa: F403
from resnet_space.runs.folder import Run as Run
from resnet_space.runs.folder import Source as Source
from resnet_space.runs.library import Library as Library
from resnet_space.runs.library import free_name as free_name
from resnet_space.runs.metrics import *  # noqa: F403
from resnet_space.runs.turn import Doing as Doing
from resnet_space.runs.turn import Ticket as Ticket
from resnet_space.runs.weights import without_head as without_head
