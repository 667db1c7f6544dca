"""Decode a dataset's files to training, validation and test images."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import use_any_core
from resnet_space.config import TrainConfig
from resnet_space.data.checks.copies import Thumbnails, first_copies
from resnet_space.data.columns import Columns, columns_of_files, count_rows, image_bytes, labels_of, misfits, readable
from resnet_space.data.held_out import (
    drawn_together,
    stratified_indices,
    subset_indices,
    to_test_on,
    told_of_copies,
    told_of_tests,
)
from resnet_space.data.images import ImageError, open_image, to_model_size
from resnet_space.data.members import SplitMembers
from resnet_space.data.mistakes import MISTAKES
from resnet_space.data.reference import DatasetRef
from resnet_space.data.room import DECODING, room_for
from resnet_space.data.sources import Dataset, dataset_folder, open_dataset
from resnet_space.data.summary import TEST_SHARE
from resnet_space.data.taught import is_taught

MAX_VALIDATION_IMAGES = 5_000  # for a standard error of 0.7 points; He et al. 2015 hold out as many of CIFAR-10

COPIED_BYTES = 1_000_000_000  # of a set; larger sets would be in memory three times while they are divided
MOST_COMPARED = 20_000  # images whose near-duplicates are looked for; of more, those whose files are the same
AT_ONCE = 16  # images that a thread decodes in a row: handing over small ones one by one takes a sixth of the time


class UnlabelledError(UserError):
    """A split has no usable image."""


@dataclass(frozen=True)
class ImageSet:
    """Decoded images of one split: `images` uint8 [N, H, W, 3], `labels` int64 [N] into `classes`.

    Images on disk, of which there are more than memory should hold, and those of more than a gigabyte are never copied
    as a whole: `rows` then says which of `images` belong to this set. `source` has their row numbers in the files they
    came from, where that is known, and `digests` what tells one picture with its class from another: int64 [N], of its
    encoded bytes and the class's name; `contents` are those of the encoded bytes alone. `copies` is a number that a
    picture shares with its near-duplicates, int64 [N], where these were looked for.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    rows: Tensor | None = None
    source: Tensor | None = None
    digests: Tensor | None = None
    contents: Tensor | None = None
    copies: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, indices: Tensor) -> Tensor:
        """The images at positions of this set: uint8 [n, H, W, 3]."""
        return self.images[indices if self.rows is None else self.rows[indices]]

    def subset(self, indices: Tensor) -> "ImageSet":
        known = {name: getattr(self, name) for name in ("source", "digests", "contents", "copies")}
        of_each = {name: values[indices] for name, values in known.items() if values is not None}
        smaller = replace(self, labels=self.labels[indices], **of_each)
        if self.rows is None and self.images.nbytes <= COPIED_BYTES:
            return replace(smaller, images=self.images[indices])
        return replace(smaller, rows=indices if self.rows is None else self.rows[indices])

    def to(self, device: torch.device) -> "ImageSet":
        """On the device, but for images on disk, or more than half of a GPU's free memory: they follow by batches."""
        too_many = device.type == "cuda" and self.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2
        if self.rows is not None or too_many:
            return self
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """The images to train on, to choose the best epoch by (`validation`), and to test on once (`test`).

    `validation_name` and `test_name` say which split of the dataset that is: "train", "validation" or "test".
    `warnings` has one sentence for each problem in how the splits were formed, and `notes` what there is to know about
    their near-duplicates.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    test_name: str
    validation_name: str = "train"
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_split(
    files: Sequence[Path],
    size: int,
    columns: Columns | None = None,
    *,
    split: str = "train",
    warnings: list[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
    wanted: NDArray[np.bool_] | None = None,
    labelled: bool = True,
    look: Callable[[int, Image.Image], None] | None = None,
) -> ImageSet:
    """Decode the images of parquet files to squares of `size` pixels, once and for all.

    Where they would take more than a quarter of the memory, or than `RESNET_SPACE_IMAGE_MEMORY_MB`, they go to a file
    that ends with them, or with the process. Images that cannot be decoded, and those without a label, are left out;
    unless it is to be `labelled`, all that can be decoded are taken, and their labels are -1.

    Args:
        files: of one split, at least one.
        size: height and width in pixels: of the model's image before its centre crop.
        columns: of the training split, whose classes these are too, matched by name; by default those of the files.
        split: which one it is, for the warnings.
        warnings: receives one sentence per kind of mismatched class.
        progress: called with (decoded, total) from time to time.
        folder: for the file; by default the system's temporary folder.
        wanted: bool [rows of all files]; by default all.
        labelled: whether labels are read.
        look: called with (row, image) for each image that is used, in its own size, by several threads.

    Raises:
        UserError: for a dataset that is not for image classification, or has no image that can be decoded, or where the
            disk has no room for them.
    """
    columns = columns or columns_of_files(files)
    with readable(f"The {split} split"):
        schema = pq.read_schema(files[0])
        needed = (columns.label, columns.image) if labelled else (columns.image,)
        if any(name not in schema.names for name in needed):
            raise UnlabelledError(f"The {split} split lacks the column {columns.label!r} or {columns.image!r}.")
        wanted = np.ones(count_rows(files), dtype=np.bool_) if wanted is None else wanted
        count = int(wanted.sum())
        rows_of = np.flatnonzero(wanted)
        images = room_for((count, size, size, 3), folder)
        labels = np.full(count, -1, dtype=np.int64)
        usable = np.zeros(count, dtype=np.bool_)
        digests, contents = np.zeros((2, count), dtype=np.int64)
        unknown: Counter[str] = Counter()
        names = [name.encode() for name in columns.classes]

        def decode(i: int, value: object, label: int) -> None:
            encoded = image_bytes(value)
            if encoded is None or (labelled and label < 0):  # kept outside the file, or without a class
                return
            try:
                image = open_image(io.BytesIO(encoded))
                images[i] = np.asarray(to_model_size(image, size))
            except ImageError:
                return
            if look is not None:
                look(int(rows_of[i]), image)
            labels[i], usable[i] = label, True
            digest = hashlib.blake2b(encoded, digest_size=8)
            contents[i] = int.from_bytes(digest.digest(), "little", signed=True)
            digest.update(names[label] if labelled else b"")
            digests[i] = int.from_bytes(digest.digest(), "little", signed=True)

        def decode_some(first: int, values: list[object], labels: list[int]) -> None:
            for i, (value, label) in enumerate(zip(values, labels, strict=True), first):
                decode(i, value, label)

        done = 0
        # Pillow releases the interpreter's lock while it decodes.
        with ThreadPoolExecutor(os.cpu_count(), initializer=use_any_core) as pool:
            for rows, own in _wanted_rows(files, needed, wanted):
                numbers = np.full(len(rows), -1, dtype=np.int64)
                if labelled:
                    numbers, strange = columns.match(rows[columns.label], own)
                    unknown += strange
                values = rows[columns.image].to_pylist()
                parts = [slice(i, i + AT_ONCE) for i in range(0, len(values), AT_ONCE)]
                some, their = ([each[part] for part in parts] for each in (values, numbers.tolist()))
                list(pool.map(decode_some, [done + part.start for part in parts], some, their))
                done += len(values)
                if progress:
                    progress(done, count)
        if labelled and warnings is not None:
            warnings += misfits(split, columns, schema, unknown)
        found = torch.from_numpy(np.flatnonzero(usable))
        if not len(found):
            raise UnlabelledError("No image in the dataset can be decoded, or none has a label.")
        on_disk = isinstance(images, np.memmap)
        data = ImageSet(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            columns.classes,
            torch.arange(count) if on_disk else None,
            source=torch.from_numpy(rows_of),
            digests=torch.from_numpy(digests),
            contents=torch.from_numpy(contents),
        )
        return data if len(found) == count else data.subset(found)


def _wanted_rows(
    files: Sequence[Path], columns: Iterable[str], wanted: NDArray[np.bool_]
) -> Iterator[tuple[pa.RecordBatch, pa.Schema]]:
    """Those of all files that are wanted, up to 1,000 at a time, and the file's schema."""
    read = 0
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(1_000, columns=list(dict.fromkeys(columns))):
                yield batch.filter(pa.array(wanted[read : read + len(batch)])), parquet.schema_arrow
                read += len(batch)


