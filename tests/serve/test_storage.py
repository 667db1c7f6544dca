import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import IMAGE_MEMORY_VARIABLE
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, DATASET_OWNER
from resnet_space.runs import BACKBONE, DECODED, OWNER, QUEUED, RESUME, WEIGHTS, Run
from resnet_space.serve import storage, temporary, visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.inventory import DAY, HOUR, LEAST_FILE, StoredItem, to_delete
from resnet_space.serve.limits import Limits
from resnet_space.serve.storage import retention_words
from resnet_space.ui.downloads import csv_file
from tests.conftest import WriteSplit
from tests.hub_stub import HubStub, isolate_client

CONFIG = RunConfig(ModelConfig("resnet20", ("cat", "dog")), TrainConfig(dataset="pets"))
NOW = 1_000 * DAY
PUBLIC_APP = AppContext(Path("/nowhere"), public=True)


def thing(name: str, days_ago: float, gigabytes: float = 1.0) -> StoredItem:
    return StoredItem(name, NOW - days_ago * DAY, int(gigabytes * 1e9), lambda: None)


def gone(kept: list[StoredItem], limits: Limits) -> list[str]:
    return [thing.name for thing in to_delete(kept, limits, NOW)]


def test_what_was_not_used_for_longer_than_is_allowed_goes() -> None:
    kept = [thing("new", 0), thing("old", 8), thing("older", 30)]
    assert gone(kept, Limits(days=7)) == ["older", "old"]
    assert gone(kept, Limits(days=30)) == []
    assert gone(kept, Limits()) == []


def test_what_was_not_used_for_longest_goes_until_the_rest_fits() -> None:
    kept = [thing("b", 2, 3), thing("a", 3, 3), thing("c", 1, 3)]
    assert gone(kept, Limits(gigabytes=9)) == []
    assert gone(kept, Limits(gigabytes=8)) == ["a"]
    assert gone(kept, Limits(gigabytes=5)) == ["a", "b"]
    assert gone([thing("too large alone", 0, 6)], Limits(gigabytes=5)) == ["too large alone"]


def test_visitors_are_told_how_long_their_runs_are_kept() -> None:
    assert retention_words(Limits()) == ""
    assert retention_words(Limits(days=7)).startswith("Runs are deleted 7 days after their last change. Push")
    assert "or earlier when the limit of 5 GB is exceeded" in retention_words(Limits(days=7, gigabytes=5))
    assert "deleted when the limit of 5 GB is exceeded, oldest first" in retention_words(Limits(gigabytes=5))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    """Make a run that nobody touched for so many days."""

    def made(name: str, days_ago: float, *, owned: bool = True, queued: bool = False) -> Run:
        run = Run.create(tmp_path / "runs" / name, CONFIG)
        if owned:
            PUBLIC_APP.claim(run.path / OWNER, visitors.new_key())
        if queued:
            (run.path / QUEUED).write_text("{}")
        age(run.path, days_ago)
        return run

    return made


