"""The app behind a password, and in read-only mode: by requests that no page would send."""

import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, expect

from tests.hub_stub import HubStub
from tests.ui.conftest import PATIENT, REPOSITORY, SHIPPED, SHOWN_MS, App, drawn, go
from tests.ui.quality import watched
from tests.ui.test_browser import keep, subject, unfold

pytestmark = pytest.mark.ui

BACKBONE, SHOWPIECE = SHIPPED
EXAMPLE = REPOSITORY / "resnet_space" / "datasets" / "examples" / "horse.jpg"
PASSWORD = "correct horse: battery"


def answered(url: str, body: bytes | None = None, opener: Any = None) -> tuple[int, str]:
    """(status, what came first)."""
    try:
        with (opener or urllib.request.build_opener()).open(urllib.request.Request(url, body), timeout=20) as answer:
            return answer.status, answer.read(4_000).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(4_000).decode(errors="replace")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("locked"), hub, RESNET_SPACE_AUTH=f"ann:{PASSWORD}")
    running.start()
    yield running
    running.close()


@pytest.mark.parametrize(
    "path",
    [
        f"/live?runs={SHOWPIECE}",
        "/page.js",
        "/plotly.min.js",
        "/config",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/mcp/",
        "/gradio_api/mcp/schema",
        "/gradio_api/heartbeat/x",
        "/gradio_api/queue/data?session_hash=x",
        "/gradio_api/startup-events/../info",
        "/no/such/page",
    ],
)
def test_without_the_password_nothing_is_answered(locked: App, path: str) -> None:
    code, said = answered(locked.url + path)
    assert code == 401
    assert SHOWPIECE not in said


@pytest.mark.parametrize("path", ["/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/upload", "/live"])
def test_without_the_password_nothing_is_taken(locked: App, path: str) -> None:
    assert answered(locked.url + path, b"{}")[0] == 401


def test_the_page_that_asks_for_the_password_names_no_run(locked: App) -> None:
    code, said = answered(locked.url)
    assert code == 200
    assert "auth_required" in said
    assert SHOWPIECE not in said
    assert "window.gradio_api_info = {};" in said


def test_with_the_password_everything_is_there_and_without_its_cookie_nothing(locked: App) -> None:
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    wrong = urllib.parse.urlencode({"username": "ann", "password": "wrong"}).encode()
    assert answered(f"{locked.url}/login", wrong, opener)[0] == 400
    assert answered(f"{locked.url}/page.js", opener=opener)[0] == 401
    right = urllib.parse.urlencode({"username": "ann", "password": PASSWORD}).encode()
    assert answered(f"{locked.url}/login", right, opener)[0] == 200
    assert answered(f"{locked.url}/page.js", opener=opener)[0] == 200
    with opener.open(f"{locked.url}/live?runs={SHOWPIECE}") as stream:
        assert stream.readline() == b"retry: 1000\n"
    client = Client(locked.url, auth=("ann", PASSWORD), **PATIENT)
    assert client.predict(SHOWPIECE, api_name="/training_status")["state"] == "finished"
    client.close()


