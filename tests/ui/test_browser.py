"""All three tabs in a real browser, as a person uses them.

With `SCREENSHOTS=1` in the environment, pictures of the page are kept in `tests/ui/screenshots/`.
"""

import io
import os
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from safetensors.torch import save

from resnet_space.runs import Run, last_metric
from resnet_space.training.strategies import recipe
from tests.ui.conftest import SHOWN_MS, TINY, App, visit

pytestmark = pytest.mark.ui

SCREENSHOTS = Path(__file__).parent / "screenshots"
TRAINED_MS = 240_000  # for a training of a few epochs on a busy machine


@pytest.fixture
def page(app: App, browser: Browser) -> Iterator[Page]:
    with visit(browser, app.url) as visitor:
        yield visitor


def keep(page: Page, name: str) -> None:
    """A screenshot of the whole page, once its plots have settled, for whoever asks for them: each takes a second."""
    if not os.environ.get("SCREENSHOTS"):
        return
    SCREENSHOTS.mkdir(exist_ok=True)
    page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def choose_data(page: Page, name: str) -> None:
    page.get_by_label("Data", exact=True).click()
    page.get_by_role("option", name=name, exact=True).click()
    expect(page.get_by_label("Data", exact=True)).to_have_value(name)


def choose_strategy(page: Page, name: str) -> None:
    page.get_by_label("Strategy").click()
    page.get_by_role("option", name=name).click()


def start(page: Page, epochs: int) -> None:
    page.get_by_label("Epochs", exact=True).fill(str(epochs))
    page.get_by_role("button", name="Start", exact=True).click()


def learn(page: Page, app: App, epochs: int) -> Run:
    """Start a training and wait for its end."""
    before = set(app.checkpoints.glob("fine-tune-*"))
    start(page, epochs)
    while not (new := set(app.checkpoints.glob("fine-tune-*")) - before):
        page.wait_for_timeout(100)
    name = new.pop().name
    expect(page.locator(".status.finished")).to_contain_text(f"{name} has finished", timeout=TRAINED_MS)
    return app.run(name)


def progress(page: Page) -> float:
    return float(page.get_by_role("progressbar", name="progress").get_attribute("aria-valuenow") or 0)


def expect_toast(page: Page, words: str) -> None:
    expect(page.get_by_test_id("toast-body").filter(has_text=words).first).to_be_visible(timeout=SHOWN_MS)


def expect_points(page: Page, title: str, count: int) -> None:
    plot = page.locator(".js-plotly-plot").filter(has_text=title)
    expect(plot.locator(".scatterlayer .points path")).to_have_count(count, timeout=SHOWN_MS)


