import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.images import to_model_size
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_folders, split_files
from resnet_space.data.splits import load_splits
from resnet_space.data.summary import (
    SAMPLE_SIDE,
    SAMPLES,
    DatasetSummary,
    Sample,
    cautions,
    image_settings,
    sized,
    summarise,
)
from resnet_space.models import create_model
from resnet_space.serve import datasets
from resnet_space.serve.context import AppContext

WriteSplit = Callable[[Path, str, Sequence[bytes], Sequence[int | None], Sequence[str]], None]

SMALL = ModelConfig("resnet20", ("cat", "dog"))
LARGE = ModelConfig("resnet18", ("cat", "dog"), image_size=224, resize=232)
STARTED = TrainConfig(dataset="pets", start="a-start")
DAMAGED = b"\x89PNG\r\n\x1a\n and no more"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of the dataset `pets`."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    return tmp_path / "pets"


def colour(label: int) -> tuple[int, int, int]:
    return 20 * label + 5, 250 - 20 * label, 100


def png(label: int, size: tuple[int, int] = (32, 32)) -> bytes:
    """An image in its class's colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour(label)).save(file, "PNG")
    return file.getvalue()


def named(count: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(count))


def regroup(folder: Path, rows: int) -> None:
    """Write the training split anew, in row groups of so many rows."""
    (file,) = folder.glob("train-*.parquet")
    pq.write_table(pq.read_table(file), file, row_group_size=rows)


def seen(samples: Sequence[Sample]) -> list[tuple[Any, str]]:
    """(colour, class) of each."""
    return [(sample.image.getpixel((0, 0)), sample.label) for sample in samples]


# What a dataset has


def test_the_bundled_data_set_is_counted_and_shown_with_all_its_classes() -> None:
    summary = summarise(DatasetRef("cifar10-mini"))
    assert summary.counts == {"train": [200] * 10, "test": [100] * 10}
    assert (len(summary.classes), summary.side, len(summary.samples)) == (10, 32, SAMPLES)
    assert {sample.label for sample in summary.samples} == set(summary.classes)


def test_every_split_is_counted_class_by_class_over_all_its_files(folder: Path, write_split: WriteSplit) -> None:
    for split, labels in (("train", [0, 0, 2]), ("test", [1]), ("valid", [2, 2])):
        write_split(folder, split, [png(label) for label in labels], labels, named(3))
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00002.parquet")
    write_split(folder, "train", [png(2)], [2], named(3))
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00001-of-00002.parquet")
    summary = summarise(DatasetRef("pets"))
    assert summary.classes == named(3)
    assert list(summary.counts.items()) == [("train", [2, 0, 2]), ("validation", [0, 0, 2]), ("test", [0, 1, 0])]
    assert sorted(sample.label for sample in summary.samples) == ["class 0", "class 0", "class 2", "class 2"]


@pytest.mark.parametrize(
    ("classes", "each", "rows"),
    [(4, 25, 10), (6, 20, 20), (2, 300, 50), (12, 100, 1_200), (3, 7, 4), (2, 1, 1)],
)
def test_samples_cover_the_classes_of_a_data_set_that_is_sorted_by_class(
    folder: Path, write_split: WriteSplit, classes: int, each: int, rows: int
) -> None:
    labels = [label for label in range(classes) for _ in range(each)]
    write_split(folder, "train", [png(label) for label in labels], labels, named(classes))
    regroup(folder, rows)
    samples = summarise(DatasetRef("pets")).samples
    assert {sample.label for sample in samples} == set(named(classes))
    assert len(samples) == min(SAMPLES, len(labels))
    assert set(seen(samples)) == {(colour(label), f"class {label}") for label in range(classes)}


def test_samples_cover_the_classes_also_where_each_has_a_row_group_of_its_own(
    folder: Path, write_split: WriteSplit
) -> None:
    labels = [label for label in range(10) for _ in range(20)]
    write_split(folder, "train", [png(label) for label in labels], labels, named(10))
    regroup(folder, 20)
    assert {sample.label for sample in summarise(DatasetRef("pets")).samples} == set(named(10))


def test_samples_are_the_same_every_time_and_not_only_the_first_rows(folder: Path, write_split: WriteSplit) -> None:
    images = [png(0, (10 + i, 10 + i)) for i in range(100)]
    write_split(folder, "train", images, [0] * 100, named(2))
    sizes = [[s.image.size for s in summarise(DatasetRef("pets")).samples] for _ in range(2)]
    assert sizes[0] == sizes[1]
    assert len(set(sizes[0])) == SAMPLES  # none of them twice
    assert max(sizes[0]) > (10 + SAMPLES, 10 + SAMPLES)


def test_classes_have_as_many_samples_as_each_other_however_rare_they_are(
    folder: Path, write_split: WriteSplit
) -> None:
    labels = [0] * 190 + [1] * 10
    write_split(folder, "train", [png(label) for label in labels], labels, named(2))
    shown = [sample.label for sample in summarise(DatasetRef("pets")).samples]
    assert (shown.count("class 0"), shown.count("class 1")) == (SAMPLES // 2, SAMPLES // 2)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [([(40, 10), (20, 50), (90, 90)], 20), ([(31, 300)], 31), ([(10, 99), (99, 20)], 15)],
)
def test_the_side_is_the_median_of_the_short_sides(
    folder: Path, write_split: WriteSplit, sizes: list[tuple[int, int]], side: int
) -> None:
    write_split(folder, "train", [png(0, size) for size in sizes], [0] * len(sizes), named(2))
    assert summarise(DatasetRef("pets")).side == side


@pytest.mark.parametrize("size", [(4_000, 400), (300, 6_000), (700, 800), (2_000, 2_000)])
def test_samples_are_small_enough_to_be_kept_and_show_the_centre(
    folder: Path, write_split: WriteSplit, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    image = Image.new("RGB", size, "red")
    side = min(size)
    image.paste("blue", ((size[0] - side) // 2, (size[1] - side) // 2, (size[0] + side) // 2, (size[1] + side) // 2))
    image.save(file, "PNG")
    write_split(folder, "train", [file.getvalue(), png(1)], [0, 1], named(2))
    summary = summarise(DatasetRef("pets"))
    assert summary.side == round((side + 32) / 2)
    (sample,) = [sample.image for sample in summary.samples if sample.label == "class 0"]
    assert min(sample.size) == min(side, SAMPLE_SIDE)
    assert max(sample.size) <= 2 * SAMPLE_SIDE
    assert to_model_size(sample, 32).getpixel((2, 16)) == to_model_size(sample, 32).getpixel((16, 2)) == (0, 0, 255)


# What is damaged or missing


def test_damaged_images_are_counted_but_never_shown(folder: Path, write_split: WriteSplit) -> None:
    labels = [0, 0, 0, 1, 1, 2]
    images = [DAMAGED, png(0), DAMAGED, png(1), b"", DAMAGED]
    write_split(folder, "train", images, labels, named(3))
    summary = summarise(DatasetRef("pets"))
    assert summary.counts == {"train": [3, 2, 1]}
    assert sorted(seen(summary.samples)) == [(colour(0), "class 0"), (colour(1), "class 1")]


def test_unlabelled_rows_are_neither_counted_nor_shown(folder: Path, write_split: WriteSplit) -> None:
    labels = [0, None, 1, -1]
    write_split(folder, "train", [png(9 if label not in (0, 1) else label) for label in labels], labels, named(2))
    write_split(folder, "test", [png(9)] * 3, [-1, -1, None], named(2))
    summary = summarise(DatasetRef("pets"))
    assert summary.counts["train"] == [1, 1]
    assert sum(summary.counts.get("test", [])) == 0
    assert sorted(seen(summary.samples)) == [(colour(0), "class 0"), (colour(1), "class 1")]


@pytest.mark.parametrize("images", [[DAMAGED, b""], []])
def test_without_one_image_that_can_be_decoded_the_data_set_is_refused(
    folder: Path, write_split: WriteSplit, images: list[bytes]
) -> None:
    write_split(folder, "train", images, [0] * len(images), named(2))
    with pytest.raises(UserError, match=r"^None of the first images in 'pets' can be decoded\.$"):
        summarise(DatasetRef("pets"))


def test_without_training_images_or_labels_or_at_all_a_data_set_is_refused(
    folder: Path, write_split: WriteSplit
) -> None:
    with pytest.raises(UserError, match=r"^There is no dataset named 'pets' on this machine: choose another"):
        summarise(DatasetRef("pets"))
    write_split(folder, "test", [png(0)], [0], named(2))
    with pytest.raises(UserError, match=r"^The dataset 'pets' has no training images\.$"):
        summarise(DatasetRef("pets"))
    write_split(folder, "train", [png(0)], [0], named(2))
    (file,) = folder.glob("train-*.parquet")
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    with pytest.raises(UserError, match="not an image classification dataset"):
        summarise(DatasetRef("pets"))


def test_a_file_that_was_cut_off_is_a_data_set_that_cannot_be_read(folder: Path, write_split: WriteSplit) -> None:
    write_split(folder, "train", [png(0)] * 20, [0] * 20, named(2))
    (file,) = folder.glob("train-*.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError):
        summarise(DatasetRef("pets"))


# The size that suits the images


@pytest.mark.parametrize(
    ("side", "model", "size", "resize", "crop", "batch_size"),
    [
        (8, SMALL, 32, None, "padded", 64),
        (28, SMALL, 32, None, "padded", 64),  # MNIST
        (32, SMALL, 32, None, "padded", 64),  # CIFAR
        (40, SMALL, 32, None, "padded", 64),
        (41, SMALL, 64, None, "padded", 64),
        (64, SMALL, 64, None, "padded", 64),  # Tiny-ImageNet
        (65, SMALL, 32, None, "padded", 64),  # a network for small images sees photographs as such
        (500, SMALL, 32, None, "padded", 64),
        (32, LARGE, 224, 256, "resized", 16),
        (500, LARGE, 224, 256, "resized", 16),
    ],
)
def test_images_have_the_size_that_the_network_was_made_for(
    side: int, model: ModelConfig, size: int, resize: int | None, crop: str, batch_size: int
) -> None:
    found, settings = image_settings(side, model)
    assert found == replace(model, image_size=size, resize=resize)
    assert settings == {"crop": crop, "batch_size": batch_size}


@pytest.mark.parametrize(
    ("size", "resize"), [(8, None), (32, None), (64, None), (96, 110), (192, 219), (224, 256), (448, 512), (1024, 1170)]
)
def test_large_images_are_cropped_from_an_eighth_more_as_torchvision_evaluates(size: int, resize: int | None) -> None:
    assert sized(LARGE, size) == replace(LARGE, image_size=size, resize=resize)


@pytest.mark.parametrize("size", [7, 1025])
def test_a_size_that_no_model_may_have_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"^The image size must be .*, not {size}\\.$"):
        sized(SMALL, size)


# Cautions


def of(counts: dict[str, list[int]], side: int = 32) -> DatasetSummary:
    return DatasetSummary(DatasetRef("pets"), named(len(counts["train"])), counts, side, [])


GOOD = of({"train": [500, 500], "test": [100, 100]})


@pytest.mark.parametrize(
    ("summary", "model", "training"),
    [
        (GOOD, SMALL, STARTED),
        (of({"train": [10, 100], "validation": [0, 0]}), SMALL, replace(STARTED, batch_size=16)),
        (of({"train": [500, 500], "test": [5, 5]}, 200), LARGE, replace(STARTED, strategy="one-cycle")),
        (GOOD, SMALL, TrainConfig(dataset="pets")),
        (GOOD, SMALL, TrainConfig(dataset="pets", strategy="scratch")),
        (of({"train": [500, 500], "test": [5, 5]}, 17), SMALL, STARTED),
    ],
)
def test_nothing_is_said_of_what_will_go_well(
    summary: DatasetSummary, model: ModelConfig, training: TrainConfig
) -> None:
    assert cautions(summary, model, training) == []


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ([500, 9], r"^One class has fewer than 10 training images: class 1 \(9\)\. Add some, or leave them out\.$"),
        ([0, 500, 3], r"^2 classes have fewer than 10 training images: class 0 \(0\), class 2 \(3\)\. "),
        ([500] + [1] * 5, r"class 5 \(1\)\. Add"),
        ([500] + [1] * 6, r"class 5 \(1\) and others\. Add"),
    ],
)
def test_classes_with_hardly_any_images_are_named(train: list[int], words: str) -> None:
    (sentence,) = cautions(of({"train": train, "test": [1] * len(train)}), SMALL, STARTED)
    assert pytest.raises(ValueError, match=words).matches(ValueError(sentence)), sentence


def test_only_a_large_imbalance_is_told() -> None:
    assert cautions(of({"train": [10, 100], "test": [1, 1]}), SMALL, STARTED) == []
    (sentence,) = cautions(of({"train": [20, 500, 300], "test": [1, 1, 1]}), SMALL, STARTED)
    assert "25 times" in sentence


def batch_caution(ref: DatasetRef, training: TrainConfig) -> bool:
    return any("batch" in sentence for sentence in cautions(summarise(ref), SMALL, training))


def write_splits(folder: Path, write_split: WriteSplit, counts: dict[str, int]) -> None:
    for split, count in counts.items():
        write_split(folder, split, [png(i % 2, (8, 8)) for i in range(count)], [i % 2 for i in range(count)], named(2))


@pytest.mark.parametrize("splits", [{"test": 20}, {"validation": 20}])
@pytest.mark.parametrize("count", [62, 70, 72, 80])
def test_a_batch_larger_than_what_is_left_to_learn_from_is_told(
    folder: Path, write_split: WriteSplit, count: int, splits: dict[str, int]
) -> None:
    write_splits(folder, write_split, {"train": count, **splits})
    training = TrainConfig(dataset="pets", batch_size=64, grouped_split=False)  # two pictures, many times
    assert batch_caution(DatasetRef("pets"), training) == (len(load_splits(training, 8).train) < 64)


@pytest.mark.parametrize(
    ("count", "splits"),
    [(70, {"validation": 20, "test": 20}), (80, {})],
)
def test_a_batch_is_compared_with_what_is_left_whichever_splits_there_are(
    folder: Path, write_split: WriteSplit, count: int, splits: dict[str, int]
) -> None:
    write_splits(folder, write_split, {"train": count, **splits})
    training = TrainConfig(dataset="pets", batch_size=64, grouped_split=False)  # two pictures, many times
    assert batch_caution(DatasetRef("pets"), training) == (len(load_splits(training, 8).train) < 64)


def pixels_left(size: int) -> int:
    """Height of what the ImageNet stem and four stages leave of an image."""
    model = create_model("resnet18", 2).eval()
    heights: list[int] = []
    with torch.no_grad(), model.layer4.register_forward_hook(lambda _module, _in, out: heights.append(out.shape[2])):
        model(torch.zeros(1, 3, size, size))
    return heights[0]


@pytest.mark.parametrize("size", [8, 32, 64])
def test_the_large_stem_on_small_images_is_told_with_what_it_leaves_of_them(size: int) -> None:
    (sentence,) = cautions(GOOD, replace(LARGE, image_size=size, resize=None), STARTED)[:1]
    left = pixels_left(size)
    assert sentence.startswith(
        f"resnet18 is designed for 224 px and reduces a {size} px image to {left} x {left} positions: "
    )
    assert not any("is designed for" in sentence for sentence in cautions(GOOD, sized(LARGE, 96), STARTED))


def test_what_the_large_stem_leaves_of_an_odd_size_is_rounded_up_as_convolutions_do() -> None:
    sentence = cautions(GOOD, replace(LARGE, image_size=48, resize=None), STARTED)[0]
    assert f"to {pixels_left(48)} x {pixels_left(48)} positions" in sentence


@pytest.mark.parametrize(("side", "size", "times"), [(32, 64, 4), (32, 224, 49), (100, 200, 4)])
def test_enlarged_images_are_told_with_what_that_costs(side: int, size: int, times: int) -> None:
    summary = of({"train": [500, 500], "test": [1, 1]}, side)
    (sentence,) = cautions(summary, sized(SMALL, size), STARTED)
    assert f"are enlarged from {side} to {size} px: that takes {times} times" in sentence
    assert cautions(summary, sized(SMALL, 2 * side - 1), STARTED) == []


def test_a_network_with_random_weights_is_not_said_to_have_learned_at_some_size() -> None:
    (sentence,) = cautions(GOOD, sized(SMALL, 224), TrainConfig(dataset="pets", strategy="scratch"))
    assert "trained at" not in sentence


@pytest.mark.parametrize("strategy", ["linear-probe", "last-stage", "three-stage", "discriminative", "one-cycle"])
def test_a_strategy_that_spares_random_parts_is_told(strategy: str) -> None:
    (sentence,) = cautions(GOOD, SMALL, TrainConfig(dataset="pets", strategy=strategy))
    assert sentence.startswith(f"The strategy {strategy} ")
    assert cautions(GOOD, SMALL, replace(STARTED, strategy=strategy)) == []


def test_that_test_images_are_held_out_is_told_where_there_are_none() -> None:
    (sentence,) = cautions(of({"train": [500, 500]}), SMALL, STARTED)
    assert sentence.startswith("There are no test images: a fifth ")


def test_test_images_without_labels_are_no_test_images(folder: Path, write_split: WriteSplit) -> None:
    write_splits(folder, write_split, {"train": 100})
    write_split(folder, "test", [png(0, (8, 8))] * 20, [-1] * 20, named(2))
    training = TrainConfig(dataset="pets", start="a-start", grouped_split=False)
    assert load_splits(training, 8).test_name == "train"
    assert any("no test images" in sentence for sentence in cautions(summarise(DatasetRef("pets")), SMALL, training))


def test_several_cautions_come_together_each_a_sentence() -> None:
    training = TrainConfig(dataset="pets", strategy="three-stage", batch_size=64)
    found = cautions(of({"train": [9, 9]}, 16), replace(LARGE, image_size=32, resize=None), training)
    assert len(found) == len(set(found)) == 6
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in found)


# Which dataset


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("cifar10-mini", DatasetRef("cifar10-mini")),
        ("owner/name", DatasetRef("owner/name")),
        ("owner/name@0a1b", DatasetRef("owner/name", revision="0a1b")),
        ("owner/name#plain_text", DatasetRef("owner/name", config="plain_text")),
        ("owner/name@0a1b#plain_text", DatasetRef("owner/name", "plain_text", "0a1b")),
        ("owner/name@refs/convert/parquet#a@b#c", DatasetRef("owner/name", "a@b#c", "refs/convert/parquet")),
    ],
)
def test_a_reference_is_read_as_it_is_written(text: str, ref: DatasetRef) -> None:
    assert DatasetRef.parse(text) == ref
    assert str(ref) == text
    assert ref.is_on_hub == text.startswith("owner/")


@pytest.mark.parametrize("text", ["owner/name@", "owner/name#", "owner/name@#"])
def test_an_empty_revision_or_configuration_is_none(text: str) -> None:
    assert DatasetRef.parse(text) == DatasetRef("owner/name")


@pytest.mark.parametrize("name", ["my#photos", "photos@home"])
def test_a_folder_on_this_machine_is_found_again_by_its_reference(
    folder: Path, write_split: WriteSplit, name: str
) -> None:
    write_split(folder.parent / name, "train", [png(0)], [0], named(2))
    assert name in dataset_folders()
    assert DatasetRef.parse(str(DatasetRef(name))) == DatasetRef(name)


def test_splits_come_in_the_order_in_which_they_are_used_whatever_their_files_are_called(
    folder: Path, write_split: WriteSplit
) -> None:
    for part, split in (("a", "valid"), ("b", "train"), ("c", "test"), ("d", "train"), ("e", "unsupervised")):
        write_split(folder / part, split, [png(0)], [0], named(2))
    (folder / "d" / "train.parquet").touch()
    found = split_files("pets")
    assert [(split, [file.parent.name for file in files]) for split, files in found.items()] == [
        ("train", ["b", "d"]),
        ("validation", ["a"]),
        ("test", ["c"]),
    ]
    assert list(summarise(DatasetRef("pets")).counts) == ["train", "validation", "test"]


def test_a_data_set_that_is_still_being_written_is_not_offered(folder: Path, write_split: WriteSplit) -> None:
    write_split(folder.parent / ".import-0a1b", "train", [png(0)], [0], named(2))
    assert list(dataset_folders()) == ["cifar10-mini"]


# What is kept of many datasets


def test_the_summaries_that_were_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(ref: DatasetRef) -> DatasetSummary:
        read.append(ref.name)
        return DatasetSummary(ref, (), {}, 32, [])

    monkeypatch.setattr(datasets, "summarise", counted)
    monkeypatch.setattr(datasets, "MAX_SUMMARIES", 3)
    app = AppContext(tmp_path)
    for name in ("a", "b", "c", "a", "d", "a", "b"):
        app.datasets.summary(DatasetRef(name))
    assert read == ["a", "b", "c", "d", "b"]
    app.datasets.forget_summary(DatasetRef("a"))
    app.datasets.summary(DatasetRef("a"))
    app.datasets.summary(DatasetRef("b"))
    assert read == ["a", "b", "c", "d", "b", "a"]
