"""A cache of loaded models: each is loaded once, and the least recently used are dropped."""

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
        most_bytes: maximum size of all models together. A larger one is kept alone.
    """

    def __init__(self, most_bytes: int = MODEL_BYTES) -> None:
        self.most_bytes = most_bytes
        self._loaded: OrderedDict[str, tuple[Version, Future[Classifier]]] = OrderedDict()  # the last used is last
        self._lock = threading.Lock()

    def get(self, run: Run) -> "Classifier":
        """The run's model, loaded again if its files changed. Raises UserError if it cannot be loaded."""
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
        """Size of the loaded models in bytes."""
        with self._lock:
            return sum(self._sizes().values())

    def names(self) -> list[str]:
        """The runs whose models are loaded, the last used at the end."""
        with self._lock:
            return [path.rpartition("/")[2] for path in self._sizes()]

    def _make_room(self, keep: str) -> None:
        with self._lock:
            sizes = self._sizes()
            for path in list(sizes):
                if sum(sizes.values()) > self.most_bytes and path != keep:
                    del sizes[path], self._loaded[path]

    def _sizes(self) -> dict[str, int]:
        """The sizes of models that are completely loaded."""
        return {
            path: future.result().nbytes
            for path, (_, future) in self._loaded.items()
            if future.done() and future.exception() is None
        }
