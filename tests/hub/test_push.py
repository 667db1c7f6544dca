import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from resnet_space.common.hub_client import HubError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.hub import push
from resnet_space.hub.account import free_gpu_seconds, who_am_i
from resnet_space.hub.portable import MODEL_FILE
from resnet_space.hub.push import push_run, suggested_repo_id
from resnet_space.runs import CARD, CONFIG, METRICS, WEIGHTS, Metric, Run, Source
from tests.hub_stub import HubStub, isolate_client, without_waiting
from tests.networks import alive

TOKEN = "hf_annswritetoken"
READER = "hf_annsreadtoken"
STRANGER = "hf_bobswritetoken"
REPO = "ann/bees"

RUN_CONFIG = RunConfig(ModelConfig("resnet20", ("ant", "bee")), TrainConfig(dataset="insects", epochs=1))
METRICS_WRITTEN: list[Metric] = [
    {"event": "start", "time": 1.5, "device": "cpu", "precision": "float32", "parameters": 272_000}
    | {"train_images": 9, "validation_images": 2, "epochs": 1, "steps_per_epoch": 1, "phases": [], "seconds": 0.0},
    {"event": "step", "step": 1, "loss": 0.7, "rates": {"head": 0.05}, "images_per_second": 9.0, "seconds": 1.0},
    {"event": "epoch", "epoch": 1, "step": 1, "phase": 1, "train_loss": 0.7, "train_accuracy": 0.5}
    | {"validation_loss": 0.6, "validation_accuracy": 0.5, "best": True, "seconds": 2.0},
    {"event": "test", "split": "test", "images": 4, "loss": 0.6, "accuracy": 0.75, "seconds": 3.0},
    {"event": "end", "status": "finished", "time": 9.5},
]


@pytest.fixture(autouse=True)
def own_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_client(monkeypatch, tmp_path)
    without_waiting(monkeypatch)
    # A card's figures are drawn in test_card.py; here they would take longer than all else.
    monkeypatch.setattr("resnet_space.plots.figures.png", lambda _figure: b"\x89PNG\r\n\x1a\n")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    with HubStub() as stub:
        stub.add_user(TOKEN, "ann")
        stub.add_user(READER, "ann", writes=False)
        stub.add_user(STRANGER, "bob")
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        yield stub


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "bees", RUN_CONFIG)
    run.save_weights(alive(RUN_CONFIG.model.build()).state_dict())
    for metric in METRICS_WRITTEN:
        run.append_metric(metric)
    return run


