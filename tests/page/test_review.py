"""A review as the page is told of it, and what it may ask for."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.serve.context import AppContext
from resnet_space.serve.reviews import SavedReview
from resnet_space.training.review import BeforeAfter, ReviewItem
from resnet_space.ui.finetune.check.review import CHOSEN, MOST_CHOSEN, MOST_PICTURES, Asked, items_of
from resnet_space.ui.finetune.check.review_shown import (
    NO_TEST_SPLIT,
    examples,
    pictures_of,
    result_of,
    summary_of,
    whole,
)
from resnet_space.ui.finetune.teach.requests import UNFIT
from tests.conftest import WriteSplit
from tests.training.test_review import REPORT

PETS = DatasetRef("pets")
COLOURS = ("red", "green", "blue", "black")


def encoded(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (900, 600), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    pictures = [*map(encoded, COLOURS), b"no picture"]
    write_split(tmp_path / "pets", "train", pictures, [0, 0, 0, 1, 1], ["cat", "dog"])
    return tmp_path


def drawn(url: str) -> tuple[tuple[int, int], Any]:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return image.size, image.getpixel((5, 5))


def test_pictures_are_sent_at_the_size_of_the_page_and_what_is_none_is_empty() -> None:
    found = pictures_of(PETS, [("train", 2), ("train", 4), ("test", 0), ("train", 99)])
    assert (found["train:4"], found["test:0"], found["train:99"]) == ("", "", "")
    found = pictures_of(PETS, [("train", 2)])
    size, (red, green, blue) = drawn(found["train:2"])
    assert size == (640, 427)
    assert blue > 200 > 60 > max(red, green)


def test_a_picture_of_a_pixels_width_is_sent_too(data: Path, write_split: WriteSplit) -> None:
    file = io.BytesIO()
    Image.new("RGB", (1, 1500), (0, 0, 250)).save(file, "PNG")
    write_split(data / "narrow", "train", [file.getvalue()], [0], ["cat", "dog"])
    url = pictures_of(DatasetRef("narrow"), [("train", 0)])["train:0"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (1, 640)


def test_a_class_is_shown_by_pictures_that_nothing_was_found_about() -> None:
    found = examples(PETS, ["cat", "dog", "no class"], {("train", 0)})
    assert {name: len(urls) for name, urls in found.items()} == {"cat": 2, "dog": 1}  # one cannot be decoded
    assert drawn(found["cat"][0])[1][1] > 100  # green, as the red one is suspect


def test_the_queue_comes_with_earlier_decisions_also_about_chosen_pictures() -> None:
    item = ReviewItem("label", "train", 1, "1.png", "cat", "Labelled cat.", 0.9, "dog")
    chosen = {"split": "train", "index": 3, "file": "", "action": "keep", "label": "", "finding": CHOSEN}
    gone = chosen | {"index": 50}
    saved = SavedReview({}, {"chosen:train:3": chosen, "chosen:train:50": gone})
    value = whole(PETS, {item.id: item}, saved, "pets-v2")
    labels = {one["id"]: one["label"] for one in value["items"]}
    assert labels == {"label:train:1": "cat", "chosen:train:3": "dog"}
    assert (value["judged"], value["count"], value["classes"]) == ("", 2, ("cat", "dog"))
    assert value["decisions"]["chosen:train:3"] == {"action": "keep", "label": ""}


def test_the_summary_says_what_a_version_would_have_otherwise() -> None:
    drop = {"split": "train", "index": 3, "action": "drop"}
    found = summary_of(PETS, SavedReview({}, {"odd:train:3": drop}), clean=False)
    assert found == {"words": "1 dropped.", "changed": 1, "note": NO_TEST_SPLIT, "tested": False}
    assert summary_of(PETS, SavedReview({}), clean=False)["words"] == "Nothing decided."


def test_a_version_and_its_comparison_are_told_as_long_as_they_are_there(tmp_path: Path) -> None:
    context = AppContext(tmp_path / "checkpoints")
    assert result_of(context, SavedReview({}), None) == {"made": "", "result": None}
    assert result_of(context, SavedReview({}, version="gone", compared="gone"), None) == {"made": "", "result": None}
    assert result_of(context, SavedReview({}, version="pets"), None) == {"made": "pets", "result": None}
    folder = context.reviews.folder / "pets"
    folder.mkdir(parents=True)
    found = BeforeAfter(dataset="pets", state="finished", backbone="<b>", images=10, before=8, after=9, gained=1)
    for now, state, said in (
        (found, "finished", "Test accuracy 80.0 % before, 90.0 % after"),
        (replace(found, state="failed", reason="It <broke>."), "failed", "It &lt;broke&gt;."),
        (replace(found, state="running"), "stopped", "It was interrupted."),  # its process is gone
    ):
        now.write(folder)
        result = result_of(context, SavedReview({}, version="pets", compared="pets"), None)["result"]
        assert result["state"] == state
        assert said in result["html"]
        assert "<b>" not in result["html"]


def test_chosen_pictures_come_first_but_a_finding_about_one_stays_the_finding() -> None:
    chosen = [{"split": "train", "index": 2}, {"split": "train", "index": 3}, {"split": "train", "index": 2}]
    asked = Asked.of({"number": 1, "chosen": chosen, "decide": [{"id": "chosen:test:8", "action": "keep"}]})
    assert list(items_of(REPORT, asked)) == [
        "chosen:train:2",
        "chosen:test:8",
        "label:train:3",
        "copy:test:5",
        "odd:train:9",
    ]
    assert list(items_of(None, Asked.of({"number": 1}))) == []


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"number": "1"},
        {"number": 1, "dataset": 5},
        {"number": 1, "want": ["train"]},
        {"number": 1, "want": ["nowhere:1"]},
        {"number": 1, "want": ["train:-1"]},
        {"number": 1, "want": ["train:1"] * (MOST_PICTURES + 1)},
        {"number": 1, "chosen": [{"split": "train", "index": "1"}]},
        {"number": 1, "chosen": {"split": "train"}},
        {"number": 1, "decide": ["drop"]},
    ],
)
def test_what_no_page_sends_is_refused(data: Any) -> None:
    with pytest.raises(UserError, match=UNFIT):
        Asked.of(data)


def test_more_chosen_pictures_than_a_request_may_have_get_a_sentence_with_both_numbers() -> None:
    chosen = [{"split": "train", "index": i} for i in range(MOST_CHOSEN + 1)]
    with pytest.raises(UserError, match=r"At most 2,000 pictures .* not 2,001: choose fewer\."):
        Asked.of({"number": 1, "open": True, "chosen": chosen})
