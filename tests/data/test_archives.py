import gc
import gzip
import io
import json
import lzma
import os
import random
import re
import shutil
import struct
import tarfile
import time
import tracemalloc
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFile

from resnet_space.common.errors import UserError
from resnet_space.data import images
from resnet_space.data.archives import (
    ABANDONED,
    ImportLimits,
    ImportReport,
    Skipped,
    import_archive,
    import_folder,
    read_report,
    tars,
    writing,
)
from resnet_space.data.archives.layout import locate, split_and_class
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_classes, split_files
from resnet_space.data.words import natural_order
from tests.odd_pictures import tiff

Contents = Mapping[str, bytes] | Iterable[tuple[str, bytes]]
TAR_ENDINGS = ("", ":gz", ":bz2", ":xz")


def picture(number: int, size: tuple[int, int] = (4, 4), kind: str = "PNG", **options: object) -> bytes:
    """A plain image; every number has a colour of its own, so that no two are copies."""
    file = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(file, kind, **options)
    return file.getvalue()


def pictures(*names: str) -> dict[str, bytes]:
    return {name: picture(i) for i, name in enumerate(names)}


def zipped(contents: Contents) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of two members with one name
        for name, data in dict(contents).items() if isinstance(contents, Mapping) else contents:
            archive.writestr(name, data)
    return file.getvalue()


def tarred(contents: Contents, ending: str = "", extra: Iterable[tarfile.TarInfo] = ()) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w{ending}") as archive:  # pyrefly: ignore[no-matching-overload]
        for name, data in dict(contents).items() if isinstance(contents, Mapping) else contents:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info, io.BytesIO(bytes(info.size)) if info.size else None)
    return file.getvalue()


