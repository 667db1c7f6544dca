"""Locate and open datasets: parquet in the Hub's layout. Without torch, so that the page starts fast."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resnet_space.common.background import tell_once
from resnet_space.common.errors import UserError
from resnet_space.data.columns import Columns, columns_of_files
from resnet_space.data.reference import SPLIT_NAMES, SPLITS, DatasetRef
from resnet_space.data.restyled import ORIGINAL, RESTYLED, restyled_folder

BUNDLED = Path(__file__).parent.parent / "datasets"
DATA_FOLDER_VARIABLE = "RESNET_SPACE_DATA"
DATASET_OWNER = "owner"  # a file in the folder of one that a visitor brought


def data_folder() -> Path | None:
    """The folder of imported datasets, if it is set."""
    return Path(os.environ[DATA_FOLDER_VARIABLE]) if os.environ.get(DATA_FOLDER_VARIABLE) else None


def dataset_folders() -> dict[str, Path]:
    """The datasets on this machine: the bundled ones, and those below the folder that `RESNET_SPACE_DATA` names."""
    own = data_folder()
    roots = [BUNDLED] if own is None else [BUNDLED, own]
    found: dict[str, Path] = {}
    for folder in (folder for root in roots if root.is_dir() for folder in sorted(root.iterdir())):
        # An import in progress is hidden.
        if folder.name.startswith(".") or not any(folder.rglob("*.parquet")):
            continue
        if (readable := folder.name.encode("utf-8", "replace").decode()) != folder.name:
            tell_once(f"Skipped: the folder {readable} in {folder.parent} has a name that is not UTF-8: rename it.")
            continue
        found.setdefault(folder.name, folder)
    return found


def dataset_folder(name: str) -> Path:
    """The folder of a dataset on this machine. Raises UserError."""
    found = dataset_folders()
    if name in RESTYLED:
        return restyled_folder(name, found[ORIGINAL], data_folder() or Path.home() / ".cache" / "resnet_space")
    if name not in found:
        raise UserError(f"There is no dataset named {name!r} on this machine: choose another one, or import it again.")
    return found[name]


def split_files(name: str) -> dict[str, list[Path]]:
    """The parquet files of each split ("train", "validation", "test") that a dataset on this machine has.

    Raises:
        UserError: if the dataset does not exist.
    """
    files: dict[str, list[Path]] = {}
    for file in sorted(dataset_folder(name).rglob("*.parquet")):
        split = SPLIT_NAMES.get(file.name.removesuffix(".parquet").split("-")[0])
        if split and file.stat().st_size:
            files.setdefault(split, []).append(file)
    return {split: files[split] for split in SPLITS if split in files}


@dataclass(frozen=True)
class Dataset:
    """The parquet files of each split, and which of their columns classification learns from."""

    files: dict[str, list[Path]]
    columns: Columns


def open_dataset(ref: DatasetRef, classes: Sequence[str] = ()) -> Dataset:
    """Find a dataset's files and columns without reading its images; download a Hub dataset if it is missing.

    Args:
        ref: which dataset.
        classes: of a run trained on it: of several label columns, the one with these classes is used, unless one was
            chosen. So runs keep theirs that were made when another was preferred.

    Raises:
        UserError: for a dataset that is missing, has no training images, or is not for classification.
    """
    if ref.is_on_hub:
        from resnet_space.data import hub  # late: a page without datasets of the Hub does not need its client

        described = hub.known_dataset(ref)
        found = Dataset(hub.fetch_dataset(described), described.columns)
    else:
        files = split_files(ref.name)
        if "train" not in files:
            raise UserError(f"The dataset {ref.name!r} has no training images.")
        found = Dataset(files, columns_of_files(files["train"], label=ref.label, image=ref.image))
    if classes and ref.label is None and found.columns.classes != tuple(classes):
        for label in found.columns.labels:
            with suppress(UserError):
                other = columns_of_files(found.files["train"], label=label, image=found.columns.image)
                if other.classes == tuple(classes):
                    return Dataset(found.files, other)
    return found


def dataset_classes(name: str) -> tuple[str, ...]:
    """The class names of a dataset, without reading its images."""
    return open_dataset(DatasetRef(name)).columns.classes