def load_splits(
    training: TrainConfig,
    size: int,
    *,
    classes: Sequence[str] = (),
    members: SplitMembers | None = None,
    progress: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
) -> Splits:
    """The splits of the configured dataset, decoded to `size` pixels.

    Validation images are drawn from the training images (stratified, seeded) unless the dataset has validation and test
    images of its own. Where it has no test images, its validation images take their part, as in Tiny-ImageNet, whose
    test labels are secret; where it has neither, a fifth of the training images. With `grouped_split`, near-duplicates
    are held out together, and which images are tested on follows from their content, whatever the seed; see `held_out`.

    Where memory has no room for them they go to files in `folder`, which nobody else uses, and where a process that
    was killed may have left its own.

    Args:
        training: names the dataset.
        size: height and width in pixels.
        classes: of the run, see `open_dataset`.
        members: the pictures of a resumed training: its sets stay as they were, and new pictures are not used.
        progress: called with (decoded, total) for each split.
        folder: for the files; by default the system's temporary folder.

    Raises:
        UserError: if the dataset cannot be read, has too few images, or lacks one of the members, or the disk has no
            room for them.
    """
    for left in folder.glob(f"{DECODING}*") if folder is not None else ():
        left.unlink(missing_ok=True)
    dataset = open_dataset(DatasetRef.of(training), classes)
    files, warnings = dataset.files, list[str]()
    columns = dataset.columns
    if members is not None and set(classes) <= set(columns.classes):
        columns = columns.only(classes)  # a class that was added since is not learned
    sets: dict[str, ImageSet] = {}
    seen = Thumbnails(MOST_COMPARED if members is None and training.grouped_split else 0)
    for split, paths in files.items():
        try:
            sets[split] = load_split(
                paths,
                size,
                columns,
                split=split,
                warnings=warnings,
                progress=progress,
                folder=folder,
                look=seen.of(split, count_rows(paths)),
            )
        except UnlabelledError:  # as the tests of competitions are
            if split == "train":
                raise
    if members is not None:
        (train, validation, test), told = members.positions_in(sets, training.dataset)
        divided = Splits(
            sets["train"].subset(train),
            sets[members.validation_name].subset(validation),
            sets[members.test_name].subset(test),
            members.test_name,
            members.validation_name,
            told,
            members.notes,
        )
    else:
        sets = _with_copies(sets, seen) if training.grouped_split else sets
        divided = _divided(sets, training, grows=training.grouped_split and _grows(training.dataset))
    return replace(divided, warnings=(*divided.warnings, *warnings))