class Workplace:
    """Imports to `data/set`, and looks after every import whether anything lies where it should not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.folder = self.data / "set"
        self.data.mkdir()

    def run(self, archive: bytes, **options: object) -> ImportReport:
        file = self.root / "archive"
        file.write_bytes(archive)
        return self._checked(lambda: import_archive(file, self.folder, **options), {"data", "archive"})

    def run_folder(self, source: Path, **options: object) -> ImportReport:
        return self._checked(
            lambda: import_folder(source, self.folder, **options), {p.name for p in self.root.iterdir()}
        )

    def _checked(self, run: Callable[[], ImportReport], expected: set[str]) -> ImportReport:
        done = False
        try:
            report = run()
            done = True
            return report
        finally:
            assert {path.name for path in self.root.iterdir()} == expected
            assert [path.name for path in self.data.iterdir()] == (["set"] if done else [])
            if done:
                assert all(path.suffix in (".parquet", ".json") for path in self.folder.iterdir())

    def forget(self) -> None:
        shutil.rmtree(self.folder)

    def rows(self, split: str = "train") -> list[tuple[str, str, bytes]]:
        """(class, file name, bytes) of each image of a split, in order."""
        files = sorted(self.folder.glob(f"{split}-*.parquet"))
        names = json.loads(pq.read_schema(files[0]).metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        table = pa.concat_tables([pq.read_table(file) for file in files])
        return [(names[row["label"]], row["image"]["path"], row["image"]["bytes"]) for row in table.to_pylist()]

    def refused(self, archive: bytes, message: str, **options: object) -> str:
        with pytest.raises(UserError, match=message) as caught:
            self.run(archive, **options)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert sentence[0].isupper()
        assert sentence[-1] in ".)"
        return sentence


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def reasons(report: ImportReport) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in report.skipped}


# The dataset that comes out


def test_the_data_set_is_read_by_the_rest_of_the_code(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = pictures("train/cat/2.png", "train/ant/1.png", "val/ant/3.png", "test/cat/4.png", "test/ant/5.png")
    report = workplace.run(zipped(contents))
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(workplace.data))
    assert dataset_classes("set") == report.classes == ("ant", "cat")
    files = split_files("set")
    assert {split: [file.name for file in paths] for split, paths in files.items()} == {
        split: [f"{split}-00000-of-00001.parquet"] for split in ("train", "validation", "test")
    }
    schema = pq.read_schema(files["train"][0])
    assert schema.names == ["image", "label"]
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert schema.field("label").type == pa.int64()
    assert json.loads(schema.metadata[b"huggingface"]) == {
        "info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["ant", "cat"], "_type": "ClassLabel"}}}
    }
    assert workplace.rows() == [
        ("ant", "1.png", contents["train/ant/1.png"]),
        ("cat", "2.png", contents["train/cat/2.png"]),
    ]
    assert report.counts == {
        "train": {"ant": 1, "cat": 1},
        "validation": {"ant": 1},
        "test": {"ant": 1, "cat": 1},
    }


def test_the_report_is_kept_beside_the_data_set(workplace: Workplace) -> None:
    contents = {**pictures("train/ä/1.png", "train/b/2.png", "test/b/3.png"), "train/b/bad.png": b"no image"}
    report = workplace.run(zipped(contents))
    assert report.skipped_count == 1
    assert report.warnings
    assert read_report(workplace.folder) == report
    assert read_report(workplace.data) is None
    for damaged in ("", "[]", "{}", '{"classes": 1}'):
        (workplace.folder / "report.json").write_text(damaged)
        assert read_report(workplace.folder) is None


@pytest.mark.parametrize("ending", ["zip", *TAR_ENDINGS])
def test_the_format_does_not_matter_nor_does_the_order_in_the_archive(workplace: Workplace, ending: str) -> None:
    contents = list(pictures("b/2.png", "a/10.png", "b/1.png", "a/9.png", "a/1/x.png").items())
    expected = [("a", "10.png"), ("a", "9.png"), ("a", "x.png"), ("b", "1.png"), ("b", "2.png")]
    for members in (contents, contents[::-1]):
        workplace.run(zipped(members) if ending == "zip" else tarred(members, ending))
        rows = workplace.rows()
        assert [row[:2] for row in rows] == expected
        assert rows[0][2] == dict(contents)["a/10.png"]
        workplace.forget()


def test_classes_are_in_natural_order(workplace: Workplace) -> None:
    names = ["Class 10", "class 2", "class 1", "b", "A", "7", "10", "²", "٣"]
    assert workplace.run(zipped(pictures(*(f"{name}/x.png" for name in names)))).classes == (
        "٣", "7", "10", "A", "b", "class 1", "class 2", "Class 10", "²"
    )  # fmt: skip
    assert natural_order("a2") < natural_order("a10")


def test_small_pictures_are_kept_as_they_are_and_large_ones_become_upright_jpegs(workplace: Workplace) -> None:
    transparent = io.BytesIO()
    Image.new("RGBA", (600, 600), (0, 0, 0, 0)).save(transparent, "PNG")
    sideways = Image.Exif()
    sideways[0x0112] = 6  # turned by a quarter
    contents = {
        "a/small.png": picture(1, (512, 700)),
        "a/sideways-small.jpg": picture(2, (40, 20), "JPEG", exif=sideways),
        "b/large.jpg": picture(3, (1600, 1200), "JPEG", exif=sideways),
        "b/panorama.png": picture(4, (2000, 513)),
        "b/transparent.png": transparent.getvalue(),
    }
    workplace.run(zipped(contents))
    kept = {name: data for _, name, data in workplace.rows()}
    assert kept["small.png"] == contents["a/small.png"]
    assert kept["sideways-small.jpg"] == contents["a/sideways-small.jpg"]
    sizes = {}
    for name in ("large.jpg", "panorama.png", "transparent.png"):
        with Image.open(io.BytesIO(kept[name])) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert image.getexif().get(0x0112, 1) == 1
            sizes[name] = image.size
            colour = np.asarray(image)[100, 100]
        expected = {"large.jpg": (3, 0, 7), "panorama.png": (4, 0, 7), "transparent.png": (255, 255, 255)}[name]
        assert np.abs(colour.astype(int) - expected).max() <= 4
    assert sizes == {"large.jpg": (512, 683), "panorama.png": (1996, 512), "transparent.png": (512, 512)}


def test_a_large_data_set_is_written_in_several_files_and_row_groups(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = pictures(*(f"{'ab'[i % 2]}/{i:03}.png" for i in range(60)))
    size = len(picture(0))
    monkeypatch.setattr(writing, "SHARD_BYTES", 25 * size)
    monkeypatch.setattr(writing, "ROW_GROUP_BYTES", 10 * size)
    workplace.run(zipped(contents))
    files = sorted(workplace.folder.glob("*.parquet"))
    assert [file.name for file in files] == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert [pq.read_metadata(file).num_row_groups for file in files] == [3, 3, 1]
    assert {f"{row[0]}/{row[1]}": row[2] for row in workplace.rows()} == contents


def test_progress_reaches_the_end(workplace: Workplace, tmp_path: Path) -> None:
    contents = pictures("a/1.png", "a/2.png", "b/3.png")
    told: list[tuple[int, int]] = []
    workplace.run(zipped(contents), progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    workplace.folder.rename(workplace.root / "first")
    archive = tarred(contents)
    (tmp_path / "archive.tar").write_bytes(archive)
    import_archive(tmp_path / "archive.tar", tmp_path / "second", progress=lambda *now: told.append(now))
    assert len(told) == 3
    assert told == sorted(told)
    assert all(0 < done <= total == len(archive) for done, total in told)


# Layouts


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("cat/1 dog/2", "train/cat train/dog"),
        ("train/cat/1 test/dog/2", "train/cat test/dog"),
        ("cat/train/1 dog/test/2", "train/cat test/dog"),
        ("data/cat/1 data/dog/2", "train/cat train/dog"),
        ("my/own/data/train/cat/1 my/own/data/val/dog/2", "train/cat validation/dog"),
        ("data/cat/train/1 data/dog/Valid/2", "train/cat validation/dog"),
        ("TRAINING/cat/1 Dev/cat/2 EVAL/cat/3 testing/cat/4", "train/cat validation/cat test/cat test/cat"),
        ("cat/sub/1 cat/2 dog/a/b/3", "train/cat train/cat train/dog"),
        ("train/cat/sub/1 test/cat/test/2", "train/cat test/cat"),
        ("a/train/cat/1 b/train/dog/2", "train/cat train/dog"),  # wrapped in parts
        ("test/train/cat/1 test/val/cat/2", "train/cat validation/cat"),  # wrapped in something called "test"
        ("train/train/1 train/car/2 test/train/3", "train/train train/car test/train"),  # a class of trains
        ("train/1 car/2 plane/3", "train/train train/car train/plane"),
        ("cat/1 dog/2 test/cat/3", "train/cat train/dog test/cat"),
        # What is in no class or split is left out.
        ("cat/1 dog/2 cover", "train/cat train/dog -"),
        ("data/cat/1 data/dog/2 data/cover", "train/cat train/dog -"),
        ("train/cat/1 train/dog/2 docs/logo", "train/cat train/dog -"),
        ("cat/1 dog/2 test/3", "train/cat train/dog -"),  # a test without labels
        ("data/train/cat/1 data/train/dog/2 data/test/3 data/test/4 data/test/5", "train/cat train/dog - - -"),
        ("1 2", "- -"),
        ("train/1 test/2", "- -"),
        ("data/train/1 data/test/2", "train/data test/data"),  # one class with its splits
        ("data/cat/1 data/cat/2", "train/cat train/cat"),
        ("", ""),
    ],
)
def test_folders_are_taken_for_splits_and_classes(names: str, expected: str) -> None:
    found = split_and_class(locate([tuple(name.split("/")[:-1]) for name in names.split()])[0])
    assert " ".join("/".join(where) if where else "-" for where in found) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", r"^There are no files to import: put the images of each class into a folder"),
        ("1.png 2.png", r"^The images are not in class folders: put .*cats/1.jpg"),
        (
            "data/train/1.png data/train/2.png data/test/cat/3.png",
            r"^There are only test images and no training",
        ),
        ("cat/1.png cat/2.png", r"^There is only one class, 'cat', but at least two are needed: put"),
        ("cat/train/1.png cat/test/2.png", r"^There is only one class, 'cat'"),
        ("test/cat/1.png test/dog/2.png", r"^There are only test images and no training images: put"),
    ],
)
def test_folders_that_make_no_data_set_are_explained(workplace: Workplace, names: str, message: str) -> None:
    workplace.refused(zipped(pictures(*names.split())), message)
    workplace.refused(tarred(pictures(*names.split())), message)


def test_system_files_are_ignored_silently(workplace: Workplace) -> None:
    rest = dict.fromkeys(
        (
            "__MACOSX/data/a/._1.png",
            "data/a/._1.png",
            "data/.DS_Store",
            "data/a/Thumbs.db",
            ".git/x.png",
            "a/desktop.ini",
        ),
        b"?",
    )
    contents = {**rest, **pictures("data/a/1.png", "data/b/2.png", "./data/b/3.png")}
    for archive in (zipped([("data/", b""), *contents.items()]), tarred(contents)):
        report = workplace.run(archive)
        assert report == ImportReport(("a", "b"), {"train": {"a": 1, "b": 2}}, (), 0, report.warnings)
        workplace.forget()


@pytest.mark.parametrize("name", ["Кот", "猫", "chat à poil long", "कुत्ता", "🐈", "it's 100% <b>\"cat"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_class_names_may_be_in_any_script(workplace: Workplace, name: str, form: str) -> None:
    other = unicodedata.normalize(form, name)
    for archive in (
        zipped(pictures(f"{other}/1.png", "dog/2.png")),
        tarred(pictures(f"{other}/1.png", "dog/2.png")),
        unflagged(zipped(pictures(f"{other}/1.png", "dog/2.png"))),
    ):
        report = workplace.run(archive)
        assert set(report.classes) == {"dog", unicodedata.normalize("NFC", name)}
        assert not report.skipped
        workplace.forget()


def unflagged(archive: bytes) -> bytes:
    """A zip whose names do not say that they are in UTF-8, as macOS makes them."""
    data = bytearray(archive)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + flags + 1] &= ~0x08
            at = data.find(signature, at + 4)
    return bytes(data)


def test_names_from_before_unicode_are_read_as_cp437(workplace: Workplace) -> None:
    data = zipped(pictures("Bxr/1.png", "dog/2.png")).replace(b"Bxr/", b"B\x84r/")
    assert workplace.run(data).classes == ("Bär", "dog")
    workplace.forget()
    latin = tarred(pictures("Bxr/1.png", "dog/2.png"))
    latin = retarred(latin, b"Bxr/1.png", b"B\x84r/1.png")
    assert workplace.run(latin).classes == ("Bär", "dog")


def retarred(archive: bytes, old: bytes, new: bytes) -> bytes:
    """A plain tar with bytes of a header changed, and that header's checksum right."""
    data = bytearray(archive)
    at = data.index(old)
    start = at // 512 * 512
    data[at : at + len(new)] = new
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


