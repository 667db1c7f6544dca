"""Where a data set's files are, and what is in them: parquet in the Hub's layout. Without torch, for a quick page."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from resnet_space.background import tell_once

BUNDLED = Path(__file__).parent.parent / "datasets"
DATA_FOLDER_VARIABLE = "RESNET_SPACE_DATA"
DATASET_OWNER = "owner"  # a file in the folder of one that a visitor brought
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {  # what people call them, as the `datasets` library reads it
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


class DataError(ValueError):
    """A data set that cannot be read; the message says which and why, in one sentence."""


@dataclass(frozen=True)
class DatasetRef:
    """Which data set: one on this machine by its name, or one of the Hub: "owner/name@revision#config"."""

    name: str
    config: str | None = None
    revision: str | None = None

    @property
    def is_on_hub(self) -> bool:
        return "/" in self.name

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`; revision and configuration may be missing."""
        if "/" not in text:  # a folder's name may have anything in it
            return cls(text)
        rest, _, config = text.partition("#")
        name, _, revision = rest.partition("@")
        return cls(name, config or None, revision or None)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.name}{revision}{f'#{self.config}' if self.config else ''}"


def data_folder() -> Path | None:
    """Where the data sets are that were brought to this machine, if that was said."""
    return Path(os.environ[DATA_FOLDER_VARIABLE]) if os.environ.get(DATA_FOLDER_VARIABLE) else None


def dataset_folders() -> dict[str, Path]:
    """The data sets on this machine: the bundled ones, and those below the folder that `RESNET_SPACE_DATA` names."""
    own = data_folder()
    roots = [BUNDLED] if own is None else [BUNDLED, own]
    found: dict[str, Path] = {}
    for folder in (folder for root in roots if root.is_dir() for folder in sorted(root.iterdir())):
        # An import in progress is hidden.
        if folder.name.startswith(".") or not any(folder.rglob("*.parquet")):
            continue
        if (readable := folder.name.encode("utf-8", "replace").decode()) != folder.name:
            tell_once(f"Left out: the folder {readable} in {folder.parent} has a name that is not UTF-8: rename it.")
            continue
        found.setdefault(folder.name, folder)
    return found


def dataset_folder(name: str) -> Path:
    """The folder of a data set on this machine. Raises DataError."""
    found = dataset_folders()
    if name not in found:
        raise DataError(f"There is no data set named {name!r} on this machine: choose another, or bring it again.")
    return found[name]


def split_files(name: str, config: str | None = None, revision: str | None = None) -> dict[str, list[Path]]:
    """The parquet files of each split ("train", "validation", "test") that a data set has.

    Those of the Hub ("owner/name") are downloaded where they are not in its cache.

    Raises:
        DataError: for a data set that is not there, or cannot be had.
    """
    if "/" in name:
        from resnet_space.data.hub import dataset_files

        return dataset_files(name, config, revision)
    files: dict[str, list[Path]] = {}
    for file in sorted(dataset_folder(name).rglob("*.parquet")):
        split = SPLIT_NAMES.get(file.name.split("-")[0])
        if split:
            files.setdefault(split, []).append(file)
    return {split: files[split] for split in SPLITS if split in files}


@dataclass(frozen=True)
class Columns:
    """The columns of a table that classification learns from."""

    image: str
    label: str
    classes: tuple[str, ...]


def classification_columns(schema: pa.Schema, what: str = "The data set") -> Columns:
    """The image and the label column, found by the types in the Hub's metadata, never by name.

    Of several image columns it is the first; of several of class labels the one with the most classes: CIFAR-100's fine
    labels, not its coarse.

    Raises:
        DataError: where either is missing; `what` names the data set.
    """
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        features = {name: value for name, value in found.items() if isinstance(value, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):  # none, or not the Hub's
        features = {}
    images = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    classes = {
        name: tuple(feature["names"])
        for name, feature in features.items()
        if feature.get("_type") == "ClassLabel" and feature.get("names")
    }
    if not images:
        raise DataError(f"{what} is not one for image classification, as it has no image column: choose another.")
    if not classes:
        raise DataError(
            f"{what} is not one for image classification, as it has no column of class labels "
            "(ClassLabel; text and plain numbers do not count): choose another."
        )
    label = max(classes, key=lambda name: len(classes[name]))
    return Columns(images[0], label, classes[label])


def dataset_classes(name: str, config: str | None = None, revision: str | None = None) -> tuple[str, ...]:
    """The class names of a data set, without reading its images."""
    files = split_files(name, config, revision).get("train")
    if not files:
        raise DataError(f"The data set {name!r} has no training images.")
    return classification_columns(pq.read_schema(files[0])).classes
