"""Processes that are forked from one that has imported what they need."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from resnet_space.common import forking
from resnet_space.common.forking import Forked, ForkServer, start_detached
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.runs import Run
from resnet_space.runs.process import send_signal, start_process, trainer_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
# A module that tells who it is, and ends as it is told to.
MODULE = """
import json, os, sys, time
alone = os.getsid(0) == os.getpid()
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get("OF_ONE"), alone, __name__]), flush=True)
print("decimal" in sys.modules, file=sys.stderr)
if sys.argv[1] == "sleep":
    time.sleep(60)
sys.exit(int(sys.argv[1]) if sys.argv[1].isdigit() else sys.argv[1])
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    """It knows a module "told" and has imported `decimal`; processes are forked from it."""
    (tmp_path / "told.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    running = ForkServer(["decimal"])
    monkeypatch.setattr(forking, "_server", running)
    assert running.is_ready(60)
    yield running
    running.close()


def start(tmp_path: Path, *words: str) -> forking.Child:
    with (tmp_path / "log").open("wb") as log:
        return start_detached([sys.executable, "-m", "told", *words], log)


def test_a_forked_process_is_as_one_that_was_started_by_its_command(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OF_ONE", "é")
    child = start(tmp_path, "7", "a word")
    assert isinstance(child, Forked)
    assert child.wait(60) == child.poll() == 7
    assert (tmp_path / "log").read_text().splitlines() == [
        f'[["7", "a word"], "{tmp_path}", "\\u00e9", true, "__main__"]',
        "True",
    ]


def test_it_is_found_by_its_command_and_killed_by_its_number(server: ForkServer, tmp_path: Path) -> None:
    child, other = start(tmp_path, "sleep"), start(tmp_path, "sleep")
    deadline = time.monotonic() + 60
    while (words := [word for word in psutil.Process(child.pid).cmdline() if word])[2] != "told":
        assert time.monotonic() < deadline
    assert words == [sys.executable, "-m", "told", "sleep"]
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(60) == -signal.SIGTERM
    other.kill()
    assert other.wait(60) == -signal.SIGKILL
    other.kill()  # which is nothing to it


def test_a_trainer_that_was_forked_is_known_as_its_runs(server: ForkServer, tmp_path: Path) -> None:
    training = TrainConfig(dataset="not here")
    run = Run.create(tmp_path / "a-run", RunConfig(ModelConfig("resnet20", ("cat", "dog")), training))
    child = start_process(run, resume=False)
    assert isinstance(child, Forked)
    deadline = time.monotonic() + 60
    while (found := trainer_process(run)) is None:
        assert time.monotonic() < deadline
    assert found.pid == child.pid
    assert send_signal(run, signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL


def test_an_error_in_it_is_in_its_log(server: ForkServer, tmp_path: Path) -> None:
    child = start(tmp_path, "That was wrong.")
    assert child.wait(60) == 1
    assert (tmp_path / "log").read_text().endswith("That was wrong.\n")


def test_it_goes_on_when_the_server_ends_and_the_next_is_started_as_usual(server: ForkServer, tmp_path: Path) -> None:
    child = start(tmp_path, "sleep")
    server._process.kill()
    server._process.wait()
    assert psutil.Process(child.pid).is_running()
    assert child.wait(60) == -signal.SIGKILL  # as nobody will know
    os.kill(child.pid, signal.SIGKILL)
    usual = start(tmp_path, "3")
    assert isinstance(usual, subprocess.Popen)
    assert usual.wait(60) == 3
    assert "False" in (tmp_path / "log").read_text()


def test_what_is_no_module_and_what_is_too_long_are_started_as_usual(server: ForkServer, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        child = start_detached([sys.executable, "-c", "raise SystemExit(4)"], log)
    assert isinstance(child, subprocess.Popen)
    assert child.wait(60) == 4
    usual = start(tmp_path, "5", "long" * forking.ROOM)
    assert isinstance(usual, subprocess.Popen)
    assert usual.wait(60) == 5


def test_as_long_as_the_server_imports_nobody_waits_for_it_who_does_not_want_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told.py").write_text(MODULE)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(2)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = ForkServer(["slow"])
    monkeypatch.setattr(forking, "_server", server)
    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(server.is_ready, 60)
        while not (ready.running() or ready.done()):
            time.sleep(0.01)
        usual = start(tmp_path, "6")
        assert isinstance(usual, subprocess.Popen)
        assert usual.wait(60) == 6
        assert ready.result()
    child = start(tmp_path, "6")
    assert isinstance(child, Forked)
    assert child.wait(60) == 6
    server.close()


def test_beside_a_gpu_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "nvidia_gpus", lambda: 1)
    forking.start_fork_server(["decimal"])
    assert forking._server is None


@pytest.mark.parametrize("waits", [True, False])
def test_the_server_ends_quietly_with_its_app(waits: bool) -> None:
    code = f"""
from resnet_space.common import forking
forking.start_fork_server(["decimal"])
forking.wait_for_fork_server({60 if waits else 0})
print("It ends.")
"""
    # Until both have ended, as both may write there.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("It ends.\n", "")