def test_a_newcomer_fine_tunes_reloads_compares_predicts_and_explores(app: App, page: Page, browser: Browser) -> None:
    expect(page.get_by_text("Nothing is training.")).to_be_visible()
    keep(page, "1-before")

    start(page, epochs=3)
    expect(page.locator(".status.training")).to_contain_text("fine-tune-1 is training", timeout=SHOWN_MS)
    expect(page.locator(".status.training")).to_contain_text("left")
    keep(page, "2-training")
    before = progress(page)

    page.reload()
    expect(page.locator(".status")).to_contain_text("fine-tune-1", timeout=SHOWN_MS)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_enabled()
    assert progress(page) >= before
    expect(page.get_by_label("Epochs", exact=True)).to_have_value("3")  # as it was set before

    second = browser.new_page(viewport={"width": 390, "height": 844})  # a phone: the form is above the plots
    second.goto(app.url)
    expect(second.locator(".status")).to_contain_text("fine-tune-1", timeout=SHOWN_MS)
    expect(second.get_by_label("Epochs", exact=True)).not_to_have_value("3")  # which another visitor had set
    second.locator("#live .chart").first.scroll_into_view_if_needed()
    expect(second.locator(".status.going")).to_be_in_viewport()  # it stays in sight
    second.close()

    expect(page.locator(".status.finished")).to_contain_text("fine-tune-1 has finished", timeout=TRAINED_MS)
    test = last_metric(app.run("fine-tune-1").metrics(), "test")
    assert test is not None
    expect(page.locator(".status.finished")).to_contain_text(f"{test['accuracy']:.1%}")

    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".status.finished")).to_contain_text("scratch-1 has finished", timeout=TRAINED_MS)
    expect(page.locator(".finding")).to_contain_text("pretraining is worth +")
    keep(page, "3-compared")

    page.get_by_role("button", name="Try it in Predict").click()
    expect(page.get_by_label("Run", exact=True).first).to_have_value("scratch-1")
    page.get_by_label("Run", exact=True).first.click()
    page.get_by_role("option", name="resnet20-cbam-cifar10").click()
    page.get_by_role("button", name="Example: horse").click()
    expect(page.locator("#answer .said")).to_have_text("horse", timeout=SHOWN_MS)
    expect(page.locator("#gates .maps figure")).to_have_count(4)  # the input and the three stages
    expect(page.locator("#answer .classes button")).to_have_count(5)
    keep(page, "4-predict")

    open_tab(page, "Explore residuals")
    page.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("Of the 7 blocks that keep x's shape")).to_be_visible(timeout=SHOWN_MS)
    expect_points(page, "every image in every block", 64 * 9)
    with page.expect_download() as download:
        page.get_by_role("button", name="Table as CSV").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 9
    assert lines[1].startswith("layer1.0,identity,")
    keep(page, "5-explore")
    # A chart that is cut at its axes by something in the page of another address would have that page fetched.
    assert not page.evaluate(
        "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.includes('#'))"
    )


def tiny(app: App, split: str) -> Path:
    (file,) = (app.checkpoints.parent / "data" / TINY).glob(f"{split}-*.parquet")
    return file


def photographs(folder: Path) -> Path:
    """A zip of two classes of pictures of 128 x 96 pixels, and of two files that are none."""
    generator = np.random.default_rng(0)
    archive = folder / "pond.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for i in range(24):
            kind = ("frogs", "fish")[i % 2]
            colour = np.array([60, 160, 60] if kind == "frogs" else [60, 60, 160])
            pixels = np.clip(colour + generator.normal(0, 40, (96, 128, 3)), 0, 255).astype(np.uint8)
            encoded = io.BytesIO()
            Image.fromarray(pixels).save(encoded, "JPEG")
            packed.writestr(f"pond/{kind}/{i}.jpg", encoded.getvalue())
        packed.writestr("pond/frogs/torn.jpg", encoded.getvalue()[:200])
        packed.writestr("pond/frogs/notes.txt", "green")
    return archive


def test_ones_own_photographs_are_uploaded_looked_at_and_learned(app: App, page: Page, tmp_path: Path) -> None:
    page.get_by_role("button", name="Other images").click()
    page.locator("#archive input[type=file]").set_input_files(photographs(tmp_path))
    report = page.locator(".report")
    expect(report).to_contain_text("pond is ready: 24 images of 2 classes", timeout=SHOWN_MS)
    expect(report).to_contain_text("2 files were left out")
    expect(page.get_by_label("Data", exact=True)).to_have_value("pond")
    expect(page.get_by_label("Batch size")).to_have_value("16")  # of the 24 some are held out
    expect(page.locator(".caution").filter(has_text="There are no test images")).to_be_visible()
    page.get_by_role("button", name="The data").click()
    expect(page.locator(".data .tiles img")).to_have_count(24)  # as they are, and as they are seen
    page.get_by_role("button", name="The plan").click()
    choose_strategy(page, "last-stage")
    expect(page.locator(".plan .frozen")).to_have_count(5)  # the stem, two stages, CBAM's two parts
    keep(page, "9-photographs")

    config = learn(page, app, epochs=1).config
    assert config.model.classes == ("fish", "frogs")
    assert (config.model.image_size, config.model.resize, config.model.options["stem"]) == (32, None, "cifar")
    assert (config.training.strategy, config.training.optimizer, config.training.crop) == (
        "last-stage",
        "adamw",
        "padded",
    )
    page.get_by_role("button", name="Explore its residuals").click()
    expect(page.get_by_label("Which data")).to_have_value("pond")
    expect(page.get_by_label("Split", exact=True)).to_have_value("train")  # there are no test images
    page.get_by_role("button", name="Measure", exact=True).click()
    expect(page.get_by_text("images of pond.").filter(visible=True)).to_be_visible()


