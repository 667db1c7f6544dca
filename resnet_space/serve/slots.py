"""Limit how much of each kind of heavy work the app's process does at once, whatever the route of the request.

Gradio's own limits apply only in its queue, and each to one handler; a plain POST bypasses all of them. This is the
last check before memory is allocated.
"""

import threading
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from resnet_space.common.errors import UserError

Kind = Literal[
    "exports",
    "range tests",
    "measurements",
    "pictures of blocks",
    "predictions",
    "tests of maps",
    "previews",
    "lessons",
]

WAIT_SECONDS = 30.0
BUSY = "Too many {} are running at once: try again in a moment."
# For display, where the id of a kind does not serve.
_WORDS: Mapping[Kind, str] = {"pictures of blocks": "feature map views", "tests of maps": "heatmap tests"}


class Width(NamedTuple):
    """How many run at once, and how many more may wait; each waiting call holds one of gradio's 40 threads."""

    at_once: int
    waiting: int


# All that run and wait, 30 in all, leave gradio threads for Stop and for what is quick.
WIDTHS: Mapping[Kind, Width] = {
    "exports": Width(1, 1),  # a process of 0.8 GB
    "range tests": Width(1, 1),  # a process like the trainer's
    "measurements": Width(2, 2),
    "pictures of blocks": Width(2, 2),
    "predictions": Width(4, 4),
    "tests of maps": Width(1, 1),
    "previews": Width(1, 3),
    "lessons": Width(2, 2),
}


class Slots:
    """One per app. Its methods may be called from any thread."""

    def __init__(self, widths: Mapping[Kind, Width] = WIDTHS, wait_seconds: float = WAIT_SECONDS) -> None:
        self.widths = widths
        self.wait_seconds = wait_seconds
        self._running: Counter[Kind] = Counter()
        self._waiting: Counter[Kind] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, kind: Kind) -> Generator[None]:
        """Hold a slot of a kind; if all are taken, wait for one, unless too many already wait.

        Do not take another slot of the same kind within it: two callers could deadlock.

        Raises:
            UserError: one sentence, if no slot is available.
        """
        at_once, waiting = self.widths[kind]
        with self._changed:
            if self._running[kind] >= at_once:
                if self._waiting[kind] >= waiting:
                    raise _busy(kind)
                self._waiting[kind] += 1
                try:
                    if not self._changed.wait_for(lambda: self._running[kind] < at_once, self.wait_seconds):
                        raise _busy(kind)
                finally:
                    self._waiting[kind] -= 1
            self._running[kind] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[kind] -= 1
                self._changed.notify_all()


def _busy(kind: Kind) -> UserError:
    return UserError(BUSY.format(_WORDS.get(kind, kind)))
