import errno
import io
import itertools
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import roi_align
from torchvision.transforms import v2

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data import room as room_module
from resnet_space.data.batches import (
    _generator,
    centre_crop,
    evaluation_batches,
    mixed,
    normalise,
    random_crop_flip,
    random_resized_crop_flip,
    steps_per_epoch,
    training_batches,
)
from resnet_space.data.held_out import stratified_indices
from resnet_space.data.sources import (
    BUNDLED,
    DATA_FOLDER_VARIABLE,
    dataset_classes,
    dataset_folder,
    split_files,
)
from resnet_space.data.splits import ImageSet, Splits, load_split, load_splits
from tests.conftest import WriteSplit

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MODEL = ModelConfig("resnet20", CIFAR10)
TRAINING = TrainConfig(dataset="cifar10-mini", batch_size=50)


@pytest.fixture(scope="module")
def mini() -> Splits:
    return load_splits(TRAINING, 32)


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def png(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(file, "PNG")
    return file.getvalue()


def random_set(count: int, classes: int = 2, size: int = 8, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % classes, tuple(f"class {i}" for i in range(classes)))


def load(name: str, split: str) -> ImageSet:
    return load_split(split_files(name)[split], 32)


def distinct(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


# The bundled dataset


@pytest.mark.parametrize(("split", "count"), [("train", 2_000), ("test", 1_000)])
def test_the_bundled_split_is_stratified_and_has_the_hubs_schema(split: str, count: int) -> None:
    (file,) = BUNDLED.rglob(f"cifar10-mini/**/{split}-*.parquet")
    schema = pq.read_schema(file)
    # That of uoft-cs/cifar10 on the Hub.
    assert schema.names == ["img", "label"]
    assert schema.field("img").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert schema.field("label").type == pa.int64()
    assert schema.metadata == {
        b"huggingface": b'{"info": {"features": {"img": {"_type": "Image"}, "label": {"names": ["airplane", '
        b'"automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"], "_type": "ClassLabel"}}}}'
    }
    data = load("cifar10-mini", split)
    assert data.classes == dataset_classes("cifar10-mini") == CIFAR10
    assert data.images.shape == (count, 32, 32, 3)
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert data.labels.bincount().tolist() == [count // 10] * 10
    assert len(distinct(data.images)) == count


def test_the_bundled_images_are_decoded_exactly() -> None:
    (file,) = BUNDLED.rglob("cifar10-mini/**/test-*.parquet")
    rows = pq.read_table(file).to_pylist()
    data = load("cifar10-mini", "test")
    for i in (0, 123, 999):
        with Image.open(io.BytesIO(rows[i]["img"]["bytes"])) as image:
            assert np.array_equal(np.asarray(image), data.images[i].numpy())
        assert rows[i]["label"] == data.labels[i]


# Splits


def test_splits_share_no_image_and_together_are_all_there_is(mini: Splits) -> None:
    train, validation, test = (distinct(split.images) for split in (mini.train, mini.validation, mini.test))
    assert (len(train), len(validation), len(test)) == (1_800, 200, 1_000)
    assert not train & validation
    assert not train & test
    assert not validation & test
    whole = load("cifar10-mini", "train")
    assert train | validation == distinct(whole.images)
    assert all(19 <= count <= 21 for count in mini.validation.labels.bincount())  # near-duplicates go together
    assert mini.test_name == "test"


def test_images_keep_their_labels_through_the_split(mini: Splits) -> None:
    whole = load("cifar10-mini", "train")
    label_of = {
        image.numpy().tobytes(): label for image, label in zip(whole.images, whole.labels.tolist(), strict=True)
    }
    for split in (mini.train, mini.validation):
        assert [label_of[image.numpy().tobytes()] for image in split.images] == split.labels.tolist()


def test_the_seed_chooses_the_validation_images(mini: Splits) -> None:
    again = load_splits(TRAINING, 32)
    other = load_splits(TrainConfig(dataset="cifar10-mini", seed=1), 32)
    assert torch.equal(again.validation.images, mini.validation.images)
    shared = distinct(other.validation.images) & distinct(mini.validation.images)
    assert len(shared) < 60  # 20 expected by chance
    assert torch.equal(other.test.images, mini.test.images)


@pytest.mark.parametrize("sizes", [(200,) * 10, (1, 7, 50, 333), (5, 0, 5), (10_000, 3)])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_stratified_indices_takes_each_class_in_its_share(sizes: tuple[int, ...], share: float) -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))]
    count = round(share * len(labels))
    taken, rest = stratified_indices(labels, count, seed=0)
    assert len(taken) == count
    assert torch.equal(torch.cat([taken, rest]).sort().values, torch.arange(len(labels)))
    assert torch.equal(taken, taken.sort().values)
    assert torch.equal(rest, rest.sort().values)
    for label, size in enumerate(sizes):
        assert abs(int((labels[taken] == label).sum()) - share * size) <= 1