def test_a_data_set_and_weights_of_the_hub_are_downloaded_and_learned(app: App, page: Page) -> None:
    commit = app.hub.add_dataset(
        "uoft-cs/cifar10",
        {f"plain_text/{split}-00000-of-00001.parquet": tiny(app, split) for split in ("train", "test")},
    )
    torch.manual_seed(0)
    weights = torchvision.models.resnet18().state_dict()
    app.hub.add_model("timm/resnet18.tv_in1k", {"model.safetensors": save(weights), "config.json": b"{}"})

    page.get_by_role("button", name="Other images").click()
    page.get_by_role("tab", name="Hugging Face Hub").click()
    page.get_by_label("Data set").fill("nobody/nothing")
    page.get_by_label("Data set").press("Enter")
    expect_toast(page, "nobody/nothing")  # missing or private
    page.get_by_label("Data set").fill("uoft-cs/cifar10")
    page.get_by_label("Data set").press("Enter")
    page.get_by_role("button", name="Download").click()
    expect(page.locator(".report")).to_contain_text("uoft-cs/cifar10 is here: 10 classes", timeout=SHOWN_MS)

    page.get_by_label("Start from").click()
    page.get_by_role("option", name="resnet18.tv_in1k").click()
    expect(page.locator(".caution")).to_contain_text("enlarged to 224 px", timeout=SHOWN_MS)
    page.get_by_role("button", name="Advanced").click()
    page.get_by_label("Image size").fill("32")
    expect(page.locator(".caution")).to_contain_text("leaves 1 x 1 pixels", timeout=SHOWN_MS)
    page.get_by_label("Random crop").click()
    page.get_by_role("option", name="padded").click()
    keep(page, "10-hub")
    config = learn(page, app, epochs=1).config
    assert (config.training.dataset, config.training.dataset_revision) == ("uoft-cs/cifar10", commit)
    assert (config.model.architecture, config.model.options["stem"], config.model.image_size) == (
        "resnet18",
        "imagenet",
        32,
    )
    assert app.run("resnet18.tv_in1k").load_weights()["conv1.weight"].equal(weights["conv1.weight"])


def test_a_learning_rate_is_suggested_and_drawn(page: Page) -> None:
    before = page.get_by_label("Head rate").input_value()
    page.get_by_label("Batch size").fill("32")
    page.get_by_role("button", name="Suggest a learning rate").click()
    plot = page.locator(".js-plotly-plot").filter(has_text="Range test")
    expect(plot).to_contain_text("suggested", timeout=TRAINED_MS)
    expect(page.get_by_label("Head rate")).not_to_have_value(before)
    assert 1e-4 < float(page.get_by_label("Head rate").input_value()) < 3
    keep(page, "11-suggested")


SLOW_NETWORK = """() => {
  const fetched = window.fetch;
  window.fetch = async (url, options) => {
    if (String(url).includes("/queue/join")) await new Promise((done) => setTimeout(done, 2000));
    return fetched(url, options);
  };
}"""