def raw_zip(names: Mapping[bytes, bytes], extra: Callable[[bytes], bytes] = lambda name: b"") -> bytes:
    """A zip of names as old tools write them, and of extra fields."""
    body, entries = b"", b""
    for name, data in names.items():
        sizes = struct.pack("<3L2H", zlib.crc32(data), len(data), len(data), len(name), len(extra(name)))
        entries += struct.pack("<4s6H", b"PK\1\2", 20, 20, 0, 0, 0, 0x5821) + sizes
        entries += struct.pack("<3H2L", 0, 0, 0, 0, len(body)) + name + extra(name)
        body += struct.pack("<4s5H", b"PK\3\4", 20, 0, 0, 0, 0x5821) + sizes + name + extra(name) + data
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(names), len(names), len(entries), len(body), 0)
    return body + entries + tail


def in_encoding(classes: Iterable[str], codec: str) -> dict[bytes, bytes]:
    return {f"{name}/{i}.png".encode(codec): picture(5 * k + i) for k, name in enumerate(classes) for i in range(2)}


@pytest.mark.parametrize(
    ("classes", "codec", "title"),
    [
        ("ソファ ソックス 猫", "cp932", "Shift-JIS"),  # a backslash is in two of them
        ("表 裏", "cp932", "Shift-JIS"),
        ("りんご みかん バナナ", "cp932", "Shift-JIS"),
        ("猫 狗", "gbk", "GBK"),  # the first would be UTF-8 by chance
        ("苹果 香蕉 橙子", "gbk", "GBK"),
        ("功夫 功能 貓", "cp950", "Big5"),
        ("蘋果 香蕉 許", "cp950", "Big5"),
        ("고양이 강아지", "cp949", "Korean"),
        ("Löwe Käfer Größe", "cp1252", "cp1252"),
        ("éléphant forêt garçon", "cp1252", "cp1252"),
        ("Löwe Käfer", "cp437", "cp437"),
        ("niño mañana", "cp437", "cp437"),
        ("Кошки Собаки", "cp866", "cp866"),
        ("Норма Брак", "cp866", "cp866"),
        ("Кошки Собаки", "cp1251", "cp1251"),
        ("żółw łoś", "cp1250", "cp1250"),
        ("猫 犬 Löwe", "utf-8", ""),
    ],
)
def test_the_names_of_old_zips_are_read_in_one_encoding_that_is_told(
    workplace: Workplace, classes: str, codec: str, title: str
) -> None:
    report = workplace.run(raw_zip(in_encoding(classes.split(), codec)))
    assert set(report.classes) == set(classes.split())
    assert [decision.what for decision in report.decisions] == ["encoding"] * bool(title)
    assert all(title in decision.sentence and decision.sentence.endswith(".") for decision in report.decisions)
    assert read_report(workplace.folder) == report


@pytest.mark.parametrize(("classes", "codec", "sure"), [
    ("苹果 香蕉 橙子", "gbk", True), ("ソファ 机 猫", "cp932", True), ("Кошки Собаки", "cp866", True),
    ("café dog", "cp1252", False), ("É à", "cp1252", False),
])  # fmt: skip
def test_an_unsure_encoding_is_said_to_be_a_guess(workplace: Workplace, classes: str, codec: str, sure: bool) -> None:
    (decision,) = workplace.run(raw_zip(in_encoding(classes.split(), codec))).decisions
    assert ("guess" in decision.sentence) != sure


def test_a_unicode_name_beside_the_old_one_is_taken_where_its_checksum_fits(workplace: Workplace) -> None:
    names = in_encoding(["ソファ", "猫"], "cp932")

    def field(name: bytes, checksum: int) -> bytes:
        text = name.decode("cp932").replace("猫", "猫 (Katze)").encode()
        return struct.pack("<HHHHBL", 0x5455, 0, 0x7075, 5 + len(text), 1, checksum) + text

    report = workplace.run(raw_zip(names, lambda name: field(name, zlib.crc32(name))))
    assert set(report.classes) == {"ソファ", "猫 (Katze)"}
    assert not report.decisions
    workplace.forget()
    report = workplace.run(raw_zip(names, lambda name: field(name, 5)))
    assert set(report.classes) == {"ソファ", "猫"}
    workplace.forget()
    empty = struct.pack("<HHBL", 0x7075, 5, 1, 0)
    assert set(
        workplace.run(raw_zip(names, lambda name: empty[:-4] + struct.pack("<L", zlib.crc32(name)))).classes
    ) == {
        "ソファ",
        "猫",
    }


def test_backslashes_separate_folders(workplace: Workplace) -> None:
    archive = zipped(pictures("d|train|a|1.png", "d|train|b|2.png", "d|test|a|3.png")).replace(b"|", b"\\")
    assert workplace.run(archive).counts == {"train": {"a": 1, "b": 1}, "test": {"a": 1}}


def test_classes_that_differ_in_case_only_stay_apart_with_a_warning(workplace: Workplace) -> None:
    report = workplace.run(zipped(pictures("Cats/1.png", "cats/2.png", "dogs/3.png", "dogs/4.png")))
    assert report.classes == ("Cats", "cats", "dogs")
    assert "Some class names differ only in case: 'Cats', 'cats'." in report.warnings


# Classes and copies


def test_a_class_with_one_image_or_missing_from_a_split_is_warned_of(workplace: Workplace) -> None:
    names = "train/a/1 train/a/2 train/b/3 train/c/4 test/a/5 test/c/6 test/new/7 test/new/8 val/a/9 val/c/10"
    report = workplace.run(zipped(pictures(*names.split())))
    assert report.classes == ("a", "b", "c")
    assert report.counts == {
        "train": {"a": 2, "b": 1, "c": 1},
        "validation": {"a": 1, "c": 1},
        "test": {"a": 1, "c": 1},
    }
    assert report.warnings == (
        "2 images of the test split were left out because there are no training images of 'new'.",
        "There is only one image of 'b': a single image cannot serve both to train and to test a class.",
        "The validation split has no images of 'b'.",
        "The test split has no images of 'b'.",
    )
    assert reasons(report) == dict.fromkeys(("test/new/7", "test/new/8"), "Its class has no training images.")


def test_without_split_folders_no_class_is_missing_from_a_split(workplace: Workplace) -> None:
    assert workplace.run(zipped(pictures("a/1", "a/2", "b/3", "b/4"))).warnings == ()