def test_stratified_indices_depends_on_the_seed_alone() -> None:
    labels = torch.arange(300) % 3
    first, _ = stratified_indices(labels, 60, seed=4)
    torch.rand(10)  # the global random state plays no part
    again, _ = stratified_indices(labels, 60, seed=4)
    other, _ = stratified_indices(labels, 60, seed=5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Datasets from the folder that the environment names


def test_a_data_set_without_test_split_is_tested_on_its_validation_split(
    data_folder: Path, write_split: WriteSplit
) -> None:
    folder = data_folder / "colours" / "data"
    shades = range(100, 200)
    # PNGs of other sizes and kinds than the model's 32 x 32 RGB.
    write_split(
        folder, "train", [png((s, 0, 0), (48, 40)) for s in shades] + [png((0, s, 0), (9, 20)) for s in shades],
        [0] * 100 + [1] * 100, ("red", "green"),
    )  # fmt: skip
    write_split(folder, "valid", [png((250, 0, 0)), png((77, 77, 77), (5, 5), "L")], [0, 1], ("red", "green"))
    splits = load_splits(TrainConfig(dataset="colours", validation_fraction=0.2), 16)
    assert splits.test_name == "validation"
    assert splits.train.classes == splits.test.classes == dataset_classes("colours") == ("red", "green")
    assert splits.train.images.shape == (160, 16, 16, 3)
    assert splits.validation.images.shape == (40, 16, 16, 3)
    assert splits.validation.labels.bincount().tolist() == [20, 20]
    assert splits.test.images[:, 8, 8].tolist() == [[250, 0, 0], [77, 77, 77]]
    assert splits.test.labels.tolist() == [0, 1]
    for split in (splits.train, splits.validation):
        brightest = split.images[:, 8, 8].argmax(1)
        assert torch.equal(brightest, split.labels)  # red images are labelled red after resizing and splitting


def test_a_data_sets_own_validation_and_test_splits_are_used_as_such(
    data_folder: Path, write_split: WriteSplit
) -> None:
    for split, colour in (("train", (1, 1, 1)), ("valid", (2, 2, 2)), ("test", (3, 3, 3))):
        write_split(data_folder / "both", split, [png(colour)] * 10, [0, 1] * 5, ("a", "b"))
    splits = load_splits(TrainConfig(dataset="both"), 32)
    assert splits.test_name == "test"
    assert splits.test.images.unique().tolist() == [3]
    assert splits.validation.images.unique().tolist() == [2]
    assert len(splits.train) == 10


def test_a_split_may_have_several_files(data_folder: Path, write_split: WriteSplit) -> None:
    for i in range(3):
        write_split(data_folder / "parts", "train", [png((i, i, i))], [i % 2], ("a", "b"))
        (data_folder / "parts" / "train-00000-of-00001.parquet").rename(
            data_folder / "parts" / f"train-0000{i}-of-00003.parquet"
        )
    data = load("parts", "train")
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.labels.tolist() == [0, 1, 0]


def test_the_bundled_data_set_is_found_whatever_the_environment_says(data_folder: Path) -> None:
    assert dataset_folder("cifar10-mini") == BUNDLED / "cifar10-mini"


def test_a_data_folder_that_does_not_exist_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "gone"))
    assert dataset_folder("cifar10-mini") == BUNDLED / "cifar10-mini"