def refusal(run: Run, repo_id: str = REPO, token: str | None = TOKEN, **options: Any) -> str:
    """The sentence with which a push is refused."""
    with pytest.raises(HubError) as caught:
        push_run(run, repo_id, token=token, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "hf_" not in sentence.replace("hf_***", "")
    return sentence


def content(stub: HubStub, path: str) -> bytes:
    found = stub.files(REPO)[path]
    assert isinstance(found, bytes)
    return found


def test_a_run_becomes_a_repository_in_one_commit(stub: HubStub, run: Run) -> None:
    (run.path / "figures").mkdir(exist_ok=True)
    for name in ("mine.png", ".hidden.png", ".curves.png.7.tmp", "notes.txt"):
        (run.path / "figures" / name).write_bytes(b"\x89PNG")
    (run.path / "resume" / "state.pt").write_bytes(b"stays here")
    (run.path / ".config.json.7.tmp").write_bytes(b"half")
    run.write_source(Source("bob/backbone", "0" * 40))
    url = push_run(run, REPO, token=TOKEN)
    repository = stub.model(REPO)
    head = repository.refs["main"]
    assert url == f"{stub.url}/{REPO}/commit/{head}"
    assert len(repository.commits) == 2  # the Hub's own and this one
    assert repository.messages[head] == "Push bees"
    assert not repository.private
    figures = {"figures/learning_curves.png", "figures/mine.png"}
    assert set(stub.files(REPO)) == {".gitattributes", CARD, CONFIG, METRICS, WEIGHTS, MODEL_FILE} | figures
    for name in (CONFIG, METRICS, WEIGHTS):
        assert content(stub, name) == (run.path / name).read_bytes()
    assert not (run.path / CARD).exists()  # the repository's card is the repository's


def test_the_token_goes_to_the_hub_and_not_to_its_storage(stub: HubStub, run: Run) -> None:
    push_run(run, REPO, token=TOKEN)
    (upload,) = stub.asked("PUT", "^/upload/")
    assert upload.token is None
    assert {asked.token for asked in stub.requests if not asked.path.startswith(("/upload/", "/api/agent"))} == {TOKEN}


def test_a_new_repository_is_private_if_asked_for_and_an_existing_one_stays_as_it_is(stub: HubStub, run: Run) -> None:
    push_run(run, REPO, token=TOKEN, private=True)
    assert stub.model(REPO).private
    push_run(run, REPO, token=TOKEN, private=False)
    assert stub.model(REPO).private


def test_pushing_the_same_again_makes_no_commit_and_sends_nothing_large(stub: HubStub, run: Run) -> None:
    first = push_run(run, REPO, token=TOKEN)
    stub.requests.clear()
    assert push_run(run, REPO, token=TOKEN) == first
    assert len(stub.model(REPO).commits) == 2
    assert not stub.asked("PUT", "")


def test_a_run_takes_the_place_of_the_one_before_and_leaves_other_files_alone(stub: HubStub, run: Run) -> None:
    theirs = {CONFIG: json.dumps({"model": {"from": "a later version"}, "training": {}}).encode()}
    theirs |= {"test.safetensors": b"of the old weights", "figures/old.png": b"", "model.onnx": b"exported"}
    theirs |= {MODEL_FILE: b"of the old network"}
    stub.add_model(REPO, theirs)
    push_run(run, REPO, token=TOKEN)
    now = stub.files(REPO)
    assert now["model.onnx"] == b"exported"
    assert "test.safetensors" not in now
    assert "figures/old.png" not in now
    assert MODEL_FILE in now
    run = Run.create(run.path.with_name("photos"), RunConfig(ModelConfig("resnet18", ("ant", "bee"), image_size=64)))
    run.save_weights(run.config.model.build().state_dict())
    push_run(run, REPO, token=TOKEN)  # a network that timm has needs no source code
    assert MODEL_FILE not in stub.files(REPO)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({CONFIG: b'{"architectures": ["BertModel"]}', "pytorch_model.bin": b""}, "config.json"),
        ({CONFIG: b"[" * 100_000}, "config.json"),
        ({CONFIG: b'{"model": 1, "training": 2}'}, "config.json"),
        ({"model.gguf": b""}, "model.gguf"),
        ({WEIGHTS: b""}, WEIGHTS),
    ],
    ids=["another library's", "not JSON", "not a run's", "without a configuration", "only weights"],
)
def test_a_repository_that_is_not_a_runs_is_not_overwritten(
    stub: HubStub, run: Run, files: dict[str, bytes], named: str
) -> None:
    stub.add_model(REPO, files)
    assert refusal(run) == f"{REPO} already contains something else ({named}): choose another name."
    assert stub.files(REPO) == files


def test_a_repository_that_was_made_by_hand_is_filled(stub: HubStub, run: Run) -> None:
    stub.add_model(REPO, {".gitattributes": b"", "README.md": b"---\nlicense: mit\n---\n", "LICENSE": b"MIT"})
    push_run(run, REPO, token=TOKEN)
    assert content(stub, "LICENSE") == b"MIT"
    assert content(stub, WEIGHTS) == (run.path / WEIGHTS).read_bytes()


def test_progress_counts_the_bytes_of_the_weights_on_their_way(stub: HubStub, run: Run) -> None:
    told: list[tuple[int, int]] = []
    push_run(run, REPO, token=TOKEN, progress=lambda *where: told.append(where))
    sent = sum(len(content(stub, path)) for path in stub.files(REPO) if path != ".gitattributes")
    assert told[0] == (0, sent)
    assert told[-1] == (sent, sent)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len({done for done, _ in told}) > 5


