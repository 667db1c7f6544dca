from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data import splits
from resnet_space.data.images import ImageError
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, open_dataset
from resnet_space.residuals import balanced
from resnet_space.serve.context import AppContext
from resnet_space.ui.explore import images as images_module
from resnet_space.ui.explore.images import Images, dataset_images, image_set, images_from
from tests.conftest import WriteSplit
from tests.trainings import png

CONFIG = ModelConfig("resnet20", ("even", "odd"), image_size=8)


@pytest.fixture(params=[[], [0, 3, 4]], ids=["all whole", "some damaged"])
def damaged(
    request: pytest.FixtureRequest, tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """The damaged rows of `grey`: 20 images in two classes, the image in row i of value 10 i, in row groups of 4."""
    encoded = [b"no image" if row in request.param else png(10 * row) for row in range(20)]
    write_split(tmp_path / "grey", "test", encoded, [row % 2 for row in range(20)], ("even", "odd"))
    write_split(tmp_path / "grey", "train", [png(0), png(10)], [0, 1], ("even", "odd"))
    for file in (tmp_path / "grey").iterdir():
        pq.write_table(pq.read_table(file), file, row_group_size=4)
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    images_module._cached_image_set.cache_clear()
    return list(request.param)


@pytest.mark.parametrize("count", [1, 6, 14, 20])
def test_the_measured_images_are_the_balanced_ones_of_the_whole_split_without_it_in_memory(
    damaged: list[int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dataset(DatasetRef.parse("grey"))
    whole = splits.load_split(data.files["test"], CONFIG.stored_size, data.columns, split="test")
    expected = balanced(whole, count)
    with monkeypatch.context() as patch:
        patch.setattr(splits, "load_split", None)
        found = image_set(Images("grey", "test", count), CONFIG)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert found.source is not None
    assert expected.source is not None
    assert torch.equal(found.source, expected.source)
    assert not set(found.source.tolist()) & set(damaged)


def test_a_split_without_a_whole_image_is_one_sentence(damaged: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ImageError("It is damaged.")

    monkeypatch.setattr("resnet_space.data.rows.open_image", broken)
    with pytest.raises(UserError, match="None of the dataset's images can be decoded"):
        image_set(Images("grey", "test", 4), CONFIG)


def test_on_a_public_app_more_images_than_memory_should_hold_are_refused_with_how_many_may_be() -> None:
    large = ModelConfig("resnet18", ("a", "b"), image_size=224, resize=256)
    with pytest.raises(UserError, match=r"^1,000 images of 256 x 256 pixels are more .* choose at most 762\.$"):
        image_set(Images("grey", "test", 1_000), large, public=True)


def test_pictures_are_kept_at_the_size_that_is_used(damaged: list[int], tmp_path: Path) -> None:
    from resnet_space.data.images import to_model_size
    from resnet_space.data.rows import read_images

    files = sorted((tmp_path / "grey").glob("test-*"))
    images = read_images(files, range(20), seen=lambda image: to_model_size(image, 3))
    sizes = {image.size for image in images if image is not None}
    assert sizes == {(3, 3)}
    assert np.array(read_images(files, [5])[0]).shape[0] != 3


@pytest.mark.parametrize("source", ["test images of grey", "test:grey"])
def test_a_program_names_the_images_in_words_or_by_ids(source: str, damaged: list[int], tmp_path: Path) -> None:
    assert images_from(AppContext(tmp_path / "runs"), source, 2, None) == Images("grey", "test", 2)


def test_of_a_split_with_fewer_images_all_are_measured(damaged: list[int], tmp_path: Path) -> None:
    context = AppContext(tmp_path / "runs")
    assert dataset_images(context, None, "grey", "train", 64) == Images("grey", "train", 2)
    with pytest.raises(UserError, match=r"must be a whole number from 1 to 10,000\.$"):
        dataset_images(context, None, "grey", "train", 10_001)
