"""A training that goes on has the pictures that it began with, whatever became of the dataset since."""

from contextlib import closing
from pathlib import Path

import pytest
import torch

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.members import SplitMembers
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import Splits
from resnet_space.runs import MEMBERS, STATE, Metric, Run, last_metric
from resnet_space.runs.queue import Status
from resnet_space.training import loop as train_module
from resnet_space.training.loop import train
from resnet_space.training.range_test import range_test
from resnet_space.training.run_images import splits_of
from resnet_space.training.state import require_enough
from resnet_space.ui.finetune.status import status_html
from tests.conftest import WriteSplit
from tests.trainings import png

CLASSES = ("dark", "bright")
CONFIG = RunConfig(
    ModelConfig("resnet20", CLASSES, image_size=8),
    TrainConfig("greys", epochs=2, batch_size=8, precision="float32", crop_padding=0),
)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setattr(train_module, "choose_device", lambda: torch.device("cpu"))
    return tmp_path / "data" / "greys"


Rows = list[tuple[bytes, int]]


def rows(start: int, count: int) -> Rows:
    """So many different pictures, and their labels."""
    return [(png((start + i) * 2 % 256), i % 2) for i in range(count)]


def write(write_split: WriteSplit, folder: Path, train: Rows, classes: tuple[str, ...] = CLASSES, **more: Rows) -> None:
    for split, found in {"train": train, **more}.items():
        write_split(folder, split, [image for image, _ in found], [label for _, label in found], classes)


def stopped_run(tmp_path: Path) -> Run:
    """A run that trained for one of its two epochs."""
    run = Run.create(tmp_path / "runs" / "run", CONFIG)
    with closing(train(run)) as metrics:
        next(metric for metric in metrics if metric["event"] == "epoch")
    return run


def begun_run(tmp_path: Path) -> Run:
    """One that noted its pictures and has a state, as a training leaves it."""
    run = Run.create(tmp_path / "runs" / "run", CONFIG)
    splits_of(run, record=True)
    (run.path / STATE).touch()
    return run


def pixels(splits: Splits) -> list[list[int]]:
    return [data.images[:, 0, 0, 0].tolist() for data in (splits.train, splits.validation, splits.test)]


def go_on(run: Run) -> list[Metric]:
    return list(train(run, resume=True))


def test_without_a_change_it_goes_on_with_the_same_pictures(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit
) -> None:
    write(write_split, data_folder, rows(0, 40))
    before = pixels(splits_of(Run.create(tmp_path / "runs" / "other", CONFIG)))
    run = stopped_run(tmp_path)
    assert (run.path / MEMBERS).exists()
    assert pixels(splits_of(run)) == before
    assert not [metric for metric in go_on(run) if metric["event"] == "start"]


@pytest.mark.parametrize(
    "change",
    [
        lambda old: old + rows(40, 20),
        lambda old: rows(40, 20) + old,
        lambda old: old[::-1],
        lambda old: old[::2] + rows(60, 3) + old[1::2] + old[:2],  # two copies of old ones, too
    ],
)
def test_pictures_that_were_added_or_moved_change_no_set(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit, change
) -> None:
    old = rows(0, 40)
    write(write_split, data_folder, old)
    run = begun_run(tmp_path)
    before = pixels(splits_of(run))
    write(write_split, data_folder, change(old))
    splits = splits_of(run)
    assert pixels(splits) == before
    added = len(change(old)) - len(old)
    told = f"{added} images were added to the dataset after the training started and are not used."
    assert splits.warnings == ((told,) if added else ())
    assert splits.notes == ()


def test_what_was_told_of_near_duplicates_is_told_again(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit
) -> None:
    write(write_split, data_folder, rows(0, 40) + rows(0, 3))
    run = begun_run(tmp_path)
    told = "3 near-duplicates were kept on one side of the split."
    assert splits_of(run).notes == (told,)
    assert pixels(splits_of(run)) == pixels(splits_of(Run.create(tmp_path / "runs" / "other", CONFIG)))


