import re
from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, DATASET_OWNER
from resnet_space.runs import BACKBONE, OWNER, RESUME, WEIGHTS, Run
from resnet_space.runs import CONFIG as CONFIG_FILE
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.inventory import EXPIRES
from tests.conftest import WriteSplit
from tests.hub_stub import HubStub, isolate_client

SHIPPED_RUN = Path(__file__).parents[2] / "checkpoints" / "resnet20-cbam-cifar10"
CONFIG = RunConfig(ModelConfig("resnet20", ("cat", "dog")))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "a-run", CONFIG)


def test_a_run_is_its_starters_and_nobody_elses(run: Run) -> None:
    key, other = visitors.new_key(), visitors.new_key()
    assert key != other
    assert not visitors.owns(run.path / OWNER, key)
    visitors.claim(run.path / OWNER, key)
    assert visitors.owns(run.path / OWNER, key)
    for guess in (other, "", None, key[:-1], key.upper(), 7, (run.path / OWNER).read_text()):
        assert not visitors.owns(run.path / OWNER, guess)


def test_the_key_itself_is_in_no_file_and_its_hash_stays_on_this_machine(run: Run) -> None:
    key = visitors.new_key()
    visitors.claim(run.path / OWNER, key)
    assert all(key not in file.read_text(errors="replace") for file in run.path.rglob("*") if file.is_file())
    assert OWNER.startswith(f"{RESUME}/")


def test_the_owner_of_the_machine_owns_every_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    visitors.claim(run.path / OWNER, visitors.new_key())
    monkeypatch.setenv(visitors.OWNER_KEY_VARIABLE, "the owner's")
    assert visitors.owns(run.path / OWNER, "the owner's")
    monkeypatch.setenv(visitors.OWNER_KEY_VARIABLE, "")
    assert not visitors.owns(run.path / OWNER, "")


def test_on_a_public_app_visitors_see_and_change_only_their_own_runs_besides_those_that_came_with_it(
    tmp_path: Path,
) -> None:
    context = AppContext(tmp_path, public=True)
    keys = [visitors.new_key(), visitors.new_key()]
    for i, key in enumerate(keys):
        visitors.claim(Run.create(tmp_path / f"of-{i}", CONFIG).path / OWNER, key)
    Run.create(tmp_path / "of-nobody", CONFIG)
    Run.create(tmp_path / BACKBONE, CONFIG)
    assert {run.name for run in context.runs(keys[0])} == {"of-0", BACKBONE}
    assert context.finetuned_names(keys[1]) == ["of-1"]
    assert {run.name for run in context.runs(None)} == {BACKBONE}
    assert context.own_run("of-0", keys[0]).name == "of-0"
    for name in ("of-1", "of-nobody"):
        with pytest.raises(UserError, match=f"^{name} is not yours: only its owner can"):
            context.own_run(name, keys[0])
    with pytest.raises(UserError, match="comes with the app"):
        context.own_run(BACKBONE, keys[0])


def test_on_ones_own_machine_every_run_is_ones_own_but_what_came_with_the_app(tmp_path: Path) -> None:
    context = AppContext(tmp_path)
    visitors.claim(Run.create(tmp_path / "claimed", CONFIG).path / OWNER, visitors.new_key())
    Run.create(tmp_path / BACKBONE, CONFIG)
    assert {run.name for run in context.runs(None)} == {"claimed", BACKBONE}
    assert context.own_run("claimed", None).name == "claimed"
    with pytest.raises(UserError, match="comes with the app"):
        context.own_run(BACKBONE, None)


def test_a_model_that_two_visitors_brought_is_both_s_until_both_gave_it_up(tmp_path: Path) -> None:
    context = AppContext(tmp_path, public=True)
    one, other = visitors.new_key(), visitors.new_key()
    run = Run.create(tmp_path / "shared", CONFIG)
    for key in (one, other, one):
        visitors.claim(run.path / OWNER, key)
    assert (run.path / OWNER).read_text().count("\n") == 2
    context.delete_run("shared", one)
    assert context.runs(one) == []
    assert [run.name for run in context.runs(other)] == ["shared"]
    with pytest.raises(UserError, match="is not yours"):
        context.delete_run("shared", one)
    context.delete_run("shared", other)
    assert not run.path.exists()


def test_a_new_runs_address_on_a_public_app_cannot_be_guessed(tmp_path: Path) -> None:
    names = {AppContext(tmp_path, public=True).new_path("fine-tune").name for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch("fine-tune-[0-9a-f]{10}", name) for name in names)
    assert AppContext(tmp_path).new_path("fine-tune").name == "fine-tune-1"


