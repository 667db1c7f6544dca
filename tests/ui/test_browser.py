"""All three tabs in a real browser, as a person uses them.

With `SCREENSHOTS=1` in the environment, pictures of the page are kept in `tests/ui/screenshots/`.
"""

import csv
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
from playwright.sync_api import Browser, Locator, Page, expect
from safetensors.torch import save

from resnet_space.runs import SHOWPIECE, Run, last_metric
from resnet_space.training.strategies import recipe
from tests.ui.conftest import SHOWN_MS, TINY, App, drawn, pick, visit
from tests.ui.quality import expect_unmoved, serious_faults, watched

pytestmark = pytest.mark.ui

SCREENSHOTS = Path(__file__).parent / "screenshots"
TRAINED_MS = 240_000  # for a training of a few epochs on a busy machine


@pytest.fixture
def page(app: App, browser: Browser) -> Iterator[Page]:
    with visit(browser, app.url) as visitor:
        yield visitor


@pytest.fixture
def showpiece_page(app: App, browser: Browser) -> Iterator[Page]:
    """About this run, whatever other tests have trained."""
    with visit(browser, f"{app.url}/?run={SHOWPIECE}") as visitor:
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


SETUP, OTHER_DATA = "Change the setup", "Other data"  # what is folded at first


def unfold(page: Page, name: str) -> None:
    """Open the folded part of the page that begins with this name, unless it is open."""
    head = page.get_by_role("button", name=name).filter(visible=True).first
    if "open" not in (head.get_attribute("class") or "").split():
        head.click()


def dataset(page: Page) -> Locator:
    unfold(page, OTHER_DATA)
    return page.locator("#other-data").get_by_label("Dataset", exact=True)


def choose_data(page: Page, name: str) -> None:
    pick(dataset(page), name, exact=True)
    expect(dataset(page)).to_have_value(name)


def choose_strategy(page: Page, name: str) -> None:
    unfold(page, SETUP)
    pick(page.get_by_label("Strategy"), name)


def start(page: Page, epochs: int) -> None:
    unfold(page, SETUP)
    page.get_by_label("Epochs", exact=True).fill(str(epochs))
    page.get_by_role("button", name="Start", exact=True).click()


def upload(page: Page, archive: Path) -> Locator:
    """Drop an archive on its card. Returns what is told of it."""
    page.locator("#archive input[type=file]").set_input_files(archive)
    return page.locator(".report").filter(has_text="is ready")


def subject(page: Page) -> Locator:
    """The run that the page is about."""
    return page.locator("#subject input")


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


