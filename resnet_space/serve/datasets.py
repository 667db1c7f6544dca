"""The datasets on this machine: their visibility, their summaries, and downloaded Hub datasets."""

import json
import threading
from collections import Counter, OrderedDict
from dataclasses import replace
from pathlib import Path

from resnet_space.common.background import tell_once
from resnet_space.common.errors import UserError
from resnet_space.common.faults import words_of
from resnet_space.common.hub_client import is_repo_id, is_revision
from resnet_space.data.hub import describe_dataset
from resnet_space.data.reference import DatasetRef
from resnet_space.data.restyled import RESTYLED
from resnet_space.data.sources import BUNDLED, DATASET_OWNER, data_folder, dataset_folders
from resnet_space.data.summary import DatasetSummary, summarise
from resnet_space.runs import replaced_atomically
from resnet_space.serve import visitors

MAX_SUMMARIES = 16  # of datasets that are kept, at most 10 MB each
MOST_NAMED = 8  # datasets, in a refusal
HUB_DATASETS = "hub-datasets.json"  # the references of those that were downloaded


class Datasets:
    """One per app. Its methods may be called from any thread.

    Args:
        root: the folder of the runs, beside which the datasets are where nothing else is said.
        public: whether visitors see only their own, and what came with the app.
        readonly: whether none may be downloaded.
    """

    def __init__(self, root: Path, *, public: bool, readonly: bool) -> None:
        self.public = public
        self.readonly = readonly
        self._root = root
        self._summaries: OrderedDict[DatasetRef, DatasetSummary] = OrderedDict()  # used last at the end
        self._summary_lock = threading.Lock()
        self._remember_lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """The folder of imported datasets; the trainer finds it in its environment too."""
        return data_folder() or self._root.parent / "data"

    def choices(self, key: str | None = None) -> list[tuple[str, str]]:
        """(label, reference) of the datasets visible to a visitor: on a public app without those of others."""
        own = [name for name in dataset_folders() if self._may_see(name, key)]
        refs = [*map(DatasetRef, own), *self._hub_datasets()]
        several = {name for name, count in Counter(ref.name for ref in refs).items() if count > 1}
        return [(ref.words if ref.name in several else ref.name, str(ref)) for ref in refs]

    def named(self, text: object, key: str | None) -> DatasetRef:
        """The dataset that a visitor names, with the Hub's commit; every use of a dataset checks access here.

        Raises:
            UserError: if it does not exist or belongs to another visitor; the message is the same for both.
        """
        ref = DatasetRef.parse(text if isinstance(text, str) else "")
        if not ref.is_on_hub and (ref.config or ref.revision or not self._may_see(ref.name, key)):
            seen = [label for label, _ in self.choices(key)]
            more = f" and {len(seen) - MOST_NAMED} others" if len(seen) > MOST_NAMED else ""
            names = f"{', '.join(seen[:MOST_NAMED])}{more}"
            raise UserError(f"There is no dataset named {str(ref)[:100]!r}: choose one of {names}, or import it.")
        return self.pinned(ref)

    def targets(self, key: str | None = None) -> list[tuple[str, str]]:
        """As `choices`, with the bundled dataset in other styles: what a network can be adapted to."""
        return [*((label, name) for name, label in RESTYLED.items()), *self.choices(key)]

    def _may_see(self, name: str, key: str | None) -> bool:
        if name in RESTYLED:
            return True
        folder = dataset_folders().get(name)
        if folder is None:
            return False
        return folder.parent == BUNDLED or not self.public or visitors.owns(folder / DATASET_OWNER, key)

    def summary(self, ref: DatasetRef) -> DatasetSummary:
        """A dataset's summary, cached. Raises UserError."""
        with self._summary_lock:
            if ref not in self._summaries:
                self._summaries[ref] = summarise(ref)
            self._summaries.move_to_end(ref)
            while len(self._summaries) > MAX_SUMMARIES:
                self._summaries.popitem(last=False)
            return self._summaries[ref]

    def forget_summary(self, ref: DatasetRef) -> None:
        """Drop the cached summary of a dataset that has changed."""
        with self._summary_lock:
            self._summaries.pop(ref, None)

    def pinned(self, ref: DatasetRef) -> DatasetRef:
        """The reference with the Hub's commit, requested if missing. Raises UserError."""
        if not ref.is_on_hub:
            return ref
        known = [
            other
            for other in self._hub_datasets()
            if other.name == ref.name
            and ref.config in (None, other.config)
            and (ref.label, ref.image) == (other.label, other.image)
        ]
        if ref.revision is None and known:
            return known[-1]
        if self.readonly and ref not in known:  # to look at it would be to download it
            raise UserError(
                f"The dataset {ref.name} is not on this machine, and this app is read-only: choose another one."
            )
        if ref.revision is not None:
            return ref
        chosen = {"label_column": ref.label, "image_column": ref.image}
        dataset = describe_dataset(ref.name, config=ref.config, **{name: of for name, of in chosen.items() if of})
        return DatasetRef(dataset.repo_id, dataset.config, dataset.revision, ref.label, ref.image)

    def remember(self, ref: DatasetRef) -> None:
        """List a downloaded Hub dataset from now on, replacing an earlier revision.

        Raises:
            UserError: if that cannot be saved.
        """
        with self._remember_lock:
            same = replace(ref, revision=None)
            others = [other for other in self._hub_datasets() if replace(other, revision=None) != same]
            text = json.dumps([str(other) for other in [*others, ref]], indent=2)
            try:
                with replaced_atomically(self.folder / HUB_DATASETS) as file:
                    file.write_text(text, encoding="utf-8")
            except OSError as error:
                raise UserError(f"The dataset {ref.name} cannot be saved: {words_of(error)}") from None

    def _hub_datasets(self) -> list[DatasetRef]:
        """The remembered datasets; invalid entries are skipped, and removed with the next write."""
        try:
            entries = json.loads((self.folder / HUB_DATASETS).read_text("utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            tell_once(f"Skipped: {HUB_DATASETS} cannot be read ({type(error).__name__}).")
            return []
        entries = entries if isinstance(entries, list) else [entries]
        refs = [ref for text in entries if isinstance(text, str) and _is_on_hub(ref := DatasetRef.parse(text))]
        if len(refs) < len(entries):
            tell_once(f"Skipped: {len(entries) - len(refs)} entries of {HUB_DATASETS} are not Hub datasets.")
        return list(dict.fromkeys(refs))


def _is_on_hub(ref: DatasetRef) -> bool:
    named = ref.is_on_hub and is_repo_id(ref.name) and (ref.revision is None or is_revision(ref.revision))
    return named and (ref.config or "").isprintable()