def test_what_is_set_before_the_answer_to_a_choice_is_there_stays_as_it_was_set(page: Page) -> None:
    page.evaluate(SLOW_NETWORK)
    backbone, head = page.get_by_label("Backbone rate"), page.get_by_label("Head rate")
    before = backbone.input_value()
    choose_data(page, TINY)
    page.get_by_label("Batch size").fill("16")
    choose_strategy(page, "discriminative")
    head.fill("0.0123")
    assert backbone.input_value() == before
    expect(backbone).not_to_have_value(before)
    expect(head).to_have_value("0.0123")
    expect(page.get_by_label("Batch size")).to_have_value("16")

    page.add_init_script(f"({SLOW_NETWORK})()")
    page.reload()
    page.get_by_label("Batch size").fill("24")
    expect(head).not_to_have_value("0.0123")
    expect(head).to_have_value("0.0123")  # taken back, as the server has answered
    expect(page.get_by_label("Batch size")).to_have_value("24")


def test_of_two_choices_in_a_row_the_last_one_counts(page: Page) -> None:
    page.evaluate(SLOW_NETWORK)
    for strategy in ("linear-probe", "discriminative"):
        choose_strategy(page, strategy)
    expect(page.get_by_label("Backbone rate")).to_have_value(f"{recipe('discriminative', '-').backbone_lr:.5f}")
    expect(page.get_by_label("Head rate")).to_have_value(f"{recipe('discriminative', '-').head_lr:g}")


def test_bad_input_gets_a_sentence_and_the_app_stays_alive(page: Page, tmp_path: Path) -> None:
    start(page, epochs=0)
    expect_toast(page, "The number of epochs must be a whole number from 1 to 1,000, not 0.")

    open_tab(page, "Predict")
    expect(page.locator("#answer .said")).to_have_text("cat")  # an example, without a click on anything
    page.locator("#picture").get_by_role("button", name="Remove Image").click()
    page.get_by_role("button", name="Predict", exact=True).click()
    expect_toast(page, "There is no image yet")

    text = tmp_path / "text.png"
    text.write_text("this is no picture")
    page.locator("#picture input[type=file]").set_input_files(text)
    expect_toast(page, "This file is not an image")

    page.reload()
    open_tab(page, "Predict")
    expect(page.locator("#gates .maps figure").first).to_be_visible(timeout=SHOWN_MS)


def test_a_killed_trainer_is_said_so_and_the_next_start_works_and_stops(app: App, page: Page) -> None:
    choose_data(page, TINY)
    start(page, epochs=200)
    expect(page.locator(".status.training")).to_contain_text("epoch 2 of 200", timeout=TRAINED_MS)
    name = page.locator(".status b").first.inner_text()
    for pid in app.trainer_pids(name):
        os.kill(pid, signal.SIGKILL)
    expect(page.locator(".status.failed")).to_contain_text("SIGKILL", timeout=SHOWN_MS)
    assert app.run(name).has_weights
    keep(page, "6-killed")

    start(page, epochs=200)
    expect(page.locator(".status.training")).to_contain_text("left", timeout=TRAINED_MS)
    following = page.locator(".status b").first.inner_text()
    assert following != name
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".status.stopped")).to_contain_text(f"{following} was stopped", timeout=SHOWN_MS)
    assert app.run(following).load_model() is not None
    keep(page, "7-stopped")

    start(page, epochs=200)
    expect(page.locator(".status.starting")).to_be_visible()
    page.get_by_role("button", name="Stop").click()  # its process has hardly begun
    expect(page.locator(".status.stopped")).to_contain_text("after 0 of 200 epochs", timeout=TRAINED_MS)


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1440, "dark")])
def test_nothing_is_cut_off_on_a_phone_or_in_the_dark(app: App, browser: Browser, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(f"{app.url}/?__theme={scheme}")
    page.get_by_role("tab", name="Fine-tune").wait_for()
    for tab in ("Fine-tune", "Predict", "Explore residuals"):
        open_tab(page, tab)
        if tab == "Predict":
            page.locator("#gates .maps figure").nth(3).wait_for(timeout=SHOWN_MS)
        if tab == "Explore residuals":
            page.get_by_role("button", name="Measure").click()
            expect(page.get_by_text("blocks that keep x's shape")).to_be_visible(timeout=SHOWN_MS)
        keep(page, f"8-{scheme}-{width}-{re.sub('[^a-z]+', '-', tab.lower())}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