@pytest.mark.parametrize("name", ["../datasets/cifar10-mini", "/etc", "a/b/c", "~/pictures"])
def test_a_path_is_neither_read_nor_asked_of_the_hub(name: str) -> None:
    with pytest.raises(
        UserError, match=r"is not a valid name of a Hub dataset: use the form owner/name, such as .*\.$"
    ):
        dataset_classes(name)


@pytest.mark.parametrize("name", ["cifar1000", "", ".."])
def test_an_unknown_data_set_is_refused_without_the_names_of_others(
    data_folder: Path, write_split: WriteSplit, name: str
) -> None:
    write_split(data_folder / "of-mine" / "data", "train", [png((1, 2, 3))] * 2, [0, 1], ("a", "b"))
    (data_folder / "other-files").mkdir()  # no dataset, and not offered as one
    for use in (dataset_folder, dataset_classes, lambda name: load(name, "train")):
        with pytest.raises(UserError, match=r"^There is no dataset named .* on this machine: choose another") as caught:
            use(name)
        assert repr(name) in str(caught.value)
        assert "of-mine" not in str(caught.value)  # which may be another visitor's


def test_a_table_without_labels_is_refused_in_one_sentence(data_folder: Path, write_split: WriteSplit) -> None:
    write_split(data_folder / "captions", "train", [png((1, 2, 3))] * 4, [0, 1] * 2, ("a", "b"))
    file = data_folder / "captions" / "train-00000-of-00001.parquet"
    table = pq.read_table(file)
    for content in (
        table.drop_columns("label").replace_schema_metadata(
            {"huggingface": '{"info": {"features": {"img": {"_type": "Image"}}}}'}
        ),
        table.set_column(1, "label", pa.array(["a cat", "a dog", "a red car", "the sea"])).replace_schema_metadata(
            None
        ),
    ):
        pq.write_table(content, file)
        for use in (dataset_classes, lambda name: load(name, "train")):
            with pytest.raises(
                UserError,
                match=r"^The dataset is not an image classification dataset because it has no .*\.$",
            ):
                use("captions")


def test_a_data_set_without_training_images_is_refused(data_folder: Path, write_split: WriteSplit) -> None:
    write_split(data_folder / "only-train", "train", [png((1, 2, 3))] * 4, [0, 1] * 2, ("a", "b"))
    write_split(data_folder / "only-test", "test", [png((1, 2, 3))] * 4, [0, 1] * 2, ("a", "b"))
    assert list(split_files("only-train")) == ["train"]
    with pytest.raises(UserError, match=r"^The dataset 'only-test' has no training images\.$"):
        load_splits(TrainConfig(dataset="only-test"), 32)
    with pytest.raises(UserError, match=r"^The dataset 'only-test' has no training images\.$"):
        dataset_classes("only-test")


def test_a_data_set_without_test_and_validation_images_is_tested_on_a_fifth_of_its_training_images(
    data_folder: Path, write_split: WriteSplit
) -> None:
    write_split(data_folder / "only-train", "train", [png((s, 0, 0)) for s in range(200)], [0, 1] * 100, ("a", "b"))
    drawn = load_splits(TrainConfig(dataset="only-train", grouped_split=False), 8)
    assert [len(part) for part in (drawn.train, drawn.validation, drawn.test)] == [144, 16, 40]
    assert drawn.test.labels.bincount().tolist() == [20, 20]
    grouped = load_splits(TrainConfig(dataset="only-train"), 8)
    assert len(grouped.validation) == round(0.1 * (200 - len(grouped.test)))
    for splits in (drawn, grouped):
        assert splits.test_name == "train"
        shades = [distinct(part.images) for part in (splits.train, splits.validation, splits.test)]
        assert sum(map(len, shades)) == len(shades[0] | shades[1] | shades[2]) == 200