def test_a_training_that_goes_on_without_new_pictures_says_so(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit
) -> None:
    write(write_split, data_folder, rows(0, 40))
    run = stopped_run(tmp_path)
    write(write_split, data_folder, rows(0, 41))
    metrics = go_on(run)
    assert next(metric["event"] for metric in metrics if metric["event"] != "tick") == "start"
    (test,) = (metric for metric in metrics if metric["event"] == "test")
    assert test["images"] == 8
    told = "1 image was added to the dataset after the training started and is not used."
    assert last_metric(run.metrics(), "start")["warning"] == told
    assert told in status_html(run, Status("training"), run.metrics())


def test_a_test_split_that_came_later_is_no_part_of_it(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit
) -> None:
    old = rows(0, 40)
    write(write_split, data_folder, old)
    run = begun_run(tmp_path)
    before = pixels(splits_of(run))
    write(write_split, data_folder, old, test=old[:10])
    assert pixels(splits_of(run)) == before
    assert splits_of(run).test_name == "train"


def test_a_class_that_came_later_or_another_order_of_them_changes_nothing(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit
) -> None:
    old = rows(0, 40)
    write(write_split, data_folder, old, test=rows(50, 6))
    run = begun_run(tmp_path)
    before, labels = pixels(splits_of(run)), splits_of(run).train.labels.tolist()
    other = ("bright", "new", "dark")
    renumbered = [(image, 2 - 2 * label) for image, label in old]
    tests = [(image, 2 - 2 * label) for image, label in rows(50, 6)]
    write(write_split, data_folder, [*renumbered, (png(255), 1)], other, test=tests)
    splits = splits_of(run)
    assert (pixels(splits), splits.train.labels.tolist(), splits.train.classes) == (before, labels, CLASSES)
    with pytest.raises(UserError, match="The classes of new differ from those of the dataset greys"):
        splits_of(Run.create(tmp_path / "runs" / "new", CONFIG))


@pytest.mark.parametrize(
    "change",
    [
        lambda old: old[1:],
        lambda old: [(old[0][0], 1 - old[0][1]), *old[1:]],  # another label
        lambda old: [(png(255), 0), *old[1:]],
        lambda old: rows(60, 40),
    ],
)
def test_a_picture_that_is_gone_ends_it_in_a_sentence(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit, change
) -> None:
    old = rows(0, 40)
    write(write_split, data_folder, old)
    run = begun_run(tmp_path)
    before = pixels(splits_of(run))
    write(write_split, data_folder, change(old))
    with pytest.raises(UserError, match=r"^The dataset 'greys' has changed since the training started: \d+ of its ima"):
        go_on(run)
    write(write_split, data_folder, old)
    assert pixels(splits_of(run)) == before  # nothing is lost


def test_a_run_from_before_goes_on_and_a_damaged_list_is_none(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit
) -> None:
    write(write_split, data_folder, rows(0, 40))
    run = stopped_run(tmp_path)
    (run.path / MEMBERS).unlink()
    assert any(metric["event"] == "test" for metric in go_on(run))
    assert SplitMembers.load(run.path / MEMBERS) is not None  # from now on it is known
    for damaged in (b"", b"PK", (run.path / MEMBERS).read_bytes()[:-30]):
        (tmp_path / "damaged").write_bytes(damaged)
        assert SplitMembers.load(tmp_path / "damaged") is None


# Too little


@pytest.mark.parametrize(
    ("model", "enough"),
    [
        (ModelConfig("resnet18", CLASSES, image_size=32), False),
        (ModelConfig("resnet18", CLASSES, image_size=33), True),
        (ModelConfig("resnet18", CLASSES, options={"stem": "cifar"}, image_size=8), False),
        (ModelConfig("resnet20", CLASSES, image_size=8), True),
    ],
)
def test_one_picture_of_which_one_pixel_is_left_is_refused_before_the_training(
    tmp_path: Path, data_folder: Path, write_split: WriteSplit, model: ModelConfig, enough: bool
) -> None:
    write(write_split, data_folder, rows(0, 3))
    config = RunConfig(model, TrainConfig("greys", epochs=1, batch_size=2, precision="float32"))
    run = Run.create(tmp_path / "runs" / "tiny", config)
    if enough:
        require_enough(config, len(splits_of(run).train))
        return
    with pytest.raises(
        UserError, match=r"^There is only one training image, which resnet18 reduces to a single position at"
    ):
        list(train(run))
    assert run.metrics() == []
    with pytest.raises(UserError, match="too little for batch normalisation"):
        next(range_test(config, None, splits_of(run).train))
