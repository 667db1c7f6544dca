"""Models in memory: each is loaded once, and those that were not asked for longest go where it gets too much."""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

from resnet_space.runs import Run

if TYPE_CHECKING:
    from resnet_space.inference import Classifier

MODEL_BYTES = 1_000_000_000  # four times ResNet-152

Version = tuple[float, ...]


class LoadedModels:
    """One per app. Its methods may be called from any thread: while one loads a model, others use theirs.

    Args:
        most_bytes: that all models together may take. One that is larger is kept alone.
    """

    def __init__(self, most_bytes: int = MODEL_BYTES) -> None:
        self.most_bytes = most_bytes
        self._loaded: OrderedDict[str, tuple[Version, Future[Classifier]]] = OrderedDict()  # the last used is last
        self._lock = threading.Lock()

    def get(self, run: Run) -> "Classifier":
        """The run's model, loaded anew where its files changed. Raises UserError if it cannot be."""
        from resnet_space.inference import Classifier  # brings torch

        path, version = str(run.path), run.model_written()
        with self._lock:
            known = self._loaded.get(path)
            ours = known is None or known[0] != version
            future = Future[Classifier]() if known is None or ours else known[1]
            self._loaded[path] = version, future
            self._loaded.move_to_end(path)
        if ours:
            try:
                future.set_result(Classifier(run))
            except BaseException as error:
                with self._lock:
                    if self._loaded.get(path) == (version, future):
                        del self._loaded[path]
                future.set_exception(error)
            else:
                self._make_room(path)
        return future.result()

    @property
    def nbytes(self) -> int:
        """Bytes that the loaded models take."""
        with self._lock:
            return sum(self._sizes().values())

    def names(self) -> list[str]:
        """Of the runs whose models are loaded, the last used at the end."""
        with self._lock:
            return [path.rpartition("/")[2] for path in self._sizes()]

    def _make_room(self, keep: str) -> None:
        with self._lock:
            sizes = self._sizes()
            for path in list(sizes):
                if sum(sizes.values()) > self.most_bytes and path != keep:
                    del sizes[path], self._loaded[path]

    def _sizes(self) -> dict[str, int]:
        """Of those that are loaded and not just being so."""
        return {
            path: future.result().nbytes
            for path, (_, future) in self._loaded.items()
            if future.done() and future.exception() is None
        }