def test_a_newcomer_fine_tunes_reloads_compares_predicts_and_explores(app: App, page: Page, browser: Browser) -> None:
    expect(page.get_by_text("Nothing is training.")).to_be_visible()
    # Before anything was trained, the run that ships is shown, and the setup can be started without a scroll.
    result = page.locator("#result")
    expect(result).to_contain_text(re.compile(r"88\.6 %.*8,864 of 10,000 test images correct", re.DOTALL))
    expect(page.get_by_text("Showing: resnet20-cbam-cifar10")).to_be_visible()
    expect(page.locator("#recommended")).to_contain_text(
        re.compile("fit a new head on ResNet-20.*About .* on this CPU")
    )
    box = page.get_by_role("button", name="Start", exact=True).bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_hidden()
    expect(page.get_by_text("On a rented GPU")).to_be_hidden()  # none is set up
    keep(page, "1-before")

    start(page, epochs=2)
    expect(page.locator(".status.training")).to_contain_text("fine-tune-1 is training", timeout=SHOWN_MS)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_hidden()
    expect(subject(page)).to_have_value("fine-tune-1")
    expect(page.locator(".status.training")).to_contain_text("of 2", timeout=SHOWN_MS)
    expect(result).to_contain_text("Best validation accuracy so far of 200 images")
    keep(page, "2-training")
    with app.holding("fine-tune-1"):
        before = progress(page)
        page.reload()
        expect(page.get_by_text("Mistakes appear here when the run has been tested.")).to_be_visible()
        expect(page.locator(".status")).to_contain_text("fine-tune-1", timeout=SHOWN_MS)
        expect(page.get_by_role("button", name="Stop", exact=True)).to_be_enabled()
        assert progress(page) >= before
        unfold(page, SETUP)
        expect(page.get_by_label("Epochs", exact=True)).to_have_value("2")  # as it was set before

        second = browser.new_page(viewport={"width": 390, "height": 844})  # a phone: the form is above the plots
        second.goto(app.url)
        expect(second.locator(".status")).to_contain_text("fine-tune-1", timeout=SHOWN_MS)
        unfold(second, SETUP)
        expect(second.get_by_label("Epochs", exact=True)).not_to_have_value("2")  # which another visitor had set
        second.locator("#live .chart").first.scroll_into_view_if_needed()
        expect(second.locator(".status.going")).to_be_in_viewport()  # it stays in sight
        second.close()

    expect(page.locator(".status.finished")).to_contain_text("fine-tune-1 has finished", timeout=TRAINED_MS)
    expect_unmoved(page)  # since the reload, while it trained
    test = last_metric(app.run("fine-tune-1").metrics(), "test")
    assert test is not None
    share, count = f"{100 * test['accuracy']:.1f} %", round(1_000 * test["accuracy"])
    expect(page.locator(".status.finished")).to_contain_text(share)
    expect(result).to_contain_text(re.compile(rf"{share}.*{count} of 1,000 test images correct", re.DOTALL))

    page.get_by_role("button", name="Compare with random initialisation").click()
    expect(page.locator(".worth")).to_contain_text("pretraining is worth +", timeout=TRAINED_MS)
    expect(page.locator("#live .runs")).to_contain_text("scratch-1")
    expect(subject(page)).to_have_value("fine-tune-1")  # the other one is beside it
    expect(page).to_have_url(re.compile(r"run=fine-tune-1&with=scratch-1$"))
    expect(page.get_by_role("button", name="Compare with random initialisation")).to_be_hidden()
    expect(page.locator(".status.finished")).to_be_visible(timeout=TRAINED_MS)
    keep(page, "3-compared")

    page.get_by_role("button", name="Try it in Predict").click()
    expect(subject(page)).to_have_value("fine-tune-1")
    pick(subject(page), "resnet20-cbam-cifar10")
    page.get_by_role("button", name="Example: horse").click()
    expect(page.locator("#answer .said")).to_have_text("horse", timeout=SHOWN_MS)
    expect(page.locator("#gates .maps figure")).to_have_count(4)  # the input and the three stages
    expect(page.locator("#answer .classes button")).to_have_count(5)
    keep(page, "4-predict")

    open_tab(page, "Explore residuals")
    expect(page.get_by_text("Of the 7 blocks with an identity shortcut")).to_be_visible(timeout=SHOWN_MS)
    plot = drawn(page.locator("#norms-0 .chart"))
    expect(plot).to_contain_text("per image and block")
    expect(plot.locator(".scatterlayer .points path")).to_have_count(64 * 9, timeout=SHOWN_MS)
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