def test_a_class_whose_training_images_are_all_damaged_is_not_learned(workplace: Workplace) -> None:
    contents = {**pictures("train/a/1", "train/b/2", "train/b/3", "test/c/4"), "train/c/5": b"damaged"}
    report = workplace.run(zipped(contents))
    assert report.classes == ("a", "b")
    assert "test" not in report.counts
    assert not list(workplace.folder.glob("test-*"))


def test_copies_across_splits_are_dropped_where_they_would_be_judged(workplace: Workplace) -> None:
    contents = pictures(
        "train/a/1", "train/a/2", "train/b/3", "train/b/4", "test/a/5", "test/b/6", "val/a/7", "val/b/8"
    )
    contents["test/a/copy"] = contents["train/a/1"]
    contents["test/a/mislabelled"] = contents["train/b/3"]
    contents["val/b/copy"] = contents["test/b/6"]
    report = workplace.run(zipped(contents))
    assert report.counts == {
        "train": {"a": 2, "b": 2},
        "validation": {"a": 1, "b": 1},
        "test": {"a": 1, "b": 1},
    }
    assert {row[1] for row in workplace.rows("test")} == {"5", "6"}
    assert {row[1] for row in workplace.rows("validation")} == {"7", "8"}
    assert [warning.split(" because")[0] for warning in report.warnings] == [
        "2 images of the test split were left out",
        "1 image of the validation split was left out",
    ]


def test_copies_within_a_split_are_dropped_from_a_class_and_kept_in_two(workplace: Workplace) -> None:
    contents = pictures("a/1", "a/2", "b/3", "b/4")
    contents |= {"a/0": contents["a/1"], "a/9": contents["a/1"], "b/also": contents["a/2"]}
    report = workplace.run(zipped(contents))
    assert [row[:2] for row in workplace.rows()] == [
        ("a", "0"), ("a", "2"), ("b", "3"), ("b", "4"), ("b", "also")
    ]  # fmt: skip
    assert report.warnings == (
        "2 images of the train split were left out because the same class contains exact copies.",
        "Several classes of the train split share 1 image, whose labels contradict each other.",
    )


def test_two_members_of_one_name_are_both_taken(workplace: Workplace) -> None:
    members = [("a/1", picture(1)), ("a/1", picture(2)), ("b/1", picture(3))]
    for archive in (zipped(members), tarred(members)):
        assert workplace.run(archive).counts == {"train": {"a": 2, "b": 1}}
        workplace.forget()


# Files that are no images


