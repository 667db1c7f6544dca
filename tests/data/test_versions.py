"""A new version of a dataset: what is in it, what its manifest says, and what is refused."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.data import apply_decisions, versions
from resnet_space.data.decisions import MANIFEST, PictureDecision, decisions_in, read_manifest, summary_words
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, open_dataset
from resnet_space.data.summary import summarise
from resnet_space.data.versions import outcome
from tests.conftest import WriteSplit

CLASSES = ("ant", "bee", "cat")
LABELS = {"train": [0, 1, 2, 0, 1, 2], "validation": [0, 1], "test": [0, 1, 2, 0]}


def encoded(split: str, row: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (len(split) * 20, row * 30, 7)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of datasets, with "pets" in it; the pictures are read two at a time."""
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(versions, "BATCH", 2)
    for split, labels in LABELS.items():
        write_split(tmp_path / "pets", split, [encoded(split, i) for i in range(len(labels))], labels, CLASSES)
    return tmp_path


def rows(data: Path, name: str, split: str) -> list[tuple[bytes, str]]:
    """The pictures of a split and their classes."""
    found = open_dataset(DatasetRef(name))
    column, classes = found.columns.image, found.columns.classes
    table = pa.concat_tables([pq.read_table(file) for file in found.files[split]])
    labels = [classes[row["label"]] for row in table.to_pylist()]
    return [(row[column]["bytes"], label) for row, label in zip(table.to_pylist(), labels, strict=True)]


def decision(split: str, index: int, action: str, **more: Any) -> dict[str, Any]:
    return {"split": split, "index": index, "action": action, **more}


def test_a_version_has_all_undecided_pictures_byte_for_byte_and_the_old_dataset_stays(data: Path) -> None:
    before = {path: path.read_bytes() for path in (data / "pets").iterdir()}
    decisions = [
        decision("train", 1, "relabel", label="cat", finding="Labelled bee, but looks like cat.", score=0.9),
        decision("train", 3, "drop"),
        decision("train", 4, "keep"),
        decision("validation", 0, "relabel", label="bee"),
    ]
    manifest = apply_decisions("pets", decisions, "pets-v2", by="ann")
    kept = [(i, CLASSES[label]) for i, label in enumerate(LABELS["train"]) if i != 3]
    expected = [(encoded("train", i), "cat" if i == 1 else label) for i, label in kept]
    assert rows(data, "pets-v2", "train") == expected
    assert [label for _, label in rows(data, "pets-v2", "validation")] == ["bee", "bee"]
    assert rows(data, "pets-v2", "test") == rows(data, "pets", "test")
    assert {path: path.read_bytes() for path in before} == before
    assert summarise(DatasetRef("pets-v2")).classes == CLASSES

    assert read_manifest(data / "pets-v2") == manifest
    raw = json.loads((data / "pets-v2" / MANIFEST).read_text())
    assert (raw["source"], raw["by"], raw["judged"], raw["test_cleaned"]) == ("pets", "ann", "test", False)
    name = "train-00000-of-00001.parquet"
    assert raw["files"][f"train/{name}"] == hashlib.sha256(before[data / "pets" / name]).hexdigest()
    first = raw["changes"][0]
    assert (first["old_label"], first["label"], first["score"]) == ("bee", "cat", 0.9)
    assert first["finding"] == "Labelled bee, but looks like cat."
    assert first["sha256"] == hashlib.sha256(encoded("train", 1)).hexdigest()
    assert manifest.words == "2 relabelled, 1 dropped, 1 kept."
    assert (manifest.dropped("train"), manifest.relabelled("train")) == ({3}, {1: "cat"})


def test_test_pictures_stay_unless_that_is_asked_for(data: Path) -> None:
    decisions = [decision("test", 0, "relabel", label="cat"), decision("test", 2, "drop"), decision("train", 0, "drop")]
    seen = apply_decisions("pets", decisions, "seen")
    assert rows(data, "seen", "test") == rows(data, "pets", "test")
    assert seen.words == "1 dropped; 2 test pictures seen, not changed."
    assert [one.changed for one in seen.changes if one.split == "test"] == [False, False]
    cleaned = apply_decisions("pets", decisions, "cleaned", clean_test=True)
    assert cleaned.test_cleaned
    assert [label for _, label in rows(data, "cleaned", "test")] == ["cat", "bee", "ant"]
    assert cleaned.words == summary_words(outcome("pets", decisions, clean_test=True)[0]) == "1 relabelled, 2 dropped."
    untouched = apply_decisions("pets", [decision("train", 0, "drop")], "untouched", clean_test=True)
    assert not untouched.test_cleaned  # no test picture was changed


def test_without_a_test_split_the_validation_pictures_judge_and_stay(data: Path) -> None:
    (data / "pets" / "test-00000-of-00001.parquet").unlink()
    manifest = apply_decisions("pets", [decision("validation", 0, "drop")], "v2")
    assert (manifest.judged, manifest.words) == ("validation", "1 test picture seen, not changed.")
    (data / "pets" / "validation-00000-of-00001.parquet").unlink()
    assert apply_decisions("pets", [decision("train", 0, "drop")], "v3").judged == ""


