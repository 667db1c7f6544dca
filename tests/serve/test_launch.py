import inspect
import os
import shutil
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gradio
import pytest
from gradio import component_meta

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import NO_SAVED_TOKEN, sent_token
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import SHIPPED, WEIGHTS, Run
from resnet_space.serve.launch import (
    AUTH_VARIABLE,
    HOSTS,
    REPOSITORY,
    STORAGE_VARIABLE,
    TRUSTED_PROXIES,
    Options,
    accounts,
    addresses,
    bring_shipped,
    parsed_options,
    prepare,
)
from resnet_space.serve.limits import PUBLIC, VARIABLES, Limits
from resnet_space.serve.stubs import without_stubs

LOCAL = "http://127.0.0.1:7860/"
OFFLINE = (
    "* Running on local URL:  http://127.0.0.1:7860\n\nCould not create share link. Missing file: /cache/frpc. \n\n"
    "1. Download this file: https://cdn-media.huggingface.co/frpc-gradio-0.3/frpc_linux_amd64\n"
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        AUTH_VARIABLE,
        "SPACE_ID",
        "GRADIO_SERVER_PORT",
        "GRADIO_SERVER_NAME",
        "RESNET_SPACE_DATA",
        STORAGE_VARIABLE,
        *VARIABLES.values(),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "public"),
    [
        ([], False),
        (["--host=localhost"], False),
        (["--share"], True),
        (["--host=0.0.0.0"], True),
        (["--host=::"], True),
    ],
)
def test_what_others_can_reach_is_public_and_has_limits(arguments: list[str], public: bool) -> None:
    options = parsed_options(arguments)
    assert options.public is public
    assert options.limits == (PUBLIC if public else Limits())


def test_an_address_from_the_environment_counts_as_one_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert parsed_options([]).host == "0.0.0.0"
    assert parsed_options([]).public
    assert not parsed_options(["--host=127.0.0.1"]).public


def test_a_space_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "user/name")
    assert parsed_options([]).limits == PUBLIC


def test_accounts_come_from_the_command_line_before_the_environment_which_is_not_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(AUTH_VARIABLE, "ann:one\n\n bob:t:w o \n")
    assert parsed_options([]).accounts == (("ann", "one"), ("bob", "t:w o"))
    assert parsed_options([]).accounts == ()  # taken out: the trainer does not inherit it
    monkeypatch.setenv(AUTH_VARIABLE, "ann:one")
    assert parsed_options(["--auth", "eve:two", "--auth", "joe:three"]).accounts == (("eve", "two"), ("joe", "three"))


@pytest.mark.parametrize("text", ["hunter2", ":hunter2", "hunter2:", " :hunter2"])
@pytest.mark.parametrize("by_variable", [False, True])
def test_an_account_of_another_form_is_refused_without_a_word_of_it(
    text: str, by_variable: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if by_variable:
        monkeypatch.setenv(AUTH_VARIABLE, text)
    with pytest.raises(SystemExit):
        parsed_options([] if by_variable else [f"--auth={text}"])
    said = capsys.readouterr()
    assert said.err.count("has a value that is not of the form user:password") == 1
    assert "hunter2" not in said.err + said.out


def test_a_user_cannot_have_two_passwords() -> None:
    with pytest.raises(UserError, match="contains the user ann twice"):
        accounts(["ann:one", "ann:two"], "--auth")


def test_no_representation_of_the_options_has_a_password() -> None:
    assert "hunter2" not in repr(parsed_options(["--auth=ann:hunter2"]))


@pytest.mark.parametrize("port", ["many", "0", "70000"])
def test_a_port_that_is_none_is_refused(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises(SystemExit):
        parsed_options([])
    assert f"GRADIO_SERVER_PORT must be a port from 1 to 65535, not '{port}'" in capsys.readouterr().err


@pytest.fixture
def options() -> Options:
    return replace(parsed_options([]), checkpoints=Path("/runs"))


def test_the_address_is_the_last_line(options: Options) -> None:
    assert addresses(options, LOCAL, None, "", mcp=True) == [
        "For MCP clients: http://127.0.0.1:7860/gradio_api/mcp/",
        "Open http://127.0.0.1:7860",
    ]
    shared = addresses(replace(options, share=True), LOCAL, "https://1234.gradio.live", "", mcp=False)
    assert shared[-1] == "Open https://1234.gradio.live"


def test_whoever_shares_without_a_password_is_told_what_that_means(options: Options) -> None:
    shared = replace(options, share=True)
    hint = "Anyone with the link can train here"
    for other, told in (
        (shared, True),
        (replace(shared, readonly=True), False),
        (replace(shared, accounts=(("ann", "one"),)), False),
    ):
        assert (hint in " ".join(addresses(other, LOCAL, "https://1234.gradio.live", "", mcp=False))) is told


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (OFFLINE, "the tunnel program could not be downloaded from cdn-media.huggingface.co"),
        (
            "Could not create share link. Checksum mismatch for file: x.",
            "the checksum of the downloaded tunnel program is wrong",
        ),
        ("Could not create share link. Please check your internet", "gradio's tunnel server could not be reached"),
    ],
)
def test_without_a_tunnel_one_sentence_says_why(options: Options, said: str, reason: str) -> None:
    why, last = addresses(replace(options, share=True), LOCAL, None, said, mcp=False)
    assert reason in why
    assert why.endswith("the app is available on this machine only.")
    assert last == "Open http://127.0.0.1:7860"