def test_what_is_no_image_is_skipped_and_listed(workplace: Workplace) -> None:
    whole = picture(9, (64, 64))
    contents = {
        **pictures("a/1.png", "b/2.png"),
        "a/empty.png": b"",
        "a/text.jpg": b"hello",
        "a/cut.png": whole[: len(whole) // 2],
        "README.txt": b"about",
        "b/inner.zip": zipped(pictures("x/1.png")),
        "b/inner.tar.gz": b"?",
        "a/huge.png": huge_png(),
        "a/no-archive.rar": b"Rar!",
    }
    for archive in (zipped(contents), tarred(contents, ":gz")):
        report = workplace.run(archive)
        assert report.counts == {"train": {"a": 1, "b": 1}}
        why = reasons(report)
        assert report.skipped_count == len(why) == 8
        assert all(reason.endswith(".") for reason in why.values())
        assert why["a/empty.png"] == why["a/text.jpg"] == why["README.txt"]
        assert why["a/text.jpg"].startswith("This file is not an image")
        assert why["a/cut.png"].startswith("The image is damaged")
        assert "million" in why["a/huge.png"]
        for name in ("b/inner.zip", "b/inner.tar.gz", "a/no-archive.rar"):
            assert why[name] == "Nested archives are not opened: put their folders in the archive itself."
        workplace.forget()


def huge_png() -> bytes:
    """A header of 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    chunk = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT" + bytes(8)


def test_the_list_of_skipped_files_is_short_and_the_count_whole(workplace: Workplace) -> None:
    contents = {**pictures("a/1", "b/2"), **{f"a/bad{i:03}": b"?" for i in range(150)}}
    report = workplace.run(zipped(contents))
    assert (len(report.skipped), report.skipped_count) == (100, 150)
    assert report.skipped[0].name == "a/bad000"


def test_where_no_file_is_an_image_the_first_reason_is_told(workplace: Workplace) -> None:
    workplace.refused(
        zipped({"a/1.txt": b"?", "b/2.txt": b"?"}),
        r"^None of the 2 files is an image that can be used; the first is 'a/1.txt': This file is not an image",
    )


def test_a_class_of_which_no_file_can_be_read_is_named_with_its_format(workplace: Workplace) -> None:
    lost = {f"dogs/{i}.CR2": b"II*\0 of a camera" for i in range(3)} | {"dogs/notes.txt": b"?", "docs/read.md": b"?"}
    sentence = (
        "None of the images in the folder 'dogs' can be read: it has 3 .cr2 files (camera RAW); save them as "
        "JPEG or PNG."
    )
    workplace.refused(zipped({**pictures("cats/1.png"), **lost}), f"only one class, 'cats'.* {re.escape(sentence)}$")
    report = workplace.run(zipped({**pictures("cats/1.png", "cats/2.png", "birds/3.png"), **lost}))
    assert sentence in report.warnings
    assert not any("docs" in warning for warning in report.warnings)
    workplace.forget()
    many = {f"{i}/x.jpg": b"?" for i in range(8)}
    warnings = workplace.run(zipped({**pictures("cats/1.png", "birds/3.png"), **many})).warnings
    assert (
        "None of the images in the folder '0' can be read: it has 1 .jpg file (damaged, or not of the type "
        "their names say)" in warnings[-6]
    )
    assert warnings[-1] == "None of the images in 3 more folders can be read either."


# Pictures of more than 8 bits


def grey16(values: Iterable[int], side: int = 4) -> bytes:
    file = io.BytesIO()
    row = np.array(list(values), dtype=np.uint16)
    Image.fromarray(row[None].repeat(side, axis=0)).resize((side, side), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def test_pictures_of_16_bits_have_one_scale_in_a_data_set(workplace: Workplace) -> None:
    contents = {
        "a/bright.png": grey16((0, 4095, 2048, 8)),
        "a/dark.png": grey16((0, 255, 128, 8)),
        "b/plain.png": grey16((4095,) * 4),
        "b/large.png": grey16((0, 4095, 2048, 1024), 1_200),
        **pictures("b/usual.png"),
    }
    report = workplace.run(zipped(contents))
    assert [(decision.what, decision.sentence) for decision in report.decisions] == [
        ("scale", "4 images with 16 bits per channel, of which at most 12 are used: scaled from 12 bits.")
    ]
    kept = {name: Image.open(io.BytesIO(data)) for _, name, data in workplace.rows()}
    assert {image.mode for image in kept.values()} == {"RGB"}
    brightest = {name: image.convert("L").getextrema()[1] for name, image in kept.items()}
    assert brightest == {"bright.png": 255, "dark.png": 16, "plain.png": 255, "large.png": 255, "usual.png": 1}
    assert (kept["large.png"].format, kept["large.png"].size) == ("JPEG", (512, 512))
    assert read_report(workplace.folder) == report


def test_pictures_of_several_bands_are_told_of(workplace: Workplace) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 5), dtype=np.uint8)
    report = workplace.run(zipped({"a/five.tif": tiff(values), **pictures("b/1.png")}))
    assert [decision.sentence for decision in report.decisions] == [
        "1 image with several bands: the first three are used as RGB, or the first of two as grey."
    ]
    (kept,) = [data for _, name, data in workplace.rows() if name == "five.tif"]
    with Image.open(io.BytesIO(kept)) as image:
        assert np.array_equal(np.asarray(image), values[..., :3])


# What pictures may cost


def test_pictures_of_far_more_pixels_than_bytes_end_an_import_early(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    load = images._load

    def counted(image: ImageFile.ImageFile) -> object:
        decoded.append(1)
        return load(image)

    monkeypatch.setattr(images, "_load", counted)
    contents = {f"{'ab'[i % 2]}/{i}.png": blank_png(1_000, 1_000 + i) for i in range(30)}
    workplace.refused(
        zipped(contents),
        r"^The images have more than 5 million pixels, the maximum for files this small:",
        limits=ImportLimits(pixels=5_000_000),
    )
    assert 5 <= len(decoded) <= 12
    assert sum(len(data) for data in contents.values()) * ImportLimits().pixels_per_byte < 25_000_000
    workplace.run(zipped(contents))
    workplace.forget()
    photographs = {f"{'ab'[i % 2]}/{i}.jpg": picture_of_noise(i) for i in range(4)}
    workplace.run(zipped(photographs), limits=ImportLimits(pixels=1))


def blank_png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def picture_of_noise(seed: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((600, 400)).save(file, "JPEG", quality=80)
    return file.getvalue()


def test_an_import_that_takes_too_long_ends_in_a_sentence(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr("resnet_space.data.archives.members.time.monotonic", lambda: next(clock))
    contents = pictures(*(f"{i % 2}/{i}.png" for i in range(8)))
    workplace.refused(
        zipped(contents),
        r"^Reading the images takes longer than 2 minutes: import fewer",
        limits=ImportLimits(seconds=120),
    )


# Hostile archives

ESCAPES = [
    "../evil.png", "a/../../evil.png", "/evil.png", "/tmp/evil.png", "C:\\evil.png", "c:/evil.png", "..\\evil.png",
    "\\\\server\\evil.png", "C:evil.png", "../.DS_Store",
]  # fmt: skip


def test_names_that_lead_out_of_the_archive_are_skipped(workplace: Workplace) -> None:
    contents = pictures("a/1.png", "b/2.png", *ESCAPES)
    for archive in (zipped(contents), tarred(contents)):
        report = workplace.run(archive)
        assert report.counts == {"train": {"a": 1, "b": 1}}
        assert reasons(report) == dict.fromkeys(ESCAPES, "Its path points outside the archive.")
        assert not Path("/tmp/evil.png").exists()
        workplace.forget()


def test_names_that_cannot_be_shown_are_skipped(workplace: Workplace) -> None:
    archive = tarred(pictures("a/1.png", "b/2.png", "a\n/3.png", "a/\x1b[31m.png", "a/" + "x" * 2_000 + ".png"))
    report = workplace.run(archive)
    assert report.counts == {"train": {"a": 1, "b": 1}}
    assert report.skipped_count == 3
    assert all(skipped.name.isprintable() and len(skipped.name) <= 201 for skipped in report.skipped)
    assert {skipped.reason for skipped in report.skipped} == {
        "Its name contains control characters or has more than 1,000 characters."
    }
    workplace.forget()
    nul = zipped(pictures("a/1.png", "b/2.png", "a/x0y.png")).replace(b"a/x0y.png", b"a/x\0y.png")
    assert reasons(workplace.run(nul))["a/x\N{REPLACEMENT CHARACTER}y.png"].startswith("Its name contains control")


def test_links_and_devices_in_an_archive_are_skipped(workplace: Workplace) -> None:
    extra = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"9"):
        info = tarfile.TarInfo(f"a/{kind.decode()}.png")
        info.type, info.linkname = kind, "/etc/passwd"
        extra.append(info)
    report = workplace.run(tarred(pictures("a/x.png", "b/y.png"), extra=extra))
    assert report.counts == {"train": {"a": 1, "b": 1}}
    assert {name: why.split()[1] for name, why in reasons(report).items()} == {
        "a/2.png": "is", "a/1.png": "is", "a/3.png": "is", "a/4.png": "is", "a/6.png": "is", "a/9.png": "is"
    }  # fmt: skip
    assert reasons(report)["a/2.png"] == "It is a link, and links are not followed."
    workplace.forget()

    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = 0o120777 << 16
    file = io.BytesIO(zipped(pictures("a/x.png", "b/y.png")))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert reasons(workplace.run(file.getvalue())) == {"a/link.png": "It is a link or not a regular file."}


def zeros(count: int) -> bytes:
    """A deflate stream of `count` zeros, made without having them: full blocks repeat."""
    block = 1 << 22
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first * (count // block) + b"\x03\x00"


def bomb_zip(name: str, gigabytes: int, declared: int | None = None) -> bytes:
    """A zip with two pictures and a member of zeros, which may declare another size."""
    count = gigabytes * 256 << 22
    size = count if declared is None else declared
    packed = zeros(count)
    file = io.BytesIO(zipped({"a/1.png": picture(1), "b/2.png": picture(2)}))
    raw = name.encode()
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, b"")
    data = file.getvalue()
    local, central = data.index(b"PK\x03\x04", data.index(b"b/2.png")), data.rindex(b"PK\x01\x02")
    local_extra = struct.pack("<HHQQ", 1, 16, size, len(packed))
    head = data[local : local + 30]
    head = head[:8] + struct.pack("<H", 8) + head[10:18] + b"\xff" * 8 + head[26:28] + struct.pack("<H", 20)
    entry = data[central : central + 46]
    entry = (
        entry[:10]
        + struct.pack("<H", 8)
        + entry[12:20]
        + b"\xff" * 8
        + entry[28:30]
        + struct.pack("<H", 20)
        + entry[32:]
    )
    body = data[:local] + head + raw + local_extra + packed
    start = data.index(b"PK\x01\x02")
    directory = data[start:central] + entry + raw + local_extra
    return body + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 3, 3, len(directory), len(body), 0)


@pytest.fixture(scope="module")
def set_aside() -> Iterable[None]:
    """What other modules and tests have left is no garbage to look for: each time that would take a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def cheap(set_aside: None) -> Iterable[None]:
    """The test takes under two seconds of processor time and 8 MB of memory that Python knows of."""
    gc.collect()
    tracemalloc.start()
    before, start = tracemalloc.get_traced_memory()[0], time.process_time()
    tracemalloc.reset_peak()
    yield
    took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert took < 2
    assert peak < 8_000_000


@pytest.fixture(scope="module")
def ten_gigabytes() -> bytes:
    return bomb_zip("a/bomb.png", 10)


def test_a_picture_of_ten_gigabytes_of_zeros_is_skipped_at_no_cost(
    workplace: Workplace, ten_gigabytes: bytes, cheap: None
) -> None:
    report = workplace.run(ten_gigabytes)
    assert report.counts == {"train": {"a": 1, "b": 1}}
    assert "compressed by a factor above 200" in reasons(report)["a/bomb.png"]


@pytest.mark.parametrize("declared", [100, 7_000_000])
def test_a_bomb_that_declares_a_small_size_is_read_no_further(workplace: Workplace, declared: int) -> None:
    report = workplace.run(bomb_zip("a/bomb.png", 1, declared))
    assert report.counts == {"train": {"a": 1, "b": 1}}
    assert "damaged inside the zip" in reasons(report)["a/bomb.png"]


def test_overlapping_entries_are_refused(workplace: Workplace, cheap: None) -> None:
    # As in Fifield's bombs, if simpler: every entry of the directory is the one large member.
    data = bytearray(zipped([("a/0.bmp", random.Random(0).randbytes(20_000))]))
    at, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    directory = bytes(data[at:end]) * 500
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 500, 500, len(directory), at, 0)
    workplace.refused(bytes(data[:at]) + directory + tail, r"^The entries of the zip file overlap, .* zip bomb")


