"""The page that needs no server: in a browser without a network, and as a static Space."""

import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
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
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Browser, Page, expect
from torch import Tensor, nn

from resnet_space.common.hub_client import HubError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.images import ORIENTATION, open_image
from resnet_space.hub.export import write
from resnet_space.hub.page import JPEG, MOST_BYTES, RUNTIME, TAG, WASM, _runtime, page_files
from resnet_space.hub.page.space import push_page
from resnet_space.inference import Classifier
from resnet_space.models import register
from resnet_space.models.registry import unregister
from resnet_space.runs import CONFIG, SHOWPIECE, Run
from resnet_space.ui.pictures import ENOUGH
from resnet_space.ui.predict.answer import percent
from tests.hub_stub import HubStub, isolate_client, without_waiting
from tests.networks import alive
from tests.own_networks import SIZE, Own, OwnEntry
from tests.ui.browser import launch_with
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


def as_file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
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
    return [as_file(picture) for picture in made]


def jpegs() -> list[bytes]:
    """Photographs, and the kinds of JPEG: each subsampling, progressive, grey, every orientation, a large one that its
    decoder reduces, and one that is reduced afterwards, too.
    """
    photographs = sorted((REPOSITORY / "resnet_space" / "datasets" / "photographs").glob("*.jpg"))
    picture = Image.open(photographs[0]).convert("RGB")
    kinds: list[dict[str, Any]] = [{"subsampling": kind, "progressive": kind > 0} for kind in (0, 1, 2)]
    kinds += [{"exif": oriented(orientation)} for orientation in range(1, 9)]
    made = [as_file(picture.resize((81 + i, 59)), "JPEG", **options) for i, options in enumerate(kinds)]
    made += [as_file(picture.resize((90, 60)).convert("L"), "JPEG")]
    made += [as_file(picture.resize(size), "JPEG", exif=oriented(8)) for size in ((3_200, 2_100), (1_801, 1_733))]
    return [file.read_bytes() for file in photographs] + made


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


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
    found = expect_the_apps_answers(page, run, pictures + jpegs())
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
    cmyk = as_file(Image.open(io.BytesIO(pictures[0])).convert("CMYK"), "JPEG")  # which the browser decodes
    assert page.evaluate(READ, base64.b64encode(cmyk).decode())["names"][0] == own.classes[0]
    for content in (b"no picture", cmyk[:40]):
        page.evaluate(READ.replace("const {", "return {}; const {"), base64.b64encode(content).decode())
        expect(page.locator("#caution")).to_contain_text("not a picture that this browser can read")
    assert asked == []
    # Not even a script in the page could reach anything.
    assert page.evaluate("fetch('https://huggingface.co').then(() => 'reached', () => 'blocked')") == "blocked"
    assert any("Content Security Policy" in said for said in asked)
    page.context.close()


def test_the_page_takes_pictures_from_the_camera_by_paste_and_by_drop(
    run: Run, packed: Path, browser: Browser, tmp_path: Path
) -> None:
    picture = Image.open(REPOSITORY / "resnet_space" / "datasets" / "examples" / "frog.jpg").resize((320, 320))
    film = tmp_path / "film.mjpeg"
    film.write_bytes(as_file(picture, "JPEG", quality=95))
    flags = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}")
    own = Classifier(run).predict(picture)
    filming = launch_with(browser.browser_type, *flags, "--use-fake-ui-for-media-stream")
    page, asked = opened(filming, packed, tmp_path)
    page.evaluate("page.ready")
    camera = page.get_by_role("button", name="Use the camera")
    camera.click()
    expect(page.locator("#video")).to_be_visible()
    page.get_by_role("button", name="Close the camera").click()
    expect(page.locator("#video")).to_be_hidden()
    camera.click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator("#said")).to_have_text(own.classes[0])
    expect(camera).to_be_visible()
    assert page.evaluate("page.answer().top_probabilities.data[0]") == pytest.approx(own.probabilities[0], abs=0.05)
    transfer = """([kind, content, key]) => {
      const data = new DataTransfer(), bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      data.items.add(new File([bytes], "a.png"));
      document.dispatchEvent(new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, { [key]: data }));
    }"""
    for kind, key, content in zip(("paste", "drop"), ("clipboardData", "dataTransfer"), ten_pictures(), strict=False):
        said = Classifier(run).predict(open_image(io.BytesIO(content))).classes[0]
        page.evaluate(transfer, [kind, base64.b64encode(content).decode(), key])
        expect(page.locator("#said")).to_have_text(said)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('not allowed')); }")
    camera.click()
    expect(page.locator("#caution")).to_have_text(
        "The camera cannot be used: allow it for this page, or choose a picture."
    )
    assert asked == []
    filming.close()


