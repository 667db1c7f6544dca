"""Read a few images of a dataset by row number, without decoding the others."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from resnet_space.data.columns import image_bytes, image_columns, readable
from resnet_space.data.images import ImageError, open_image


def read_images(
    files: Sequence[Path],
    rows: Sequence[int],
    column: str | None = None,
    seen: Callable[[Image.Image], Image.Image] = lambda image: image,
) -> list[Image.Image | None]:
    """The images of a split in the order of `rows`, in their original sizes; None for those that cannot be decoded.

    Args:
        files: the parquet files of the split, in order.
        rows: row numbers, counted through all files.
        column: of the images; by default chosen automatically.
        seen: applied to each image at once, because many original sizes take much memory.

    Raises:
        IndexError: for a row that does not exist.
        UserError: for files that cannot be read.
    """
    with readable("The dataset's images"):
        column = column or next(iter(image_columns(pq.read_schema(files[0]))), "image")
        groups = [
            (file, i, about.row_group(i).num_rows)
            for file, about in ((file, pq.read_metadata(file)) for file in files)
            for i in range(about.num_row_groups)
        ]
        ends = np.cumsum([count for *_, count in groups])
        found: dict[int, Image.Image | None] = {}
        for index in sorted(set(np.searchsorted(ends, rows, side="right").tolist())):
            file, group, count = groups[index]
            first = int(ends[index]) - count
            with pq.ParquetFile(file) as parquet:
                values = parquet.read_row_group(group, columns=[column])[column]
                for row in rows:
                    if first <= row < first + count:
                        image = _decoded(values[row - first].as_py())
                        found[row] = None if image is None else seen(image)
        return [found[row] for row in rows]


def _decoded(value: object) -> Image.Image | None:
    encoded = image_bytes(value)
    try:
        return None if encoded is None else open_image(io.BytesIO(encoded))
    except ImageError:
        return None
