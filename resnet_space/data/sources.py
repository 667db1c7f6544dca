"""Where a data set's files are, and what is in them: parquet in the Hub's layout. Without torch, for a quick page."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BUNDLED = Path(__file__).parent.parent / "datasets"
DATA_FOLDER_VARIABLE = "RESNET_SPACE_DATA"


class DataError(ValueError):
    """A data set that cannot be read; the message says which and why, in one sentence."""


def dataset_folder(name: str) -> Path:
    """The folder of a data set: a bundled one, or one below the folder that `RESNET_SPACE_DATA` names."""
    roots = [BUNDLED]
    if os.environ.get(DATA_FOLDER_VARIABLE):
        roots.append(Path(os.environ[DATA_FOLDER_VARIABLE]))
    found: dict[str, Path] = {}
    for folder in (folder for root in roots if root.is_dir() for folder in root.iterdir()):
        if any(folder.rglob("*.parquet")):
            found.setdefault(folder.name, folder)
    if name not in found:
        raise DataError(f"There is no data set named {name!r}: choose one of {', '.join(sorted(found))}.")
    return found[name]


def read_table(name: str, split: str) -> pa.Table | None:
    files = sorted(dataset_folder(name).rglob(f"{split}-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]) if files else None


def image_features(table: pa.Table) -> tuple[str, str, tuple[str, ...]]:
    """(image column, label column, class names), found by the types in the Hub's metadata."""
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    kinds = {column: feature.get("_type") for column, feature in features.items() if isinstance(feature, dict)}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    if not images or not labels:
        raise DataError("The data set is not one for image classification: it needs an image and a class label column.")
    return images[0], labels[0], tuple(features[labels[0]]["names"])


def dataset_classes(name: str) -> tuple[str, ...]:
    """The class names of a data set, without reading its images."""
    files = sorted(dataset_folder(name).rglob("train-*.parquet"))
    if not files:
        raise DataError(f"The data set {name!r} has no training images.")
    return image_features(pq.read_schema(files[0]).empty_table())[2]