@pytest.mark.long
def test_networks_are_compared_on_ones_data_and_the_best_is_trained_in_one_click(app: App, page: Page) -> None:
    choose_data(page, TINY)
    page.get_by_role("button", name="Which network suits these images?").click()
    expect(page.locator("#fitting")).to_contain_text("Judges resnet20-cbam-imagenet32: about ", timeout=SHOWN_MS)
    page.locator("#compare-start").click()
    expect(page.locator("#compare-progress .ended")).to_contain_text(f"Finished on {TINY}", timeout=TRAINED_MS)
    page.reload()  # the address has it
    report = page.locator("#compare-report")
    expect(report).to_contain_text("resnet20-cbam-imagenet32 is right for", timeout=SHOWN_MS)
    expect(report).to_contain_text("320 training images in 10 classes; the test images were not looked at")
    keep(page, "40-networks")
    assert serious_faults(page) == []
    before = set(app.checkpoints.glob("fine-tune-*"))
    page.get_by_role("button", name="Train a linear probe of resnet20-cbam-imagenet32").click()
    expect(page.locator("#compare-models .told p")).to_contain_text("See Result.", timeout=SHOWN_MS)
    (new,) = set(app.checkpoints.glob("fine-tune-*")) - before
    expect(page.locator("#result")).to_contain_text(f"{new.name} on {TINY}", timeout=SHOWN_MS)
    training = app.run(new.name).config.training
    assert (training.dataset, training.strategy) == (TINY, "linear-probe")


@pytest.mark.long
def test_ones_own_photographs_are_uploaded_looked_at_and_learned(app: App, page: Page, tmp_path: Path) -> None:
    report = upload(page, photographs(tmp_path))
    expect(report).to_contain_text("pond is ready: 24 images in 2 classes", timeout=SHOWN_MS)
    expect(report).to_contain_text("2 files were left out")
    expect(dataset(page)).to_have_value("pond")
    unfold(page, SETUP)
    expect(page.get_by_label("Batch size")).to_have_value("16")  # of the 24 some are held out
    expect(page.locator(".caution").filter(has_text="There are no test images")).to_be_visible()
    expect(page.locator("#data-view .tiles img")).to_have_count(24)  # as they are, and as they are seen
    # The bars of the classes stand below the pictures, not behind them.
    page.get_by_text("Images per class, splits").click()
    bottom, top = (page.locator(f"#data-view .{part}").first.bounding_box() for part in ("tiles", "bars"))
    assert bottom is not None
    assert top is not None
    assert bottom["y"] + bottom["height"] <= top["y"]
    unfold(page, "Plan")
    choose_strategy(page, "last-stage")
    expect(page.get_by_text("rains the last stage and the head")).not_to_have_count(0)  # what it is for, and the plan
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
    expect(page.get_by_label("Dataset", exact=True).filter(visible=True)).to_have_value("pond")
    expect(page.get_by_label("Split", exact=True)).to_have_value("train")  # there are no test images
    expect(page.locator("#explore-status")).to_contain_text("images from pond", timeout=SHOWN_MS)


@pytest.mark.long
def test_a_data_set_and_weights_of_the_hub_are_downloaded_and_learned(app: App, page: Page) -> None:
    commit = app.hub.add_dataset(
        "uoft-cs/cifar10",
        {f"plain_text/{split}-00000-of-00001.parquet": tiny(app, split) for split in ("train", "test")},
    )
    torch.manual_seed(0)
    weights = torchvision.models.resnet18().state_dict()
    app.hub.add_model("timm/resnet18.tv_in1k", {"model.safetensors": save(weights), "config.json": b"{}"})

    unfold(page, OTHER_DATA)
    page.get_by_label("Dataset on the Hub").fill("nobody/nothing")
    page.get_by_label("Dataset on the Hub").press("Enter")
    expect_toast(page, "nobody/nothing")  # missing or private
    page.get_by_label("Dataset on the Hub").fill("uoft-cs/cifar10")
    page.get_by_label("Dataset on the Hub").press("Enter")
    page.get_by_role("button", name="Download").click()
    expect(page.locator(".report")).to_contain_text("uoft-cs/cifar10 is here: 10 classes", timeout=SHOWN_MS)

    unfold(page, SETUP)
    pick(page.get_by_label("Backbone", exact=True), "resnet18.tv_in1k")
    expect(page.locator(".caution")).to_contain_text("enlarged from 32 to 224 px", timeout=SHOWN_MS)
    page.get_by_role("button", name="Advanced").click()
    page.get_by_label("Image size").fill("32")
    expect(page.locator(".caution")).to_contain_text("to 1 x 1 positions", timeout=SHOWN_MS)
    pick(page.get_by_label("Random crop"), "padded")
    keep(page, "10-hub")
    config = learn(page, app, epochs=1).config
    assert (config.training.dataset, config.training.dataset_revision) == ("uoft-cs/cifar10", commit)
    assert (config.model.architecture, config.model.options["stem"], config.model.image_size) == (
        "resnet18",
        "imagenet",
        32,
    )
    assert app.run("resnet18.tv_in1k").load_weights()["conv1.weight"].equal(weights["conv1.weight"])