def test_a_person_signs_in_and_the_live_view_works(locked: App, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(SHOWN_MS)
    page.goto(locked.url)
    page.get_by_label("username").fill("ann")
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    expect(drawn(page.locator("#live .chart").first)).to_be_visible()
    context.close()


def test_the_password_is_written_nowhere(locked: App) -> None:
    folder = locked.checkpoints.parent
    assert not [path for path in folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


# Read-only


@pytest.fixture(scope="module")
def readonly(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    """For others to look at, with a run that is its owner's own."""
    owners = {"RESNET_SPACE_OWNER_KEY": "the owner", "RESNET_SPACE_MAX_REQUESTS": "100000"}
    running = App(tmp_path_factory.mktemp("readonly"), hub, ["--host=0.0.0.0", "--readonly"], **owners)
    shutil.copytree(running.checkpoints / SHOWPIECE, running.checkpoints / "mine")
    running.start()
    yield running
    running.close(after_nonsense=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_only_looks_works(readonly: App) -> None:
    client = Client(readonly.url, **PATIENT)
    answer, *_ = client.predict(handle_file(EXAMPLE), "mine", api_name="/predict")
    assert answer["label"] == "horse"
    *_, values = client.predict("mine", "test images of cifar10-mini", 2, None, api_name="/explore_residuals")
    assert Path(values).exists()
    assert client.predict("mine", api_name="/training_status")["state"] == "finished"
    client.close()


def test_no_raw_request_changes_anything(readonly: App) -> None:
    client = Client(readonly.url, **PATIENT)
    refused = "This app is read-only"
    with pytest.raises(AppError, match=refused):
        client.predict(epochs=1, api_name="/start_training")
    with pytest.raises(AppError, match=refused):
        client.predict("mine", "the owner", api_name="/stop_training")
    client.close()

    folder = readonly.checkpoints.parent
    before = contents(readonly.checkpoints), sorted((folder / "data").rglob("*"))
    with urllib.request.urlopen(f"{readonly.url}/config") as answer:
        config = json.load(answer)
    told: dict[str, set[str]] = {}
    # Every handler of the page, hidden or not, with the run's name wherever it takes anything, and the owner's own key.
    for dependency in config["dependencies"]:
        count = len(dependency["inputs"])
        for pair in (("mine", "the owner"), ("the owner", "mine"), ("user/name", "the owner"), ("resnet18.tv_in1k", 1)):
            data = [pair[i % 2] for i in range(count)]
            body = json.dumps({"data": data, "fn_index": dependency["id"], "session_hash": "raw"}).encode()
            request = urllib.request.Request(
                f"{readonly.url}/gradio_api/run/predict", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    told.setdefault(dependency["api_name"], set()).add(str(json.load(error).get("error")))
    assert (contents(readonly.checkpoints), sorted((folder / "data").rglob("*"))) == before
    for name in ("start_training", "on_compare", "on_go_on", "on_rename", "on_delete", "on_load"):
        assert any(refused in sentence for sentence in told[name]), (name, told.get(name))


def test_the_page_offers_only_what_it_may(readonly: App, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(SHOWN_MS)
    page.goto(readonly.url)
    expect(drawn(page.locator("#live .chart").first)).to_be_visible()
    expect(page.locator("#result")).to_contain_text("8,864 of 10,000 test images correct")
    expect(page.get_by_text("Read-only")).to_be_visible()
    unfold(page, "All runs")
    page.locator("#run-list").get_by_text("mine", exact=True).first.click()
    expect(subject(page)).to_have_value("mine")
    page.get_by_role("button", name="Take it with you").first.click()
    expect(page.get_by_role("button", name="Export", exact=True)).to_be_visible()
    page.mouse.move(0, 0)  # above a chart, Plotly's own buttons would show
    for name in ("Start", "Stop", "Rename", "Delete", "Download", "Compare with random", "Train longer", "Publish"):
        assert page.get_by_role("button", name=name).filter(visible=True).count() == 0, name
    assert page.get_by_label("Rename").filter(visible=True).count() == 0
    keep(page, "41-readonly")
    page.close()


def test_a_reviewer_on_a_phone_sees_results_an_answer_and_what_shortcuts_buy(readonly: App, browser: Browser) -> None:
    context = watched(browser, 390, 844)
    page = context.new_page()
    page.set_default_timeout(SHOWN_MS)
    go(page, f"{readonly.url}/?run=mine")
    expect(page.locator("#result")).to_contain_text("8,864 of 10,000 test images correct")
    page.get_by_role("button", name="Try it in Predict").click()
    expect(page.locator("#answer .said")).to_be_visible()
    expect(page).to_have_url(re.compile("tab=predict.*run=mine"))
    page.get_by_role("tab", name="Explore residuals").click()
    expect(page.locator("#explore-status")).to_contain_text("mine on 64 test images from cifar10-mini")
    expect(page.get_by_text("What did fine-tuning change?")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "42-reviewer")
    context.close()