@pytest.mark.parametrize(
    ("item", "other", "gone"),
    [
        (("test", 1), ("train", 2), ("train", 2)),  # the test picture stays
        (("train", 2), ("test", 1), ("train", 2)),
        (("validation", 1), ("train", 0), ("train", 0)),
        (("train", 4), ("train", 1), ("train", 4)),  # the first stays
    ],
)
def test_of_two_copies_one_is_kept(item: tuple[str, int], other: tuple[str, int], gone: tuple[str, int]) -> None:
    same = decision(*item, "same", of_split=other[0], of_index=other[1])
    (change,) = apply_decisions("pets", [same], "v2").changes
    assert (change.split, change.index, change.changed) == (*gone, True)
    kept = other if gone == item else item
    assert (change.of_split, change.of_index) == kept


def test_of_two_decisions_about_a_picture_the_last_counts_but_what_is_dropped_stays_dropped() -> None:
    labels = [decision("train", 0, "relabel", label=label) for label in ("bee", "cat")]
    assert [one.label for one in outcome("pets", labels)[0]] == ["cat"]
    assert [one.action for one in outcome("pets", [decision("train", 0, "drop"), *labels])[0]] == ["drop"]
    (same_class,), judged = outcome("pets", [decision("train", 0, "relabel", label="ant")])
    assert (same_class.action, same_class.changed, judged) == ("keep", False, "test")


def test_text_labels_plain_bytes_and_pictures_without_a_label_are_kept_as_they_are(data: Path) -> None:
    (data / "texts").mkdir()
    labels = ["wet", "dry", None, "wet", "dry"]
    images = pa.array([encoded("train", i) for i in range(5)], pa.binary())
    table = pa.table({"picture": images, "class": pa.array(labels)})
    pq.write_table(table, data / "texts" / "train-00000-of-00001.parquet", row_group_size=3)
    apply_decisions("texts", [decision("train", 0, "relabel", label="dry")], "v2")
    (file,) = open_dataset(DatasetRef("v2")).files["train"]
    found = pq.read_table(file).to_pylist()
    assert [row["image"]["bytes"] for row in found] == images.to_pylist()
    assert [row["label"] for row in found] == [0, 0, None, 1, 0]
    assert open_dataset(DatasetRef("v2")).columns.classes == ("dry", "wet")
    named = apply_decisions("texts", [decision("train", 2, "relabel", label="wet")], "v3")
    assert named.changes[0].old_label == ""


@pytest.mark.parametrize(
    ("decisions", "sentence"),
    [
        ([decision("train", 6, "drop")], "There is no picture 6 in the split 'train'"),
        ([decision("train", 0, "relabel", label="dog")], "'dog' is not one of the 3 classes"),
        ([decision("train", 0, "same")], "There is no picture -1 in the split ''"),
        ([decision("train", 0, "same", of_split="train", of_index=0)], "say which other picture it is"),
        ([decision("validation", i, "drop") for i in range(2)], "All pictures of the validation split would be"),
        ([decision("train", 0, "burn")], "is no decision: it must be like"),
        ([decision("train", True, "drop")], "is no decision"),
        ([decision("nowhere", 0, "drop")], "is no decision"),
        (["drop"], "is no decision"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_and_nothing_is_written(
    data: Path, decisions: list[Any], sentence: str
) -> None:
    (data / "pets" / "test-00000-of-00001.parquet").rename(data / "pets" / "other.parquet")  # so validation judges
    with pytest.raises(UserError, match=sentence):
        apply_decisions("pets", decisions, "v2", clean_test=True)
    assert sorted(path.name for path in data.iterdir()) == ["pets"]


def test_a_name_that_is_taken_or_no_name_and_another_picture_in_the_place_are_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pets", "../v2", ".v2", ""):
        with pytest.raises(UserError, match="cannot be named"):
            apply_decisions("pets", [], name)
    table = pq.read_table(data / "pets" / "train-00000-of-00001.parquet").to_pylist()
    named = [row | {"img": row["img"] | {"path": f"{i}.png"}} for i, row in enumerate(table)]
    schema = pq.read_schema(data / "pets" / "train-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(named, schema), data / "pets" / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"Row 2 of train is '2\.png', not '9\.png': the dataset has changed"):
        apply_decisions("pets", [decision("train", 2, "drop", file="9.png")], "v2")
    assert sorted(path.name for path in data.iterdir()) == ["pets"]
    monkeypatch.delenv(DATA_FOLDER_VARIABLE)
    with pytest.raises(UserError, match=f"Set {DATA_FOLDER_VARIABLE}"):
        apply_decisions("cifar10-mini", [], "v2")


def test_decisions_are_read_from_a_file_with_whatever_else_a_finding_has(tmp_path: Path) -> None:
    file = tmp_path / "decisions.json"
    finding = decision("train", 1, "relabel", label="cat", words="Labelled bee.", suggested="cat", score=1)
    file.write_text(json.dumps([finding]))
    assert decisions_in(file) == [PictureDecision("train", 1, "relabel", label="cat", score=1)]
    for text in ("{}", "no JSON"):
        file.write_text(text)
        with pytest.raises(UserError, match="has no JSON list of decisions"):
            decisions_in(file)
    with pytest.raises(UserError, match="cannot be read"):
        decisions_in(tmp_path / "gone.json")