def test_runs_and_data_are_kept_where_a_restart_leaves_them_and_the_shipped_runs_are_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, str(tmp_path))
    options = parsed_options([])
    assert (options.checkpoints, options.data) == (tmp_path / "checkpoints", tmp_path / "data")
    assert parsed_options(["--checkpoints=/mine"]).checkpoints == Path("/mine")
    bring_shipped(options.checkpoints)
    for name in SHIPPED:
        assert Run.open(options.checkpoints / name).has_weights
    (options.checkpoints / SHIPPED[0] / WEIGHTS).write_bytes(b"as it was")
    bring_shipped(options.checkpoints)  # the next start
    assert (options.checkpoints / SHIPPED[0] / WEIGHTS).read_bytes() == b"as it was"


def test_a_folder_without_runs_gets_the_shipped_ones_and_one_with_runs_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    assert parsed_options([]).checkpoints == REPOSITORY / "checkpoints"
    empty, own = tmp_path / "empty", tmp_path / "own"
    (empty / "not a run").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "checkpoints" / SHIPPED[0], own / "mine")
    for folder in (empty, own, tmp_path / "missing"):
        bring_shipped(folder)
    for folder in (empty, tmp_path / "missing"):
        assert all(Run.open(folder / name).has_weights for name in SHIPPED)
    assert [run.name for run in own.iterdir()] == ["mine"]


def test_a_public_app_and_its_trainers_do_not_use_the_login_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (DATA_FOLDER_VARIABLE, NO_SAVED_TOKEN, TRUSTED_PROXIES):
        monkeypatch.setenv(variable, "")  # so that it is put back as it was
    prepare(parsed_options([f"--data={tmp_path}"]))
    assert os.environ[DATA_FOLDER_VARIABLE] == str(tmp_path)
    assert sent_token(None) is None
    prepare(parsed_options([f"--data={tmp_path}", "--share"]))
    assert sent_token(None) is False
    assert sent_token("hf_a_visitors") == "hf_a_visitors"


def test_only_where_a_proxy_is_named_somebodys_word_counts_for_where_they_ask_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (DATA_FOLDER_VARIABLE, TRUSTED_PROXIES):
        monkeypatch.setenv(variable, "")
    options = parsed_options([f"--data={tmp_path}", "--host=0.0.0.0"])
    assert not options.proxied
    prepare(options)
    assert os.environ[TRUSTED_PROXIES] == ""  # or uvicorn believes whatever comes from 127.0.0.1
    monkeypatch.setenv(TRUSTED_PROXIES, "127.0.0.1")
    assert options.proxied
    prepare(options)
    assert os.environ[TRUSTED_PROXIES] == "127.0.0.1"
    monkeypatch.setenv(TRUSTED_PROXIES, "")
    assert parsed_options(["--share"]).proxied


def test_ones_own_machine_answers_by_its_own_names_and_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS, "pc.lan, Tunnel.Example")
    assert parsed_options([]).hosts == {"localhost", "127.0.0.1", "[::1]", "pc.lan", "tunnel.example"}
    assert parsed_options(["--host=0.0.0.0"]).hosts == frozenset()


def test_the_page_is_built_before_what_takes_long_to_import() -> None:
    heavy = ["torch", "torchvision", "timm", "accelerate", "matplotlib", "scipy", "onnx"]
    code = f"""
import sys
from resnet_space.serve.stubs import without_stubs
with without_stubs():
    import resnet_space.ui, resnet_space.serve.launch
print([m for m in {heavy} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "[]\n"


def test_gradio_is_imported_without_writing_the_stubs_of_its_components_and_reads_certificates_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> str:
        raise AssertionError("It writes one.")

    monkeypatch.setattr(component_meta, "create_pyi", refuse)
    with pytest.raises(AssertionError, match="It writes one"):  # as for every component that is defined
        component_meta.create_or_modify_pyi(gradio.Textbox, "Textbox", [])
    with without_stubs():
        component_meta.create_or_modify_pyi(gradio.Textbox, "Textbox", [])
        assert ssl.create_default_context() is ssl.create_default_context()
        assert inspect.getfile(Options) == str(REPOSITORY / "resnet_space/serve/launch.py")
    assert ssl.create_default_context() is not ssl.create_default_context()
    assert inspect.getfile(gradio.Textbox) == str(Path(gradio.__file__).parent / "components/textbox.py")
