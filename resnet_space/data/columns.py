"""Find the image and label columns of a table, and interpret their values. Without torch, to start fast."""

import errno
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from resnet_space.common.errors import UserError
from resnet_space.data.words import left_out, named, natural_order

IMAGE_NAMES = ("image", "img", "images", "picture", "photo")  # preferred in this order, in any case
LABEL_NAMES = ("label", "labels", "class", "target")
MAX_CLASSES = 1_000  # of labels without names; more are numbers or texts of another kind
MAX_NAME = 200  # characters of a class

Features = Mapping[str, Mapping[str, Any]]  # by column: its type as the `datasets` library writes it
ReadColumn = Callable[[str], "pa.ChunkedArray"]


@contextmanager
def readable(what: str) -> Generator[None]:
    """Turn any exception from reading a damaged parquet file into a UserError; `what` begins the sentence."""
    try:
        yield
    except UserError:
        raise
    # The last four: raised by pyarrow for inconsistent files.
    except (pa.ArrowException, OSError, MemoryError, ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{what} cannot be read: {reason[:300]}.") from None


@dataclass(frozen=True)
class Columns:
    """The columns of a table used for classification.

    Attributes:
        image: the column of the images.
        label: the column of the labels.
        classes: their names.
        values: the value of each class in the label column; None if it contains class numbers (ClassLabel).
        images: all columns of images.
        labels: all columns whose values could be the classes.
    """

    image: str
    label: str
    classes: tuple[str, ...]
    values: tuple[str | int, ...] | None = None
    images: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def only(self, classes: Sequence[str]) -> "Columns":
        """A copy with only some of the classes, in this order."""
        of = dict(zip(self.classes, self.values, strict=True)) if self.values is not None else None
        return replace(self, classes=tuple(classes), values=None if of is None else tuple(of[name] for name in classes))

    def match(self, column: "pa.ChunkedArray | pa.Array", schema: pa.Schema) -> tuple[NDArray[np.int64], Counter[str]]:
        """The labels of a file's rows as indices of these classes, matched by name.

        Args:
            column: the file's label column.
            schema: the file's; its own class names may be others, or stand in another order.

        Returns:
            int64 [N], -1 for a row without a label or with one that is none of the classes; and of the latter, how many
            rows each name has.
        """
        raw = column.to_pylist()
        names: Mapping[Any, str]
        position: Mapping[Any, int]
        if self.values is None:
            names = dict(enumerate(class_names(features_of(schema).get(self.label, {})) or self.classes))
            position = matched(names, self.classes)
        else:
            names = {value: str(value) for value in set(filter(_is_value, raw))}
            position = {value: i for i, value in enumerate(self.values)}
        plain = [value if _is_value(value) else None for value in raw]
        unknown = Counter(names[value] for value in plain if value in names and value not in position)
        return np.array([position.get(value, -1) for value in plain], dtype=np.int64), unknown


def _is_value(value: object) -> bool:
    return isinstance(value, str | int | float) and value == value  # not NaN


def matched(names: Mapping[Any, str], classes: Sequence[str]) -> dict[Any, int]:
    """Map names to classes: the one with the same spelling, or the only one that differs just in case."""
    exact = {name: i for i, name in enumerate(classes)}
    folded = Counter(name.casefold() for name in classes)
    alike = {name.casefold(): i for i, name in enumerate(classes) if folded[name.casefold()] == 1}
    twice = Counter(name.casefold() for name in names.values())
    found = {
        key: exact[name] if name in exact else alike.get(name.casefold(), -1) if twice[name.casefold()] == 1 else -1
        for key, name in names.items()
    }
    return {key: i for key, i in found.items() if i >= 0}


def features_of(schema: pa.Schema) -> Features:
    """The column types from the Hub's metadata; empty without metadata."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in found.items() if isinstance(value, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # none, or not the Hub's
        return {}


def class_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a ClassLabel; empty for any other type."""
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    # Nothing nested from a README's YAML: its text could be endless.
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        return ()
    return tuple(map(str, names))


def image_columns(schema: pa.Schema, features: Features | None = None) -> list[str]:
    """The columns of images, the one to take first; without the Hub's metadata by the form that it gives images."""
    own = features_of(schema)
    features = own or features or {}
    found = [name for name, feature in features.items() if feature.get("_type") == "Image" and name in schema.names]
    if not found and not own:
        found = [field.name for field in schema if _holds_images(field.type)]
    return sorted(found, key=lambda name: _preference(name, IMAGE_NAMES))


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _preference(name: str, preferred: Sequence[str]) -> int:
    return preferred.index(name.lower()) if name.lower() in preferred else len(preferred)


def classification_columns(
    schema: pa.Schema,
    what: str = "The dataset",
    *,
    label: str | None = None,
    image: str | None = None,
    features: Features | None = None,
    read: ReadColumn | None = None,
) -> Columns:
    """Find the image and the label column by the types in the Hub's metadata.

    Of several image columns it is that named "image" or the like, or else the first. Of several columns of class labels
    it is that named "label", "labels", "class" or "target", or else the one with the most classes: CIFAR-100's fine
    labels, not its coarse. Where there are none of class labels, the values of a column of text or whole numbers are
    the classes, sorted, if there are two to 1,000 of them with two rows each on average.

    Args:
        schema: of the file.
        what: names the dataset in a message.
        label: the label column to use.
        image: the image column to use.
        features: the column types from the README, if the file has none.
        read: reads the values of a column, for labels without names; without it, such labels are not considered.

    Raises:
        UserError: if a column is missing or is not the requested one.
    """
    images = image_columns(schema, features)
    features = features_of(schema) or features or {}
    if not images:
        raise UserError(
            f"{what} is not an image classification dataset because it has no image column: choose another one."
        )
    named = {name: class_names(feature) for name, feature in features.items() if name in schema.names}
    named = {name: classes for name, classes in named.items() if classes}
    labels = sorted(named, key=lambda name: (_preference(name, LABEL_NAMES), -len(named[name])))
    others = [field.name for field in schema if field.name not in named and _may_be_labels(field.type)]
    others = sorted(
        (name for name in others if name not in images),
        key=lambda name: (_preference(name, LABEL_NAMES), not _is_text(schema.field(name).type)),
    )
    if image is not None and image not in images:
        raise UserError(f"{what} has no image column {image!r}: choose one of {', '.join(images)}.")
    if label is not None and label not in (*labels, *others):
        there = ", ".join((*labels, *others)) or "none, because it has no label column"
        raise UserError(f"{what} has no label column {label!r}: choose one of {there}.")
    image = image or images[0]
    if label in labels or (label is None and labels):
        label = label or labels[0]
        return Columns(image, label, named[label], None, tuple(images), (*labels, *others))
    reasons = []
    for name in [label] if label is not None else others:
        if read is None:
            break
        try:
            values = _values(read(name))
        except UserError as error:
            reasons.append(f"the column {name!r} {error}")
            continue
        return Columns(image, name, tuple(map(str, values)), values, tuple(images), tuple(others))
    why = f" ({'; '.join(reasons)[:600]})" if reasons else ""
    raise UserError(
        f"{what} is not an image classification dataset because it has no column of class labels{why}: choose "
        "another one."
    )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _may_be_labels(kind: pa.DataType) -> bool:
    number = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)
    return bool(number or _is_text(kind))


