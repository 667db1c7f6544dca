"""Archives as people have them: splits by other names, doubled folders, cameras, labels in tables or names."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.data import import_archive, import_folder
from resnet_space.data.archives import Decision, ImportReport, read_report
from resnet_space.data.archives.layout import keyword_split

Counts = dict[str, dict[str, int]]


def pictures(*folders: str, each: int = 2, name: str = "{}.png") -> dict[str, bytes]:
    """So many different pictures in each folder."""
    made = {}
    for where, folder in enumerate(folders):
        for i in range(each):
            file = io.BytesIO()
            Image.new("RGB", (4, 4), (where * 16 + i, len(folder), 7)).save(file, "PNG")
            made["/".join(filter(None, (folder, name.format(i))))] = file.getvalue()
    return made


def table(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def imported(tmp_path: Path, contents: Mapping[str, bytes], **options: Any) -> ImportReport:
    """The report of an archive, which is the same as that of a folder with the same files."""
    archive, source = tmp_path / "archive.zip", tmp_path / "source"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in contents.items():
            packed.writestr(name, data)
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
    report = import_archive(archive, tmp_path / "set", **options)
    assert read_report(tmp_path / "set") == report
    by_folder = import_folder(source, tmp_path / "other", **options)
    assert (by_folder.classes, by_folder.counts, by_folder.decisions) == (
        report.classes,
        report.counts,
        report.decisions,
    )
    return report


def decided(report: ImportReport, what: str) -> list[str]:
    return [decision.sentence for decision in report.decisions if decision.what == what]


TWO: Counts = {"train": {"cat": 2, "dog": 2}, "test": {"cat": 2, "dog": 2}}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("training_set", "train"),
        ("Seg_Train", "train"),
        ("train_images", "train"),
        ("validation data", "validation"),
        ("test1", "test"),
        ("2-VAL", "validation"),
        ("my.dev.set", "validation"),
        ("evaluation", "test"),
        ("trains", None),
        ("retraining", None),
        ("contest", None),
        ("devices", None),
        ("train_test", None),
    ],
)
def test_a_split_is_known_by_a_word_of_its_folders_name(name: str, split: str | None) -> None:
    assert keyword_split(name) == split


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("d/train_images", "d/test_images"),
        ("TRAIN-DATA", "Test.Data"),
        ("train", "test1"),
        ("train/train", "test/test"),
        ("train/images", "test/images"),
        ("all/train/train", "all/test/test"),
    ],
)
def test_splits_by_other_names_and_doubled_folders_are_splits(tmp_path: Path, train: str, test: str) -> None:
    report = imported(tmp_path, pictures(f"{train}/cat", f"{train}/dog", f"{test}/cat", f"{test}/dog"))
    assert report.counts == TWO
    assert not report.skipped
    plain = train.split("/")[-2 if "/" in train else 0] in ("train", "all") and not test.endswith("1")
    assert bool(decided(report, "splits")) != plain


def test_an_unlabelled_part_beside_the_splits_is_set_aside_and_told(tmp_path: Path) -> None:
    labelled = [f"seg_{split}/seg_{split}/{name}" for split in ("train", "test") for name in ("cat", "dog")]
    report = imported(tmp_path, pictures(*labelled, "seg_pred/seg_pred"))
    assert report.counts == TWO
    assert report.skipped_count == 2
    assert decided(report, "set aside") == ["2 images without a class were set aside: in 'seg_pred/seg_pred'."]


@pytest.mark.parametrize(
    "names",
    [
        ("train_station", "test_tube", "car"),  # flat: class folders, as ever
        ("val_d_isere", "dog"),
        ("train_a/x", "train_b/x", "car/y"),
    ],
)
def test_class_folders_with_such_a_word_stay_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    report = imported(tmp_path, pictures(*names))
    assert report.counts == {"train": {name.split("/")[0]: 2 for name in sorted(names)}}
    assert report.decisions == []


def test_splits_without_classes_are_not_taken_for_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^The images are not in class folders: put"):
        imported(tmp_path, pictures("train_images", "test_images"))


@pytest.mark.parametrize(
    "outer",
    [("cam1", "cam2"), ("fold1", "fold2", "fold3"), ("train/color", "train/grayscale"), ("a/x", "a/y", "b/x", "b/y")],
)
def test_folders_that_all_hold_the_same_folders_are_merged_or_kept(tmp_path: Path, outer: tuple[str, ...]) -> None:
    contents = pictures(*(f"{folder}/{name}" for folder in outer for name in ("cat", "dog")))
    report = imported(tmp_path, contents)
    assert report.counts == {"train": {"cat": 2 * len(outer), "dog": 2 * len(outer)}}
    (said,) = decided(report, "merged")
    assert "they were merged" in said
    assert report.choices == {"folders": ["merge", "keep"]}
    kept = import_archive(tmp_path / "archive.zip", tmp_path / "kept", folders="keep")
    top = sorted({folder.removeprefix("train/").split("/")[0] for folder in outer})
    assert kept.classes == tuple(top)
    assert "although" in decided(kept, "merged")[0]


def test_folders_with_one_folder_in_common_are_classes(tmp_path: Path) -> None:
    assert imported(tmp_path, pictures("cat/best", "cat/rest", "dog/best", "dog/more")).classes == ("cat", "dog")


def test_classes_of_other_splits_are_matched_without_case_where_that_is_unambiguous(tmp_path: Path) -> None:
    contents = pictures("train/Cat", "train/dog", "train/DOG", "test/cat", "test/dog", "test/Dog")
    report = imported(tmp_path, contents)
    assert report.counts["test"] == {"Cat": 2, "dog": 2}
    assert decided(report, "class names") == ["The class 'cat' of the test split was matched to 'Cat'."]
    assert "2 images of the test split were left out because there are no training images of 'Dog'." in report.warnings


# Labels in the files' names


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        ({"train": "cat.{}.png", "./train": "dog.{}.png", "test1": "{}.png"}, {"train": {"cat": 3, "dog": 3}}),
        ({"": "cat_{}.png", ".": "big dog ({}).png"}, {"train": {"big dog": 3, "cat": 3}}),
        (
            {"train": "cat{}.png", "./train": "dog{}.png", "test": "cat1{}.png", "./test": "cow{}.png"},
            {"train": {"cat": 3, "dog": 3}, "test": {"cat": 3}},
        ),
    ],
)
def test_labels_in_the_files_names_are_read(tmp_path: Path, names: dict[str, str], counts: Counts) -> None:
    contents = {}
    for i, (folder, name) in enumerate(names.items()):
        for path, data in pictures("x" * (i + 1), each=3, name=name).items():
            contents[f"{folder}/{path.split('/')[1]}".removeprefix("./").removeprefix("/")] = data
    report = imported(tmp_path, contents)
    assert report.counts == counts
    assert decided(report, "file names")[0].startswith("The labels come from the beginnings of the file names: ")


@pytest.mark.parametrize(
    "names", [("IMG_{}.png", "DSC_{}.png"), ("{}.png", "cat_{}.png"), ("cat_{}.png", "cat-{}.png")]
)
def test_names_that_are_no_labels_are_none(tmp_path: Path, names: tuple[str, str]) -> None:
    first, second = (pictures("x" * (i + 1), name=name) for i, name in enumerate(names))
    with pytest.raises(UserError, match="class"):
        imported(tmp_path, {path.split("/")[1]: data for path, data in [*first.items(), *second.items()]})


# Labels in tables

ROWS = ("0,a", "1,b", "2,a", "3,b")


@pytest.mark.parametrize(
    ("contents", "counts"),
    [
        pytest.param(
            {**pictures("", each=4), "metadata.csv": table("file_name,label", *(f"{r[0]}.png{r[1:]}" for r in ROWS))},
            {"train": {"a": 2, "b": 2}},
            id="the Hub's imagefolder",
        ),
        pytest.param(
            {
                **pictures("pics", each=4),
                "metadata.csv": table("file_name,label", *(f"pics/{r[0]}.png{r[1:]}" for r in ROWS)),
            },
            {"train": {"a": 2, "b": 2}},
            id="with folders in the table",
        ),
        pytest.param(
            {
                **pictures("train", "test", each=4),
                **{
                    f"{split}/metadata.jsonl": table(
                        *(json.dumps({"file_name": f"{i}.png", "label": i % 2, "box": [1]}) for i in range(4))
                    )
                    for split in ("train", "test")
                },
            },
            {"train": {"0": 2, "1": 2}, "test": {"0": 2, "1": 2}},
            id="one of each split",
        ),
        pytest.param(
            {**pictures("train_images", "test_images", each=4), "train.csv": table("image_id,label", *ROWS)},
            {"train": {"a": 2, "b": 2}},
            id="Kaggle",
        ),
        pytest.param(
            {
                **pictures("images", each=4),
                "train.csv": table("id;label", "0;a", "1;b"),
                "test.csv": table("id;label", "2;a", "3;b"),
                "sample_submission.csv": table("id;label", "2;b", "3;b"),
            },
            {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}},
            id="the tables are the splits",
        ),
        pytest.param(
            {
                **pictures("", each=4),
                "labels.tsv": table("n\tsplit\tspecies", "0\ttrain\ta", "1\ttrain\tb", "2\tval\ta", "3\ttest\tb"),
            },
            {"train": {"a": 1, "b": 1}, "validation": {"a": 1}, "test": {"b": 1}},
            id="a column has the splits",
        ),
        pytest.param(
            {
                **pictures("HAM_part_1", each=2, name="x{}.png"),
                **pictures("HAM_part_2", "", each=2, name="y{}.png"),
                "HAM_metadata.csv": "lesion,image_id,dx\nL1,x0,nv\nL2,x1,mel\nL3,y0,nv\nL3,y1,mel\n".encode("utf-16"),
            },
            {"train": {"mel": 2, "nv": 2}},
            id="HAM10000",
        ),
    ],
)  # fmt: skip
def test_labels_in_a_table_are_read(tmp_path: Path, contents: dict[str, bytes], counts: Counts) -> None:
    report = imported(tmp_path, contents)
    assert report.counts == counts
    assert "names the files" in decided(report, "table")[0]


def test_the_columns_are_told_and_can_be_changed_and_what_is_missing_is_counted(tmp_path: Path) -> None:
    rows = ("0.png,L0,mel,f", "1.png,L1,nv,m", "2.png,L2,mel,m", "3.png,L3,nv,f", "9.png,L9,nv,f")
    contents = {**pictures("", each=6), "about.csv": table("image,lesion,dx,sex", *rows)}
    report = imported(tmp_path, contents)
    assert report.counts == {"train": {"mel": 2, "nv": 2}}
    assert decided(report, "table") == [
        "The labels come from the column 'dx' of 'about.csv', whose column 'image' names the files; rows without an "
        "image: 1, images without a row: 2."
    ]
    assert report.choices == {"label_column": ["dx", "sex"]}
    assert {skipped.name: skipped.reason for skipped in report.skipped} == dict.fromkeys(
        ("4.png", "5.png"), "It has no label."
    )
    other = import_archive(tmp_path / "archive.zip", tmp_path / "sexes", label_column="sex")
    assert other.classes == ("f", "m")
    for wish, reason in (
        ({"label_column": "lesion"}, "The tables have no label column 'lesion': choose one of dx, sex."),
        ({"image_column": "sex"}, "No table has a column 'sex' with image names: leave it empty."),
    ):
        with pytest.raises(UserError) as refused:
            import_archive(tmp_path / "archive.zip", tmp_path / "no", **wish)
        assert str(refused.value) == reason


def test_class_folders_come_before_a_table_unless_its_column_is_asked_for(tmp_path: Path) -> None:
    contents = {
        **pictures("cat", name="c{}.png"),
        **pictures("dog", "", name="d{}.png"),
        "notes.csv": table("file,label", "c0.png,good", "c1.png,bad", "d0.png,good", "d1.png,bad"),
    }
    report = imported(tmp_path, {name: data for name, data in contents.items() if "/" in name or name == "notes.csv"})
    assert report.classes == ("cat", "dog")
    assert report.skipped[0].name == "notes.csv"
    assert "could be used instead" in decided(report, "table")[0]
    assert report.choices == {"label_column": ["label"]}
    assert import_archive(tmp_path / "archive.zip", tmp_path / "x", label_column="label").classes == ("bad", "good")


@pytest.mark.parametrize(
    "data",
    [b"", b"image_id,label\n", b"\xff\xfe\x00", b'"', b"a,a\n1,2\n", b"x,y\n" * 3, b"{", b"[1]\n", b'{"a": {}}\n'],
)
@pytest.mark.parametrize("name", ["train.csv", "metadata.jsonl"])
def test_a_table_that_says_nothing_changes_nothing(tmp_path: Path, data: bytes, name: str) -> None:
    report = imported(tmp_path, {**pictures("cat", "dog"), name: data})
    assert report.classes == ("cat", "dog")
    assert report.decisions == []
    assert [skipped.name for skipped in report.skipped] == [name]


def test_a_report_from_before_there_were_decisions_is_read(tmp_path: Path) -> None:
    report = imported(tmp_path, pictures("cat", "dog"))
    file = tmp_path / "set" / "report.json"
    old = json.loads(file.read_text())
    del old["decisions"], old["choices"]
    file.write_text(json.dumps(old))
    assert read_report(tmp_path / "set") == report
    file.write_text(json.dumps(old | {"decisions": [{"what": "splits", "sentence": "So."}]}))
    assert read_report(tmp_path / "set").decisions == [Decision("splits", "So.")]