@pytest.mark.long
def test_a_learning_rate_is_suggested_and_drawn(page: Page) -> None:
    choose_data(page, TINY)
    unfold(page, SETUP)
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


@pytest.mark.long
def test_what_is_set_before_the_answer_to_a_choice_is_there_stays_as_it_was_set(page: Page) -> None:
    unfold(page, SETUP)
    unfold(page, OTHER_DATA)
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
    unfold(page, SETUP)
    page.get_by_label("Batch size").fill("24")
    expect(head).not_to_have_value("0.0123")
    expect(head).to_have_value("0.0123")  # taken back, as the server has answered
    expect(page.get_by_label("Batch size")).to_have_value("24")


def test_of_two_choices_in_a_row_the_last_one_counts(page: Page) -> None:
    unfold(page, SETUP)
    page.evaluate(SLOW_NETWORK)
    for strategy in ("linear-probe", "discriminative"):
        choose_strategy(page, strategy)
    expect(page.get_by_label("Backbone rate")).to_have_value(f"{recipe('discriminative', '-').backbone_lr:.5f}")
    expect(page.get_by_label("Head rate")).to_have_value(f"{recipe('discriminative', '-').head_lr:g}")


def test_bad_input_gets_a_sentence_and_the_app_stays_alive(showpiece_page: Page, tmp_path: Path) -> None:
    page = showpiece_page
    start(page, epochs=0)
    expect_toast(page, "The number of epochs must be a whole number from 1 to 1,000, not 0.")

    open_tab(page, "Predict")
    expect(page.locator("#answer .said")).to_be_visible()  # of a picture that nobody had to choose
    page.locator("#picture").get_by_role("button", name="Remove Image").click()
    expect(page.locator("#answer")).to_contain_text("Choose an example or add your own picture.")

    text = tmp_path / "text.png"
    text.write_text("this is no picture")
    page.locator("#picture input[type=file]").set_input_files(text)
    expect_toast(page, "This file is not an image")

    page.reload()
    open_tab(page, "Predict")
    expect(page.locator("#gates .maps figure").first).to_be_visible(timeout=SHOWN_MS)


WATCH_STATES = """() => {
  window.states = [];
  const note = () => {
    const [state] = document.querySelector("#status .status").classList.value.split(" ").slice(1);
    if (window.states.at(-1) !== state) window.states.push(state);
  };
  new MutationObserver(note).observe(document.querySelector("#status .live"), { childList: true });
}"""


