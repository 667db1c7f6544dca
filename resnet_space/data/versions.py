"""A new version of a dataset, by decisions about its pictures, beside a manifest of what was changed.

The old dataset stays as it is. The new one has the layout of every imported dataset; its pictures are those of the old
one, byte for byte and in their order, each in the split that it was in. Test pictures stay as they are, unless that is
asked for. Memory holds a few pictures at a time.
"""

import hashlib
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence
from resnet_space.common.records import write_record
from resnet_space.data.archives.writing import image_schema
from resnet_space.data.columns import image_bytes, labels_of, readable
from resnet_space.data.decisions import MANIFEST, WEIGHT, Manifest, PictureDecision, Reviewed, Row
from resnet_space.data.reference import SPLITS, DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, Dataset, data_folder, open_dataset

TEMPORARY = ".import-"  # tidied away with what a killed import has left
BATCH = 256  # pictures in memory
MOST_DECISIONS = 20_000


def apply_decisions(
    dataset: str,
    decisions: Sequence[PictureDecision | Mapping[str, Any]],
    name: str,
    *,
    clean_test: bool = False,
    by: str = "",
    folder: Path | None = None,
) -> Manifest:
    """Make a new version of a dataset, from decisions about its pictures; the old one stays.

    Args:
        dataset: as `TrainConfig.dataset`, or of the Hub: "owner/name[@revision][#config]".
        decisions: the last one about a picture counts, but what is dropped stays so.
        name: of the new dataset, not taken yet.
        clean_test: whether decisions about test pictures are carried out. Results on changed test pictures cannot be
            compared with those on the old ones.
        by: who decided, an account on the Hub.
        folder: of the new dataset; by default `name` in the folder that `RESNET_SPACE_DATA` names.

    Returns:
        The manifest, which is also in the new dataset's folder.

    Raises:
        UserError: with one sentence, for a decision about a picture or a class that there is not, or where a split
            would be empty; then nothing was written.
    """
    root = data_folder()
    if folder is None:
        if root is None:
            raise UserError(f"Set {DATA_FOLDER_VARIABLE} to the folder that the new dataset is to be in.")
        folder = root / name
    if folder.exists() or Path(name).name != name or name.startswith("."):
        raise UserError(f"A dataset cannot be named {name!r}, or there is one already: choose another name.")
    source = open_dataset(DatasetRef.parse(dataset))
    labels, judged = _labels(source, dataset)
    changes = _settled(decisions, labels, source.columns.classes, "" if clean_test else judged)
    _refuse_empty(labels, changes)
    temporary = folder.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with in_a_sentence("The new version cannot be written"), readable(f"The dataset {dataset!r}"):
            temporary.mkdir(parents=True)
            written = _write(source, labels, changes, temporary)
            manifest = Manifest(
                name=folder.name,
                source=dataset,
                files=file_digests(source),
                created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                by=by or "a visitor",
                judged=judged,
                test_cleaned=clean_test and any(one.changed and one.split == judged for one in written),
                changes=tuple(written),
            )
            write_record(manifest, temporary / MANIFEST)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def outcome(
    dataset: str, decisions: Sequence[PictureDecision | Mapping[str, Any]], *, clean_test: bool = False
) -> tuple[list[Reviewed], str]:
    """What `apply_decisions` would do with the pictures, without doing it, and the split that a training is tested on.

    Raises UserError as it does.
    """
    source = open_dataset(DatasetRef.parse(dataset))
    labels, judged = _labels(source, dataset)
    settled = _settled(decisions, labels, source.columns.classes, "" if clean_test else judged)
    return list(settled.values()), judged


def _labels(source: Dataset, name: str) -> tuple[dict[str, NDArray[np.int64]], str]:
    """Those of each split, and the split that a training is tested on."""
    with readable(f"The dataset {name!r}"):
        labels = {split: labels_of(files, source.columns) for split, files in source.files.items()}
    return labels, judged_split(labels)


def judged_split(labels: Mapping[str, NDArray[np.int64]]) -> str:
    """The split whose pictures a training is tested on; "" where it draws them from the training pictures."""
    return next((split for split in ("test", "validation") if (labels.get(split, np.array([-1])) >= 0).any()), "")


