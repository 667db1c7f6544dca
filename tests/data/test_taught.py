import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import TrainConfig
from resnet_space.data import taught as taught_module
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import load_splits
from resnet_space.data.summary import summarise
from resnet_space.data.taught import (
    ABOUT,
    FILE,
    THUMBNAIL,
    NewPicture,
    TaughtSet,
    open_set,
    read_pictures,
    thumbnail,
    write_set,
)


def picture(number: int, name: str = "") -> NewPicture:
    """One of its own colour."""
    file = io.BytesIO()
    Image.new("RGB", (12, 8), (number % 256, number // 256, 90)).save(file, "PNG")
    return NewPicture(file.getvalue(), name or f"{number}.png")


def pictures(*numbers: int) -> list[NewPicture]:
    return [picture(number) for number in numbers]


def of_class(taught: TaughtSet, name: str) -> list[str]:
    """The names of the pictures of a class."""
    (own,) = (own for own in taught.classes if own.name == name)
    return [found.name for found in taught.of(own.id)]


@pytest.fixture
def cups(tmp_path: Path) -> TaughtSet:
    """Three cups and two pens, on the disk."""
    empty = TaughtSet(tmp_path / "things").with_class("cup").with_class("pen")
    new = [pictures(1, 2, 3), pictures(11, 12)]
    taught = empty.with_pictures(new[0], 1).with_pictures(new[1], 2)
    write_set(taught, None, [*new[0], *new[1]])
    return taught


def changed(taught: TaughtSet, after: TaughtSet, new: Sequence[NewPicture] = ()) -> TaughtSet:
    """Written, and read back."""
    write_set(after, taught, new)
    return open_set(taught.folder)


def test_what_was_written_is_read_back_in_its_order(cups: TaughtSet) -> None:
    assert open_set(cups.folder) == cups
    assert of_class(cups, "cup") == ["1.png", "2.png", "3.png"]


def test_every_change_is_read_back_as_it_was_made(cups: TaughtSet) -> None:
    first, second, *_ = (found.id for found in cups.pictures)
    moved = changed(cups, cups.moved([first], 2))
    assert of_class(moved, "pen") == ["1.png", "11.png", "12.png"]
    less = changed(moved, moved.without([second]))
    assert of_class(less, "cup") == ["3.png"]
    more = changed(less, less.with_pictures(pictures(4), 1), pictures(4))
    assert of_class(more, "cup") == ["3.png", "4.png"]
    named = changed(more, more.renamed(1, "mug"))
    assert of_class(named, "mug") == ["3.png", "4.png"]
    assert [own.id for own in named.classes] == [1, 2]
    gone = changed(named, named.without_class(1))
    assert [own.name for own in gone.classes] == ["pen"]
    assert [found.name for found in gone.pictures] == ["1.png", "11.png", "12.png"]
    assert dict(read_pictures(gone, [first])) == {first: picture(1).content}


def test_the_same_picture_is_kept_once_and_is_of_the_class_that_it_was_shown_for_last(cups: TaughtSet) -> None:
    again = changed(cups, cups.with_pictures(pictures(1, 1, 11), 1), pictures(1, 1, 11))
    assert of_class(again, "cup") == ["1.png", "2.png", "3.png", "11.png"]
    assert of_class(again, "pen") == ["12.png"]


def test_a_class_without_pictures_stays_and_is_no_class_of_the_data_set(cups: TaughtSet) -> None:
    more = changed(cups, cups.with_class("book"))
    assert [own.name for own in more.classes] == ["cup", "pen", "book"]
    assert [own.name for own in more.used_classes] == ["cup", "pen"]
    assert changed(more, more.without([found.id for found in more.pictures])).pictures == ()
    assert not (cups.folder / FILE).exists()


def test_it_is_a_data_set_like_any_other(cups: TaughtSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(cups.folder.parent))
    new = pictures(*range(20, 40))
    more = changed(cups, cups.with_class("book").with_pictures(new, 2), new)
    summary = summarise(DatasetRef("things"))
    assert (summary.classes, summary.counts) == (("cup", "pen"), {"train": [3, 22]})
    splits = load_splits(TrainConfig(dataset="things"), 8)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == len(more.pictures)
    assert splits.train.classes == ("cup", "pen")


@pytest.mark.parametrize("name", ["", "   ", "a" * 61, "two\x00", "CUP"])
def test_a_name_that_cannot_be_is_refused(cups: TaughtSet, name: str) -> None:
    with pytest.raises(UserError, match=r"must have 1 to|named 'CUP' already exists"):
        cups.with_class(name)
    with pytest.raises(UserError, match=r"must have 1 to|named 'CUP' already exists"):
        cups.renamed(2, name)


def test_a_class_may_be_renamed_to_another_spelling_of_its_own_name(cups: TaughtSet) -> None:
    assert cups.renamed(1, " Cup ").classes[0].name == "Cup"


def test_a_class_that_is_gone_takes_nothing(cups: TaughtSet) -> None:
    for change in (
        lambda: cups.with_pictures(pictures(5), 9),
        lambda: cups.moved([cups.pictures[0].id], "1"),
        lambda: cups.without_class(None),
    ):
        with pytest.raises(UserError, match="This class no longer exists"):
            change()


def test_an_app_that_ends_between_the_two_files_loses_no_picture(
    cups: TaughtSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(taught_module, "_table", ends)
    with pytest.raises(KeyboardInterrupt):
        write_set(cups.renamed(1, "mug"), cups)
    found = open_set(cups.folder)
    assert of_class(found, "cup") == ["1.png", "2.png", "3.png"]
    assert {own.name for own in found.classes} == {"mug", "pen", "cup"}


def test_a_file_that_cannot_be_written_leaves_what_was_there(cups: TaughtSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(UserError, match="cannot be saved: the disk is full"):
        write_set(cups.without([cups.pictures[0].id]), cups)
    assert open_set(cups.folder) == cups
    assert sorted(path.name for path in cups.folder.iterdir()) == [ABOUT, FILE]


@pytest.mark.parametrize("file", [ABOUT, FILE])
def test_a_damaged_file_is_told_in_a_sentence(cups: TaughtSet, file: str) -> None:
    (cups.folder / file).write_bytes(b"{")
    with pytest.raises(UserError, match="The pictures of things cannot be read"):
        open_set(cups.folder)


def test_a_set_that_is_gone_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set of pictures things no longer exists"):
        open_set(tmp_path / "things")


def test_the_version_is_of_what_can_be_learned(cups: TaughtSet) -> None:
    id_ = cups.pictures[0].id
    others = [cups.renamed(1, "mug"), cups.moved([id_], 2), cups.without([id_]), cups.without_class(1)]
    assert len({cups.version, *(other.version for other in others)}) == 5
    assert replace(cups, run="taught-1").with_class("book").version == cups.version


def test_the_frames_of_a_recording_are_known_by_their_names() -> None:
    names = ["recording-17-0001.jpg", "recording-17-0002.jpg", "my recording-17-0001.jpg", "cup.jpg"]
    taught = TaughtSet(Path("x")).with_class("cup")
    taught = taught.with_pictures([picture(i, name) for i, name in enumerate(names)], 1)
    assert [found.recording for found in taught.pictures] == [17, 17, None, None]


def test_a_thumbnail_is_the_square_in_the_middle() -> None:
    wide = np.zeros((200, 600, 3), np.uint8)
    wide[:, 200:400] = 255
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    small = Image.open(io.BytesIO(thumbnail(file.getvalue())))
    assert (small.size, small.format) == ((THUMBNAIL, THUMBNAIL), "JPEG")
    assert np.asarray(small).min() > 230