class Corner(Own):
    """It looks at the upper left quarter of a picture only."""

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return super().forward_head(features[..., : SIZE // 2, : SIZE // 2], pre_logits)


@pytest.fixture
def corner() -> Iterator[str]:
    def build(num_classes: int) -> Corner:
        return Corner(nn.Conv2d(3, 8, 1), [nn.Conv2d(8, 8, 1)], 8, num_classes)

    known = {"family": "own", "source": "tests", "year": 2026, "paper": "", "blocks": (1,), "depth": 2}
    entry = OwnEntry("corner", build=build, parameters=100, maps=True, **known)
    register(entry)
    yield entry.name
    unregister(entry.name)


def test_an_occlusion_map_shows_what_the_network_looks_at(corner: str, browser: Browser, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(corner, tuple("abcdef"), image_size=SIZE, resize=SIZE + 3, mean=(0.2, 0.5, 0.7))
    run = Run.create(tmp_path / "a-run", RunConfig(config))
    run.save_weights({name: 4 * values for name, values in config.build().state_dict().items()})
    page, asked = opened(browser, write(run, tmp_path / "page.zip", "page").path, tmp_path / "folder")
    picture = as_file(Image.open(io.BytesIO(jpegs()[0])).resize((40, 29)))
    assert page.evaluate(READ, base64.b64encode(picture).decode())["maps"] is None
    button = page.get_by_role("button", name="Make an occlusion map: about ")
    button.evaluate("button => { button.click(); button.click(); }")  # and stopped
    expect(page.locator("#heat")).to_be_hidden()
    button.focus()
    page.keyboard.press("Enter")
    shown = page.get_by_label("Show the occlusion map of the chosen class")
    expect(shown).to_be_checked()
    expect(shown).to_be_focused()
    expect(page.locator("#heat")).to_be_visible()

    classifier, cells = Classifier(run), 8
    image = open_image(io.BytesIO(picture))
    own = classifier.predict(image)
    seen, side = np.asarray(classifier.view(image)), SIZE // cells
    falls, count = np.zeros((5, cells, cells)), np.zeros((cells, cells))
    for row, column in np.ndindex(cells - 1, cells - 1):
        hidden = np.full((config.stored_size, config.stored_size, 3), (51, 128, 178), dtype=np.uint8)
        hidden[2 : 2 + SIZE, 2 : 2 + SIZE] = seen
        hidden[2 + row * side : 2 + (row + 2) * side, 2 + column * side : 2 + (column + 2) * side] = (51, 128, 178)
        logits = classifier.predict(Image.fromarray(hidden)).logits
        fall = np.array(own.probabilities) - logits.softmax(0)[own.indices].numpy()
        falls[:, row : row + 2, column : column + 2] += fall[:, None, None]
        count[row : row + 2, column : column + 2] += 1
    expected = (falls / count).clip(min=0)
    found = np.reshape(page.evaluate("[...page.answer().maps.data]"), expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.max() > 0.01
    assert not found[:, 5:].any()
    assert not found[:, :, 5:].any()
    points = f"{100 * expected[0].max():.1f}"
    expect(page.locator("#occluded")).to_contain_text(f"lowers its probability, by {points} percentage points at most.")
    shown.uncheck()
    expect(page.locator("#heat")).to_be_hidden()
    assert not serious_faults(page)
    assert asked == []
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


def test_the_runtime_starts_where_files_have_no_origin(tmp_path: Path) -> None:
    """As in Firefox, for a page that is opened from a folder."""
    script = tmp_path / "runtime.mjs"
    script.write_text(f"globalThis.location = {{ origin: 'null' }};{_runtime()}console.log(typeof ort.Tensor);")
    node, _ = compute_driver_executable()
    ran = subprocess.run([node, script], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("function\n", "")


def test_runtime_and_decoder_are_those_of_the_npm_packages() -> None:
    """onnxruntime-web 1.30.0 and @cwasm/jpeg-turbo 0.1.3, as `npm pack` fetches them."""
    wasm, script = gzip.decompress(WASM.read_bytes()), RUNTIME.read_bytes()
    assert hashlib.sha256(wasm).hexdigest() == "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    jpeg = hashlib.sha256(gzip.decompress(JPEG.read_bytes())).hexdigest()
    assert jpeg == "80ed55eef2d0ff276f837ef521fad8181ccdfa6f298f652f6e45aed7fbbbc871"
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
