"""What all visitors share on the server: the runs, the trainer, and models that are loaded already."""

import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.process import Trainer
from resnet_space.runs import Library, RunError

if TYPE_CHECKING:
    from resnet_space.inference import Classifier

MAX_LOADED = 4  # models kept in memory

# What a visitor sees first: the backbone to fine-tune from, and a model whose classes everybody knows.
BACKBONE = "resnet20-cbam-imagenet32"
SHOWPIECE = "resnet20-cbam-cifar10"
SHIPPED = (BACKBONE, SHOWPIECE)


class Workshop:
    """One per app. Its methods may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self.library = Library(root)
        self.trainer = Trainer(self.library)
        self._classifiers: OrderedDict[tuple[Path, float], Classifier] = OrderedDict()
        self._lock = threading.Lock()

    def classifier(self, name: str) -> "Classifier":
        """The run's model, loaded once while its weights stay the same. Raises RunError if it cannot be."""
        from resnet_space.inference import Classifier

        run = self.library.open(name)
        key = (run.path, run.weights_written())
        with self._lock:
            if key not in self._classifiers:
                self._classifiers[key] = Classifier(run)
                while len(self._classifiers) > MAX_LOADED:
                    self._classifiers.popitem(last=False)
            self._classifiers.move_to_end(key)
            return self._classifiers[key]

    def trained_names(self) -> list[str]:
        """The runs that can predict, the newest first."""
        return [run.name for run in self.library.runs() if run.has_weights]

    def default_name(self) -> str | None:
        names = self.trained_names()
        return SHOWPIECE if SHOWPIECE in names else next(iter(names), None)

    def warm_up(self) -> None:
        """Load what the first visitor will need, so that they do not wait for torch."""
        name = self.default_name()
        if name is not None:
            with suppress(RunError):  # whoever chooses a broken run is told
                self.classifier(name)
