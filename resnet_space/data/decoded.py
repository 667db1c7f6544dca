"""Decoded splits in a folder, for other processes to read without decoding them again."""

import shutil
from pathlib import Path
from typing import Any

import torch

from resnet_space.common.files import as_os_error, in_a_sentence
from resnet_space.data.splits import ImageSet, Splits

FILE = "splits.pt"


def save_decoded(splits: Splits, folder: Path) -> None:
    """Write or replace the folder. Images that two sets share are written once.

    Raises:
        UserError: if the folder cannot be written; then it does not exist.
    """
    shutil.rmtree(folder, ignore_errors=True)
    plain = {name: vars(part) if isinstance(part, ImageSet) else part for name, part in vars(splits).items()}
    try:
        with in_a_sentence("The decoded images cannot be stored"), as_os_error():
            folder.mkdir(parents=True)
            torch.save(plain, folder / FILE)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def load_decoded(folder: Path) -> Splits:
    """What `save_decoded` wrote. The images stay in their file until they are looked at."""
    plain: dict[str, Any] = torch.load(folder / FILE, mmap=True, weights_only=True)
    for name, part in plain.items():
        plain[name] = ImageSet(**part) if isinstance(part, dict) else part
    return Splits(**plain)