def test_a_visitors_data_sets_are_offered_to_nobody_else_on_a_public_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_split: WriteSplit
) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    one, other = visitors.new_key(), visitors.new_key()
    write_split(tmp_path / "data" / "pets", "train", [b"a", b"b"], [0, 1], ["cat", "dog"])
    visitors.claim(tmp_path / "data" / "pets" / DATASET_OWNER, one)
    public = AppContext(tmp_path / "runs", public=True)
    assert ("pets", "pets") in public.datasets.choices(one)
    for key in (other, None):
        assert [label for label, _ in public.datasets.choices(key)] == ["cifar10-mini"]
    assert ("pets", "pets") in AppContext(tmp_path / "runs").datasets.choices()


@pytest.mark.parametrize("name", [BACKBONE, "resnet50.tv_in1k"])
def test_no_visitors_run_takes_the_name_of_what_came_with_the_app(name: str, tmp_path: Path) -> None:
    context = AppContext(tmp_path, public=True)
    key = visitors.new_key()
    context.claim(Run.create(tmp_path / "mine", CONFIG).path / OWNER, key)
    with pytest.raises(UserError, match=f"^{name} is the name of a run or weights that come with the app"):
        context.rename_run("mine", key, name)
    assert context.rename_run("mine", key, "ours").name == "ours"


def test_what_the_owner_pulled_stays_theirs_when_a_visitor_pulls_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate_client(monkeypatch, tmp_path / "client")
    files = {file: (SHIPPED_RUN / file).read_bytes() for file in (CONFIG_FILE, WEIGHTS)}
    with HubStub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add_model("ann/bees", files)
        owners = AppContext(tmp_path / "runs").pull("ann/bees", "the owner's browser")
        public = AppContext(tmp_path / "runs", public=True)
        one, other = visitors.new_key(), visitors.new_key()
        assert public.pull("ann/bees", one) == owners
        hub.add_model("ann/bees", files | {"README.md": b"newer"})
        newer = public.pull("ann/bees", one)
        assert public.pull("ann/bees", other) == newer
        with pytest.raises(UserError, match="has not identified you yet"):
            public.pull("ann/bees", None)
    assert {run.name for run in public.runs(one)} == {owners.name, newer.name}
    assert not (owners.path / OWNER).with_name(EXPIRES).exists()
    assert (newer.path / OWNER).with_name(EXPIRES).exists()
    with pytest.raises(UserError, match="is not yours"):
        public.delete_run(owners.name, one)
    public.delete_run(newer.name, one)
    assert {run.name for run in public.runs(other)} == {newer.name}


def test_on_ones_own_machine_a_run_is_deleted_from_any_browser(tmp_path: Path) -> None:
    context = AppContext(tmp_path)
    run = Run.create(tmp_path / "mine", CONFIG)
    context.claim(run.path / OWNER, "one browser")
    context.delete_run("mine", "another browser")
    assert not run.path.exists()


def test_a_run_that_waits_for_its_turn_is_deleted_and_one_that_trains_is_not(tmp_path: Path) -> None:
    context = AppContext(tmp_path)
    training, waiting = (Run.create(tmp_path / name, CONFIG) for name in ("training", "waiting"))
    with training.training_lock():
        context.trainer.start(waiting)
        assert context.trainer.status(waiting).state == "queued"
        context.delete_run("waiting", None)
        assert not waiting.path.exists()
        assert context.trainer.queue() == []
        with pytest.raises(UserError, match="cannot be deleted: stop it first"):
            context.delete_run("training", None)


def test_the_owners_key_cannot_be_guessed_in_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(visitors.OWNER_KEY_VARIABLE, "the owner's")
    with visitors.asked_by("192.0.2.99"):
        for i in range(visitors.KEYS_A_MINUTE):
            assert not visitors.is_owner_of_all(f"guess {i}")
            assert not visitors.is_owner_of_all("guess 0")  # a browser asks with its key again and again
        assert not visitors.is_owner_of_all("the owner's")
        mine = tmp_path / "owner"
        visitors.claim(mine, "a key of mine")
        assert visitors.owns(mine, "a key of mine")  # what is one's own stays so
    with visitors.asked_by("192.0.2.98"):
        assert visitors.is_owner_of_all("the owner's")


@pytest.mark.parametrize(("length", "weak"), [(0, False), (1, True), (15, True), (16, False), (40, False)])
def test_an_owners_key_that_could_be_guessed_is_told_with_a_good_one(
    length: int, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(visitors.OWNER_KEY_VARIABLE, "k" * length)
    said = visitors.weak_owner_key()
    assert (said is not None) == weak
    if said is not None:
        assert said.startswith(f"RESNET_SPACE_OWNER_KEY has only {length} characters")
        assert "kk" not in said
        monkeypatch.setenv(visitors.OWNER_KEY_VARIABLE, said.split()[-1])
        assert visitors.weak_owner_key() is None