def load_learnable(
    ref: DatasetRef,
    size: int,
    most: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
) -> ImageSet:
    """The images that a training may learn from, without those that it is tested on, near-duplicates numbered.

    Of more than `most` images, each class gives its share, drawn by `seed`; the others are not decoded where the
    dataset has a split of its own to test on. Arguments and errors are those of `load_splits`.
    """
    dataset = open_dataset(ref)
    files, columns = dataset.files, dataset.columns
    with readable(f"The dataset {ref.name!r}"):
        others = [labels_of(files[split], columns) for split in ("test", "validation") if split in files]
        tested = any((found >= 0).any() for found in others)
        labels = labels_of(files["train"], columns)
    usable = np.flatnonzero(labels >= 0)
    wanted = None
    if tested and len(usable) > most:
        chosen, _ = stratified_indices(torch.from_numpy(labels[usable]), most, seed)
        wanted = np.zeros(len(labels), dtype=np.bool_)
        wanted[usable[chosen.numpy()]] = True
    data = _train_with_copies(dataset, size, wanted, progress=progress, folder=folder)
    if not tested:
        data, _ = _without_test(data, grows=_grows(ref.name))
    if len(data) > most:
        data = data.subset(stratified_indices(data.labels, most, seed)[0])
    return data


def divide_unlabelled(ref: DatasetRef, size: int, folder: Path | None = None) -> tuple[ImageSet, ImageSet]:
    """(the images to learn from, those to test on) of a dataset that has none to test on, as `load_splits` with
    `grouped_split` would hold them out if they were of one class. All labels are -1.

    Arguments and errors are those of `load_splits`.
    """
    data = _train_with_copies(open_dataset(ref), size, folder=folder, labelled=False)
    return _without_test(data, grows=_grows(ref.name))


