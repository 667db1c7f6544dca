import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import SpaceHardware

from resnet_space.common.hub_client import HubError
from resnet_space.hub import space
from resnet_space.hub.space import SETTINGS, Deployed, deploy, documented_settings, report, space_files
from tests.hub_stub import HubStub, Repository, isolate_client, without_waiting

TOKEN, READER = "hf_annswritetoken", "hf_annsreadtoken"
SPACE = "ann/learns"
REPOSITORY = Path(__file__).parents[2]

# https://huggingface.co/docs/hub/spaces-config-reference, August 2026
FRONT_MATTER = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "app_port"),
    *("base_path", "fullWidth", "header", "short_description", "models", "datasets", "tags", "thumbnail", "pinned"),
    *("license", "suggested_hardware", "suggested_storage", "hf_oauth", "hf_oauth_scopes"),
    *("hf_oauth_expiration_minutes", "hf_oauth_authorized_org", "disable_embedding", "startup_duration_timeout"),
    *("custom_headers", "preload_from_hub"),
}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SCOPES = {
    *("email", "read-repos", "gated-repos", "contribute-repos", "write-repos", "manage-repos", "read-collections"),
    *("write-collections", "inference-api", "jobs", "webhooks", "write-discussions", "read-billing"),
}


@pytest.fixture(autouse=True)
def own_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_client(monkeypatch, tmp_path)
    without_waiting(monkeypatch)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    with HubStub() as stub:
        stub.add_user(TOKEN, "ann")
        stub.add_user(READER, "ann", writes=False)
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        yield stub


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small repository like ours, with things in it that do not belong into a Space."""
    folder = tmp_path / "repository"
    files = {
        "README.md": "---\nsdk: gradio\n---\n",
        "app.py": "pass\n",
        ".gitignore": "/checkpoints/*\n!/checkpoints/shipped/\nresume/\n.env\n",
        "checkpoints/shipped/model.safetensors": "weights",
        "checkpoints/shipped/resume/owner": "local",
        "checkpoints/mine/config.json": "local",
        "docs/page.png": "picture",
        "data/images.parquet": "of which the client warns, as if they did not belong there",
        "tests/test_it.py": "pass\n",
        "benchmarks/results/it.json": "{}",
        ".ci/run": "make test",
        "requirements-test.txt": "pytest",
        ".env": f"HF_TOKEN={TOKEN}",
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    return folder


RIGHT = {"README.md", "app.py", "checkpoints/shipped/model.safetensors", "docs/page.png", "data/images.parquet"}


def there(stub: HubStub) -> Repository:
    return stub.repositories["spaces", SPACE]


def files_there(stub: HubStub) -> dict[str, Any]:
    return there(stub).commits[there(stub).refs["main"]]


def test_a_new_space_gets_the_right_files_in_one_commit(stub: HubStub, folder: Path) -> None:
    deployed = deploy(SPACE, folder, token=TOKEN, private=True)
    assert deployed.address == f"{stub.url}/spaces/{SPACE}"
    assert set(files_there(stub)) == RIGHT | {".gitattributes"}
    assert files_there(stub)["checkpoints/shipped/model.safetensors"] == b"weights"
    assert (there(stub).sdk, there(stub).private) == ("gradio", True)
    assert deployed.files == len(RIGHT)
    assert deployed.commit == there(stub).refs["main"]
    assert len(there(stub).commits) == 2  # the Hub's own, and ours


def test_an_update_takes_away_what_is_gone_and_without_changes_there_is_no_commit(stub: HubStub, folder: Path) -> None:
    deploy(SPACE, folder, token=TOKEN)
    (folder / "docs" / "page.png").unlink()
    (folder / "app.py").write_text("print()\n")
    changed = deploy(SPACE, folder, token=TOKEN)
    assert set(files_there(stub)) == RIGHT - {"docs/page.png"} | {".gitattributes"}
    assert files_there(stub)["app.py"] == b"print()\n"
    commits = len(there(stub).commits)
    assert deploy(SPACE, folder, token=TOKEN).commit == changed.commit
    assert len(there(stub).commits) == commits


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(HubError) as caught:
        deploy(*arguments, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "hf_" not in sentence.replace("hf_***", "")
    return sentence


@pytest.mark.parametrize("name", ["learns", "ann/", "/x", "ann/../x", "ann/x/y", "a b/c", f"ann/{TOKEN}--x"])
def test_a_malformed_name_is_refused_before_any_request(name: str, stub: HubStub, folder: Path) -> None:
    assert "is not a valid Space name: use the form owner/name" in refusal(name, folder, token=TOKEN)
    assert stub.requests == []


def test_what_cannot_be_is_refused_in_a_sentence(
    stub: HubStub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nobody is signed in on this machine: run `hf auth login` first." in refusal(SPACE, folder)
    assert "the Hub rejected the token: sign in again" in refusal(SPACE, folder, token="hf_expiredtoken")
    assert "has no write access there" in refusal(SPACE, folder, token=READER)
    assert "has no write access there" in refusal("bob/learns", folder, token=TOKEN)
    (tmp_path / "plain").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "is not a git repository" in refusal(SPACE, tmp_path / "plain", token=TOKEN)
    assert ("spaces", SPACE) not in stub.repositories


def test_a_space_of_another_sdk_is_left_alone(stub: HubStub, folder: Path) -> None:
    stub._add("spaces", SPACE, {"Dockerfile": b"FROM scratch"}, "main", {"sdk": "docker"})
    assert "is not a Gradio Space (docker)" in refusal(SPACE, folder, token=TOKEN)
    assert set(files_there(stub)) == {"Dockerfile"}


def test_somebody_elses_commit_in_between_is_not_overwritten(stub: HubStub, folder: Path) -> None:
    deploy(SPACE, folder, token=TOKEN)
    (folder / "app.py").write_text("print()\n")
    stub.fail(r"/commit/main", 412, method="POST")
    assert "it has changed in the meantime: try again" in refusal(SPACE, folder, token=TOKEN)
    assert files_there(stub)["app.py"] == b"pass\n"


def test_no_file_with_a_token_leaves_the_machine(stub: HubStub, folder: Path) -> None:
    (folder / "app.py").write_text(f"TOKEN = 'hf_{'Ab3' * 11}x'\n")
    assert "app.py contains a Hugging Face token" in refusal(SPACE, folder, token=TOKEN)
    assert stub.requests == []


def test_the_settings_that_are_there_are_told_and_no_value_of_them(stub: HubStub, folder: Path) -> None:
    deploy(SPACE, folder, token=TOKEN)
    there(stub).variables["RESNET_SPACE_MAX_EPOCHS"] = "7777"
    there(stub).secrets |= {"RESNET_SPACE_OWNER_KEY": "8888", "OTHER": "9999"}
    deployed = deploy(SPACE, folder, token=TOKEN)
    settings = {"RESNET_SPACE_MAX_EPOCHS": "epochs", "RESNET_SPACE_OWNER_KEY": "the owner", "RESNET_SPACE_X": "x"}
    text = "\n".join(report(deployed, settings, "SETTINGS"))
    assert text.startswith(f"{stub.url}/spaces/{SPACE} has {len(RIGHT)} files, commit {deployed.commit[:7]}.")
    assert re.search(r"RESNET_SPACE_MAX_EPOCHS +variable +set +epochs", text)
    assert re.search(r"RESNET_SPACE_OWNER_KEY +secret +set +the owner", text)
    assert re.search(r"RESNET_SPACE_X +variable +not set +x", text)
    assert "Others that are set: OTHER." in text
    assert not re.search("7777|8888|9999", text)


def test_the_hosting_pages_table_is_what_a_space_may_have() -> None:
    settings = documented_settings((REPOSITORY / SETTINGS).read_text(encoding="utf-8"))
    assert settings["RESNET_SPACE_MAX_EPOCHS"] == "epochs of a training"
    assert len(settings) >= 8


def test_this_repository_can_be_deployed() -> None:
    files = space_files(REPOSITORY)
    assert {"app.py", "README.md", "requirements.txt", "resnet_space/ui/static/page.js", "docs/finetune.png"} <= set(
        files
    )
    assert "checkpoints/resnet20-cbam-cifar10/model.safetensors" in files
    assert not any(path.startswith(("tests/", "benchmarks/", ".ci", ".venv", "data/")) for path in files)
    assert not any("/resume/" in path for path in files)


def test_the_front_matter_is_a_spaces_configuration() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    found = re.match(r"---\n(.*?)\n---\n", text, re.S)
    assert found is not None
    front = yaml.safe_load(found[1])
    assert set(front) <= FRONT_MATTER
    pinned = re.search(r"^gradio\[.*\]==(\S+)$", (REPOSITORY / "requirements.txt").read_text(), re.M)
    assert pinned is not None
    assert (front["sdk"], front["sdk_version"], front["app_file"]) == ("gradio", pinned[1], "app.py")
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS
    assert len(front["short_description"]) <= 60
    assert front["suggested_hardware"] in {hardware.value for hardware in SpaceHardware}
    assert set(front["hf_oauth_scopes"]) <= SCOPES
    assert 0 < front["hf_oauth_expiration_minutes"] <= 43_200
    for entry in front["preload_from_hub"]:
        repo_id, file = entry.split()
        assert repo_id in front["models"]
        assert file == "model.safetensors"


def test_the_command_says_its_refusal_and_ends_with_an_error(stub: HubStub, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="is not a valid Space name"):
        space.main(["nonsense"])
    assert isinstance(report(Deployed("a", "b", 1, (), ()), {}, ""), list)
