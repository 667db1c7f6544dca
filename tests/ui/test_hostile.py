"""Names that want to be more than names: in a real browser, in files, and in requests that no page sends."""

import csv
import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from resnet_space.common.text import markdown_text
from resnet_space.runs import Run
from resnet_space.serve.handlers import UNFIT
from tests.hub_stub import HubStub
from tests.ui.conftest import PATIENT, REPOSITORY, SHIPPED, SHOWN_MS, App, drawn, visit
from tests.ui.test_browser import OTHER_DATA, TRAINED_MS, keep, open_tab, start, unfold

pytestmark = pytest.mark.ui

_, SHOWPIECE = SHIPPED
IMAGE = "<img src=x onerror=window.pwned=1>"
FORMULA = "=cmd|' calc'!A1"
LINK = "<a href='javascript:window.pwned=1'>click"
CLASSES = [FORMULA, LINK, IMAGE, "<b onmouseover=window.pwned=1>bold", "[x](javascript:window.pwned=1)"]
EXAMPLE = REPOSITORY / "resnet_space" / "datasets" / "examples" / "cat.jpg"
TOKEN = "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"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    """A public app, whose owner's token is in its environment."""
    hub.tokens[TOKEN] = set()
    limits = {"RESNET_SPACE_MAX_UPLOAD_MB": "1", "RESNET_SPACE_MAX_REQUESTS": "1000"}
    running = App(tmp_path_factory.mktemp("hostile"), hub, ["--host=0.0.0.0"], HF_TOKEN=TOKEN, **limits)
    running.start()
    yield running
    running.close(after_nonsense=True)


@pytest.fixture(scope="module")
def page(served: App, browser: Browser) -> Iterator[Page]:
    with visit(browser, served.url) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def archive() -> bytes:
    random = np.random.default_rng(0)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in CLASSES:
            for i in range(12):
                picture = io.BytesIO()
                Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(picture, "PNG")
                file.writestr(f"{name}/{i}.png", picture.getvalue())
            file.writestr(f"{name}/{IMAGE}.txt", "left out, and listed")
        file.writestr(f"../../{IMAGE}.png", "climbs out")
    return content.getvalue()


def unharmed(page: Page) -> bool:
    """Also after what the page shows had the time to load its pictures."""
    page.wait_for_timeout(300)
    found: bool = page.evaluate("window.pwned === undefined && document.querySelector('img[src=x]') === null")
    return found


def test_an_archive_of_hostile_names_is_learned_from_and_harms_no_page(page: Page, served: App, archive: bytes) -> None:
    page.locator("#archive input[type=file]").set_input_files(
        {"name": f"{IMAGE}.zip", "mimeType": "application/zip", "buffer": archive}
    )
    expect(page.locator(".report")).to_contain_text("is ready: 60 images in 5 classes", timeout=SHOWN_MS)
    page.get_by_text("files were left out").click()
    expect(page.locator(".report")).to_contain_text(f"{IMAGE}.txt")
    page.get_by_text("Images per class, splits").click()
    expect(page.locator(".data .bars")).to_contain_text(IMAGE)
    start(page, epochs=1)
    expect(page.locator(".status.finished")).to_contain_text("has finished", timeout=TRAINED_MS)
    unfold(page, "All runs")
    expect(drawn(page.locator("#confusion .chart"))).to_contain_text(IMAGE[:17])  # shortened
    assert page.locator("#confusion a").filter(has_text="click").count() == 0
    page.get_by_label("Pictures", exact=True).click()
    assert unharmed(page)
    page.keyboard.press("Escape")
    keep(page, "40-hostile-names")


def test_the_prediction_and_its_errors_harm_no_page(page: Page, served: App) -> None:
    page.get_by_role("button", name="Try it in Predict").click()
    expect(page.locator("#why .why").first).to_be_visible()  # of an example
    page.locator("#picture").get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").set_input_files(
        {"name": f"{IMAGE}.jpg", "mimeType": "image/jpeg", "buffer": EXAMPLE.read_bytes()}
    )
    expect(page.locator("#answer .said")).to_be_visible()
    expect(page.locator("#why .why").first).to_be_visible()
    expect(page.get_by_text(IMAGE).filter(visible=True).first).to_be_visible()
    assert unharmed(page)
    open_tab(page, "Explore residuals")
    expect(drawn(page.locator("#norms-1 .chart"))).to_contain_text("layer1.0")
    page.locator("#norms-0 .scatterlayer .points path").first.click(force=True)
    expect(page.locator("#clicked img")).to_have_count(4)
    assert unharmed(page)
    open_tab(page, "Fine-tune")
    unfold(page, OTHER_DATA)
    page.get_by_label("Search").fill(f"{IMAGE}[x](javascript:window.pwned=1)")
    page.get_by_label("Search").press("Enter")
    toast = page.get_by_test_id("toast-body").filter(has_text="The Hub has no dataset for")
    expect(toast.first).to_contain_text(IMAGE.replace("<", "\u2039").replace(">", "\u203a"))
    assert toast.locator("a").count() == 0
    assert unharmed(page)


def learned(app: App) -> Run:
    (path,) = app.checkpoints.glob("fine-tune-*")
    return Run.open(path)


