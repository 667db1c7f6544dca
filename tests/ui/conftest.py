"""The app as its user starts it, on a folder of its own with the shipped runs, and a browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from resnet_space.runs import RESUME, STOP, Run
from tests.hub_stub import HubStub
from tests.ui.browser import launch

REPOSITORY = Path(__file__).parents[2]
SHIPPED = ("resnet20-cbam-imagenet32", "resnet20-cbam-cifar10")
START_SECONDS = 120


@dataclass(frozen=True)
class App:
    url: str
    checkpoints: Path
    hub: HubStub  # the app's Hugging Face Hub

    def run(self, name: str) -> Run:
        return Run.open(self.checkpoints / name)

    def trainer_pids(self, name: str) -> list[int]:
        """The processes that train a run."""
        listed = subprocess.run(
            ["pgrep", "-f", f"resnet_space.train {self.checkpoints / name}"], capture_output=True, text=True
        )
        return [int(pid) for pid in listed.stdout.split()]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubStub]:
    with HubStub() as running:
        yield running


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    """`python app.py`, up and answering; ended with what it trains when the module's tests are done."""
    folder = tmp_path_factory.mktemp("app")
    checkpoints = folder / "checkpoints"
    for name in SHIPPED:
        shutil.copytree(REPOSITORY / "checkpoints" / name, checkpoints / name, ignore=shutil.ignore_patterns(RESUME))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log_path = folder / "app.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py", f"--port={port}", f"--checkpoints={checkpoints}", f"--data={folder / 'data'}"],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {
                "GRADIO_TEMP_DIR": str(folder / "uploads"),
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(folder / "huggingface"),
                "HF_HUB_DISABLE_XET": "1",
            },
        )
    running = App(f"http://127.0.0.1:{port}", checkpoints, hub)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(running.url):
                    break
            except (urllib.error.URLError, ConnectionError):
                ended = process.poll() is not None
                assert not ended, log_path.read_text()
                assert time.monotonic() < deadline, log_path.read_text()
                time.sleep(0.2)
        yield running
    finally:
        process.terminate()
        process.wait(30)
        for run in checkpoints.iterdir():
            (run / RESUME).mkdir(exist_ok=True)
            (run / STOP).touch()
    said = log_path.read_text()
    assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()
