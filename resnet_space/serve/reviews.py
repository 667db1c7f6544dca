"""Reviews of datasets by visitors: their decisions, which are saved one by one, and before and after.

The decisions are in a folder of their own beside the runs, one for each visitor and dataset: they survive a reload and
a restart, and expire as everything of a visitor does.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence
from resnet_space.common.records import read_record, write_record
from resnet_space.data.decisions import read_manifest
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import dataset_folder, open_dataset
from resnet_space.data.versions import MOST_DECISIONS
from resnet_space.serve.context import AppContext
from resnet_space.serve.works import OWNER
from resnet_space.training.review import BeforeAfter

FILE = "decisions.json"
CHANGED = "The pictures have changed since they were checked: check them again."
_writing = threading.Lock()


@dataclass
class SavedReview:
    """A visitor's review of a dataset.

    Attributes:
        files: when the dataset's files were changed, and their sizes: decisions hold for these.
        decisions: by the id of their item, as JSON.
        version: the dataset that was made last from them, "" before.
        compared: the name of its comparison with the old one, "" before.
    """

    files: dict[str, list[int]]
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: str = ""
    compared: str = ""


def open_review(context: AppContext, ref: DatasetRef, key: str | None) -> SavedReview:
    """A visitor's decisions about a dataset; none where its files have changed since. Raises UserError."""
    files = _files(ref)
    try:
        found = read_record(SavedReview, _folder(context, ref, key) / FILE)
    except (OSError, ValueError):
        return SavedReview(files)
    return found if found.files == files else SavedReview(files)


def save_review(
    context: AppContext, ref: DatasetRef, key: str | None, change: Callable[[SavedReview], object]
) -> SavedReview:
    """Change what is saved of a review. Raises UserError; then it stays as it was."""
    key = context.writer(key)
    folder = _folder(context, ref, key)
    context.storage.room_for(0, "The review")
    with _writing, in_a_sentence("The decision cannot be saved"):
        review = open_review(context, ref, key)
        change(review)
        if len(review.decisions) > MOST_DECISIONS:
            raise UserError(f"There are {MOST_DECISIONS:,} decisions: make the new version first.")
        if key and not folder.exists():
            context.claim(folder / OWNER, key)
        write_record(review, folder / FILE)
    return review


def require_unchanged(ref: DatasetRef, since: float) -> None:
    """Raises UserError where a dataset's files were changed after a check (seconds since 1970)."""
    if any(changed > since * 1e9 for _, changed in _files(ref).values()):
        raise UserError(CHANGED)


def start_before_after(context: AppContext, version: str, key: str | None) -> str:
    """Judge a version of a dataset beside the one that it was made from, in a process of its own. Returns its name.

    Raises:
        UserError: with one sentence; then nothing was started.
    """
    key = context.writer(key)
    ref = context.datasets.named(version, key)
    manifest = None if ref.is_on_hub else read_manifest(dataset_folder(ref.name))
    if manifest is None:
        raise UserError(f"{ref.name} was not made by a review, so there is no dataset to compare it with.")
    context.dataset_to_judge(manifest.source, key)
    return context.start_work(context.reviews, BeforeAfter(dataset=str(ref), source=manifest.source), key)


def _folder(context: AppContext, ref: DatasetRef, key: str | None) -> Path:
    whose = json.dumps([key if context.public else None, str(ref)])  # one's own machine has one visitor
    return context.reviews.folder / hashlib.sha256(whose.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _files(ref: DatasetRef) -> dict[str, list[int]]:
    found = open_dataset(ref).files
    with in_a_sentence(f"The dataset {ref.name} cannot be read"):
        stats = {f"{split}/{file.name}": file.stat() for split, files in found.items() for file in files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
