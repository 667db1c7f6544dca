"""The model cards of taught runs: each takes a second, so they are written not at every change, but after a pause
without changes. A push writes its own, so nothing is lost if the app ends before.
"""

import threading
import time
from pathlib import Path

from resnet_space.common.background import tell_once
from resnet_space.common.errors import UserError
from resnet_space.runs import Run

QUIET_SECONDS = 10.0


class Cards:
    """One per app. Its thread ends when there is nothing to write; a closing app waits for an unfinished card."""

    def __init__(self, quiet_seconds: float = QUIET_SECONDS) -> None:
        self.quiet_seconds = quiet_seconds
        self._due: dict[Path, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def write_later(self, run: Path) -> None:
        """Write the card once this has not been called again for a while."""
        with self._lock:
            self._due[run] = time.monotonic() + self.quiet_seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="cards")
                self._thread.start()

    def _write(self) -> None:
        while threading.main_thread().is_alive():
            with self._lock:
                if not self._due:
                    self._thread = None
                    return
                run, due = min(self._due.items(), key=lambda entry: entry[1])
                wait = due - time.monotonic()
                if wait <= 0:
                    del self._due[run]
            if wait > 0:
                time.sleep(min(wait, 0.5))
                continue
            try:
                from resnet_space.hub.card import write_card

                write_card(Run.open(run))
            except (UserError, OSError, MemoryError) as error:  # it changed, or went, meanwhile
                tell_once(f"The model card was not written: {error}")