def _grows(dataset: str) -> bool:
    """Whether it is one to which pictures are added one by one, at the end."""
    return "/" not in dataset and (dataset.startswith(MISTAKES) or is_taught(dataset_folder(dataset)))


def _train_with_copies(
    dataset: Dataset, size: int, wanted: NDArray[np.bool_] | None = None, **options: Any
) -> ImageSet:
    """The images of the training split by `load_split`, near-duplicates numbered."""
    files, seen = dataset.files["train"], Thumbnails(MOST_COMPARED)
    rows = count_rows(files)
    look = seen.of("train", rows if wanted is None else int(wanted.sum()), rows=rows)
    data = load_split(files, size, dataset.columns, wanted=wanted, look=look, **options)
    return _with_copies({"train": data}, seen)["train"]


def _with_copies(sets: Mapping[str, ImageSet], seen: Thumbnails) -> dict[str, ImageSet]:
    """The sets with `copies`, which are shared between them: files that are the same, and pictures that look it."""
    of_each = [data.contents for data in sets.values()]
    contents = torch.cat([known for known in of_each if known is not None])
    _, group = contents.unique(return_inverse=True)
    rows = torch.arange(len(contents))
    same = torch.full_like(rows, len(rows)).scatter_reduce(0, group, rows, "amin")[group]
    near, first = rows.clone(), 0
    at, pictures = list[Tensor](), list[Tensor]()
    for split, data in sets.items():
        if split in seen.found and data.source is not None:
            at.append(rows[first : first + len(data)])
            pictures.append(torch.from_numpy(seen.found[split])[data.source])
        first += len(data)
    if at:
        own = torch.cat(at)
        near[own] = own[first_copies(torch.cat(pictures))]
    copies = torch.minimum(same, near)
    for row in (copies < rows).nonzero().flatten().tolist():
        copies[row] = copies[copies[row]]
    parts = copies.split([len(data) for data in sets.values()])
    return {split: replace(data, copies=own) for (split, data), own in zip(sets.items(), parts, strict=True)}


def _without_test(train: ImageSet, *, grows: bool) -> tuple[ImageSet, ImageSet]:
    """(the rest, the images to test on) of a dataset that has none to test on."""
    assert train.contents is not None
    assert train.copies is not None
    tests = torch.from_numpy(to_test_on(train.contents, train.labels, train.copies, TEST_SHARE, grows=grows))
    return train.subset((~tests).nonzero().flatten()), train.subset(tests.nonzero().flatten())


def _divided(sets: Mapping[str, ImageSet], training: TrainConfig, *, grows: bool) -> Splits:
    train = sets["train"]
    notes = list[str]()
    test_name = next((split for split in ("test", "validation") if split in sets), "train")
    own_validation = test_name == "test" and "validation" in sets
    if train.copies is not None and not own_validation:
        notes += told_of_copies(len(train) - len(train.copies.unique()))
    if test_name != "train":
        test = sets[test_name]
        if train.copies is not None and test.copies is not None:
            notes += told_of_tests(int(torch.isin(test.copies, train.copies).sum()), len(test))
    elif training.grouped_split:
        train, test = _without_test(train, grows=grows)
    else:
        held_out, rest = stratified_indices(train.labels, max(round(len(train) * TEST_SHARE), 1), training.seed + 1)
        train, test = train.subset(rest), train.subset(held_out)
    if training.images_per_class:
        train = train.subset(subset_indices(train.labels, training.images_per_class, training.subset_seed))
    if own_validation:
        validation = sets["validation"]
    elif len(train):
        count = max(min(round(len(train) * training.validation_fraction), MAX_VALIDATION_IMAGES), 1)
        if train.copies is None:
            held_out, rest = stratified_indices(train.labels, count, training.seed)
        else:
            held_out, rest = drawn_together(train.labels, train.copies, count, training.seed)
        train, validation = train.subset(rest), train.subset(held_out)
    if not len(train) or not len(test):
        different = "different " if training.grouped_split else ""
        raise UserError(f"The dataset {training.dataset!r} has too few {different}images for training and testing.")
    # pyrefly: ignore[unbound-name]  # without training images it has ended above
    return Splits(train, validation, test, test_name, "validation" if own_validation else "train", notes=tuple(notes))
