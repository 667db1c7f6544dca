"""Decoded splits in a folder, for other processes to read without decoding them again."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence
from resnet_space.data.splits import ImageSet, Splits

INDEX = "splits.json"
SETS = ("train", "validation", "test")


def save_decoded(splits: Splits, folder: Path) -> None:
    """Write or replace the folder. Images that two sets share are written once.

    Raises:
        UserError: if the folder cannot be written; then it does not exist.
    """
    try:
        with in_a_sentence("The decoded images cannot be stored"):
            _save(splits, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, UserError):
            raise UserError(str(error)) from error
        raise


def _save(splits: Splits, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written: dict[tuple[int, tuple[int, ...]], str] = {}

    def write(tensor: Tensor | None, name: str) -> str | None:
        if tensor is None:
            return None
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if key not in written:
            written[key] = f"{name}.npy"
            try:
                np.save(folder / written[key], tensor.numpy(), allow_pickle=False)
            except OSError as error:
                if error.errno is None:  # which is how numpy says that less was written than it was to
                    error.errno = errno.ENOSPC
                raise
        return written[key]

    index = {
        name: {part: write(getattr(images, part), f"{name}-{part}") for part in ("images", "labels", "rows", "source")}
        for name, images in ((name, getattr(splits, name)) for name in SETS)
    }
    about = {
        "test_name": splits.test_name,
        "validation_name": splits.validation_name,
        "warnings": splits.warnings,
        "notes": splits.notes,
        "classes": splits.train.classes,
        "sets": index,
    }
    (folder / INDEX).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def load_decoded(folder: Path) -> Splits:
    """What `save_decoded` wrote. The images stay in their files until they are looked at."""
    about = json.loads((folder / INDEX).read_text(encoding="utf-8"))

    def read(name: str | None) -> Tensor | None:
        # Copy-on-write, because torch warns about read-only memory; nothing is written to it.
        return None if name is None else torch.from_numpy(np.load(folder / name, mmap_mode="c", allow_pickle=False))

    def read_set(name: str) -> ImageSet:
        images, labels, rows, source = (
            read(about["sets"][name][part]) for part in ("images", "labels", "rows", "source")
        )
        assert images is not None
        assert labels is not None
        return ImageSet(images, labels, tuple(about["classes"]), rows, source)

    train, validation, test = map(read_set, SETS)
    told = tuple(about["warnings"]), tuple(about["notes"])
    return Splits(train, validation, test, about["test_name"], about["validation_name"], *told)
