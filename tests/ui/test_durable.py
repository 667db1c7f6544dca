"""What a training survives, and who may touch it: in a real browser, and by raw requests to the server."""

import itertools
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from tests.hub_stub import HubStub
from tests.ui.conftest import PATIENT, SHOWN_MS, TINY, App, go, wait_for
from tests.ui.test_browser import TRAINED_MS, choose_data, keep, start

pytestmark = pytest.mark.ui


@pytest.fixture
def lonely(tmp_path: Path, hub: HubStub) -> Iterator[App]:
    """An app of one test's own, to be killed."""
    running = App(tmp_path, hub)
    running.start()
    yield running
    running.close()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    """One that others can reach, with limits and an owner's key."""
    limits = {"RESNET_SPACE_MAX_EPOCHS": "300", "RESNET_SPACE_OWNER_KEY": "the owner of the machine"}
    limits["RESNET_SPACE_MAX_REQUESTS"] = "1000"  # the raw ones are many
    running = App(tmp_path_factory.mktemp("public"), hub, ["--host=0.0.0.0"], **limits)
    running.start()
    yield running
    running.close(after_nonsense=True)


@pytest.fixture
def visitors(public: App, browser: Browser) -> Iterator[list[Page]]:
    """Two people with a browser of their own each."""
    contexts = [browser.new_context(viewport={"width": 1440, "height": 1000}) for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.set_default_timeout(SHOWN_MS)
        page.goto(public.url)
        expect(page.get_by_text("Nothing is training.")).to_be_visible(timeout=SHOWN_MS)
    yield pages
    for context in contexts:
        context.close()


def shown_epoch(page: Page) -> int:
    words = page.locator(".status").inner_text().split()
    return int(words[words.index("epoch") + 1]) if "epoch" in words else 0


@pytest.mark.parametrize("first", ["the app", pytest.param("the trainer", marks=pytest.mark.long)])
def test_a_page_comes_back_to_the_truth_when_app_and_trainer_are_killed_and_started_again(
    first: str, lonely: App, browser: Browser
) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(SHOWN_MS)
    page.goto(lonely.url)
    choose_data(page, TINY)
    start(page, epochs=900)
    expect(page.locator(".status.training")).to_contain_text("of 900", timeout=TRAINED_MS)
    wait_for(lambda: shown_epoch(page) > 1)

    def kill_trainer() -> None:
        for pid in lonely.trainer_pids("fine-tune-1"):
            os.kill(pid, signal.SIGKILL)

    if first == "the app":
        lonely.kill()
        before = shown_epoch(page)
        wait_for(lambda: sum(m["event"] == "epoch" for m in lonely.run("fine-tune-1").metrics()) > before + 1)
        with lonely.holding("fine-tune-1"):  # it went on meanwhile
            lonely.start()
            wait_for(lambda: shown_epoch(page) > before + 1)  # the page follows it again by itself
        now = shown_epoch(page)
        wait_for(lambda: shown_epoch(page) > now)
        kill_trainer()
    else:
        kill_trainer()
        expect(page.locator(".status.failed")).to_contain_text("was killed", timeout=SHOWN_MS)
        lonely.kill()
        lonely.start()
    expect(page.locator(".status.failed")).to_contain_text("The training process was killed", timeout=SHOWN_MS)
    done = sum(metric["event"] == "epoch" for metric in lonely.run("fine-tune-1").metrics())

    while not lonely.trainer_pids("fine-tune-1"):
        # Gradio reloads a page that finds its server back, and a click just before that is lost: one clicks again.
        page.get_by_role("button", name="Resume", exact=True).click()
        page.wait_for_timeout(3_000)
    wait_for(lambda: shown_epoch(page) > done + 1)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".status.stopped")).to_contain_text("fine-tune-1 was stopped", timeout=SHOWN_MS)
    epochs = [metric["epoch"] for metric in lonely.run("fine-tune-1").metrics() if metric["event"] == "epoch"]
    assert epochs == list(range(1, len(epochs) + 1))
    page.close()


