"""Who works for which page, and who asked to stop: a visitor's page is known by its session."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import gradio as gr

from resnet_space.common.errors import UserError


class Stop(threading.Event):
    """It is set when the work is to end; `replaced`: what it has found is not wanted any more."""

    replaced = False


class Stops:
    """One for each kind of work. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._running: dict[str, list[Stop]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def asked(self, request: gr.Request, *, instead: bool = False, alone: str = "") -> Generator[Stop]:
        """An event that is set when the page's Stop is pressed meanwhile.

        Args:
            request: of the page.
            instead: whether this ends and replaces what the page has under way.
            alone: the sentence by which it is refused while the page has something under way; empty: it is not.

        Raises:
            UserError: with that sentence.
        """
        stop, session = Stop(), str(request.session_hash)
        with self._lock:
            running = self._running.setdefault(session, [])
            if running and alone:
                raise UserError(alone)
            for other in running if instead else ():
                other.replaced = True
                other.set()
            running.append(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._running[session].remove(stop)
                if not self._running[session]:
                    del self._running[session]

    def stop(self, request: gr.Request) -> None:
        """Ask all that the page has under way to stop. A handler, also of a button by itself."""
        with self._lock:
            for stop in self._running.get(str(request.session_hash), []):
                stop.set()