def test_the_card_and_the_table_have_the_names_as_text(page: Page, served: App, tmp_path: Path) -> None:
    run = learned(served)
    assert set(run.config.model.classes) == set(CLASSES)
    card = (run.path / "README.md").read_text(encoding="utf-8")
    assert all(markdown_text(name) in card for name in CLASSES)
    client = Client(served.url, download_files=str(tmp_path), **PATIENT)
    *_, table, values = client.predict(run.name, "test images of cifar10-mini", 1, None, api_name="/explore_residuals")
    for file in (table, values):
        assert Path(file).name.startswith(f"{run.name}-residual-norms")
        rows = list(csv.reader(Path(file).read_text(encoding="utf-8").splitlines()))
        assert not any(cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row)
    client.close()


def post(app: App, name: str, data: list[Any]) -> tuple[int, str]:
    """A raw call of an endpoint, by the name that the page's configuration has for it."""
    with urllib.request.urlopen(f"{app.url}/config") as answer:
        ids = {d["api_name"]: d["id"] for d in json.load(answer)["dependencies"]}
    body = json.dumps({"data": data, "fn_index": ids[name], "session_hash": "raw"}).encode()
    request = urllib.request.Request(f"{app.url}/gradio_api/run/predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


MARK = {"meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("mark", [{}, MARK, {**MARK, "url": "http://192.0.2.1/x.png"}], ids=["bare", "file", "url"])
@pytest.mark.parametrize("endpoint", ["predict", "explore_residuals", "on_upload"])
def test_no_path_and_no_address_in_a_request_is_opened(served: App, endpoint: str, mark: dict[str, Any]) -> None:
    owner = served.checkpoints / SHOWPIECE / "resume" / "owner"
    owner.parent.mkdir(exist_ok=True)
    owner.write_text("the hash of a key")
    asked = len(served.hub.requests)
    for path in (
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "file:///etc/passwd",
        str(owner),
        str(EXAMPLE),  # a picture indeed, but nobody uploaded it
        f"{served.url}/page.js",
        f"{served.hub.url}/picture.png",
    ):
        payload = {"path": path, **mark}
        data = {
            "predict": [payload, SHOWPIECE],
            "explore_residuals": [SHOWPIECE, "one picture of your own", 1, payload],
            "on_upload": [payload, "key"],
        }[endpoint]
        code, said = post(served, endpoint, data)
        assert code == 500, path
        sentence = json.loads(said)["error"]
        assert sentence in (
            "This file has not been uploaded: upload it first.",
            "Files are not downloaded from a URL: upload the file instead.",
            UNFIT,
        ), path
        assert (sentence == UNFIT) is (endpoint == "on_upload" and not mark)  # what is no file for the component
    assert len(served.hub.requests) == asked


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_no_file_of_the_machine_is_served(served: App) -> None:
    for path in (
        "/etc/passwd",
        REPOSITORY / "app.py",
        REPOSITORY / ".git" / "HEAD",
        served.checkpoints / SHOWPIECE / "config.json",
        "http://192.0.2.1/",
    ):
        for way in ("file=", "file/"):
            assert status(f"{served.url}/gradio_api/{way}{path}") == 403, path


def test_an_upload_that_is_too_large_is_refused(served: App) -> None:
    boundary = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
    for size in (1_100_000, 3_000_000):  # by gradio, and before it reads any of it
        body = boundary + bytes(size) + b"\r\n--x--\r\n"
        request = urllib.request.Request(
            f"{served.url}/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
        )
        with pytest.raises((urllib.error.HTTPError, ConnectionError, urllib.error.URLError)) as refused:
            urllib.request.urlopen(request, timeout=60)
        if isinstance(refused.value, urllib.error.HTTPError):
            assert refused.value.code == 413
            refused.value.close()


def test_a_token_in_the_environment_or_in_a_wrong_field_is_written_and_shown_nowhere(served: App) -> None:
    answers = []
    client = Client(served.url, **PATIENT)
    for values in (
        {"dataset": f"user/{TOKEN}"},
        {"dataset": TOKEN},
        {"start": TOKEN},
        {"strategy": TOKEN},
        {"more": {TOKEN: 1}},
        {"start": "random initialisation", "architecture": TOKEN},
    ):
        with pytest.raises(Exception) as refused:  # noqa: PT011
            client.predict(**values, api_name="/start_training")
        answers.append(str(refused.value))
    with pytest.raises(Exception) as refused:  # noqa: PT011
        client.predict(handle_file(EXAMPLE), TOKEN, api_name="/predict")
    answers.append(str(refused.value))
    client.close()
    for name, data in (
        ("on_rename", [learned(served).name, TOKEN, [], "key", 0]),
        ("on_delete", [TOKEN, [], "key", 0]),
        ("on_search", [TOKEN]),
        ("on_load", [f"user/{TOKEN}", None, None, None]),
        ("on_chosen", [f"user/{TOKEN}"]),
    ):
        answers.append(post(served, name, data)[1])
    assert len(answers) == 12
    assert all(TOKEN not in answer for answer in answers), [answer for answer in answers if TOKEN in answer]
    folder = served.checkpoints.parent
    written = [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert written == []
