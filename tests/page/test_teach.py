import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.data.archives.report import Skipped
from resnet_space.data.taught import NewPicture, TaughtSet, write_set
from resnet_space.serve.taught import Step
from resnet_space.training.extraction import Extracted
from resnet_space.training.taught import learn
from resnet_space.ui.finetune.teach import requests as requests_module
from resnet_space.ui.finetune.teach.requests import (
    FRAME_BYTES,
    MOST_CHANGES,
    MOST_FILES,
    UNFIT,
    Asked,
    frame_of,
    read_changes,
)
from resnet_space.ui.finetune.teach.shown import SHOWN, classes_of, left_out_words, step_value, thumbnails


def picture(number: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (number % 256, number // 256, 9)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(requests_module, "uploaded_file", lambda file: Path(file["path"]))
    return tmp_path


def uploaded(folder: Path, name: str, content: bytes) -> dict[str, str]:
    (folder / name).write_bytes(content)
    return {"path": str(folder / name), "name": name}


def taught_set(folder: Path, counts: Sequence[int]) -> TaughtSet:
    """On the disk."""
    taught, new = TaughtSet(folder / "things"), []
    for i, count in enumerate(counts, 1):
        own = [NewPicture(picture(300 * i + k), f"{k}.png") for k in range(count)]
        taught = taught.with_class(f"class {i}").with_pictures(own, i)
        new += own
    write_set(taught, None, new)
    return taught


def lesson_step(taught: TaughtSet, features: torch.Tensor, **more: Any) -> Step:
    known = Extracted(features, features)
    recordings = [found.recording for found in taught.pictures]
    lesson = learn(known, taught.labels(), recordings, [own.name for own in taught.used_classes])
    return Step(taught, "done", lesson=lesson, **more)


# What is asked for


def test_a_request_has_changes_one_after_the_other(uploads: Path) -> None:
    files = [uploaded(uploads, "a.png", picture(1)), uploaded(uploads, "b.png", picture(2))]
    read = read_changes(
        [
            {"do": "class", "name": "cup"},
            {"do": "add", "class": 1, "files": files},
            {"do": "class", "name": "pen"},
            {"do": "rename", "class": 1, "name": "mug"},
        ]
    )
    taught = TaughtSet(uploads / "things")
    for change in read.changes:
        taught = change(taught)
    assert [own.name for own in taught.classes] == ["mug", "pen"]
    assert [found.name for found in taught.of(1)] == ["a.png", "b.png"]
    ids = [found.id for found in taught.pictures]
    assert ids == [new.id for new in read.new]
    for change in read_changes([{"do": "move", "ids": ids[:1], "class": 2}, {"do": "remove", "ids": ids[1:]}]).changes:
        taught = change(taught)
    assert [found.class_id for found in taught.pictures] == [2]
    (gone,) = read_changes([{"do": "drop", "class": 2}]).changes
    assert gone(taught).pictures == ()


def test_a_file_that_is_no_picture_is_left_out_and_named_and_the_others_are_kept(uploads: Path) -> None:
    files = [
        uploaded(uploads, "notes.txt", b"hello"),
        uploaded(uploads, "a.png", picture(1)),
        uploaded(uploads, "broken.jpg", picture(2, "JPEG")[:60]),
    ]
    read = read_changes([{"do": "add", "class": 1, "files": files}])
    assert [new.name for new in read.new] == ["a.png"]
    assert [file.name for file in read.left_out] == ["notes.txt", "broken.jpg"]
    words = left_out_words(read.left_out)
    assert words.startswith("2 files were left out. notes.txt: This file is not an image")
    only = read_changes([{"do": "add", "class": 1, "files": files[:1]}])
    assert only.changes == []


def test_a_large_file_is_not_read(uploads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "MOST_FILE_MB", 0)
    read = read_changes([{"do": "add", "class": 1, "files": [uploaded(uploads, "a.png", picture(1))]}])
    assert [file.reason for file in read.left_out] == ["It has more than 0 MB: reduce its size first."]


def test_a_file_that_was_not_uploaded_is_refused() -> None:
    for file in ({"path": "/etc/passwd", "name": "x.jpg"}, {"name": "x.jpg"}):
        with pytest.raises(UserError, match="has not been uploaded"):
            read_changes([{"do": "add", "class": 1, "files": [file]}])


@pytest.mark.parametrize(
    "data",
    [
        {"number": "1"},
        {"number": True},
        {"set": 7},
        {"changes": {"do": "add"}},
        {"changes": ["add"]},
        {"changes": [{}] * (MOST_CHANGES + 1)},
        {"known": [1]},
        {"unfolded": ["1"]},
    ],
)
def test_what_no_page_sends_is_refused(data: object) -> None:
    with pytest.raises(UserError, match=UNFIT):
        Asked.of(data)


def test_anything_but_an_object_asks_for_nothing() -> None:
    nothing: tuple[object, ...] = (None, [], "x", 3)
    for data in nothing:
        assert Asked.of(data) == Asked(0, None, frozenset(), frozenset(), ())


def test_a_change_of_another_kind_is_refused() -> None:
    for change in ({"do": "format"}, {}, {"do": ["add"]}, {"do": "remove", "ids": "abc"}, {"do": "move", "ids": [3]}):
        with pytest.raises(UserError, match=UNFIT):
            read_changes([change])


def test_so_many_files_at_once() -> None:
    files = [{"path": "x"}] * (MOST_FILES // 2 + 1)
    with pytest.raises(UserError, match=f"At most {MOST_FILES} files"):
        read_changes([{"do": "add", "class": 1, "files": files}] * 2)


def test_a_frame_is_a_small_jpeg_in_base64() -> None:
    content = picture(3, "JPEG")
    address = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    assert frame_of({"frame": address}) == content
    for wrong in (None, {}, {"frame": 3}, {"frame": "data:image/png;base64,AAAA"}, {"frame": f"{address}!"}):
        with pytest.raises(UserError, match=UNFIT):
            frame_of(wrong)
    with pytest.raises(UserError, match=UNFIT):
        frame_of({"frame": "data:image/jpeg;base64," + "A" * FRAME_BYTES})


# What is shown


def test_of_many_pictures_the_newest_are_shown_until_all_are_asked_for(tmp_path: Path) -> None:
    taught = taught_set(tmp_path, (SHOWN + 6, 2))
    first, second = classes_of(taught, Asked.of({}))
    assert (first["count"], len(first["pictures"])) == (SHOWN + 6, SHOWN)
    assert first["pictures"][0] == taught.of(1)[-1].id
    assert len(second["pictures"]) == 2
    unfolded, _ = classes_of(taught, Asked.of({"unfolded": [1]}))
    assert len(unfolded["pictures"]) == SHOWN + 6


def test_only_thumbnails_that_the_page_lacks_are_sent(tmp_path: Path) -> None:
    taught = taught_set(tmp_path, (3, 2))
    ids = [found.id for found in taught.pictures]
    assert set(thumbnails(taught, Asked.of({"known": ids[:4]}))) == {ids[4]}
    sent = thumbnails(taught, Asked.of({}))
    assert set(sent) == set(ids)
    assert all(address.startswith("data:image/jpeg;base64,") for address in sent.values())


def test_a_lesson_is_told_with_its_interval_and_the_pictures_that_were_not_recognised(tmp_path: Path) -> None:
    taught = taught_set(tmp_path, (10, 10))
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)) * 0.1
    features[torch.arange(20), torch.arange(20) // 10] += 5
    features[4] = features[15]  # a picture that is really the other class's
    value = step_value(lesson_step(taught, features, seconds=1.24), Asked.of({"number": 5}))
    assert value["number"] == 5
    assert value["taught"]
    assert value["said"].startswith("19 of 20 pictures correct when each is held out in turn: 95 % (95 % ")
    assert value["said"].endswith("interval 76 to 99 %). Trained in 1.2 s.")
    assert value["wrong"] == {taught.pictures[4].id: "class 2"}
    assert value["caution"] == ""


def test_pictures_of_one_recording_and_single_pictures_are_cautioned_of(tmp_path: Path) -> None:
    frames = [NewPicture(picture(i), f"recording-5-{i:04}.jpg") for i in range(6)]
    others = [NewPicture(picture(100 + i), f"{i}.jpg") for i in range(6)]
    single = [NewPicture(picture(200), "one.jpg")]
    taught = TaughtSet(tmp_path / "things").with_class("cup").with_class("pen").with_class("book")
    taught = taught.with_pictures(frames, 1).with_pictures(others, 2).with_pictures(single, 3)
    features = torch.eye(3)[torch.tensor(taught.labels())] + 0.01 * torch.randn(13, 3)
    caution = step_value(lesson_step(taught, features), Asked.of({}))["caution"]
    assert "All pictures of cup come from one recording" in caution
    assert "book has only one picture" in caution


def test_a_step_on_the_way_says_what_is_done(tmp_path: Path) -> None:
    taught = taught_set(tmp_path, (2, 2))
    value = step_value(Step(taught, "features", 16, 40), Asked.of({"number": 2}))
    assert (value["phase"], value["done"], value["taught"]) == (
        "Computing features of the new pictures: 16 of 40",
        False,
        False,
    )
    assert "said" not in value


def test_what_was_left_out_is_named_in_part() -> None:
    assert left_out_words([]) == ""
    assert left_out_words([Skipped("a.txt", "It is text.")]) == "1 file was left out. a.txt: It is text."
    many = left_out_words([Skipped(f"{i}.txt", "It is text.") for i in range(5)])
    assert many.endswith("2.txt: It is text. And 2 more.")
    assert np.all(["3.txt" not in many, "4.txt" not in many])