@pytest.mark.parametrize("ending", [":gz", ":bz2", ":xz"])
def test_a_compressed_tar_of_zeros_is_refused_early(
    workplace: Workplace, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tarfile.TarInfo("a/bomb.png")
    info.size = 3_000_000
    monkeypatch.setattr(tars, "UNSUSPECTED_BYTES", 1_000_000)
    archive = tarred(pictures("a/1.png", "b/2.png"), ending, [info])
    workplace.refused(
        archive, r"^The archive is compressed by a factor above 200, which is typical of a decompression bomb"
    )


@pytest.fixture(scope="module")
def ten_gigabytes_in_a_tar() -> bytes:
    info = tarfile.TarInfo("a/bomb.png")
    info.size = 10 * 256 << 22
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(info.tobuf(tarfile.GNU_FORMAT)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + start + zeros(info.size)


def test_a_gzip_bomb_costs_little(workplace: Workplace, ten_gigabytes_in_a_tar: bytes, cheap: None) -> None:
    workplace.refused(ten_gigabytes_in_a_tar, r"^The archive is compressed by a factor above 200")


def test_the_limits_hold(workplace: Workplace) -> None:
    contents = pictures(*(f"{i % 5}/{i}.png" for i in range(20)))
    for archive in (zipped(contents), tarred(contents), tarred(contents, ":gz")):
        workplace.refused(archive, r"more than 19 images, the maximum", limits=ImportLimits(images=19))
        workplace.refused(archive, r"more than 19 files, the maximum", limits=ImportLimits(members=19))
        workplace.refused(archive, r"^There are 5 classes, more than the maximum of 4", limits=ImportLimits(classes=4))
        workplace.refused(archive, r"more than 900 bytes, the maximum", limits=ImportLimits(total_bytes=900))
        workplace.refused(
            archive, r"more than 20 bytes, the maximum for an image\.$", limits=ImportLimits(bytes_per_image=20)
        )
        workplace.run(archive, limits=ImportLimits(images=20, members=20, classes=5))
        workplace.forget()
    large = {**contents, "0/large.png": picture(99, (300, 300), compress_level=0)}
    for archive in (zipped(large), tarred(large)):
        report = workplace.run(archive, limits=ImportLimits(bytes_per_image=1_000))
        assert reasons(report) == {"0/large.png": "It has more than 1,000 bytes, the maximum for an image."}
        workplace.forget()


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^classes must be at least 1, not 0\.$"):
        ImportLimits(classes=0)


def test_a_directory_of_countless_entries_is_not_parsed(workplace: Workplace, cheap: None) -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, *[0] * 4, 0, 0, 0, 1, *[0] * 4, 0, 0) + b"x"
    directory = entry * 20_000
    start = b"PK\x03\x04" + bytes(26)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 20_000, 20_000, len(directory), len(start), 0)
    workplace.refused(
        start + directory + tail, r"^There are more than 10,000 files", limits=ImportLimits(members=10_000)
    )
    workplace.refused(start + directory + tail, r"^There are more than 100 files", limits=ImportLimits(members=100))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [40_000, 10 * 256 << 22])
def test_a_tar_header_of_any_size_is_not_read_into_memory(
    workplace: Workplace, cheap: None, kind: bytes, size: int
) -> None:
    info = tarfile.TarInfo("name")
    info.type, info.size = kind, size
    start = tarred(pictures("a/1.png", "b/2.png"))[: 2 * 1024]
    archive = start + info.tobuf(tarfile.GNU_FORMAT) + bytes(50_000)
    workplace.refused(archive, r"^The tar file is damaged or incomplete \(a header is far too large\)")


def test_a_tar_member_of_negative_size_does_not_lead_in_circles(workplace: Workplace) -> None:
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE):
        info = tarfile.TarInfo("a/x.png")
        info.type = kind
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = b"\xff" * 10 + b"\xf8\x00"  # -2048
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        workplace.refused(
            tarred(pictures("a/1.png", "b/2.png"))[: 2 * 1024] + bytes(header) + bytes(1024),
            r"^The tar file is damaged",
        )


def test_a_tar_of_nested_headers_does_not_exhaust_the_stack(workplace: Workplace) -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    archive = tarred(pictures("a/1.png", "b/2.png"))[: 2 * 1024] + info.tobuf(tarfile.GNU_FORMAT) * 5_000
    workplace.refused(archive, r"^The tar file is damaged or incomplete")


def test_sparse_members_are_skipped(workplace: Workplace) -> None:
    info = tarfile.TarInfo("a/sparse.png")
    info.pax_headers = {"GNU.sparse.size": str(1 << 50), "GNU.sparse.map": f"0,0,{1 << 50},0"}
    report = workplace.run(tarred(pictures("a/1.png", "b/2.png"), extra=[info]))
    assert reasons(report) == {"a/sparse.png": "It is not a regular file."}


def test_an_xz_file_that_asks_for_gigabytes_is_refused(workplace: Workplace) -> None:
    plain = tarred(pictures("a/1.png", "b/2.png"))
    small = lzma.compress(plain, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])
    workplace.run(small + bytes(8) + lzma.compress(b""))  # several streams are one file
    workplace.forget()
    # The dictionary's size stands in the block header: property byte 0x28 is 4 GB.
    at = small.index(b"\x21\x01", 12)
    header_size = (small[12] + 1) * 4
    header = bytearray(small[12 : 12 + header_size])
    header[at - 12 + 2] = 0x28
    header[-4:] = struct.pack("<L", zlib.crc32(header[:-4]))
    workplace.refused(
        small[:12] + bytes(header) + small[12 + header_size :], r"^The file is not an archive, or is damaged \(Memory"
    )