def test_images_that_are_damaged_or_without_a_label_are_left_out(data_folder: Path, write_split: WriteSplit) -> None:
    encoded = [png((s, 0, 0)) for s in range(20)]
    encoded[3] = b"no image"
    encoded[4] = encoded[4][:40]
    write_split(data_folder / "some", "train", encoded, [0, 1, -1] + [0] * 17, ("a", "b"))
    data = load("some", "train")
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, *range(5, 20)]
    assert data.labels.tolist() == [0, 1] + [0] * 15


def test_a_test_split_without_labels_is_none(data_folder: Path, write_split: WriteSplit) -> None:
    for split, labels in (("train", [0, 1] * 10), ("validation", [0, 1] * 10), ("test", [-1] * 20)):
        write_split(data_folder / "contest", split, [png((s, 0, 0)) for s in range(20)], labels, ("a", "b"))
    assert load_splits(TrainConfig(dataset="contest"), 8).test_name == "validation"


def test_a_data_set_none_of_whose_images_can_be_decoded_is_refused(data_folder: Path, write_split: WriteSplit) -> None:
    write_split(data_folder / "broken", "train", [b"no image"] * 4, [0, 1] * 2, ("a", "b"))
    with pytest.raises(UserError, match=r"^No image in the dataset can be decoded, or none has a label\.$"):
        load_splits(TrainConfig(dataset="broken"), 8)


def test_what_memory_has_no_room_for_is_read_from_disk_the_same(monkeypatch: pytest.MonkeyPatch, mini: Splits) -> None:
    monkeypatch.setattr(room_module, "MEMORY_SHARE", 0.0)
    on_disk = load_splits(TRAINING, 32)
    for name in ("train", "validation", "test"):
        found, expected = getattr(on_disk, name), getattr(mini, name)
        assert found.rows is not None
        assert torch.equal(found.pixels(torch.arange(len(found))), expected.images)
        assert torch.equal(found.labels, expected.labels)
        assert found.to(torch.device("cpu")) is found


def test_images_on_disk_lie_where_they_are_counted_and_go_with_what_reads_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(room_module, "MEMORY_SHARE", 0.0)
    (tmp_path / f"{room_module.DECODING}of-a-killed-process.tmp").touch()
    data = load_splits(TRAINING, 32, folder=tmp_path)
    sizes = sorted(file.stat().st_size for file in tmp_path.iterdir())
    assert sizes == [1_000 * 32 * 32 * 3, 2_000 * 32 * 32 * 3]
    assert room_module.decoded_bytes((1_000, 2_000), 32) == sum(sizes)
    assert room_module.decoded_bytes((1_000, 2_000), 32, handed_on=True) == 2 * sum(sizes)
    del data
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["before", "while it is claimed"])
def test_a_disk_without_room_for_decoded_images_is_told_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room_module, "MEMORY_SHARE", 0.0)
    if where == "before":
        usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    else:
        monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        UserError, match=r"^The dataset's 2,000 images take 0\.0 GB at 32 x 32 pixels and do not fit on the"
    ):
        load_splits(TRAINING, 32, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_decoding_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    load_split(split_files("cifar10-mini")["train"], 32, progress=lambda done, total: told.append((done, total)))
    assert told == [(1_000, 2_000), (2_000, 2_000)]


# Preprocessing and augmentation


def test_normalise_equals_torchvisions() -> None:
    images = random_set(6).images
    model = ModelConfig("resnet20", ("a", "b"), mean=(0.1, 0.5, 0.9), std=(0.2, 0.4, 0.8))
    pipeline = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(model.mean, model.std)])
    expected = torch.stack([pipeline(image.numpy()) for image in images])
    result = normalise(images, model)
    assert result.dtype == torch.float32
    assert result.shape == (6, 3, 8, 8)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result.contiguous(), expected, rtol=1e-5, atol=1e-6)


