from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnet_space.data.held_out import stratified_indices
from resnet_space.data.rows import read_images
from resnet_space.data.splits import load_split
from tests.conftest import WriteSplit
from tests.trainings import png


@pytest.fixture
def files(tmp_path: Path, write_split: WriteSplit) -> list[Path]:
    """Two files of 10 and 5 images in row groups of 4; the image in row i is grey of value 10 i, row 6 is damaged."""
    found = []
    for name, rows in (("first", range(10)), ("second", range(10, 15))):
        encoded = [b"no image" if row == 6 else png(10 * row) for row in rows]
        write_split(tmp_path / name, "test", encoded, [row % 2 for row in rows], ("even", "odd"))
        (file,) = (tmp_path / name).iterdir()
        pq.write_table(pq.read_table(file), file, row_group_size=4)
        found.append(file)
    return found


def greys(images: Sequence[Image.Image | None]) -> list[int | None]:
    return [None if image is None else image.getpixel((0, 0))[0] // 10 for image in images]


@pytest.mark.parametrize("rows", [[0], [14], [3, 4], [9, 10], [12, 0, 7, 7, 3], list(range(15)), []])
def test_rows_are_found_in_any_order_and_file(files: list[Path], rows: list[int]) -> None:
    assert greys(read_images(files, rows)) == [None if row == 6 else row for row in rows]


def test_a_row_that_there_is_not_is_refused(files: list[Path]) -> None:
    with pytest.raises(IndexError):
        read_images(files, [15])


def test_the_sets_that_a_split_is_divided_into_know_their_rows(files: list[Path]) -> None:
    data = load_split(files, 4)
    assert data.source is not None
    assert data.source.tolist() == [row for row in range(15) if row != 6]  # the damaged one is left out
    held_out, _ = stratified_indices(data.labels, 5, seed=3)
    part = data.subset(held_out)
    assert part.source is not None
    seen = (part.images[:, 0, 0, 0].numpy() // 10).astype(int)
    assert np.array_equal(seen, part.source.numpy())
    assert greys(read_images(files, part.source.tolist())) == seen.tolist()
