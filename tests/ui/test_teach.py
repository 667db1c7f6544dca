"""Teaching by showing in a real browser: with files, with the thumbnails, with a camera that the browser makes up."""

import io
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect
from starlette.applications import Starlette
from starlette.testclient import TestClient

from resnet_space.data.taught import open_set
from resnet_space.runs import PHOTO_BACKBONE
from resnet_space.ui.scripts import HEAD, ROUTES, SERVED
from tests.ui.browser import launch_with
from tests.ui.conftest import App, visit
from tests.ui.test_browser import dataset, expect_toast, keep, open_tab

pytestmark = pytest.mark.ui

FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
TAUGHT_MS = 120_000  # the first lesson loads PyTorch


@pytest.fixture(scope="module")
def filming(browser: Browser) -> Iterator[Browser]:
    """A browser with a camera that shows a turning disc on green."""
    running = launch_with(browser.browser_type, *FAKE_CAMERA)
    yield running
    running.close()


def test_the_pages_scripts_may_arrive_in_any_order(browser: Browser) -> None:
    client = TestClient(Starlette(routes=ROUTES))
    files = {f"/{name}": client.get(f"/{name}").text for name in (*SERVED, "plotly.min.js")}
    page = browser.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.route("**", lambda route: route.fulfill(body=files[urlsplit(route.request.url).path]))
    for names in (SERVED, SERVED[::-1]):
        files["/index.html"] = HEAD + "".join(f"<script src='{name}'></script>" for name in names)
        page.goto("http://page.test/index.html")
        assert page.evaluate("[resnetSpace.teach.cards, resnetSpace.teach.live].every(Boolean)")
    assert failures == []
    # Predict asks for nothing while another tab is open: a run whose training has just begun has no weights.
    asked = """() => {
      const { picture, state } = resnetSpace;
      Object.assign(state, { tab: "predict", arrived: true, pick: { example: "cat" } });
      const before = picture.want(null, "a-run", "");
      state.tab = "finetune";
      return [picture.want(null, "started", "") === before, JSON.parse(picture.looked(null, "started", "")).run];
    }"""
    assert page.evaluate(asked) == [True, "started"]
    page.close()


def pictures(kind: str, count: int, seed: int = 0) -> list[FilePayload]:
    """Red stripes or blue checks, of about one width."""
    random = np.random.default_rng((seed, kind == "stripes"))
    made: list[FilePayload] = []
    rows, columns = np.indices((120, 160))
    for i in range(count):
        width = random.integers(9, 13)
        mask = (columns // width) % 2 if kind == "stripes" else ((rows // width) + (columns // width)) % 2
        colours = np.array([[225, 225, 225], [180, 20, 30] if kind == "stripes" else [20, 40, 170]])
        pixels = colours[mask] + random.integers(-20, 21, (120, 160, 3))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        made.append({"name": f"{kind}-{i}.png", "mimeType": "image/png", "buffer": file.getvalue()})
    return made


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=f"Class {name}", exact=True)


def name_class(page: Page, old: str, new: str) -> None:
    field = card(page, old).get_by_label("Name of the class")
    field.fill(new)
    field.press("Enter")
    expect(card(page, new)).to_be_visible()


def add(page: Page, name: str, files: list[FilePayload]) -> None:
    card(page, name).get_by_label("Add pictures").set_input_files(files)


def expect_count(page: Page, name: str, count: int) -> None:
    words = f"{count} picture{'' if count == 1 else 's'}"
    expect(card(page, name).locator(".count")).to_contain_text(words)
    expect(card(page, name).locator("figure")).to_have_count(count)


def expect_taught(page: Page, pictures: int) -> None:
    expect(page.locator(".teach .said")).to_contain_text(f"of {pictures} pictures correct", timeout=TAUGHT_MS)


def open_section(page: Page) -> None:
    page.get_by_role("button", name="Teach by showing").click()
    expect(page.locator(".teach .card")).to_have_count(2)


def drop(page: Page, target: Locator, source: Locator) -> None:
    """A thumbnail, by the mouse."""
    source.drag_to(target)


