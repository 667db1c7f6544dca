"""The app as its user starts it, on a folder of its own with the shipped runs, and a browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from playwright._impl.assertions import LocatorAssertions
from playwright.sync_api import Browser, Error, Locator, Page, TimeoutError, expect, sync_playwright

from resnet_space.data.sources import BUNDLED
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE, RESUME, SHOWPIECE, STOP, Run
from resnet_space.training.speeds import SPEEDS as SPEEDS_FILE
from resnet_space.training.speeds import SpeedFile, Speeds
from tests.hub_stub import HubStub
from tests.ui.browser import launch
from tests.ui.quality import watched

REPOSITORY = Path(__file__).parents[2]
SHIPPED = (BACKBONE, SHOWPIECE)  # of them, what the tests' apps have
START_SECONDS = 120
SHOWN_MS = 60_000  # the machine may be busy
LIST_MS = 5_000  # for an open list's option to be clicked
expect.set_options(timeout=SHOWN_MS)  # where a test says nothing else
# As if this machine had been timed lately, which would take its time from the tests.
SPEEDS = Speeds("cpu", 6.0, {("resnet20", 32): 1_500.0}, {("resnet20", 32): 500.0}, {("resnet20", 32): 500_000.0})
# For gradio's client, which by itself waits 5 s for an answer.
PATIENT: dict[str, Any] = {"verbose": False, "httpx_kwargs": {"timeout": SHOWN_MS / 1_000}}
TINY = "cifar10-tiny"  # a dataset beside the bundled one, where it matters little what is learned

HOLD_OF_NOTHING = ("to.be.hidden", "to.be.detached", "to.have.count")
_expect = LocatorAssertions._call_expect


async def _expect_of_what_is_there(self: LocatorAssertions, expression: str, options: Any, title: str | None) -> Any:
    """Wait for the element first: Playwright describes the whole page each time that an expectation finds none, which
    took half of the browser's time.
    """
    if not options["isNot"] and expression not in HOLD_OF_NOTHING and not expression.endswith(".array"):
        try:
            await self._actual_locator.first.wait_for(state="attached", timeout=options["timeout"])
        except TimeoutError:
            options["timeout"] = 1  # it fails, and says how
    return await _expect(self, expression, options, title)


LocatorAssertions._call_expect = _expect_of_what_is_there  # pyrefly: ignore[method-assign, bad-assignment]


class App:
    """`python app.py` on a folder of its own with shipped runs, which can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        hub: HubStub,
        options: Sequence[str] = (),
        *,
        runs: Sequence[str] = SHIPPED,
        **environment: str,
    ) -> None:
        self.hub = hub  # the app's Hugging Face Hub
        self.checkpoints = folder / "checkpoints"
        self._log = folder / "app.log"
        self._runs = runs
        for name in runs:
            ignored = shutil.ignore_patterns(RESUME)
            shutil.copytree(REPOSITORY / "checkpoints" / name, self.checkpoints / name, ignore=ignored)
        SpeedFile(self.checkpoints).remember(SPEEDS)
        for source in (BUNDLED / "cifar10-mini").rglob("*.parquet"):
            tiny = folder / "data" / TINY / source.name
            tiny.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pq.read_table(source).slice(0, 320 if source.name.startswith("train") else 200), tiny)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "app.py", f"--port={port}", f"--checkpoints={self.checkpoints}"]
        self._command += [f"--data={folder / 'data'}", *options]
        self._environment = {
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "huggingface"),
            "HF_HUB_DISABLE_XET": "1",
        } | environment

    def run_as(self, command: Sequence[str]) -> None:
        """With another program in the place of `python app.py`."""
        self._command[:2] = command

    def start(self) -> None:
        """Until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self._environment,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(self.url):
                    return
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.2)

    def kill(self) -> None:
        """Without a chance to tidy up."""
        self._process.kill()
        self._process.wait()

    def close(self, *, after_nonsense: bool = False) -> None:
        """End it and what it trains. A traceback in its log is an error, but after requests that no page would send."""
        self._process.terminate()
        self._process.wait(30)
        self._stop_trainings()
        said = self._log.read_text()
        assert after_nonsense or "Traceback" not in said, said

    def reset(self) -> None:
        """As if it had just been started: what was trained, measured or brought since is gone."""
        self._stop_trainings()
        wait_for(lambda: not self.trainer_pids(""))
        kept = (*self._runs, TINY, SPEEDS_FILE)
        for folder in (self.checkpoints, self.checkpoints.parent / "data"):
            for path in folder.iterdir():
                if path.name not in kept:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        said = self._log.read_text()
        assert "Traceback" not in said, said

    def _stop_trainings(self) -> None:
        for run in self.checkpoints.glob("[!.]*"):
            (run / RESUME).mkdir(exist_ok=True)
            (run / STOP).touch()

    def run(self, name: str) -> Run:
        return Run.open(self.checkpoints / name)

    def trainer_pids(self, name: str) -> list[int]:
        """The processes that train a run."""
        listed = subprocess.run(
            ["pgrep", "-f", f"resnet_space.train {self.checkpoints / name}"], capture_output=True, text=True
        )
        return [int(pid) for pid in listed.stdout.split()]

    @contextmanager
    def holding(self, name: str) -> Generator[None]:
        """The training of a run holds still: it does not end meanwhile, nor take the processor from what is tested."""
        pids = self.trainer_pids(name)
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubStub]:
    with HubStub() as running:
        yield running


# Apps as on one's own machine, for the modules of `tests.conftest.OF_ONE_APP`: each finds them as if just started.


def _shared(folder: Path, *, runs: Sequence[str]) -> Iterator[App]:
    with HubStub() as hub:
        running = App(folder, hub, runs=runs)
        running.start()
        yield running
        running.close()


@pytest.fixture(scope="session")
def shared_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    yield from _shared(tmp_path_factory.mktemp("app"), runs=SHIPPED)


@pytest.fixture(scope="session")
def shared_photo_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    yield from _shared(tmp_path_factory.mktemp("photographs"), runs=(*SHIPPED, PHOTO_BACKBONE))


@pytest.fixture(scope="module")
def app(shared_app: App) -> Iterator[App]:
    yield shared_app
    shared_app.reset()


@pytest.fixture(scope="module")
def photo_app(shared_photo_app: App) -> Iterator[App]:
    """With the network for photographs, too."""
    yield shared_photo_app
    shared_photo_app.reset()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@contextmanager
def visit(browser: Browser, url: str) -> Generator[Page]:
    """A new visitor's page at the size of a laptop, on which no script fails and nothing is kept from loading."""
    context = watched(browser, 1440, 1000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.set_default_timeout(SHOWN_MS)
    page.goto(url)
    yield page
    context.close()
    assert not errors


def go(page: Page, url: str) -> None:
    """To another address. The page that is left may still write its own, which can abort that: then once more."""
    try:
        page.goto(url)
    except Error as error:
        if "ERR_ABORTED" not in error.message:
            raise
        page.goto(url)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def drawn(place: Locator) -> Locator:
    """A chart, which is drawn only when its place is in the window."""
    place.scroll_into_view_if_needed()
    return place.and_(place.page.locator(".js-plotly-plot"))


def pick(field: Locator, option: str, *, exact: bool = False) -> None:
    """Choose from a list. An answer to an earlier event may draw it anew: then it closes, or another option comes to be
    where the click goes, and it is opened again.
    """
    deadline = time.monotonic() + SHOWN_MS / 1_000
    while True:
        field.click()
        try:
            field.page.get_by_role("option", name=option, exact=exact).click(timeout=LIST_MS)
            shown = field.input_value()
            if not shown or option.lower() in shown.lower():  # a list of which several can be chosen shows none
                return
        except TimeoutError:
            field.blur()
        assert time.monotonic() < deadline, f"{option} cannot be chosen"