def started_run(app: App, page: Page, epochs: int) -> str:
    """The name of the run that is started on the page: on a public app nobody can guess it."""
    before = set(app.checkpoints.iterdir())
    start(page, epochs=epochs)
    wait_for(lambda: set(app.checkpoints.iterdir()) - before)
    (made,) = set(app.checkpoints.iterdir()) - before
    return made.name


def test_a_visitor_is_known_before_the_server_has_answered_anything(public: App, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("**/gradio_api/queue/**", lambda route: route.abort())
    page.goto(public.url)
    # The browser keeps it encrypted: no key takes 69 characters there, one of 48 takes 133.
    page.wait_for_function("localStorage.getItem('resnet_space')?.length > 100", timeout=SHOWN_MS)
    context.close()


@pytest.mark.long
def test_a_visitor_cannot_touch_anothers_training_by_the_page(public: App, visitors: list[Page]) -> None:
    one, other = visitors
    ones = started_run(public, one, epochs=200)
    expect(one.locator(".status.training")).to_contain_text(ones, timeout=TRAINED_MS)
    others = started_run(public, other, epochs=1)
    expect(other.locator(".status.queued")).to_contain_text(f"{others} waits for its turn: place 1", timeout=SHOWN_MS)
    expect(one.locator(".status")).to_contain_text("1 more waits for its turn", timeout=SHOWN_MS)
    keep(other, "12-queued")
    assert ones not in other.content()  # neither in the choices nor in the table

    go(other, f"{public.url}/?run={ones}")  # a link that the first visitor gave away: to look, not to touch
    expect(other.locator(".status.training")).to_contain_text(ones, timeout=SHOWN_MS)
    other.get_by_role("button", name="Stop", exact=True).click()
    toast = other.get_by_test_id("toast-body").filter(has_text=f"{ones} is not yours")
    expect(toast.first).to_be_visible(timeout=SHOWN_MS)
    assert public.trainer_pids(ones)

    one.reload()  # one's own browser is known again
    expect(one.locator(".status.training")).to_contain_text(ones, timeout=SHOWN_MS)
    one.get_by_role("button", name="Stop", exact=True).click()
    expect(one.locator(".status.stopped")).to_contain_text(f"{ones} was stopped", timeout=SHOWN_MS)
    go(other, f"{public.url}/?run={others}")
    expect(other.locator(".status.finished")).to_contain_text(others, timeout=TRAINED_MS)


def test_a_visitor_cannot_touch_anothers_training_by_raw_requests(public: App) -> None:
    client = Client(public.url, **PATIENT)
    started = client.predict(epochs=200, api_name="/start_training")
    name, key = started["run"], started["key"]
    assert len(key) > 20

    with urllib.request.urlopen(f"{public.url}/config") as answer:
        config = json.load(answer)
    for guess in ("", "guess"):
        with pytest.raises(AppError, match=f"{name} is not yours"):
            client.predict(name, guess, api_name="/stop_training")
    # Every handler of the page, hidden or not, with the run's name wherever it takes anything, and a key that is wrong.
    wait_for(lambda: client.predict(name, api_name="/training_status")["state"] == "training")
    pairs = [(name, name), *itertools.chain.from_iterable(((name, key), (key, name)) for key in ("", "guess", None))]
    connection = HTTPConnection(urlsplit(public.url).netloc, timeout=60)  # one for all
    with public.holding(name):
        for dependency in config["dependencies"]:
            for pair in pairs:
                given = [pair[i % 2] for i in range(len(dependency["inputs"]))]
                body = json.dumps({"data": given, "fn_index": dependency["id"], "session_hash": "raw"})
                connection.request("POST", "/gradio_api/run/predict", body, {"Content-Type": "application/json"})
                connection.getresponse().read()
    connection.close()
    status = client.predict(name, api_name="/training_status")
    assert status["state"] in ("starting", "training")
    assert public.run(name).name == name

    client.predict(name, "the owner of the machine", api_name="/stop_training")
    wait_for(lambda: client.predict(name, api_name="/training_status")["state"] == "stopped")
    client.close()


def test_limits_are_told_in_one_sentence(public: App) -> None:
    client = Client(public.url, **PATIENT)
    with pytest.raises(AppError, match="301 epochs exceed the limit of 300 on this app"):
        client.predict(epochs=301, api_name="/start_training")
    client.close()