def test_an_encrypted_zip_is_refused(workplace: Workplace) -> None:
    data = bytearray(zipped(pictures("a/1.png", "b/2.png")))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    workplace.refused(bytes(data), r"^The zip file is password\-protected: create one without a password\.$")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_by_bzip2_and_lzma_are_read(workplace: Workplace, method: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    large = io.BytesIO()
    noise.save(large, "BMP")
    contents = {**pictures("a/1.png", "b/2.png"), "a/large.bmp": large.getvalue()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    assert not workplace.run(file.getvalue()).skipped
    assert {row[1]: row[2] for row in workplace.rows()} == {name[2:]: data for name, data in contents.items()}
    workplace.forget()
    damaged = bytearray(file.getvalue())
    at = damaged.index(b"a/large.bmp") + 5_000
    damaged[at : at + 8] = bytes(8)
    assert "damaged inside the zip" in reasons(workplace.run(bytes(damaged)))["a/large.bmp"]


@pytest.fixture(scope="module", params=[zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "LZMA"])
def odd_bombs(request: pytest.FixtureRequest) -> bytes:
    """One that says what it is, and one that declares a fifth of its bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", request.param) as archive:
        for name, data in pictures("a/1.png", "b/2.png").items():
            archive.writestr(name, data)
        archive.writestr("a/bomb.png", bytes(60_000_000))
        archive.writestr("a/lies.png", bytes(20_000_000))
    whole = bytearray(file.getvalue())
    at = whole.rindex(b"PK\x01\x02") + 24
    whole[at : at + 4] = struct.pack("<L", 4_000_000)
    return bytes(whole)


def test_a_bomb_by_bzip2_or_lzma_is_read_no_further_than_it_declares(workplace: Workplace, odd_bombs: bytes) -> None:
    tracemalloc.start()
    try:
        why = reasons(workplace.run(odd_bombs))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "compressed by a factor above 200" in why["a/bomb.png"]
    assert "damaged inside the zip" in why["a/lies.png"]
    assert peak < 16_000_000  # half of it is LZMA's dictionary


def test_an_lzma_member_that_asks_for_gigabytes_is_skipped(workplace: Workplace) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in pictures("a/1.png", "b/2.png", "a/greedy.png").items():
            archive.writestr(name, data)
    greedy = bytearray(file.getvalue())
    at = greedy.index(b"a/greedy.png") + len(b"a/greedy.png") + 5
    greedy[at : at + 4] = b"\xff" * 4
    assert "4,294,967,295 bytes of memory" in reasons(workplace.run(bytes(greedy)))["a/greedy.png"]


def test_another_compression_method_is_skipped_by_its_number(workplace: Workplace) -> None:
    archive = bytearray(zipped(pictures("a/1.png", "b/2.png", "a/3.png")))
    archive[archive.rindex(b"PK\x01\x02") + 10] = 9  # Deflate64, by Windows for large files
    assert reasons(workplace.run(bytes(archive))) == {
        "a/3.png": "It uses compression method 9, which is not supported: use deflate, bzip2 or LZMA."
    }


@pytest.mark.parametrize("marker", [b"PK\x07\x08"])
def test_a_zip_that_was_to_be_split_and_was_not_is_read(workplace: Workplace, marker: bytes) -> None:
    names = ("a/1.png", "b/2.png")
    whole = bytearray(zipped(pictures(*names)))
    for name in names:  # all offsets count the marker
        at = whole.index(name.encode(), whole.index(b"PK\x01\x02")) - 4
        whole[at : at + 4] = struct.pack("<L", struct.unpack("<L", whole[at : at + 4])[0] + 4)
    end = whole.rindex(b"PK\x05\x06") + 16
    whole[end : end + 4] = struct.pack("<L", struct.unpack("<L", whole[end : end + 4])[0] + 4)
    assert workplace.run(marker + bytes(whole)).classes == ("a", "b")


@pytest.mark.parametrize("ending", ["zip", *TAR_ENDINGS])
def test_where_all_paths_are_absolute_the_root_is_no_folder(workplace: Workplace, ending: str) -> None:
    contents = pictures("/home/me/pets/a/1.png", "/home/me/pets/b/2.png", "/home/me/pets/../../etc/3.png")
    report = workplace.run(zipped(contents) if ending == "zip" else tarred(contents, ending))
    assert report.counts == {"train": {"a": 1, "b": 1}}
    assert list(reasons(report).values()) == ["Its path points outside the archive."]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^The file 'archive' is empty\.$"),
        (b"Just a text.\n" * 100, r"^The file is not an archive, or is damaged \(.*\): use a \.zip, \.tar"),
        (b"x", r"^The file is not an archive"),
        (
            b"Rar!\x1a\x07\x01\0" + bytes(100),
            r"^The file 'archive' is a RAR archive, which is not supported: use a",
        ),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), r"is a 7-Zip archive, which is not"),
        (picture(1), r"^The file is not an archive"),
        (b"\x1f\x8b\x08" + bytes(100), r"^The file is not an archive"),
        (b"BZh9 but not really", r"^The file is not an archive"),
        (b"\xfd7zXZ\0 but not really", r"^The file is not an archive"),
        (b"PK\x03\x04 but not really", r"^The zip file is damaged or incomplete"),
        (zipped({}), r"^There are no files to import"),
        (zipped({"a/": b"", ".DS_Store": b""}), r"^There are no files to import"),
        (tarred({}), r"^There are no files to import"),
        (tarred({}, ":gz"), r"^There are no files to import"),
    ],
    # The bytes have the time in them: no names for what several processes are to call the same.
    ids=[
        "empty",
        "text",
        "letter",
        "rar",
        "7z",
        "picture",
        "gzip",
        "bzip2",
        "xz",
        "cut",
        "empty-zip",
        "folder-only",
        "empty-tar",
        "empty-tar.gz",
    ],
)
def test_what_is_no_archive_or_has_nothing_is_refused(workplace: Workplace, data: bytes, message: str) -> None:
    workplace.refused(data, message)


def test_a_gzip_of_something_else_is_refused(workplace: Workplace) -> None:
    workplace.refused(gzip.compress(picture(1)), r"^The file is not an archive")
    workplace.refused(gzip.compress(b""), r"^The file is not an archive")


@pytest.mark.parametrize("ending", ["zip", *TAR_ENDINGS])
def test_an_archive_cut_short_is_refused_wherever_it_ends(workplace: Workplace, ending: str) -> None:
    contents = {f"{'ab'[i % 2]}/{i}.png": random.Random(i).randbytes(700) for i in range(6)} | pictures("a/x", "b/x")
    whole = zipped(contents) if ending == "zip" else tarred(contents, ending)
    data = len(tarred(contents).rstrip(b"\0")) if ending == "" else len(whole) - 60  # an end mark comes after
    for end in (1, 5, *range(100, data, 1_024), *range(512, data, 1_024), data):
        if ending or end <= data:
            workplace.refused(whole[:end], r"^The (file is not an archive|zip file is damaged|tar file is damaged)")


def test_damage_in_a_zip_costs_the_members_it_hit(workplace: Workplace) -> None:
    contents = {**pictures("a/1.png", "b/2.png"), "a/hit.png": picture(3, (50, 50), compress_level=0)}
    data = bytearray(zipped(contents))
    at = data.index(b"a/hit.png") + 9
    data[at : at + 8] = bytes(8)
    report = workplace.run(bytes(data))
    assert "damaged inside the zip" in reasons(report)["a/hit.png"]
    assert report.skipped_count == 1


@pytest.mark.parametrize("ending", ["zip", *TAR_ENDINGS])
def test_random_damage_ends_in_a_data_set_or_in_a_sentence(workplace: Workplace, ending: str) -> None:
    contents = pictures("train/a/1", "train/b/2", "test/a/3", "test/ü/4")
    whole = zipped(contents) if ending == "zip" else tarred(contents, ending)
    generator = random.Random(0)
    outcomes = set()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 3, 20))):
            data[generator.randrange(4, len(data))] = generator.randrange(256)
        try:
            workplace.run(bytes(data))
            outcomes.add("made")
            workplace.forget()
        except UserError as error:
            assert str(error)[-1] in ".)"  # noqa: PT017
            outcomes.add("refused")
    assert "refused" in outcomes


# What is left on the disk


def test_an_existing_data_set_is_not_replaced(workplace: Workplace, tmp_path: Path) -> None:
    workplace.run(zipped(pictures("a/1", "b/2")))
    before = {file.name: file.read_bytes() for file in workplace.folder.iterdir()}
    (tmp_path / "other").write_bytes(zipped(pictures("c/3", "d/4")))
    with pytest.raises(UserError, match=r"^A dataset named 'set' already exists: choose another name\.$"):
        import_archive(tmp_path / "other", workplace.folder)
    assert {file.name: file.read_bytes() for file in workplace.folder.iterdir()} == before
    assert os.listdir(workplace.data) == ["set"]


def test_a_failure_at_any_moment_leaves_nothing(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    archive = zipped(pictures("a/1", "b/2"))
    with pytest.raises(KeyboardInterrupt):
        workplace.run(archive, progress=interrupted)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnet_space.data.archives.write_report", full)
    workplace.refused(archive, r"^The dataset cannot be imported \(No space left on device\)\.$")


def test_while_an_import_runs_it_is_not_taken_for_a_data_set(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    write_table = writing._table

    def look(*arguments: object) -> pa.Table:
        seen.extend(workplace.data.rglob("*"))
        return write_table(*arguments)

    monkeypatch.setattr(writing, "_table", look)
    workplace.run(zipped(pictures("train/a/1", "train/b/2", "test/a/3")))
    assert any(path.name.startswith("train-") for path in seen)
    assert not any(path.suffix == ".parquet" for path in seen)


def test_what_a_killed_import_left_goes_after_a_day(workplace: Workplace) -> None:
    old, running = workplace.data / ".import-old", workplace.data / ".import-running"
    for folder in (old, running):
        folder.mkdir()
        (folder / "spool").write_bytes(b"?")
    long_ago = time.time() - ABANDONED - 60
    for path in (old / "spool", old, running):  # the running one's spool is still written
        os.utime(path, (long_ago, long_ago))
    (workplace.root / "archive").write_bytes(zipped(pictures("a/1", "b/2")))
    import_archive(workplace.root / "archive", workplace.folder)
    assert sorted(os.listdir(workplace.data)) == [".import-running", "set"]


def test_a_missing_file_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^There is no file 'none\.zip'\.$"):
        import_archive(tmp_path / "none.zip", tmp_path / "set")
    with pytest.raises(UserError, match=r"^There is no folder '.*none'\.$"):
        import_folder(tmp_path / "none", tmp_path / "set")
    assert not list(tmp_path.iterdir())


# Memory


def test_memory_does_not_grow_with_the_archive(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROW_GROUP_BYTES", 1_000_000)
    noise = np.random.default_rng(0)

    def bmp() -> bytes:
        file = io.BytesIO()
        Image.fromarray(noise.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(file, "BMP")
        return file.getvalue()

    file = workplace.root / "archive"
    with tarfile.open(file, "w") as archive:  # 12 MB
        for i in range(100):
            info, data = tarfile.TarInfo(f"{'ab'[i % 2]}/{i}.bmp"), bmp()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        import_archive(file, workplace.folder, progress=lambda *_: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.stat().st_size > 12_000_000
    assert peak < 5_000_000
    assert pa.total_allocated_bytes() - arrow < 1_000_000


# Folders


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name, data in pictures("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_becomes_the_same_data_set_as_its_archive(workplace: Workplace, source: Path) -> None:
    (source / ".git").mkdir()
    (source / ".git" / "x.png").write_bytes(picture(50))
    (source / "train" / ".DS_Store").write_bytes(b"?")
    (source / "train" / "a" / "bad.png").write_bytes(b"?")
    told: list[tuple[int, int]] = []
    report = workplace.run_folder(source, progress=lambda *now: told.append(now))
    assert told == [(i + 1, 6) for i in range(6)]
    rows = {split: workplace.rows(split) for split in report.counts}
    workplace.forget()
    files = {str(path.relative_to(source)): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()}
    workplace.root.joinpath("a.zip").write_bytes(zipped(files))
    assert import_archive(workplace.root / "a.zip", workplace.folder) == report
    assert {split: workplace.rows(split) for split in report.counts} == rows
    assert report.skipped == (Skipped("train/a/bad.png", reasons(report)["train/a/bad.png"]),)


def test_links_that_leave_the_folder_are_not_followed(workplace: Workplace, source: Path) -> None:
    outside = workplace.root / "outside"
    (outside / "c").mkdir(parents=True)
    (outside / "c" / "secret.png").write_bytes(picture(77))
    (source / "train" / "a" / "secret.png").symlink_to(outside / "c" / "secret.png")
    (source / "train" / "c").symlink_to(outside / "c")
    (source / "train" / "again").symlink_to(source / "train")  # in circles
    (source / "train" / "a" / "gone.png").symlink_to(source / "nothing.png")
    (source / "train" / "a" / "itself.png").symlink_to("itself.png")
    os.mkfifo(source / "train" / "a" / "pipe.png")
    pool = source / ".pool"
    pool.mkdir()
    (pool / "5.png").write_bytes(picture(5))
    (source / "train" / "a" / "5.png").symlink_to(pool / "5.png")
    report = workplace.run_folder(source)
    assert report.counts["train"] == {"a": 2, "b": 1}
    assert reasons(report) == {
        "train/a/secret.png": "The link points outside the folder.",
        "train/c": "Links to folders are not followed.",
        "train/again": "Links to folders are not followed.",
        "train/a/gone.png": "It is a broken link or not a regular file.",
        "train/a/itself.png": "It is a broken link or not a regular file.",
        "train/a/pipe.png": "It is a broken link or not a regular file.",
    }
    assert picture(77) not in {row[2] for row in workplace.rows()}


def test_a_folder_has_the_same_limits(workplace: Workplace, source: Path) -> None:
    for limits, message in (
        (ImportLimits(members=3), "more than 3 files"),
        (ImportLimits(images=3), "more than 3 images, the maximum"),
        (ImportLimits(total_bytes=100), "more than 100 bytes, the maximum"),
    ):
        with pytest.raises(UserError, match=message):
            workplace.run_folder(source, limits=limits)


def test_a_folder_whose_name_is_not_unicode_is_read(workplace: Workplace, source: Path) -> None:
    folder = os.fsencode(source) + b"/train/\x84\xff"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/6.png")).write_bytes(picture(6))
    assert "ä\xa0" in workplace.run_folder(source).classes