def age(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppContext:
    isolate_client(monkeypatch, tmp_path / "client")
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    return AppContext(tmp_path / "runs", public=True, limits=Limits(days=7))


def test_only_what_visitors_made_and_do_not_use_any_more_is_deleted(
    context: AppContext, make: Callable[..., Run]
) -> None:
    make("fresh", 1)
    make("expired", 8)
    make("waits", 8, queued=True)
    make("of-nobody", 8, owned=False)
    make(BACKBONE, 8, owned=False)
    trains = make("trains", 8)
    with trains.training_lock():
        age(trains.path, 8)
        assert context.storage.tidy() == ["expired"]
    assert {path.name for path in context.library.root.iterdir()} == {
        "fresh",
        "waits",
        "of-nobody",
        BACKBONE,
        "trains",
    }


def test_a_visitors_data_set_goes_when_its_time_is_over_but_not_while_a_training_learns_from_it(
    context: AppContext, make: Callable[..., Run], tmp_path: Path, write_split: WriteSplit
) -> None:
    for name in ("pets", "toys", "the-owners"):
        write_split(tmp_path / "data" / name, "train", [b"a", b"b"], [0, 1], ["cat", "dog"])
        if name != "the-owners":
            PUBLIC_APP.claim(tmp_path / "data" / name / DATASET_OWNER, visitors.new_key())
        age(tmp_path / "data", 8)
    waits = make("waits", 0, queued=True)
    assert context.storage.tidy() == ["toys"]
    (waits.path / QUEUED).unlink()
    assert context.storage.tidy() == ["pets"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["the-owners"]


def test_what_was_made_while_the_app_was_its_owners_alone_is_never_deleted(
    context: AppContext, tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = AppContext(context.library.root)
    run = Run.create(tmp_path / "runs" / "mine", CONFIG)
    write_split(tmp_path / "data" / "pets", "train", [b"a", b"b"], [0, 1], ["cat", "dog"])
    for owners in (run.path / OWNER, tmp_path / "data" / "pets" / DATASET_OWNER):
        private.claim(owners, "the key of the owner's browser")
    of_the_owner = Run.create(tmp_path / "runs" / "by-key", CONFIG)
    monkeypatch.setenv(visitors.OWNER_KEY_VARIABLE, "the owner's")
    context.claim(of_the_owner.path / OWNER, "the owner's")
    for folder in (run.path, of_the_owner.path, tmp_path / "data"):
        age(folder, 1_000)
    assert context.storage.tidy() == []  # the same folders, now on a public app
    assert visitors.owns(run.path / OWNER, "the key of the owner's browser")


def test_the_cache_of_somebodys_own_machine_is_never_touched(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, hf_hub_download

    monkeypatch.delenv("SPACE_ID", raising=False)
    with HubStub() as hub:
        hub.add_dataset("somebody/pets", {"train.parquet": b"x" * 1_000})
        file = Path(hf_hub_download("somebody/pets", "train.parquet", repo_type="dataset", endpoint=hub.url))
    age(Path(constants.HF_HUB_CACHE), 1_000)
    assert context.storage.tidy() == []
    assert file.exists()


def test_on_a_space_what_the_hubs_client_keeps_counts_and_goes_too(
    context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, hf_hub_download

    monkeypatch.setenv("SPACE_ID", "ann/the-space")
    with HubStub() as hub:
        hub.add_dataset("somebody/pets", {"train.parquet": b"x" * 1_000})
        file = Path(hf_hub_download("somebody/pets", "train.parquet", repo_type="dataset", endpoint=hub.url))
    assert context.storage.tidy() == []
    age(Path(constants.HF_HUB_CACHE), 8)
    assert context.storage.tidy() == ["somebody/pets"]
    assert not file.exists()


# Uploads and exports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The app's own folder for what is temporary."""
    own = tmp_path / "temporary"
    own.mkdir()
    (own / temporary.LOCK).touch()
    monkeypatch.setenv(temporary.FOLDER_VARIABLE, str(own))
    return own


def put(folder: Path, name: str, *, hours_ago: float = 0.0, size: int = 1) -> Path:
    file = folder / name / "file"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(size))
    temporary.used(file, hours_ago * HOUR)
    return file.parent


@pytest.mark.parametrize(("public", "gone"), [(True, ["old", "older"]), (False, ["older"])])
def test_an_upload_goes_an_hour_after_its_last_use_on_ones_own_machine_a_day(
    folder: Path, tmp_path: Path, public: bool, gone: list[str]
) -> None:
    put(folder, "new")
    put(folder, "old", hours_ago=1.1)
    put(folder, "older", hours_ago=25)
    put(folder, f"{temporary.UNFINISHED}/on its way", hours_ago=25)
    app = AppContext(tmp_path / "runs", public=public, readonly=True)  # where nothing else is looked at
    assert sorted(app.storage.tidy()) == gone
    assert {path.name for path in folder.iterdir()} == {"lock", "unfinished", "new", "old", "older"} - set(gone)


def test_a_folder_that_other_programs_use_too_is_never_tidied(folder: Path, context: AppContext) -> None:
    (folder / temporary.LOCK).unlink()
    put(folder, "anybodys", hours_ago=100)
    assert context.storage.tidy() == []


def test_the_folders_of_dead_apps_are_removed_and_no_others(tmp_path: Path) -> None:
    script = "from resnet_space.serve.temporary import take_folder; print(take_folder(), flush=True); input()"
    environment = os.environ | {temporary.FOLDER_VARIABLE: str(tmp_path)}

    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    killed, left = start()
    lives, kept = start()
    with killed, lives:
        (left / "upload").mkdir()
        killed.kill()
        killed.wait()
        (tmp_path / "somebody-elses").mkdir()
        for path in (left, kept):
            temporary.used(path, temporary.NEW + 1)
        third, own = start()
        with third:
            assert {path.name for path in tmp_path.iterdir()} == {kept.name, own.name, "somebody-elses"}
            for process in (third, lives):
                process.communicate("\n")
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-elses"]


def test_an_app_that_can_write_nowhere_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(temporary.FOLDER_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(SystemExit, match=r"^The app cannot write to .*/file \(File exists\): free space there, or set"):
        temporary.take_folder()


def test_an_export_that_fails_leaves_nothing(folder: Path) -> None:
    def rows() -> Iterator[list[object]]:
        yield [1]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        csv_file("table", ["a"], rows())
    assert [path.name for path in folder.iterdir()] == [temporary.LOCK]


def test_an_export_is_counted_and_refused_where_there_is_no_room(
    folder: Path, context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "storage", context.storage)
    csv_file("table", ["a"], [[1]])
    assert context.storage.usage()["temporary"] == LEAST_FILE
    context.limits = replace(LIMITED, upload_mb=None)
    with pytest.raises(UserError, match="The space for uploads and downloads is full: try again in 10 minutes"):
        csv_file("table", ["a"], [[1]])


# Room for more

LIMITED = Limits(gigabytes=0.001)  # a megabyte


@pytest.fixture
def limited(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> AppContext:
    context.limits = LIMITED
    monkeypatch.setattr(storage, "SPARE", 0)
    return context


def grow(run: Run, size: int, days_ago: float) -> Run:
    (run.path / WEIGHTS).write_bytes(bytes(size))
    age(run.path, days_ago)
    return run


def test_the_oldest_go_for_what_needs_room_but_not_in_vain(limited: AppContext, make: Callable[..., Run]) -> None:
    for name, days_ago in (("old", 3), ("older", 4), ("new", 0)):
        grow(make(name, days_ago), 300_000, days_ago)
    waits = grow(make("waits", 5, queued=True), 50_000, 5)
    make("of-nobody", 9, owned=False)
    limited.storage.room_for(40_000)
    with pytest.raises(UserError, match=r"^This needs 1 MB of disk space, but only 0 MB are available: use less data"):
        limited.storage.room_for(960_000)
    names = {"old", "older", "new", "waits", "of-nobody"}
    assert {path.name for path in limited.library.root.iterdir()} == names
    limited.storage.room_for(500_000)
    assert {path.name for path in limited.library.root.iterdir()} == names - {"old", "older"}
    assert limited.storage.usage()["total"] < 400_000
    assert waits.path.exists()


def test_what_a_training_takes_counts_while_it_trains(limited: AppContext, make: Callable[..., Run]) -> None:
    run = make("trains", 0)
    with run.training_lock():
        (run.path / DECODED).mkdir()
        (run.path / DECODED / "train-images.npy").write_bytes(bytes(900_000))
        assert limited.storage.usage()["runs"] > 900_000
        with pytest.raises(UserError, match="only 0 MB are available"):
            limited.storage.room_for(200_000)
        age(run.path, 100)
        assert limited.storage.tidy() == []
    assert run.path.exists()


def test_ones_own_machine_is_asked_for_free_disk_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = AppContext(tmp_path / "runs")
    own.storage.room_for(10_000_000)
    monkeypatch.setattr(storage, "_free", lambda _folder: 5_000_000)
    with pytest.raises(UserError, match=r"^This needs 10 MB of disk space, but only 0 MB are available"):
        own.storage.room_for(10_000_000)


def test_decoded_images_that_go_to_the_disk_are_thought_of_before_a_training_starts(
    limited: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(ModelConfig("resnet20", ("a", "b")), TrainConfig(dataset="cifar10-mini"))
    limited.storage.room_for_training(config)  # in memory
    monkeypatch.setenv(IMAGE_MEMORY_VARIABLE, "1")
    words = r"^The dataset cifar10-mini, decoded at 32 pixels, needs 9 MB of disk space, but only 1 MB are available"
    with pytest.raises(UserError, match=words):
        limited.storage.room_for_training(config)


def test_an_import_may_not_unpack_more_than_there_is_room_for(limited: AppContext, tmp_path: Path) -> None:
    archive = tmp_path / "pets.zip"
    archive.write_bytes(bytes(1_000))
    assert limited.storage.import_limits(archive).total_bytes == 500_000  # it is written twice
    archive.write_bytes(bytes(300_000))
    with pytest.raises(UserError, match=r"^Importing this archive needs 1 MB of disk space, but only 1 MB are"):
        limited.storage.import_limits(archive)


@pytest.mark.parametrize("on_space", [True, False])
def test_a_download_needs_room_unless_it_is_here_already(
    limited: AppContext, monkeypatch: pytest.MonkeyPatch, on_space: bool
) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    if on_space:
        monkeypatch.setenv("SPACE_ID", "ann/the-space")
    else:
        limited.storage.room_for_download(DatasetRef("ann/pets"), 2_000_000)
        monkeypatch.setattr(storage, "_free", lambda _folder: 1_000_000)
    with pytest.raises(UserError, match=r"^The dataset ann/pets needs 2 MB of disk space, but only 1 MB are available"):
        limited.storage.room_for_download(DatasetRef("ann/pets"), 2_000_000)
    limited.datasets.remember(DatasetRef("ann/pets"))
    limited.storage.room_for_download(DatasetRef("ann/pets"), 2_000_000)


# What is nobody's, and what is broken


def test_what_has_a_visitors_mark_or_name_but_no_owner_goes_after_an_hour(
    context: AppContext, make: Callable[..., Run], tmp_path: Path, write_split: WriteSplit
) -> None:
    marked = make("marked", 0)
    (marked.path / OWNER).unlink()
    secret = make("fine-tune-0123456789", 0, owned=False)
    (secret.path / OWNER).touch()
    copied = make("copied-0123456789", 0, owned=False)
    own = make("own", 0, owned=False)
    (own.path / OWNER).touch()
    pets = tmp_path / "data" / "pets-0123456789"
    write_split(pets, "train", [b"a"], [0], ["cat", "dog"])
    (pets / DATASET_OWNER).touch()
    folders = (marked.path, secret.path, copied.path, own.path, pets)
    assert context.storage.tidy() == []
    for folder in folders:
        age(folder, 1.1 / 24)
    assert sorted(context.storage.tidy()) == ["fine-tune-0123456789", "marked", "pets-0123456789"]
    assert [path.exists() for path in folders] == [False, False, True, True, False]


def test_what_killed_processes_left_goes_after_an_hour_also_on_ones_own_machine(
    context: AppContext, make: Callable[..., Run], tmp_path: Path
) -> None:
    run = make("run", 0, owned=False)
    names = (".deleted-run-1", ".pull-ab", ".shipped-cd", ".mine")
    left = [context.library.root / name for name in names] + [tmp_path / "data" / ".import-ef"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    left += [run.path / DECODED / "a.npy", run.path / f".{WEIGHTS}.12.tmp", run.path / RESUME / ".images-a.tmp"]
    (run.path / DECODED).mkdir()
    for file in left[-3:]:
        file.write_bytes(b"x")
    own = AppContext(context.library.root)
    assert own.storage.tidy() == []
    for folder in (context.library.root, tmp_path / "data"):
        age(folder, 1.1 / 24)
    with run.training_lock():
        assert len(own.storage.tidy()) == 4
        assert (run.path / DECODED).exists()
    assert len(own.storage.tidy()) == 3
    assert {path.name for path in left if path.exists()} == {".mine"}
    assert run.path.exists()


def test_a_run_whose_configuration_is_broken_counts_and_goes_too(context: AppContext, make: Callable[..., Run]) -> None:
    (make("broken", 0).path / "config.json").write_text("{")
    assert context.storage.usage()["runs"] > 0
    age(context.library.root / "broken", 8)
    assert context.storage.tidy() == ["broken"]


def test_one_thing_that_cannot_be_deleted_is_told_once_and_the_others_go(
    context: AppContext, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second", "third"):
        make(name, 8)
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if path.name == "second":
            raise PermissionError(errno.EACCES, "not yours")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    assert sorted(context.storage.tidy()) == ["first", "third"]
    context.storage.tidy()
    assert capsys.readouterr().out.count("Not deleted: 'second' (") == 1


def test_one_thing_that_cannot_be_looked_at_does_not_keep_the_others(
    context: AppContext, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("first", 8)
    make("strange", 8)
    looked_at = Run.is_training
    assert isinstance(looked_at, property)

    def fail(run: Run) -> bool:
        if run.name == "strange":
            raise OSError(errno.EIO, "broken")
        return bool(looked_at.__get__(run))

    monkeypatch.setattr(Run, "is_training", property(fail))
    odd = os.fsdecode(b"odd-\xff")
    (context.library.root / odd).mkdir()
    assert context.storage.tidy() == ["first"]
    assert context.storage.usage()["runs"] > 0