def all_crops(image: Tensor, padding: int) -> dict[bytes, tuple[int, int, bool]]:
    """By brute force: every crop and its mirror image -> (top, left, mirrored)."""
    height, width, _ = image.shape
    padded = np.zeros((height + 2 * padding, width + 2 * padding, 3), dtype=np.uint8)
    padded[padding : padding + height, padding : padding + width] = image.numpy()
    crops = {}
    for top, left in itertools.product(range(2 * padding + 1), repeat=2):
        crop = padded[top : top + height, left : left + width]
        crops[crop.tobytes()] = (top, left, False)
        crops[crop[:, ::-1].tobytes()] = (top, left, True)
    assert len(crops) == 2 * (2 * padding + 1) ** 2  # no two are alike, so that each result tells its draw
    return crops


def test_every_image_is_cropped_and_flipped_by_a_draw_of_its_own() -> None:
    image = torch.randint(1, 256, (6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    count, padding = 2_000, 2
    batch = image.expand(count, -1, -1, -1).contiguous()
    result = random_crop_flip(batch, padding, True, torch.Generator().manual_seed(1))
    assert result.shape == batch.shape
    assert result.dtype == torch.uint8
    crops = all_crops(image, padding)
    draws = [crops[crop.numpy().tobytes()] for crop in result]  # a KeyError here would be an impossible result
    assert len(set(draws)) == len(crops)  # all 50 occur
    tops, lefts, mirrored = (torch.tensor(values) for values in zip(*draws, strict=True))
    # Uniform, to within five standard errors of a share of 1/5 and of 1/2, and independent of one another.
    for offsets in (tops, lefts):
        assert (offsets.bincount(minlength=5) / count - 0.2).abs().max() < 5 * (0.2 * 0.8 / count) ** 0.5
    assert abs(mirrored.float().mean() - 0.5) < 5 * 0.5 / count**0.5
    correlation = torch.corrcoef(torch.stack([tops, lefts, mirrored]).float()) - torch.eye(3)
    assert correlation.abs().max() < 5 / count**0.5


def test_without_flip_nothing_is_mirrored_and_without_padding_nothing_moves() -> None:
    images = random_set(200, size=6).images
    only_cropped = random_crop_flip(images, 1, False, torch.Generator().manual_seed(0))
    assert not any(
        all_crops(image, 1)[crop.numpy().tobytes()][2] for image, crop in zip(images, only_cropped, strict=True)
    )
    only_flipped = random_crop_flip(images, 0, True, torch.Generator().manual_seed(0))
    mirrored = (only_flipped == images.flip(2)).flatten(1).all(1)
    unchanged = (only_flipped == images).flatten(1).all(1)
    assert (mirrored ^ unchanged).all()
    assert 60 < mirrored.sum() < 140


def test_without_padding_and_flip_images_stay_as_they_are() -> None:
    images = random_set(50).images
    assert torch.equal(random_crop_flip(images, 0, False, torch.Generator().manual_seed(0)), images)


# Batches


def listed(data: ImageSet, training: TrainConfig, *where: int) -> list[tuple[Tensor, Tensor]]:
    return list(training_batches(data, MODEL, training, *where))


def assert_same(batches: Sequence[tuple[Tensor, Tensor]], others: Sequence[tuple[Tensor, Tensor]]) -> None:
    assert len(batches) == len(others)
    for (images, labels), (other_images, other_labels) in zip(batches, others, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("first_step", [0, 1, 3, 4])
def test_batches_continue_exactly_where_they_were_left(first_step: int) -> None:
    data, training = random_set(45), TrainConfig(dataset="any", batch_size=10, crop_padding=2, seed=3)
    whole = listed(data, training, 2)
    assert len(whole) == 4
    torch.rand(7)  # the global random state plays no part
    assert_same(listed(data, training, 2, first_step), whole[first_step:])


def test_every_epoch_and_every_seed_has_its_own_order_and_augmentation() -> None:
    data = random_set(40)
    firsts = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        training = TrainConfig(dataset="any", batch_size=40, crop_padding=2, seed=seed)
        ((images, _),) = listed(data, training, epoch)
        firsts.append(distinct(images))
    for one, other in itertools.combinations(firsts, 2):
        assert len(one & other) < 10
    plain = TrainConfig(dataset="any", batch_size=40, crop_padding=0, flip=False)
    orders = [listed(data, plain, epoch)[0][0] for epoch in (0, 1)]
    assert not torch.equal(*orders)
    assert distinct(orders[0]) == distinct(orders[1])  # the same images, none changed


def test_every_key_has_a_random_stream_of_its_own() -> None:
    # numpy's SeedSequence takes (1, 2) and (1, 2, 0) for one: without care, the order of an epoch and the augmentation
    # of its first step would come from the same random numbers.
    keys: list[tuple[int, ...]] = [(1, 2), (1, 2, 0), (1, 2, 1), (2, 1), (1,), (1, 0), (0,), (0, 0)]
    assert len({_generator(*key).initial_seed() for key in keys}) == len(keys)


def test_an_epoch_has_every_image_once_but_for_an_incomplete_last_batch() -> None:
    data = random_set(45)
    plain = TrainConfig(dataset="any", batch_size=10, crop_padding=0, flip=False)
    batches = listed(data, plain, 0)
    assert [len(labels) for _, labels in batches] == [10, 10, 10, 10]
    shown = torch.cat([images for images, _ in batches])
    assert len(distinct(shown)) == 40
    assert distinct(shown) < distinct(normalise(data.images, MODEL))


def test_images_and_labels_stay_together_in_batches() -> None:
    data = random_set(30, classes=3)
    plain = TrainConfig(dataset="any", batch_size=10, crop_padding=0, flip=False)
    label_of = {
        image.numpy().tobytes(): label
        for image, label in zip(normalise(data.images, MODEL), data.labels.tolist(), strict=True)
    }
    for images, labels in listed(data, plain, 0):
        assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()


@pytest.mark.parametrize(
    ("images", "batch_size", "steps"), [(45, 10, 4), (40, 10, 4), (39, 10, 3), (10, 64, 1), (2, 2, 1)]
)
def test_an_epoch_has_as_many_steps_as_full_batches_but_at_least_one(images: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(images, batch_size) == steps
    batches = listed(random_set(images), TrainConfig(dataset="any", batch_size=batch_size, crop_padding=0), 0)
    assert [len(labels) for _, labels in batches] == [min(batch_size, images)] * steps


def test_evaluation_shows_every_image_in_order_and_unchanged() -> None:
    data = random_set(23, classes=5)
    batches = list(evaluation_batches(data, MODEL, batch_size=10))
    assert [len(labels) for _, labels in batches] == [10, 10, 3]
    assert torch.equal(torch.cat([images for images, _ in batches]), normalise(data.images, MODEL))
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)


def test_training_batches_are_the_models_images(mini: Splits) -> None:
    images, labels = next(training_batches(mini.train, MODEL, TRAINING, 0))
    assert images.shape == (50, 3, 32, 32)
    assert labels.shape == (50,)
    # Normalised with the model's mean and deviation: near 0 and 1 over many images, padding included.
    assert images.mean().abs() < 1
    assert 0.5 < images.std() < 2


# Photographs: stored larger than the model sees them


def test_the_middle_is_cropped_as_torchvision_crops_it() -> None:
    from torchvision.transforms.v2.functional import center_crop

    images = torch.randint(256, (2, 9, 9, 3), dtype=torch.uint8)
    for size in (9, 8, 7, 6, 5, 4):
        expected = center_crop(images.permute(0, 3, 1, 2), [size, size]).permute(0, 2, 3, 1)
        assert torch.equal(centre_crop(images, size), expected)


def test_a_random_resized_crop_has_the_pixels_that_roi_align_finds_in_its_box() -> None:
    """The boxes are drawn again here; roi_align with one sample a bin is the same bilinear interpolation."""
    images = torch.randint(256, (6, 40, 40, 3), dtype=torch.uint8)
    found = random_resized_crop_flip(images, 16, 0.35, False, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    area = torch.empty(6).uniform_(0.35, 1, generator=generator)
    aspect = torch.empty(6).uniform_(math.log(3 / 4), math.log(4 / 3), generator=generator).exp()
    wide, high = ((area * factor).sqrt().clamp(max=1) * 40 for factor in (aspect, 1 / aspect))
    left = (40 - wide) * torch.rand(6, generator=generator)
    top = (40 - high) * torch.rand(6, generator=generator)
    boxes = torch.stack([torch.arange(6.0), left, top, left + wide, top + high], 1)
    pixels = images.permute(0, 3, 1, 2).float()
    expected = roi_align(pixels, boxes, (16, 16), sampling_ratio=1, aligned=True).permute(0, 2, 3, 1)
    assert (found - expected).abs().max() < 0.01


def test_a_random_resized_crop_mirrors_half_of_the_images_and_keeps_the_least_area() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).expand(400, 32, 32)[..., None].expand(-1, -1, -1, 3) * 8
    found = random_resized_crop_flip(ramp, 8, 0.5, True, torch.Generator().manual_seed(0))
    mirrored = found[:, 4, 0, 0] > found[:, 4, -1, 0]
    assert 160 < mirrored.sum() < 240
    shown = (found[:, 4, 0, 0] - found[:, 4, -1, 0]).abs() / 8 * 8 / 7 / 32  # share of the width
    assert shown.min() > math.sqrt(0.5 * 3 / 4) - 0.02
    assert shown.max() <= 1.01
    assert shown.std() > 0.05


def test_a_training_sees_random_parts_of_photographs_and_an_evaluation_their_middle() -> None:
    model = ModelConfig("resnet20", CIFAR10, image_size=16, resize=20, mean=(0, 0, 0), std=(1, 1, 1))
    images = torch.randint(256, (8, 20, 20, 3), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(8), CIFAR10)
    training = TrainConfig(dataset="any", batch_size=8, crop="resized")
    ((batch, _),) = training_batches(data, model, training, 0)
    assert batch.shape == (8, 3, 16, 16)
    ((seen, _),) = evaluation_batches(data, model)
    assert torch.allclose(seen * 255, images[:, 2:18, 2:18].permute(0, 3, 1, 2).float(), atol=1e-3)


# MixUp and CutMix


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_batches_carry_their_shares_and_depend_on_their_key_alone(settings: dict[str, float]) -> None:
    training = TrainConfig(dataset="any", **settings)
    # Every image has its label's value everywhere, so that its mean tells its shares.
    labels = torch.arange(10)
    images = labels.float()[:, None, None, None].expand(-1, 3, 8, 8)
    state = torch.get_rng_state()
    found, shares = mixed(images, labels, 10, training, 2, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(shares.sum(1), torch.ones(10))
    assert torch.allclose(found.mean((1, 2, 3)), shares @ torch.arange(10.0), atol=1e-4)
    again, _ = mixed(images, labels, 10, training, 2, 5)
    other, _ = mixed(images, labels, 10, training, 2, 6)
    assert torch.equal(found, again)
    assert not torch.equal(found, other)
