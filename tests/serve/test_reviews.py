"""Reviews of visitors: their decisions are kept, for them alone, and what a version may be compared with."""

import os
import shutil
from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.data.decisions import read_manifest
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import BUNDLED, DATA_FOLDER_VARIABLE, DATASET_OWNER, open_dataset
from resnet_space.serve import reviews, visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.inventory import EXPIRES
from resnet_space.serve.limits import Limits
from resnet_space.serve.reviews import SavedReview, open_review, require_unchanged, save_review, start_before_after
from resnet_space.ui.finetune.check.review import make_version, version_name

MINI = DatasetRef("cifar10-mini")
DROP = {"split": "train", "index": 5, "action": "drop"}


def context_of(folder: Path, *, public: bool = False, readonly: bool = False) -> AppContext:
    limits = Limits(days=1) if public else None
    return AppContext(folder / "checkpoints", public=public, readonly=readonly, limits=limits)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    return tmp_path / "data"


def dropped(review: SavedReview) -> None:
    review.decisions["label:train:5"] = dict(DROP)


def test_decisions_survive_a_restart_for_their_visitor_and_dataset_alone(tmp_path: Path, data: Path) -> None:
    shutil.copytree(BUNDLED / "cifar10-mini", data / "own")
    save_review(context_of(tmp_path, public=True), MINI, "ann", dropped)
    context = context_of(tmp_path, public=True)
    assert open_review(context, MINI, "ann").decisions == {"label:train:5": DROP}
    assert open_review(context, MINI, "bob").decisions == {}
    assert open_review(context, DatasetRef("own"), "ann").decisions == {}
    (folder,) = (path for path in context.reviews.folder.iterdir())
    assert visitors.owns(folder / "owner", "ann")
    assert (folder / EXPIRES).exists()
    assert context.storage.usage()["reviews"] > 0
    two_days_ago = folder.stat().st_mtime - 2 * 24 * 3600
    for path in folder.iterdir():
        os.utime(path, (two_days_ago, two_days_ago))
    context.storage.tidy()
    assert not folder.exists()


def test_on_ones_own_machine_all_browsers_have_the_same_review(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    save_review(context, MINI, "laptop", dropped)
    assert open_review(context, MINI, "phone").decisions == open_review(context, MINI, None).decisions != {}


def test_what_cannot_be_kept_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="read-only"):
        save_review(context_of(tmp_path, readonly=True), MINI, None, dropped)
    with pytest.raises(UserError, match="has not identified you"):
        save_review(context_of(tmp_path, public=True), MINI, "", dropped)
    monkeypatch.setattr(reviews, "MOST_DECISIONS", 0)
    with pytest.raises(UserError, match="make the new version first"):
        save_review(context_of(tmp_path), MINI, None, dropped)
    assert open_review(context_of(tmp_path), MINI, None).decisions == {}


def test_decisions_about_pictures_that_changed_since_do_not_count(tmp_path: Path, data: Path) -> None:
    shutil.copytree(BUNDLED / "cifar10-mini", data / "own")
    own, context = DatasetRef("own"), context_of(tmp_path)
    save_review(context, own, None, dropped)
    file = open_dataset(own).files["train"][0]
    checked = file.stat().st_mtime
    require_unchanged(own, checked + 1)
    os.utime(file, (checked + 9, checked + 9))
    assert open_review(context, own, None).decisions == {}
    with pytest.raises(UserError, match="The pictures have changed since they were checked"):
        require_unchanged(own, checked + 1)
    (next(context.reviews.folder.iterdir()) / "decisions.json").write_text("{")  # damaged
    assert open_review(context, own, None).decisions == {}


def test_a_version_is_its_visitors_and_nobody_elses(tmp_path: Path, data: Path) -> None:
    context = context_of(tmp_path, public=True)
    manifest = make_version(context, "cifar10-mini", [DROP], "", "ann", by="ann-on-the-hub")
    assert manifest.name.startswith("cifar10-mini-v2-")  # the rest of it cannot be guessed
    assert manifest.by == "ann-on-the-hub"
    folder = data / manifest.name
    assert read_manifest(folder) == manifest
    assert visitors.owns(folder / DATASET_OWNER, "ann")
    assert (folder / EXPIRES).exists()
    for change in (
        lambda: make_version(context, manifest.name, [DROP], "", "bob"),
        lambda: start_before_after(context, manifest.name, "bob"),
    ):
        with pytest.raises(UserError, match="There is no dataset named"):
            change()
    assert version_name(manifest.name) == "cifar10-mini-v3"
    with pytest.raises(UserError, match="was not made by a review"):
        start_before_after(context, "cifar10-mini", "ann")
    context.limits = Limits(gigabytes=0)
    with pytest.raises(UserError, match="The new version needs"):
        make_version(context, "cifar10-mini", [DROP], "", "ann")
    with pytest.raises(UserError, match="read-only"):
        make_version(context_of(tmp_path, readonly=True), "cifar10-mini", [DROP], "", None)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("ants", "ants-v2"),
        ("ants-v2", "ants-v3"),
        ("ants-v9-0123456789", "ants-v10"),
        ("ann/pets@0123#all", "pets-v2"),
    ],
)
def test_the_name_of_the_next_version_is_proposed(dataset: str, name: str) -> None:
    assert version_name(dataset) == name