@pytest.mark.long
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
    page.evaluate(WATCH_STATES)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".status.stopped")).to_contain_text(f"{following} was stopped", timeout=SHOWN_MS)
    states = page.evaluate("window.states")  # it does not train again between the two
    assert states[states.index("stopping") :] == ["stopping", "stopped"]
    assert app.run(following).load_model() is not None
    keep(page, "7-stopped")

    start(page, epochs=200)
    expect(page.locator(".status.starting")).to_be_visible()
    page.get_by_role("button", name="Stop").click()  # its process has hardly begun
    expect(page.locator(".status.stopped")).to_contain_text("after 0 of 200 epochs", timeout=TRAINED_MS)


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        (1440, "light"),
        pytest.param(390, "light", marks=pytest.mark.long),
        pytest.param(1440, "dark", marks=pytest.mark.long),
    ],
)
def test_nothing_is_cut_off_moves_or_shuts_anybody_out_on_a_phone_or_in_the_dark(
    app: App, browser: Browser, width: int, scheme: str
) -> None:
    context = watched(browser, width, 844)
    page = context.new_page()
    page.goto(f"{app.url}/?__theme={scheme}")
    page.get_by_role("tab", name="Fine-tune").wait_for()
    for tab in ("Fine-tune", "Predict", "Explore residuals"):
        open_tab(page, tab)
        if tab == "Fine-tune":
            expect(page.locator("#live .table tr").first).to_be_visible(timeout=SHOWN_MS)
            expect(page.locator("#result .number")).to_be_visible(timeout=SHOWN_MS)
            expect_unmoved(page)
            expect(drawn(page.locator("#live .chart").first)).to_be_visible(timeout=SHOWN_MS)
            expect_unmoved(page)
            unseen = page.locator("#live .chart:not(.js-plotly-plot)")
            expect(unseen).not_to_have_count(0)  # those in a closed fold
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            expect(unseen).to_have_count(0)
        if tab == "Predict":
            page.locator("#gates .maps figure").nth(3).wait_for(state="attached", timeout=SHOWN_MS)
        if tab == "Explore residuals":
            expect(page.get_by_text("blocks with an identity shortcut")).to_be_visible(timeout=SHOWN_MS)
        keep(page, f"8-{scheme}-{width}-{re.sub('[^a-z]+', '-', tab.lower())}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page) == []
    context.close()


@pytest.mark.long
def test_a_teacher_takes_a_slide_and_a_table_out_of_each_tab(page: Page) -> None:
    def kept(button: str) -> Path:
        shown = page.locator(".exports").filter(visible=True).first
        with page.expect_download() as download:
            shown.get_by_role("button", name=button, exact=True).click()
        return Path(download.value.path())

    for tab, ready in (
        ("Fine-tune", "#result .number"),
        ("Predict", "#answer .said"),
        ("Explore residuals", "#norms-0 .points path"),
    ):
        open_tab(page, tab)
        page.locator(ready).first.wait_for(timeout=SHOWN_MS)
        if tab == "Fine-tune":
            unfold(page, "Figures and tables")
        with Image.open(kept("PNG")) as slide:
            assert slide.width / slide.height == pytest.approx(16 / 9, rel=0.01)
        with kept("Table as CSV").open(encoding="utf-8", newline="") as file:
            heads, *rows = csv.reader(file)
        assert all(heads), tab
        assert rows, tab
        assert {len(row) for row in rows} == {len(heads)}


def test_the_keyboard_reaches_what_a_first_visit_needs_and_shows_where_it_is(showpiece_page: Page) -> None:
    page = showpiece_page
    expect(page.locator("#result")).to_contain_text("88.6", timeout=SHOWN_MS)
    expect(page.get_by_role("button", name="Try it in Predict")).to_be_visible(timeout=SHOWN_MS)
    page.evaluate("document.activeElement.blur()")
    reached, unseen = set(), []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, is_seen = page.evaluate(
            """() => {
              const focused = document.activeElement;
              if (focused === document.body) return ["", true];
              const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(focused);
              const ringed = (element) => getComputedStyle(element).boxShadow !== "none"
                || getComputedStyle(element).borderColor !== getComputedStyle(document.body).borderColor;
              const seen = (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none"
                || (focused.closest(".block, .wrap, label") && ringed(focused.closest(".block, .wrap, label")));
              const name = focused.getAttribute("aria-label") || focused.innerText || focused.id || focused.outerHTML;
              return [name.trim().slice(0, 80), Boolean(seen)];
            }"""
        )
        reached.add(name)
        if not is_seen:
            unseen.append(name)
    assert reached >= {"Fine-tune", "Try 2,000 built-in photos", "Start", "See mistakes", "Try it in Predict"}, reached
    assert unseen == []