def _settled(
    decisions: Sequence[PictureDecision | Mapping[str, Any]],
    labels: Mapping[str, NDArray[np.int64]],
    classes: Sequence[str],
    untouched: str,
) -> dict[Row, Reviewed]:
    """One decision about each picture; those about the split `untouched` change nothing."""
    if len(decisions) > MOST_DECISIONS:
        raise UserError(
            f"There are {len(decisions):,} decisions: at most {MOST_DECISIONS:,} can be carried out at once."
        )
    settled: dict[Row, Reviewed] = {}
    for one in decisions:
        decision = one if isinstance(one, PictureDecision) else PictureDecision.of(one)
        for split, row in (decision.picture, *([(decision.of_split, decision.of_index)] * (decision.action == "same"))):
            if not 0 <= row < len(labels.get(split, ())):
                raise UserError(f"There is no picture {row} in the split {split!r}.")
        gone = decision.about_the_one_to_go()
        label = int(labels[gone.split][gone.index])
        old = classes[label] if label >= 0 else ""
        if gone.action == "relabel" and gone.label not in classes:
            raise UserError(f"{gone.label!r} is not one of the {len(classes)} classes: choose one of them.")
        if gone.action == "relabel" and gone.label == old:
            gone = replace(gone, action="keep")
        before = settled.get(gone.picture)
        if before is None or WEIGHT[gone.action] >= WEIGHT[before.action]:
            settled[gone.picture] = Reviewed(
                **vars(gone), old_label=old, changed=gone.action != "keep" and gone.split != untouched
            )
    return settled


def _refuse_empty(labels: Mapping[str, NDArray[np.int64]], changes: Mapping[Row, Reviewed]) -> None:
    gone = Counter(split for (split, _), one in changes.items() if one.changed and one.action != "relabel")
    for split, found in labels.items():
        if gone[split] and gone[split] == len(found):
            raise UserError(f"All pictures of the {split} split would be dropped: keep some.")


def _write(
    source: Dataset, labels: Mapping[str, NDArray[np.int64]], changes: Mapping[Row, Reviewed], folder: Path
) -> list[Reviewed]:
    """Write the parquet files. Returns the decisions, each with the name and the hash of its picture."""
    columns, written = source.columns, dict(changes)
    schema = image_schema(columns.classes)
    position = {name: i for i, name in enumerate(columns.classes)}
    for split, files in source.files.items():
        row = 0
        for i, file in enumerate(files):
            target = folder / f"{split}-{i:05d}-of-{len(files):05d}.parquet"
            with pq.ParquetFile(file) as parquet, pq.ParquetWriter(target, schema, compression="zstd") as writer:
                for batch in parquet.iter_batches(BATCH, columns=[columns.image]):
                    kept = []
                    for value in batch[columns.image].to_pylist():
                        label = int(labels[split][row])
                        path = value.get("path") if isinstance(value, dict) else None
                        encoded = image_bytes(value)
                        one = changes.get((split, row))
                        if one is not None:
                            written[split, row] = _seen(one, encoded, path)
                            label = position[one.label] if one.changed and one.action == "relabel" else label
                        if one is None or not one.changed or one.action == "relabel":
                            image = {"bytes": encoded, "path": path}
                            kept.append({"image": image, "label": label if label >= 0 else None})
                        row += 1
                    if kept:
                        writer.write_table(pa.Table.from_pylist(kept, schema))
    order = {split: i for i, split in enumerate(SPLITS)}
    return sorted(written.values(), key=lambda one: (order[one.split], one.index))


def _seen(one: Reviewed, encoded: bytes | None, path: str | None) -> Reviewed:
    name = path or ""
    if one.file and name and one.file != name:
        raise UserError(
            f"Row {one.index} of {one.split} is {name!r}, not {one.file!r}: the dataset has changed, so check it again."
        )
    return replace(one, file=name, sha256=hashlib.sha256(encoded or b"").hexdigest())


def file_digests(source: Dataset) -> dict[str, str]:
    """The SHA-256 of every file, by its split and name."""
    digests = {}
    for split, files in source.files.items():
        for file in files:
            with file.open("rb") as opened:
                digests[f"{split}/{file.name}"] = hashlib.file_digest(opened, "sha256").hexdigest()
    return digests