def test_what_the_progress_raises_ends_the_push_before_the_commit(stub: HubStub, run: Run) -> None:
    class ClosedError(Exception):
        pass

    def closed(done: int, total: int) -> None:
        if done > 0:
            raise ClosedError

    with pytest.raises(ClosedError):
        push_run(run, REPO, token=TOKEN, progress=closed)
    assert set(stub.files(REPO)) == {".gitattributes"}


def test_with_xet_the_weights_go_by_their_path(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    if not push.is_xet_available():
        pytest.skip("hf_xet is not installed")
    with push.ExitStack() as opened:
        assert push._files(run, REPO, None, "", opened)[WEIGHTS] == run.path / WEIGHTS


# Refusals


@pytest.mark.parametrize("repo_id", ["bees", "a/b/c", "../x", "ann/..", "ann/a--b", "", "ann/b ees", "/ann/bees", 7])
def test_a_malformed_name_is_refused_before_any_request(stub: HubStub, run: Run, repo_id: Any) -> None:
    assert (
        refusal(run, repo_id)
        == f"{repo_id!r} is not a valid repository name: use the form owner/name, such as ann/birds."
    )
    assert not stub.requests


def test_a_token_in_the_names_place_is_not_repeated(run: Run) -> None:
    assert "'hf_***'" in refusal(run, TOKEN)


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    untrained = Run.create(tmp_path / "new", RUN_CONFIG)
    assert refusal(untrained) == "new has no weights to push: train it for at least one epoch first."


def test_a_run_in_training_is_refused(run: Run, stub: HubStub) -> None:
    with run.training_lock():
        assert refusal(run) == "bees is training: stop it, or push it when the training has finished."
    assert not stub.requests


def test_nobody_can_push_without_signing_in(stub: HubStub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "The run bees cannot be pushed because nobody is signed in: sign in first."
    assert refusal(run, token=None) == sentence
    # On a Space the token of its owner is nobody's.
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("SYSTEM", "spaces")
    assert refusal(run, token=None) == sentence
    assert not stub.requests


def test_at_home_the_token_of_the_machine_pushes(stub: HubStub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push_run(run, REPO)
    assert WEIGHTS in stub.files(REPO)


def test_an_expired_token_is_told_from_a_missing_repository(stub: HubStub, run: Run) -> None:
    stub.add_model(REPO, {})
    sentence = "The run bees cannot be pushed because the Hub rejected the token: sign in again."
    assert refusal(run, token="hf_expiredtoken") == sentence


@pytest.mark.parametrize("token", [READER, STRANGER], ids=["a token that only reads", "somebody else"])
@pytest.mark.parametrize("there", [True, False])
def test_who_may_not_write_is_told_so(stub: HubStub, run: Run, token: str, there: bool) -> None:
    if there:
        stub.add_model(REPO, {})
    assert refusal(run, token=token) == (
        "The run bees cannot be pushed because this account or token has no write access to ann/bees: "
        "use a token with write access, or a repository of your own."
    )


def test_a_repository_that_vanishes_is_told(stub: HubStub, run: Run) -> None:
    stub.first("/preupload/", lambda: stub.repositories.clear())
    assert refusal(run) == (
        "The run bees cannot be pushed because ann/bees does not exist or is not visible to this account: "
        "check the spelling."
    )


def test_a_repository_that_changed_meanwhile_is_not_overwritten(stub: HubStub, run: Run) -> None:
    theirs = {"README.md": b"written by ann in her browser"}
    stub.first("/commit/", lambda: stub.add_model(REPO, theirs))
    sentence = "The run bees cannot be pushed because ann/bees has changed in the meantime: review it, then push again."
    assert refusal(run) == sentence
    assert stub.files(REPO) == theirs
    stub.requests.clear()
    push_run(run, REPO, token=TOKEN)
    assert WEIGHTS in stub.files(REPO)
    assert not stub.asked("PUT", "")  # they have arrived the first time


def test_an_upload_that_breaks_once_goes_on_by_itself(stub: HubStub, run: Run) -> None:
    stub.drop("^/upload/", 100_000, method="PUT")
    push_run(run, REPO, token=TOKEN)
    assert len(stub.asked("PUT", "^/upload/")) == 2
    assert content(stub, WEIGHTS) == (run.path / WEIGHTS).read_bytes()


def test_after_a_lost_connection_the_second_try_goes_on_without_duplicates(stub: HubStub, run: Run) -> None:
    stub.drop("^/upload/", 100_000, method="PUT", times=6)
    lost = (
        "The run bees cannot be pushed because the connection was lost: push again; files that have already arrived "
        "are not sent twice."
    )
    assert refusal(run) == lost
    assert set(stub.files(REPO)) == {".gitattributes"}
    # Now the weights arrive, but not the commit.
    stub.drop("/commit/", 100, method="POST")
    assert refusal(run) == lost
    stub.requests.clear()
    push_run(run, REPO, token=TOKEN)
    assert not stub.asked("PUT", "")
    assert len(stub.model(REPO).commits) == 2


@pytest.mark.parametrize(
    "path", ["/repos/create", "/api/models/ann/bees$", "/preupload/", "/objects/batch", "/upload/", "/commit/"]
)
@pytest.mark.parametrize(
    ("status", "because"),
    [
        (429, "because the Hub received too many requests from here: wait a few minutes"),
        (503, "because the Hub is having problems (error 503): try again later, or keep it on this machine."),
    ],
)
def test_a_hub_in_trouble_is_told_at_every_step(stub: HubStub, run: Run, path: str, status: int, because: str) -> None:
    stub.fail(path, status)
    assert refusal(run).startswith(f"The run bees cannot be pushed {because}")


def test_a_hub_that_cannot_be_reached_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    sentence = (
        "The run bees cannot be pushed because the Hub is unreachable: check your network, or keep it on this machine."
    )
    assert refusal(run) == sentence
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    sentence = "The run bees cannot be pushed because HF_HUB_OFFLINE is set: unset it, or keep it on this machine."
    assert refusal(run) == sentence


def test_a_card_that_the_hub_does_not_accept_is_told(stub: HubStub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    card = b"---\nlicense: none-that-exists\n---\n"
    monkeypatch.setattr(push, "card_files", lambda *_args, **_options: {CARD: card})
    sentence = refusal(run)
    assert sentence.startswith(
        'The run bees cannot be pushed because the Hub rejected its model card: "license" must be '
    )
    assert set(stub.files(REPO)) == {".gitattributes"}


# Who, and where to


def test_the_users_name_is_asked_for_by_their_token(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert who_am_i(TOKEN) == "ann"
    assert who_am_i(None) is None
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    assert who_am_i(None) == "bob"
    monkeypatch.setenv("SYSTEM", "spaces")
    assert who_am_i(None) is None
    with pytest.raises(HubError, match=r"the Hub rejected the token: sign in again\.$"):
        who_am_i("hf_expiredtoken")


def test_the_rest_of_the_gpu_quota_is_asked_for_where_the_token_may_know(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.gpu_seconds["ann"] = 181.5
    assert free_gpu_seconds(TOKEN) == HfApi(endpoint=stub.url, token=TOKEN).get_zero_gpu_quota().remaining == 181.5
    assert free_gpu_seconds(STRANGER) is None  # a sign-in without the scope
    assert free_gpu_seconds("hf_expiredtoken") is None
    assert free_gpu_seconds(None) is None
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert free_gpu_seconds(TOKEN) is None


def test_a_repository_is_suggested_by_the_runs_name(run: Run) -> None:
    assert suggested_repo_id(run, "ann") == "ann/bees"
    pulled = replace(run, path=run.path.rename(run.path.with_name("bob.bees")))
    assert suggested_repo_id(pulled, "ann") == "ann/bob.bees"
    pulled.write_source(Source("bob/bees", "0" * 40))
    assert suggested_repo_id(pulled, "ann") == "ann/bees"