def test_classes_are_taught_tried_changed_and_there_again_after_a_reload(photo_app: App, browser: Browser) -> None:
    with visit(browser, photo_app.url) as page:
        expect(page.locator(".teach .card")).to_have_count(0)  # closed at first
        open_section(page)
        keep(page, "teach-1-empty")
        name_class(page, "Class 1", "stripes")
        name_class(page, "Class 2", "checks")
        broken: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
        add(page, "stripes", [*pictures("stripes", 6), broken])
        expect_count(page, "stripes", 6)
        expect(page.locator(".teach .said")).to_contain_text("1 file was left out. notes.txt")
        expect(page.locator(".teach .said")).to_contain_text("Add at least 2 pictures to each of at least 2 classes")
        keep(page, "teach-2-one-class")
        add(page, "checks", pictures("checks", 6))
        expect_count(page, "checks", 6)
        expect_taught(page, 12)
        keep(page, "teach-3-taught")

        page.get_by_label("Choose a picture").set_input_files(pictures("checks", 1, seed=1))
        expect(page.locator(".try .verdict")).to_have_text("checks")
        expect(page.locator(".try .nearest img")).to_be_visible()
        keep(page, "teach-4-tried")

        card(page, "stripes").locator(".pick").nth(0).click()
        card(page, "stripes").locator(".pick").nth(2).click()
        expect(card(page, "stripes").locator(".chosen")).to_contain_text("2 selected")
        keep(page, "teach-5-selected")
        card(page, "stripes").get_by_role("button", name="checks", exact=True).click()
        expect_count(page, "stripes", 4)
        expect_count(page, "checks", 8)
        expect_taught(page, 12)
        drop(page, card(page, "stripes"), card(page, "checks").locator("figure").first)
        expect_count(page, "stripes", 5)
        card(page, "checks").locator("figure").first.hover()
        card(page, "checks").locator("figure .remove").first.click()
        expect_count(page, "checks", 6)
        expect_taught(page, 11)

        page.get_by_role("button", name="Add a class").click()
        expect(page.locator(".teach .card")).to_have_count(3)
        page.reload()
        expect_count(page, "stripes", 5)
        expect_count(page, "checks", 6)
        expect(card(page, "Class 3").locator(".count")).to_have_text("0 pictures")
        expect_taught(page, 11)
        keep(page, "teach-6-again")

        name = page.locator("select.set").input_value()
        run = photo_app.run(open_set(photo_app.checkpoints.parent / "data" / name).run)
        assert run.config.model.classes == ("stripes", "checks")
        assert run.config.training.start == PHOTO_BACKBONE
        page.get_by_role("button", name="Open the model in Predict").click()
        expect(page.get_by_label("Run", exact=True)).to_have_value(run.name)
        open_tab(page, "Fine-tune")
        page.get_by_role("button", name="Fine-tune on these pictures").click()
        expect(dataset(page)).to_have_value(name)


@pytest.mark.long
def test_a_camera_records_while_its_button_is_held_and_is_recognised_live(photo_app: App, filming: Browser) -> None:
    with visit(filming, photo_app.url) as page:
        open_section(page)
        name_class(page, "Class 1", "disc")
        card(page, "disc").get_by_role("button", name="Camera").click()
        button = card(page, "disc").get_by_role("button", name="Hold to record")
        expect(card(page, "disc").locator("video")).to_be_visible()
        page.wait_for_function("document.querySelector('.teach video').videoWidth > 0")
        button.hover()
        page.mouse.down()
        expect(card(page, "disc").locator(".record")).to_contain_text("Recording: 5")
        keep(page, "teach-7-recording")
        page.mouse.up()
        add(page, "Class 2", pictures("checks", 5))
        expect(page.locator(".teach .said")).to_contain_text("pictures correct", timeout=TAUGHT_MS)
        counted = card(page, "disc").locator(".count").inner_text()
        assert int(counted.split()[0]) >= 5
        expect(page.locator(".teach .said")).to_contain_text("All pictures of disc come from one recording")
        page.locator(".try").get_by_role("button", name="Camera").click()
        expect(page.locator(".try .verdict")).to_have_text("disc")
        keep(page, "teach-8-live")
        expect(page.locator(".try video")).to_be_visible()
        open_tab(page, "Predict")
        open_tab(page, "Fine-tune")  # the camera is off, as nobody saw what it showed
        expect(page.locator(".try").get_by_role("button", name="Camera")).to_have_attribute("aria-pressed", "false")
        assert not page.evaluate("[...document.querySelectorAll('.teach video, .try video')].some((v) => v.srcObject)")


@pytest.mark.long
def test_a_browser_without_a_camera_says_so_in_a_sentence(photo_app: App, browser: Browser) -> None:
    with visit(browser, photo_app.url) as page:
        open_section(page)
        card(page, "Class 1").get_by_role("button", name="Camera").click()
        expect(card(page, "Class 1").get_by_role("alert")).to_contain_text("add pictures")
        page.locator(".try").get_by_role("button", name="Camera").click()
        expect(page.locator(".try").get_by_role("alert")).to_contain_text("add pictures")
        assert page.locator("video:visible").count() == 0


def test_what_cannot_be_is_told_and_a_set_is_deleted_after_a_second_click_with_its_model(
    photo_app: App, browser: Browser
) -> None:
    with visit(browser, photo_app.url) as page:
        open_section(page)
        field = card(page, "Class 1").get_by_label("Name of the class")
        field.fill("Class 2")
        field.press("Enter")
        expect_toast(page, "A class named 'Class 2' already exists")
        expect(card(page, "Class 1")).to_be_visible()
        add(page, "Class 1", pictures("checks", 2))
        expect_count(page, "Class 1", 2)
        folder = photo_app.checkpoints.parent / "data" / page.locator("select.set").input_value()
        assert folder.is_dir()
        page.get_by_role("button", name="Delete", exact=True).click()
        assert folder.is_dir()
        page.get_by_role("button", name="Delete pictures and model?").click()
        expect(card(page, "Class 1").locator(".count")).to_have_text("0 pictures")
        assert not folder.exists()


@pytest.mark.long
def test_it_fits_a_phone(photo_app: App, browser: Browser) -> None:
    with visit(browser, photo_app.url) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        open_section(page)
        add(page, "Class 1", pictures("stripes", 30))
        expect(card(page, "Class 1").locator("figure")).to_have_count(24)
        card(page, "Class 1").get_by_role("button", name="Show all 30").click()
        expect(card(page, "Class 1").locator("figure")).to_have_count(30)
        keep(page, "teach-9-phone")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        first, second = (page.locator(".teach .card").nth(i).bounding_box() for i in (0, 1))
        assert first is not None
        assert second is not None
        assert second["y"] >= first["y"] + first["height"]  # one below the other
