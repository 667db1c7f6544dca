"""Labels and images in tables of any schema: names in another order, texts and numbers, several columns."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import RunConfig, TrainConfig
from resnet_space.data import load_splits
from resnet_space.data.columns import columns_of_files
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_classes, open_dataset
from resnet_space.data.summary import summarise

IMAGE = {"_type": "Image"}
TRAINING = TrainConfig(dataset="set", grouped_split=False)  # most pictures are the same
COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


def named(*names: str) -> dict[str, Any]:
    return {"_type": "ClassLabel", "names": list(names)}


def picture(colour: str, number: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), tuple(max(part - number, 0) for part in COLOURS[colour])).save(file, "PNG")
    return file.getvalue()


def images(colours: Sequence[str]) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": picture(colour, i), "path": None} for i, colour in enumerate(colours)], kind)


def write(folder: Path, split: str, columns: Mapping[str, Any], features: Mapping[str, Any] | None = None) -> Path:
    table = pa.table(dict(columns))
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder / f"{split}-00000-of-00001.parquet"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of the dataset "set"."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    return tmp_path / "set"


def write_named(folder: Path, split: str, classes: Sequence[str], colours: Sequence[str]) -> None:
    """Images in their classes' colours, labelled by these classes' numbers."""
    lower = [name.lower() for name in classes]
    columns = {
        "img": images([colour.lower() for colour in colours]),
        "label": [lower.index(c.lower()) for c in colours],
    }
    write(folder, split, columns, {"img": IMAGE, "label": named(*classes)})


# Splits whose class names are others


@pytest.mark.parametrize(
    ("classes", "colours", "warning"),
    [
        (("red", "green", "blue"), "red green blue", ""),
        (("blue", "red", "green"), "red green blue", ""),
        (("green", "red"), "red green", "The test split has no class 'blue'."),
        (
            ("Blue", "RED", "green"),
            "red green blue",
            "The classes 'Blue', 'RED' of the test split were matched to 'blue', 'red'.",
        ),
    ],
)
def test_a_splits_classes_are_matched_by_name(
    folder: Path, classes: tuple[str, ...], colours: str, warning: str
) -> None:
    write_named(folder, "train", ("red", "green", "blue"), ["red", "green", "blue"] * 4)
    write_named(folder, "test", classes, colours.split() * 2)
    splits = load_splits(TRAINING, 8)
    assert splits.test.classes == splits.train.classes == ("red", "green", "blue")
    assert splits.test.images[:, 4, 4].argmax(1).tolist() == splits.test.labels.tolist()
    assert splits.warnings == tuple(filter(None, [warning]))
    summary = summarise(DatasetRef("set"))
    assert summary.counts["test"] == [2 * colours.split().count(name) for name in ("red", "green", "blue")]
    assert summary.warnings == splits.warnings


def test_a_class_that_is_not_learned_is_left_out_of_the_test_and_told(folder: Path) -> None:
    write_named(folder, "train", ("red", "green"), ["red", "green"] * 6)
    write_named(folder, "test", ("blue", "green", "red"), ["red", "blue", "blue", "green"])
    splits = load_splits(TRAINING, 8)
    assert splits.test.labels.tolist() == [0, 1]
    told = "2 images of the test split were left out because there are no training images of 'blue'."
    assert splits.warnings == summarise(DatasetRef("set")).warnings == (told,)


def test_a_test_of_other_classes_or_without_labels_is_none(folder: Path) -> None:
    write_named(folder, "train", ("red", "green"), ["red", "green"] * 10)
    write_named(folder, "test", ("blue", "cyan"), ["blue"] * 4)
    splits = load_splits(TRAINING, 8)
    assert splits.test_name == "train"
    assert "4 images of the test split were left out" in splits.warnings[0]
    write(folder, "test", {"img": images(["red"] * 4)}, {"img": IMAGE})
    assert load_splits(TRAINING, 8).test_name == "train"
    assert list(summarise(DatasetRef("set")).counts) == ["train"]


def test_names_that_differ_in_case_only_are_matched_exactly_or_not_at_all(folder: Path) -> None:
    file = write(
        folder, "train", {"img": images(["red"] * 2), "label": [0, 1]}, {"img": IMAGE, "label": named("A", "a")}
    )
    numbers, unknown = columns_of_files([file]).match(
        pa.array([0, 1, 2, 3, None, 99]),
        pa.schema([], {"huggingface": json.dumps({"info": {"features": {"label": named("a", "A", "b")}}})}),
    )
    assert numbers.tolist() == [1, 0, -1, -1, -1, -1]
    assert unknown == {"b": 1}


# Labels without names


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["dog", "cat", "cat 10", "cat 2"], ("cat", "cat 2", "cat 10", "dog")),
        ([10, 9, 2, 0], ("0", "2", "9", "10")),
        ([True, False, True, True], ("False", "True")),
        ([1.0, 0.0, 1.0, 3.0], ("0", "1", "3")),
        (pa.array(["b", "a", "b", "c"]).dictionary_encode(), ("a", "b", "c")),
    ],
)
@pytest.mark.parametrize("typed", [True, False])
def test_texts_and_whole_numbers_become_classes(folder: Path, values: Any, classes: Any, typed: bool) -> None:
    column = pa.concat_arrays([values if isinstance(values, pa.Array) else pa.array(values)] * 4)
    features = {"img": IMAGE, "label": {"_type": "Value", "dtype": "x"}} if typed else None
    write(folder, "train", {"img": images(["red"] * 16), "label": column}, features)
    write(folder, "test", {"img": images(["red"] * 4), "label": values}, features)
    columns = open_dataset(DatasetRef("set")).columns
    assert columns.classes == dataset_classes("set") == classes
    numbers, unknown = columns.match(column, pa.schema([]))
    assert [classes[i] for i in numbers[:4]] == [
        str(int(v) if isinstance(v, float) else v) for v in column.to_pylist()[:4]
    ]
    assert not unknown
    splits = load_splits(TRAINING, 8)
    assert (splits.test.classes, len(splits.test), splits.warnings) == (classes, 4, ())
    assert sum(summarise(DatasetRef("set")).counts["train"]) == 16


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([f"a caption of its own {i}" for i in range(12)], "the column 'label' has 12 different values in 12 rows"),
        ([0.5] * 6 + [1.5] * 6, "the column 'label' contains fractional numbers"),
        (["long" * 60, "x"] * 6, "the column 'label' contains long texts"),
        (["same"] * 12, "the column 'label' has only one value"),
        ([None] * 12, "no column of class labels"),
        ([[1]] * 12, "no column of class labels"),
    ],
)
def test_what_cannot_be_classes_is_refused_with_the_reason(folder: Path, column: Any, reason: str) -> None:
    write(folder, "train", {"img": images(["red"] * 12), "label": column})
    with pytest.raises(UserError, match=reason):
        dataset_classes("set")


def test_a_label_that_the_training_images_lack_is_told(folder: Path) -> None:
    write(folder, "train", {"img": images(["red", "blue"] * 6), "label": ["a", "b"] * 6})
    write(folder, "test", {"img": images(["red", "blue", "red"]), "label": ["a", "new", None]})
    splits = load_splits(TRAINING, 8)
    assert splits.test.labels.tolist() == [0]
    told = "1 image of the test split was left out because there are no training images of 'new'."
    assert splits.warnings == (told,)


# Several columns


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"photographer": 5, "label": 2}, "label"),
        ({"age": 9, "gender": 2, "race": 7}, "age"),
        ({"coarse_label": 2, "fine_label": 4}, "fine_label"),
        ({"kind": 4, "Target": 2, "style": 3}, "Target"),
        ({"class": 2, "labels": 3}, "labels"),
    ],
)
def test_of_several_label_columns_the_usual_name_is_taken_or_the_most_classes(
    folder: Path, columns: dict[str, int], label: str
) -> None:
    features = {"img": IMAGE} | {name: named(*(f"{name} {i}" for i in range(count))) for name, count in columns.items()}
    values = {name: [i % count for i in range(20)] for name, count in columns.items()}
    write(folder, "train", {"img": images(["red"] * 20), **values}, features)
    found = open_dataset(DatasetRef("set")).columns
    assert (found.label, set(found.labels)) == (label, set(columns))
    for other, count in columns.items():
        chosen = open_dataset(DatasetRef("set", label=other)).columns
        assert chosen.classes == tuple(f"{other} {i}" for i in range(count))
        # A run that learned from it before keeps it.
        assert open_dataset(DatasetRef("set"), chosen.classes).columns.label == other
    with pytest.raises(UserError, match=r"has no label column 'nope': choose one of "):
        open_dataset(DatasetRef("set", label="nope"))


def test_of_several_image_columns_the_one_named_image_is_taken_and_another_can_be_chosen(folder: Path) -> None:
    columns = {"mask": images(["blue"] * 12), "image": images(["red"] * 12), "label": [0, 1] * 6}
    file = write(folder, "train", columns, {"mask": IMAGE, "image": IMAGE, "label": named("a", "b")})
    assert load_splits(TRAINING, 8).train.images[0, 4, 4].argmax() == 0
    assert load_splits(replace(TRAINING, dataset_image="mask"), 8).train.images[0, 4, 4].argmax() == 2
    assert np.asarray(read_images([file], [0])[0])[4, 4].argmax() == 0
    assert np.asarray(read_images([file], [0], "mask")[0])[4, 4].argmax() == 2
    with pytest.raises(UserError, match=r"has no image column 'label': choose one of image, mask\."):
        open_dataset(DatasetRef("set", image="label"))


def test_images_as_plain_bytes_are_read_where_there_is_no_metadata(folder: Path) -> None:
    write(folder, "train", {"jpg": [picture("blue", i) for i in range(12)], "label": ["a", "b"] * 6})
    assert load_splits(TRAINING, 8).train.images[0, 4, 4].argmax() == 2
    assert summarise(DatasetRef("set")).samples[0].image.getpixel((0, 0))[2] > 100


# What a run keeps of its choice


@pytest.mark.parametrize(
    "text",
    ["name", "a name#with?anything@", "a/b", "a/b@c", "a/b#c d", "a/b@c#d?label=x+y", "a/b?label=%26%3D&image=i"],
)
def test_a_reference_is_the_inverse_of_its_text(text: str) -> None:
    assert str(DatasetRef.parse(text)) == text
    for label in ("a b", "x=y&z", "é?#@", None):
        ref = DatasetRef("a/b", "c", "d", label, label)
        assert DatasetRef.parse(str(ref)) == ref


def test_the_chosen_columns_are_in_the_configuration_and_old_ones_are_read() -> None:
    from resnet_space.config import ModelConfig

    training = TrainConfig("a/b", dataset_label="gender", dataset_image="mask")
    config = RunConfig(ModelConfig("resnet20", ("a", "b")), training)
    assert RunConfig.from_json(config.to_json()) == config
    assert DatasetRef.of(training) == DatasetRef("a/b", None, None, "gender", "mask")
    old = config.to_json()
    del old["training"]["dataset_label"], old["training"]["dataset_image"]
    assert DatasetRef.of(RunConfig.from_json(old).training) == DatasetRef("a/b")
