"""Room for decoded images: in memory, or else in a file. Without torch, to tell beforehand how much they take."""

import errno
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import image_memory_bytes

DECODING = ".images-"  # prefix of temporary files with decoded images, which end with their process
MEMORY_SHARE = 0.25  # of all memory, for a split's pixels, unless RESNET_SPACE_IMAGE_MEMORY_MB is set


def decoded_bytes(counts: Iterable[int], size: int, *, handed_on: bool = False) -> int:
    """Bytes on disk of the decoded images of splits with `counts` images of `size` pixels each.

    `handed_on` to other processes they are written once more, also those that memory has room for.
    """
    sizes = [count * size * size * 3 for count in counts]
    return sum(taken for taken in sizes if taken > _memory()) + handed_on * sum(sizes)


def _memory() -> int:
    try:
        return image_memory_bytes(MEMORY_SHARE)
    except ValueError as error:
        raise UserError(str(error)) from None


def room_for(shape: tuple[int, ...], folder: Path | None) -> NDArray[np.uint8]:
    """An array in memory, or backed by a file if it is too large."""
    size = math.prod(shape)
    if size <= _memory():
        return np.empty(shape, dtype=np.uint8)
    # It has a name, so that measurements of the folder include it.
    with tempfile.NamedTemporaryFile(prefix=DECODING, suffix=".tmp", dir=folder, delete=False) as file:
        try:
            _claim_room(file, size)
            images = np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
        except OSError as error:
            os.unlink(file.name)
            raise UserError(
                f"The dataset's {shape[0]:,} images take {size / 1e9:,.1f} GB at {shape[1]} x {shape[2]} pixels and "
                f"do not fit on the disk ({error.strerror or error}): choose a smaller image size or a smaller "
                "dataset."
            ) from None
    weakref.finalize(images, Path(file.name).unlink, missing_ok=True)
    return images


def _claim_room(file: IO[bytes], size: int) -> None:
    """Have the disk keep so many bytes for the file: a process that writes to mapped memory is killed where it is full.

    Raises:
        OSError: where it has less.
    """
    free = shutil.disk_usage(file.name).free
    if size > free * 0.9:
        raise OSError(errno.ENOSPC, f"{free / 1e9:,.1f} GB free")
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", errno.EOPNOTSUPP) not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.truncate(file.fileno(), size)  # of a system that cannot promise it
