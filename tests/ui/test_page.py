"""The page that needs no server: in a browser without a network, and as a static Space."""

import base64
import gzip
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from resnet_space.common.hub_client import HubError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.images import open_image
from resnet_space.hub.export import write
from resnet_space.hub.page import MOST_BYTES, RUNTIME, TAG, WASM, page_files
from resnet_space.hub.page.space import push_page
from resnet_space.inference import Classifier
from resnet_space.runs import CONFIG, SHOWPIECE, Run
from resnet_space.ui.pictures import ENOUGH
from resnet_space.ui.predict.answer import percent
from tests.hub_stub import HubStub, isolate_client, without_waiting
from tests.networks import alive
from tests.ui.conftest import REPOSITORY, SHOWN_MS
from tests.ui.quality import serious_faults
from tests.ui.test_browser import keep

pytestmark = pytest.mark.ui

TOKEN = "hf_anns_write_token_0123456789"
HOSTILE = (
    "</script><script>document.title='harmed'</script>",
    "<img src=x onerror=\"document.title='harmed'\">",
    "${title}",
    "<!--<script>",
    "\u2028'\"`\\",
    "a class whose name is longer than a phone is wide, " * 3,
    "猫",
    "{{ parts }}",
    "&lt;b&gt;",
    "ship",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The shipped network with class names that would be markup, scripts or templates."""
    path = tmp_path_factory.mktemp("runs") / "hostile"
    shutil.copytree(REPOSITORY / "checkpoints" / SHOWPIECE, path)
    config = json.loads((path / CONFIG).read_text())
    config["model"]["classes"] = HOSTILE
    (path / CONFIG).write_text(json.dumps(config))
    return Run.open(path)


@pytest.fixture(scope="module")
def packed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(run, tmp_path_factory.mktemp("files") / "hostile.zip", "page").path


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def ten_pictures() -> list[bytes]:
    """PNGs of many shapes: small ones, wide and high ones, one that both reduce first, a grey, and one with alpha."""
    files = sorted((REPOSITORY / "resnet_space" / "datasets" / "examples").glob("*.jpg"))
    sizes = [
        (32, 32),
        (33, 40),
        (50, 31),
        (200, 120),
        (64, 300),
        (1_100, 1_331),
        (90, 90),
        (71, 53),
        (80, 64),
        (96, 70),
    ]
    made = [Image.open(file).convert("RGB").resize(size) for file, size in zip(files, sizes, strict=True)]
    made[6] = made[6].convert("L")
    made[7].putalpha(Image.new("L", made[7].size, 255))
    noise = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    made[8] = Image.fromarray(noise)  # unlike the training images
    return [as_png(picture) for picture in made]


READ = """async (content) => {
  await page.ready;
  await page.read(new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))]));
  const { top_names, top_probabilities, ood_score, maps } = page.answer();
  return {
    names: [...top_names.data], probabilities: [...top_probabilities.data], score: ood_score?.data[0],
    maps: maps && [...maps.data],
  };
}"""


def opened(browser: Browser, packed: Path, folder: Path) -> tuple[Page, list[str]]:
    """The page from its folder, in a browser without a network; and what it asks for."""
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    context = browser.new_context(viewport={"width": 1440, "height": 900}, offline=True)
    page = context.new_page()
    page.set_default_timeout(SHOWN_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.on("console", lambda message: asked.append(message.text))
    (index,) = folder.glob("*/index.html")
    page.goto(index.as_uri())
    assert asked == [index.as_uri()]
    asked.clear()
    return page, asked


def expect_the_apps_answers(page: Page, run: Run, pictures: list[bytes]) -> list[dict[str, Any]]:
    classifier = Classifier(run)
    found = []
    for picture in pictures:
        own = classifier.predict(open_image(io.BytesIO(picture), short_side=ENOUGH), features=True)
        answer = page.evaluate(READ, base64.b64encode(picture).decode())
        assert answer["names"] == own.classes
        assert answer["probabilities"] == pytest.approx(own.probabilities, abs=1e-4)
        if own.ood_score is not None:
            assert answer["score"] == pytest.approx(own.ood_score, rel=1e-3)
        if answer["maps"]:
            raw = classifier.class_maps(own, own.indices).raw
            np.testing.assert_allclose(answer["maps"], raw.ravel(), atol=1e-3 * raw.max())
        found.append(answer)
    return found


def test_the_page_gives_the_apps_answers_without_a_network_or_a_request_whatever_the_names(
    run: Run, packed: Path, browser: Browser, tmp_path: Path
) -> None:
    page, asked = opened(browser, packed, tmp_path)
    expect(page.locator("#said")).to_have_text("Choose a picture to see its class.")
    pictures = ten_pictures()
    found = expect_the_apps_answers(page, run, pictures)
    assert len({answer["names"][0] for answer in found}) >= 5
    assert found[0]["score"] < 1 < found[8]["score"]

    own = Classifier(run).predict(open_image(io.BytesIO(pictures[8])))
    page.evaluate(READ, base64.b64encode(pictures[8]).decode())
    assert page.locator("#said").text_content() == f"No reliable answer. Closest class: {own.classes[0]}"
    assert page.locator("#caution").text_content() == own.warnings[0]
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": pictures[0]})
    own = Classifier(run).predict(open_image(io.BytesIO(pictures[0])))
    expect(page.locator("#said")).to_have_text(own.classes[0])
    shown = page.locator("#classes button")
    assert [button.locator("span").all_text_contents() for button in shown.all()] == [
        [name, percent(share)] for name, share in zip(own.classes, own.probabilities, strict=True)
    ]
    assert page.locator("#what").text_content().startswith(f"Classifies pictures into 10 classes: {HOSTILE[0]}, ")
    assert page.title() == "hostile"
    expect(page.locator("#heat")).to_be_visible()
    shown.nth(1).focus()
    page.keyboard.press("Enter")
    expect(shown.nth(1)).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Show the evidence").uncheck()
    expect(page.locator("#heat")).to_be_hidden()
    assert not serious_faults(page)
    keep(page, "90-page")
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not serious_faults(page)
    keep(page, "91-page-phone")
    page.evaluate(READ.replace("const {", "return {}; const {"), base64.b64encode(b"no picture").decode())
    expect(page.locator("#caution")).to_contain_text("not a picture that this browser can read")
    assert asked == []
    # Not even a script in the page could reach anything.
    assert page.evaluate("fetch('https://huggingface.co').then(() => 'reached', () => 'blocked')") == "blocked"
    assert any("Content Security Policy" in said for said in asked)
    page.context.close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("architecture", "size", "options"),
    [
        ("resnet18", 224, {}),
        ("resnet20", 32, {"cbam": "block"}),
        ("tf_efficientnet_lite0", 224, {}),
        ("vit_tiny_patch16_224", 224, {}),
    ],
)
def test_each_kind_of_network_gives_the_apps_answers(
    architecture: str, size: int, options: dict[str, Any], browser: Browser, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = ModelConfig(architecture, tuple("abcdefg"), options, image_size=size, resize=size + size // 8)
    run = Run.create(tmp_path / "a-run", RunConfig(config))
    run.save_weights(alive(config.build(), size).state_dict())
    page, asked = opened(browser, write(run, tmp_path / "page.zip", "page").path, tmp_path / "folder")
    expect_the_apps_answers(page, run, ten_pictures())
    assert asked == []
    page.context.close()


@pytest.mark.long
def test_a_page_with_smaller_weights_gives_the_answers_of_the_onnx_file_with_smaller_weights(
    run: Run, browser: Browser, tmp_path: Path
) -> None:
    page, _ = opened(browser, write(run, tmp_path / "page.zip", "page-int8").path, tmp_path / "folder")
    session = onnxruntime.InferenceSession(write(run, tmp_path / "model.onnx", "onnx-int8").path)
    for picture in ten_pictures():
        pixels = np.asarray(open_image(io.BytesIO(picture), short_side=ENOUGH))[None]
        names, shares = session.run(["top_names", "top_probabilities"], {"images": pixels})
        answer = page.evaluate(READ, base64.b64encode(picture).decode())
        assert answer["names"] == names[0].tolist()
        assert answer["probabilities"] == pytest.approx(shares[0].tolist(), abs=1e-4)
    page.context.close()


def test_the_runtime_is_that_of_the_npm_package() -> None:
    """onnxruntime-web 1.30.0, as `npm pack` fetches it."""
    wasm, script = gzip.decompress(WASM.read_bytes()), RUNTIME.read_bytes()
    assert hashlib.sha256(wasm).hexdigest() == "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    assert hashlib.sha256(script).hexdigest() == "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"


# As a Space


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStub]:
    isolate_client(monkeypatch, tmp_path)
    without_waiting(monkeypatch)
    with HubStub() as running:
        running.add_user(TOKEN, "ann")
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_a_page_becomes_a_static_space_and_is_replaced_by_the_next(run: Run, packed: Path, stub: HubStub) -> None:
    for licence in ("", "apache-2.0"):
        url = push_page(run, packed, "ann/hostile", token=TOKEN, private=True, licence=licence)
        assert url == f"{stub.url}/spaces/ann/hostile"
    space = stub.repositories["spaces", "ann/hostile"]
    assert (space.sdk, space.private) == ("static", True)
    files = space.commits[space.refs["main"]]
    with zipfile.ZipFile(packed) as archive:
        assert files["index.html"] == archive.read("hostile/index.html")
    matter = yaml.safe_load(bytes(files["README.md"]).split(b"---\n")[1])
    assert (matter["title"], matter["sdk"], matter["license"]) == ("hostile", "static", "apache-2.0")
    assert TAG in matter["tags"]
    assert len(matter["short_description"]) <= 60


def test_a_space_of_another_kind_or_with_something_else_is_left_alone(run: Run, packed: Path, stub: HubStub) -> None:
    for name, sdk, sentence in (
        ("gradios", "gradio", r"^ann/gradios is not a Static Space \(gradio\): choose another name\.$"),
        ("static", "static", r"^ann/static already contains something else: choose another name\.$"),
    ):
        stub._add("spaces", f"ann/{name}", {"README.md": f"---\nsdk: {sdk}\n---\n".encode()}, "main", {"sdk": sdk})
        with pytest.raises(HubError, match=sentence):
            push_page(run, packed, f"ann/{name}", token=TOKEN)
    with pytest.raises(HubError, match="nobody is signed in"):
        push_page(run, packed, "ann/page")
    with pytest.raises(HubError, match="no write access to bob/page"):
        push_page(run, packed, "bob/page", token=TOKEN)
    with pytest.raises(HubError, match="is not a valid repository name"):
        push_page(run, packed, "../page", token=TOKEN)
    assert not stub.asked("POST", "/commit/")


def test_a_model_that_is_too_large_for_a_page_is_refused(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(Exception, match=r"^hostile has 400 MB, but a page can have 400 MB: choose a format"):
        page_files(run, tmp_path / "large.onnx")
