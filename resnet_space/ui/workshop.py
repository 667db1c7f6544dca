"""What all visitors share on the server: the runs, the trainer, and models that are loaded already."""

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_space.config import ModelConfig
from resnet_space.data.hub import describe_dataset
from resnet_space.data.sources import DatasetRef, data_folder, dataset_folders
from resnet_space.data.summary import DatasetSummary, summarise
from resnet_space.hub.client import HubError
from resnet_space.hub.pretrained import PRETRAINED, is_pretrained, pretrained_model, pull_pretrained
from resnet_space.limits import Limits
from resnet_space.process import Trainer
from resnet_space.runs import Library, Run, RunError, replaced_atomically
from resnet_space.ui import visitors
from resnet_space.zero import is_zero_gpu

if TYPE_CHECKING:
    from resnet_space.inference import Classifier

MAX_LOADED = 4  # models kept in memory
HUB_DATASETS = "hub-datasets.json"  # the references of those that were downloaded

# What a visitor sees first: the backbone to fine-tune from, and a model whose classes everybody knows.
BACKBONE = "resnet20-cbam-imagenet32"
SHOWPIECE = "resnet20-cbam-cifar10"
NOT_MADE_HERE = {BACKBONE, SHOWPIECE, *(pretrained.name for pretrained in PRETRAINED)}


class Workshop:
    """One per app. Its methods may be called from any thread.

    Args:
        root: the folder of the runs.
        public: whether others than the machine's owner use the app.
        limits: of every training.
    """

    def __init__(self, root: Path, *, public: bool = False, limits: Limits | None = None) -> None:
        self.public = public
        self.limits = limits or Limits()
        self.library = Library(root)
        self.trainer = Trainer(self.library, longest_queue=self.limits.queue, spawns=not is_zero_gpu())
        self._classifiers: OrderedDict[tuple[Path, float], Classifier] = OrderedDict()
        self._summaries: dict[DatasetRef, DatasetSummary] = {}
        self._lock = threading.Lock()
        self._summary_lock = threading.Lock()  # its own: a large data set must not hold up predictions
        self._remember_lock = threading.Lock()

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

    # Whose runs

    def runs(self, key: str | None = None) -> list[Run]:
        """The runs that a visitor sees, the newest first: on a public app what came with it and their own."""
        return [run for run in self.library.runs() if self._is_for_all(run) or visitors.owns(run, key)]

    def trained_names(self, key: str | None = None) -> list[str]:
        """Those that can predict."""
        return [run.name for run in self.runs(key) if run.has_weights]

    def finetuned_names(self, key: str | None = None) -> list[str]:
        """Those that were made here."""
        return [run.name for run in self.runs(key) if run.name not in NOT_MADE_HERE]

    def own_run(self, name: str, key: str | None) -> Run:
        """A run to be changed. Raises RunError where it is not there, or not the visitor's to change."""
        run = self.library.open(name)
        if name in NOT_MADE_HERE:
            raise RunError(f"{name} came with the app: it is not to be changed.")
        if self.public and not visitors.owns(run, key):
            raise RunError(f"{name} is not yours: only who started it can stop, rename or delete it, or train it on.")
        return run

    def _is_for_all(self, run: Run) -> bool:
        return not self.public or run.name in NOT_MADE_HERE

    # Starts and data sets

    @property
    def data(self) -> Path:
        """The folder of the data sets that are brought here; the trainer finds it in its environment too."""
        return data_folder() or self.library.root.parent / "data"

    def start_names(self, key: str | None = None) -> list[str]:
        """What a training can start from, but random initialisation: trained runs, and weights of the Hub."""
        trained = self.trained_names(key)
        return [*trained, *(pretrained.name for pretrained in PRETRAINED if pretrained.name not in trained)]

    def start_model(self, name: str) -> ModelConfig:
        """The model of a start, before its weights are here. Raises RunError if there is no such start."""
        if not (self.library.root / str(name)).is_dir() and is_pretrained(name):
            return pretrained_model(name)
        return self.library.open(name).config.model

    def start_run(self, name: str, progress: Callable[[int, int], None] | None = None) -> Run:
        """A start with its weights, which are downloaded where they are not here. Raises RunError."""
        if is_pretrained(name):
            try:
                return pull_pretrained(name, self.library.root, progress=progress)
            except HubError as error:
                raise RunError(str(error)) from None
        return self.library.open(name)

    def dataset_choices(self) -> list[tuple[str, str]]:
        """(label, reference) of the data sets that are on this machine."""
        refs = [*map(DatasetRef, dataset_folders()), *self._hub_datasets()]
        several = {name for name, count in Counter(ref.name for ref in refs).items() if count > 1}
        return [(f"{ref.name} ({ref.config})" if ref.name in several else ref.name, str(ref)) for ref in refs]

    def summary(self, ref: DatasetRef) -> DatasetSummary:
        """What a data set has, read once. Raises DataError."""
        with self._summary_lock:
            if ref not in self._summaries:
                self._summaries[ref] = summarise(ref)
            return self._summaries[ref]

    def pinned(self, ref: DatasetRef) -> DatasetRef:
        """The reference with the Hub's commit, which is asked for where it is missing. Raises DataError."""
        if not ref.is_on_hub or ref.revision is not None:
            return ref
        known = [
            other for other in self._hub_datasets() if other.name == ref.name and ref.config in (None, other.config)
        ]
        if known:
            return known[-1]
        found = describe_dataset(ref.name, config=ref.config)
        return DatasetRef(found.repo_id, found.config, found.revision)

    def remember(self, ref: DatasetRef) -> None:
        """Offer a downloaded data set of the Hub from now on, in the place of an earlier revision."""
        with self._remember_lock:
            kept = [other for other in self._hub_datasets() if (other.name, other.config) != (ref.name, ref.config)]
            with replaced_atomically(self.data / HUB_DATASETS) as file:
                file.write_text(json.dumps([str(other) for other in [*kept, ref]], indent=2), encoding="utf-8")

    def _hub_datasets(self) -> list[DatasetRef]:
        try:
            return [DatasetRef.parse(text) for text in json.loads((self.data / HUB_DATASETS).read_text("utf-8"))]
        except (OSError, ValueError, TypeError, AttributeError):
            return []

    def tend_queue(self) -> None:
        """Start what waits when its turn comes, from now on."""
        if not self.trainer.spawns:  # the pages that were to host what waited are gone
            for run in self.trainer.queue():
                self.trainer.take(run)
            return
        threading.Thread(target=self.trainer.keep_advancing, daemon=True).start()

    def default_name(self) -> str | None:
        names = self.trained_names()
        return SHOWPIECE if SHOWPIECE in names else next(iter(names), None)

    def warm_up(self) -> None:
        """Load what the first visitor will need, so that they do not wait for torch."""
        name = self.default_name()
        if name is not None:
            with suppress(RunError):  # whoever chooses a broken run is told
                self.classifier(name)