def _values(column: "pa.ChunkedArray") -> tuple[str | int, ...]:
    """The distinct values of a label column, sorted. Raises UserError (the end of a sentence) if they are no labels."""
    found = [value for value in column.unique().to_pylist() if _is_value(value)]
    rows = len(column) - column.null_count
    if any(isinstance(value, float) and not value.is_integer() for value in found):
        raise UserError("contains fractional numbers")
    if len(found) < 2:
        raise UserError(f"has {'only one value' if found else 'no values'}")
    if len(found) > MAX_CLASSES or 2 * len(found) > rows:
        raise UserError(f"has {len(found):,} different values in {rows:,} rows")
    if any(isinstance(value, str) and len(value) > MAX_NAME for value in found):
        raise UserError("contains long texts")
    if isinstance(found[0], str):
        return tuple(sorted(found, key=natural_order))
    if isinstance(found[0], bool):
        return tuple(sorted(found))
    return tuple(sorted(int(value) for value in found))


def columns_of_files(files: Sequence[Path], *, label: str | None = None, image: str | None = None) -> Columns:
    """The columns of the parquet files of the training split (at least one file). Raises UserError."""
    with readable("The dataset"):
        schema = pq.read_schema(files[0])
        return classification_columns(schema, label=label, image=image, read=lambda name: read_column(files, name))


def labels_of(files: Sequence[Path], columns: Columns) -> NDArray[np.int64]:
    """The class of every row of a split, -1 for those without one."""
    found = []
    for file in files:
        schema = pq.read_schema(file)
        if columns.label in schema.names:
            found.append(columns.match(read_column([file], columns.label), schema)[0])
        else:  # a test of a competition
            found.append(np.full(count_rows([file]), -1, dtype=np.int64))
    return np.concatenate(found)


def count_rows(files: Iterable[Path]) -> int:
    """Of all files. Raises pyarrow's exceptions."""
    return sum(pq.read_metadata(file).num_rows for file in files)


def read_column(files: Sequence[Path], name: str) -> "pa.ChunkedArray":
    """One column of all rows. Raises pyarrow's exceptions."""
    return pa.chunked_array([chunk for file in files for chunk in pq.read_table(file, columns=[name])[name].chunks])


def image_bytes(value: object) -> bytes | None:
    """An image as its column has it: a struct with its bytes, or they themselves; None where it has none."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


def misfits(split: str, columns: Columns, schema: pa.Schema, unknown: Mapping[str, int]) -> list[str]:
    """One sentence for each mismatch between the class names of a split and those of the training images."""
    told = []
    if unknown:
        reason = f"because there are no training images of {named(unknown)}"
        if split == "train":  # the dataset has gained classes since
            reason = f"because the run has no class {named(unknown)}"
        told.append(f"{left_out(sum(unknown.values()), split)} {reason}.")
    own = class_names(features_of(schema).get(columns.label, {})) if columns.values is None else ()
    there = matched(dict(enumerate(own)), columns.classes)
    alike = {own[i]: columns.classes[j] for i, j in there.items() if own[i] != columns.classes[j]}
    if alike:
        one = len(alike) == 1
        said = f"The {'class' if one else 'classes'} {named(alike)} of the {split} split"
        told.append(f"{said} {'was' if one else 'were'} matched to {named(alike.values())}.")
    lacking = [name for i, name in enumerate(columns.classes) if own and i not in there.values()]
    if lacking:
        told.append(f"The {split} split has no class {named(lacking)}.")
    return told
