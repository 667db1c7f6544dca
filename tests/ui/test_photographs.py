"""From a zip of photographs to a prediction, with what is proposed: on the page, and by plain HTTP alone."""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from resnet_space.runs import PHOTO_BACKBONE
from resnet_space.training.strategies import recipe
from tests.ui.conftest import SHIPPED, SHOWN_MS, TINY, App, pick, visit
from tests.ui.test_browser import SETUP, TRAINED_MS, choose_data, choose_strategy, dataset, keep, unfold, upload

pytestmark = pytest.mark.ui

BACKBONE, _ = SHIPPED
SHAPES = {"discs": (200, 60, 40), "squares": (40, 90, 200)}  # a class and its colour


@pytest.fixture
def page(photo_app: App, browser: Browser) -> Iterator[Page]:
    with visit(browser, photo_app.url) as visitor:
        yield visitor


def photograph(kind: str, generator: np.random.Generator) -> bytes:
    """A shape of 256 pixels or so on a noisy ground, as JPEG."""
    width, height = (int(side) for side in generator.integers(240, 330, 2))
    image = Image.fromarray(generator.integers(90, 160, (height, width, 3), np.uint8))
    x, y = (int(generator.integers(20, side - 180)) for side in (width, height))
    draw = ImageDraw.Draw(image)
    (draw.ellipse if kind == "discs" else draw.rectangle)((x, y, x + 150, y + 150), fill=SHAPES[kind])
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def archive(path: Path, count: int) -> Path:
    """`count` photographs of each class, a broken one in their middle, and a note."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as packed:
        for i in range(count):
            for kind in SHAPES:
                packed.writestr(f"{kind}/{i}.jpg", photograph(kind, generator))
        packed.writestr("discs/torn.jpg", photograph("discs", generator)[:300])
        packed.writestr("discs/notes.txt", "round")
    return path


def value(page: Page, label: str) -> str:
    return page.get_by_label(label, exact=True).input_value()


def bring(page: Page, path: Path) -> None:
    expect(upload(page, path)).to_be_visible()
    unfold(page, SETUP)


def test_dropped_photographs_are_learned_with_nothing_changed(photo_app: App, page: Page, tmp_path: Path) -> None:
    recommended = page.locator("#recommended")
    expect(recommended).to_contain_text("2,000 images of 32 pixels, 10 classes: fit a new head on ResNet-20")
    keep(page, "30-recommended")
    bring(page, archive(tmp_path / "shapes.zip", 20))
    expect(recommended).to_contain_text("40 photographs, 2 classes: keep EfficientNet-Lite0 frozen and fit a new head")
    expect(page.get_by_label("Backbone", exact=True)).to_have_value(PHOTO_BACKBONE)
    assert (value(page, "Strategy"), value(page, "Epochs"), value(page, "Batch size")) == ("linear-probe", "1", "16")
    expect(page.get_by_role("button", name="Use the recommended setup")).to_be_hidden()
    keep(page, "31-photographs")
    page.get_by_role("button", name="Start", exact=True).click()
    finished = page.locator(".status.finished")
    expect(finished).to_contain_text("has finished", timeout=TRAINED_MS)
    expect(finished).to_contain_text("10 of 10 held-out training images correct, 100.0 %")
    expect(page.locator(".scores")).not_to_contain_text("top-5")  # of two classes
    run = photo_app.run(finished.locator("b").first.inner_text())
    assert (run.config.training.strategy, run.config.training.crop) == ("linear-probe", "padded")  # so it is cached
    assert (run.config.model.architecture, run.config.model.image_size) == ("tf_efficientnet_lite0", 224)


@pytest.mark.long
def test_what_a_visitor_has_set_stays_when_other_data_is_chosen_and_after_a_reload(page: Page, tmp_path: Path) -> None:
    unfold(page, SETUP)
    page.get_by_label("Batch size").fill("24")
    choose_strategy(page, "last-stage")
    expect(page.get_by_label("Head rate")).to_have_value("0.001")  # as the strategy has it
    page.get_by_label("Head rate").fill("0.0042")
    button = page.get_by_role("button", name="Use the recommended setup")
    expect(button).to_be_visible()
    bring(page, archive(tmp_path / "more.zip", 8))
    expect(page.get_by_label("Backbone", exact=True)).to_have_value(PHOTO_BACKBONE)  # which nobody had set
    for label, own in {"Strategy": "last-stage", "Batch size": "24", "Head rate": "0.0042"}.items():
        assert value(page, label) == own, label
    page.reload()
    unfold(page, SETUP)
    expect(page.get_by_label("Head rate")).to_have_value("0.0042")
    expect(page.get_by_label("Backbone", exact=True)).to_have_value(PHOTO_BACKBONE)
    choose_data(page, TINY)
    expect(page.get_by_label("Backbone", exact=True)).to_have_value(BACKBONE)
    assert (value(page, "Strategy"), value(page, "Head rate")) == ("last-stage", "0.0042")
    keep(page, "32-deviating")

    button.click()
    expect(page.get_by_label("Strategy")).to_have_value("probe-then-fine-tune")
    expect(page.get_by_label("Batch size")).to_have_value("64")
    expect(page.get_by_label("Head rate")).to_have_value(f"{recipe('probe-then-fine-tune', '-').head_lr:g}")
    expect(button).to_be_hidden()
    expect(dataset(page)).to_have_value(TINY)


def test_random_initialisation_is_offered_an_architecture_that_suits_it(page: Page) -> None:
    expect(page.locator("#recommended")).to_contain_text("ResNet-20", timeout=SHOWN_MS)
    unfold(page, SETUP)
    pick(page.get_by_label("Backbone", exact=True), "random initialisation")
    expect(page.get_by_label("Architecture")).to_have_value("resnet20")
    expect(page.get_by_label("CBAM attention")).to_have_value("after every stage")
    expect(page.get_by_label("Strategy")).to_have_value("full")
    expect(page.get_by_label("Backbone rate")).to_have_value("0.05")


@pytest.mark.parametrize(("width", "scheme"), [pytest.param(390, "light", marks=pytest.mark.long), (390, "dark")])
def test_the_recommendation_is_whole_on_a_phone(photo_app: App, browser: Browser, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(f"{photo_app.url}/?__theme={scheme}")
    unfold(page, SETUP)
    page.get_by_label("Epochs", exact=True).fill("3")
    expect(page.get_by_role("button", name="Use the recommended setup")).to_be_visible(timeout=SHOWN_MS)
    box = page.locator("#recommended p").bounding_box()
    assert box is not None
    assert 0 <= box["x"] < box["x"] + box["width"] <= width
    keep(page, f"33-{scheme}-{width}")
    context.close()


class Http:
    """The endpoints of an app, by nothing but HTTP."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/gradio_api"

    def uploaded(self, path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            (there,) = httpx.post(f"{self.url}/upload", files={"files": (path.name, file)}, timeout=60).json()
        return {"path": there, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def call(self, endpoint: str, **arguments: Any) -> Any:
        """The first thing that an endpoint gives back; what is not among the arguments has its default."""
        described = httpx.get(f"{self.url}/info").json()["named_endpoints"][f"/{endpoint}"]["parameters"]
        defaults = {each["parameter_name"]: each.get("parameter_default") for each in described}
        assert set(arguments) <= set(defaults)
        data = list((defaults | arguments).values())
        event = httpx.post(f"{self.url}/call/{endpoint}", json={"data": data}, timeout=60).json()["event_id"]
        said = httpx.get(f"{self.url}/call/{endpoint}/{event}", timeout=120).text
        assert "event: complete" in said, said
        return json.loads(said.rpartition("data: ")[2])[0]


def test_a_program_goes_from_a_zip_to_a_prediction_by_plain_http(photo_app: App, tmp_path: Path) -> None:
    http = Http(photo_app.url)
    added = http.call("add_data", archive=http.uploaded(archive(tmp_path / "my shapes.zip", 12)))
    assert {"dataset", "classes", "counts", "left_out", "warnings"} <= set(added)
    assert added["classes"] == sorted(SHAPES)
    assert added["counts"] == {"train": {"discs": 12, "squares": 12}}
    assert {left["name"].rpartition("/")[2] for left in added["left_out"]} == {"torn.jpg", "notes.txt"}
    assert all(left["reason"] for left in added["left_out"])

    started = http.call("start_training", dataset=added["dataset"])
    proposal = started["proposal"]
    assert (proposal["start"], proposal["strategy"]) == (PHOTO_BACKBONE, "linear-probe")
    assert proposal["reason"].startswith("24 photographs, 2 classes: keep EfficientNet-Lite0 frozen and fit a new head")
    assert proposal["seconds"] is None  # nobody has timed that network here
    deadline = time.monotonic() + TRAINED_MS / 1000
    while (status := http.call("training_status", run=started["run"]))["state"] != "finished":
        assert status["state"] in ("queued", "starting", "training"), status
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert status["test"]["accuracy"] == 1

    picture = tmp_path / "new.jpg"
    picture.write_bytes(photograph("squares", np.random.default_rng(9)))
    answer = http.call("predict", image=http.uploaded(picture), run=started["run"])
    assert answer["label"] == "squares"
