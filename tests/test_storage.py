import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, DATASET_OWNER
from resnet_space.runs import BACKBONE, OWNER, QUEUED, Run
from resnet_space.serve import visitors
from resnet_space.serve.limits import Limits
from resnet_space.serve.storage import DAY, Kept, kept_words, tidy, to_delete
from resnet_space.ui.workshop import Workshop
from tests.conftest import WriteSplit
from tests.hub_stub import HubStub, isolate_client

CONFIG = RunConfig(ModelConfig("resnet20", ("cat", "dog")), TrainConfig(dataset="pets"))
NOW = 1_000 * DAY
PUBLIC_APP = Workshop(Path("/nowhere"), public=True)


def thing(name: str, days_ago: float, gigabytes: float = 1.0) -> Kept:
    return Kept(name, NOW - days_ago * DAY, int(gigabytes * 1e9), lambda: None)


def gone(kept: list[Kept], limits: Limits) -> list[str]:
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
    assert kept_words(Limits()) == ""
    assert kept_words(Limits(days=7)).startswith("Runs are kept here 7 days after their last change. Push")
    assert "more than 5 GB" in kept_words(Limits(days=7, gigabytes=5))
    assert "while there is room: the oldest go first" in kept_words(Limits(gigabytes=5))


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
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    isolate_client(monkeypatch, tmp_path / "client")
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    return Workshop(tmp_path / "runs", public=True, limits=Limits(days=7))


def test_only_what_visitors_made_and_do_not_use_any_more_is_deleted(
    workshop: Workshop, make: Callable[..., Run]
) -> None:
    make("fresh", 1)
    make("expired", 8)
    make("waits", 8, queued=True)
    make("of-nobody", 8, owned=False)
    make(BACKBONE, 8, owned=False)
    trains = make("trains", 8)
    with trains.training_lock():
        age(trains.path, 8)
        assert tidy(workshop) == ["expired"]
    assert {path.name for path in workshop.library.root.iterdir()} == {
        "fresh",
        "waits",
        "of-nobody",
        BACKBONE,
        "trains",
    }


def test_a_visitors_data_set_goes_when_its_time_is_over_but_not_while_a_training_learns_from_it(
    workshop: Workshop, make: Callable[..., Run], tmp_path: Path, write_split: WriteSplit
) -> None:
    for name in ("pets", "toys", "the-owners"):
        write_split(tmp_path / "data" / name, "train", [b"a", b"b"], [0, 1], ["cat", "dog"])
        if name != "the-owners":
            PUBLIC_APP.claim(tmp_path / "data" / name / DATASET_OWNER, visitors.new_key())
        age(tmp_path / "data", 8)
    waits = make("waits", 0, queued=True)
    assert tidy(workshop) == ["toys"]
    (waits.path / QUEUED).unlink()
    assert tidy(workshop) == ["pets"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["the-owners"]


def test_what_was_made_while_the_app_was_its_owners_alone_is_never_deleted(
    workshop: Workshop, tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = Workshop(workshop.library.root)
    run = Run.create(tmp_path / "runs" / "mine", CONFIG)
    write_split(tmp_path / "data" / "pets", "train", [b"a", b"b"], [0, 1], ["cat", "dog"])
    for owners in (run.path / OWNER, tmp_path / "data" / "pets" / DATASET_OWNER):
        private.claim(owners, "the key of the owner's browser")
    of_the_owner = Run.create(tmp_path / "runs" / "by-key", CONFIG)
    monkeypatch.setenv(visitors.OWNER_KEY_VARIABLE, "the owner's")
    workshop.claim(of_the_owner.path / OWNER, "the owner's")
    for folder in (run.path, of_the_owner.path, tmp_path / "data"):
        age(folder, 1_000)
    assert tidy(workshop) == []  # the same folders, now on a public app
    assert visitors.owns(run.path / OWNER, "the key of the owner's browser")


def test_the_cache_of_somebodys_own_machine_is_never_touched(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, hf_hub_download

    monkeypatch.delenv("SPACE_ID", raising=False)
    with HubStub() as hub:
        hub.add_dataset("somebody/pets", {"train.parquet": b"x" * 1_000})
        file = Path(hf_hub_download("somebody/pets", "train.parquet", repo_type="dataset", endpoint=hub.url))
    age(Path(constants.HF_HUB_CACHE), 1_000)
    assert tidy(workshop) == []
    assert file.exists()


def test_on_a_space_what_the_hubs_client_keeps_counts_and_goes_too(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, hf_hub_download

    monkeypatch.setenv("SPACE_ID", "ann/the-space")
    with HubStub() as hub:
        hub.add_dataset("somebody/pets", {"train.parquet": b"x" * 1_000})
        file = Path(hf_hub_download("somebody/pets", "train.parquet", repo_type="dataset", endpoint=hub.url))
    assert tidy(workshop) == []
    age(Path(constants.HF_HUB_CACHE), 8)
    assert tidy(workshop) == ["somebody/pets"]
    assert not file.exists()
