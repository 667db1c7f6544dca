"""The explore tab in a real browser, and what one takes away from it."""

import contextlib
import csv
import io
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from resnet_space.plots.history import error_chart
from resnet_space.residuals import last, measure, probe, probe_batches
from resnet_space.runs import Run
from resnet_space.ui.explore.history import milestones
from tests.ui.conftest import REPOSITORY, SHIPPED, SHOWN_MS, App, drawn, visit
from tests.ui.test_browser import expect_toast, keep

pytestmark = pytest.mark.ui

BACKBONE, SHOWPIECE = SHIPPED
EXAMPLES = REPOSITORY / "resnet_space" / "datasets" / "examples"


@contextlib.contextmanager
def opened(app: App, browser: Browser) -> Generator[Page]:
    """By an address that names the tab and a run, and measured by itself."""
    with visit(browser, f"{app.url}/?tab=explore&run={BACKBONE}") as visitor:
        expect_measured(visitor, f"{BACKBONE} on 64 test images from cifar10-mini")
        yield visitor


@pytest.fixture(scope="module")
def page(app: App, browser: Browser) -> Iterator[Page]:
    """Of a learner who goes from one test to the next."""
    with opened(app, browser) as visitor:
        yield visitor


@pytest.fixture
def fresh_page(app: App, browser: Browser) -> Iterator[Page]:
    with opened(app, browser) as visitor:
        yield visitor


def expect_measured(page: Page, what: str) -> None:
    expect(page.locator("#explore-status")).to_contain_text(what, timeout=SHOWN_MS)
    expect(page.locator("#explore-status .stale")).to_have_count(0)


def view(page: Page, name: str) -> None:
    page.locator("#explore-views").get_by_role("tab", name=name, exact=True).first.click()


def measure_for_long(page: Page) -> None:
    choose(page, "Network", "timm mobilenetv2_100 (random weights)")  # at 224 pixels it takes a while
    choose(page, "Split", "train")
    page.get_by_label("How many").fill("2000")
    page.get_by_role("button", name="Measure", exact=True).click()


def choose(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).filter(visible=True).first.fill(value)
    page.get_by_role("option", name=value, exact=True).click()


def kept(page: Page, button: str, place: str = "#explore-views") -> Path:
    with page.expect_download() as download:
        page.locator(place).get_by_role("button", name=button, exact=True).filter(visible=True).click()
    path = Path(download.value.path())
    return path.rename(path.with_name(download.value.suggested_filename))


def chart(page: Page, name: str) -> Locator:
    return drawn(page.locator(f"#{name} .chart"))


def printed(code: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.chdir(REPOSITORY):
        exec(compile(code, "copied", "exec"), {})
    return said.getvalue()


def test_a_learner_sees_every_view_measured_by_itself_clicks_and_takes_it_away(page: Page) -> None:
    expect(page.get_by_text("Of the 7 blocks with an identity shortcut").filter(visible=True)).to_be_visible()
    choose(page, "Run", SHOWPIECE)
    expect_measured(page, f"{SHOWPIECE} on 64 test images from cifar10-mini")

    # A click shows the image and the block's feature maps.
    points = chart(page, "norms-0").locator(".scatterlayer .points path")
    expect(points).to_have_count(64 * 9, timeout=SHOWN_MS)
    points.nth(64 * 4 + 7).click(force=True)
    expect(page.locator("#clicked img")).to_have_count(4, timeout=SHOWN_MS)
    told = re.compile(r"In layer2\.\d, for image \d+, \w+: ‖F\(x\)‖ is \d+.%")
    expect(page.locator("#clicked")).to_contain_text(told)
    keep(page, "50-explore-norms")

    # The table, and all values, are those that the library measures.
    config = Run.open(REPOSITORY / "checkpoints" / SHOWPIECE).config.model
    batches = probe_batches(probe("cifar10-mini", "test", 64, config), config)
    norms = last(measure(Run.open(REPOSITORY / "checkpoints" / SHOWPIECE).load_model(), (b for b, _ in batches))).norms
    with kept(page, "Table as CSV").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["block"] for row in table] == norms.blocks
    medians = norms.ratio.quantile(0.5, dim=1).tolist()
    assert [float(row["median"]) for row in table] == pytest.approx(medians, rel=1e-3)
    with kept(page, "All values as CSV").open(encoding="utf-8") as file:
        ratios = [float(row["ratio"]) for row in csv.DictReader(file)]
    assert ratios == pytest.approx(norms.ratio.flatten().tolist(), rel=1e-4)

    # A figure for a slide.
    with Image.open(kept(page, "PNG")) as figure:
        assert figure.width > 1_000
    svg = kept(page, "SVG")
    assert svg.name == f"{SHOWPIECE}-residual-norms-slide.svg"
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")

    # The lines of Python print the same numbers.
    page.locator("#explore-views").get_by_role("button", name="Copy as Python").filter(visible=True).click()
    code = page.locator(".cm-content").filter(visible=True)
    expect(code).to_contain_text("print(found.norms.blocks")
    said = printed(code.inner_text())
    assert f"{medians[4]:.4f}" in said

    # What costs more than a pass is measured when its view is opened.
    view(page, "What changed")
    expect(page.get_by_text("General early, specific late:")).to_be_visible(timeout=SHOWN_MS)
    view(page, "Remove a block")
    expect(page.get_by_text("matters most: without it")).to_be_visible(timeout=SHOWN_MS)
    expect(page.get_by_text("Of 5 pairs, swapping")).to_be_visible(timeout=SHOWN_MS)
    view(page, "Early answers")
    expect(page.get_by_text("After layer3.0, the head classifies")).to_be_visible(timeout=SHOWN_MS)
    view(page, "Gradient flow")
    expect(page.get_by_text("At the first block (layer1.0), the gradient is")).to_be_visible(timeout=SHOWN_MS)
    view(page, "Direction")
    expect(chart(page, "direction-1")).to_be_visible()
    view(page, "Layer outputs")
    expect(page.get_by_text("The standard deviation over the 19 layers")).to_be_visible()
    view(page, "One picture")
    page.locator(".thumbnails button").nth(5).click()
    expect(page.locator(".thumbnails button").nth(5)).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile(r"view=pictures.*&picture=5|picture=5.*&view=pictures"))
    page.get_by_label("Channel").fill("99")
    page.get_by_label("Channel").press("Enter")
    expect_toast(page, "99")
    page.get_by_label("Channel").fill("3")
    page.get_by_label("Channel").press("Enter")
    expect(page.locator("#pictures-shown")).to_contain_text("channel 3 of")
    assert kept(page, "PNG").name.endswith("-pictures-slide.png")
    view(page, "During training")
    expect(page.get_by_text(f"No ratios were recorded for {SHOWPIECE}")).to_be_visible()


def test_the_questions_are_answered_and_open_the_view_that_shows_more(page: Page) -> None:
    question = page.locator("#question-fine-tuning")
    expect(question).to_contain_text("Mostly the last stage:", timeout=SHOWN_MS)
    expect(drawn(question.locator(".chart")).locator(".scatterlayer .trace")).to_have_count(2)
    expect(page.locator("#question-blocks")).to_contain_text("without it, the accuracy falls", timeout=SHOWN_MS)
    expect(page.locator("#question-shortcuts")).to_have_count(0)  # its runs are not here
    keep(page, "52-explore-questions")
    page.locator("#open-blocks").click()
    expect(page.get_by_label("Run", exact=True).first).to_have_value(SHOWPIECE)
    expect_measured(page, f"{SHOWPIECE} on 200 test images from cifar10-mini")
    expect(chart(page, "lesion-0")).to_be_visible()
    expect(page).to_have_url(re.compile("(?=.*view=lesion)(?=.*count=200)"))
    page.get_by_role("button", name="Download").first.click()
    assert kept(page, "SVG", "#questions").name == "question-fine-tuning-slide.svg"


@pytest.mark.long
def test_networks_are_compared_by_a_link_and_one_without_residual_blocks_gets_a_sentence(
    fresh_page: Page, app: App, browser: Browser
) -> None:
    page = fresh_page
    shared = f"{app.url}/?tab=explore&run={BACKBONE}&with={SHOWPIECE}"  # as it was written before views had addresses
    for address in (shared, f"{shared}&view=compare"):
        with visit(browser, address) as other:
            expect(other.get_by_text(f"From {BACKBONE} to {SHOWPIECE}, the ratio")).to_be_visible(timeout=SHOWN_MS)
            expect(chart(other, "compare-0").locator(".barlayer .point")).to_have_count(2, timeout=SHOWN_MS)
            expect(chart(other, "compare-3").locator(".scatterlayer .trace")).to_have_count(2, timeout=SHOWN_MS)
            named = re.compile(rf"(?=.*run={BACKBONE}(&|$))(?=.*with={SHOWPIECE}(&|$))(?=.*view=compare(&|$))")
            expect(other).to_have_url(named)
            expect(other.locator("#explore-views .overflow-menu")).to_have_count(0)
            shown = other.locator("#explore-views > .tab-wrapper .tab-container:not(.visually-hidden) > button")
            assert len(set(shown.all_inner_texts())) == 9
    choose(page, "Run", SHOWPIECE)
    view(page, "Compare")  # at once, with what is chosen already
    expect(page.get_by_text(f"From {SHOWPIECE} to {SHOWPIECE} (untrained), the ratio")).to_be_visible(timeout=SHOWN_MS)
    expect(page.get_by_text(f"{SHOWPIECE} classifies 8,864 of 10,000 test images from cifar10")).to_be_visible()
    expect(chart(page, "compare-2").locator(".scatterlayer .trace")).to_have_count(4, timeout=SHOWN_MS)
    keep(page, "51-explore-compare")
    with kept(page, "Table as CSV").open(encoding="utf-8") as file:
        assert {row["network"] for row in csv.DictReader(file)} == {SHOWPIECE, f"{SHOWPIECE} (untrained)"}
    view(page, "Size of F(x)")
    choose(page, "Network", "timm vgg16 (random weights)")
    refused = "This VGG has no residual blocks of a supported type."
    expect(page.locator("#explore-status")).to_contain_text("Press Measure.")  # it would take long
    page.get_by_role("button", name="Measure", exact=True).click()
    expect_toast(page, refused)
    choose(page, "Network", "The same network, untrained")
    expect_measured(page, f"{SHOWPIECE} (untrained) on 64 test images")
    expect(page).to_have_url(re.compile(f"network=untrained%3A{SHOWPIECE}"))


@pytest.mark.long
def test_the_address_of_a_picture_and_of_other_images_rebuilds_them(app: App, browser: Browser) -> None:
    address = f"{app.url}/?tab=explore&run={SHOWPIECE}&split=train&count=32&view=pictures&picture=7&block=layer3.1"
    with visit(browser, address) as page:
        expect_measured(page, f"{SHOWPIECE} on 32 train images from cifar10-mini")
        expect(page.locator("#pictures-shown")).to_contain_text("In layer3.1, for image")
        expect(page.locator(".thumbnails button[aria-pressed=true]")).to_have_attribute("data-index", "7")
        for part in ("split=train", "count=32", "view=pictures", "picture=7", "block=layer3.1"):
            expect(page).to_have_url(re.compile(part))
        page.get_by_label("How many").fill("5000")
        expect_measured(page, f"{SHOWPIECE} on 2,000 train images from cifar10-mini (all there are)")


@pytest.mark.long
def test_the_history_opens_by_a_link_tells_of_the_network_that_is_clicked_or_chosen_and_measures_it(
    app: App, browser: Browser
) -> None:
    newest = error_chart(milestones())["data"][-1]["customdata"][0][0]
    with visit(browser, f"{app.url}/?tab=explore&run={BACKBONE}&about=densenet121") as page:
        told = page.locator("#milestone")
        expect(told).to_contain_text("Huang et al. 2016", timeout=SHOWN_MS)
        expect(told.locator("svg")).to_be_visible()
        chart(page, "history-error").locator(".points path").last.click(force=True)
        expect(page).to_have_url(re.compile(f"about={newest}"))
        expect(told).not_to_contain_text("Huang et al. 2016")
        choose(page, "Network to read about", "MobileNetV2 (2018)")
        expect(told).to_contain_text("inverted residual")
        expect(page).to_have_url(re.compile("about=mobilenetv2_100"))
        assert kept(page, "Table as CSV", "#history").name == "networks.csv"
        keep(page, "56-history")
        page.get_by_role("button", name="Explore its residual blocks").click()
        expect_measured(page, "timm mobilenetv2_100 (random weights) on 64 test images")
        expect(page).to_have_url(re.compile("network=random%3Amobilenetv2_100"))
        page.get_by_role("button", name="Networks: history and guide").click()
        expect(page).not_to_have_url(re.compile("about="))


def test_ones_own_pictures_are_measured_and_what_needs_labels_says_so(page: Page) -> None:
    choose(page, "Run", BACKBONE)
    page.get_by_label("Your own pictures").check()
    expect(page.locator("#explore-status .stale")).to_contain_text("No picture yet")
    files = [EXAMPLES / "cat.jpg", EXAMPLES / "horse.jpg"]
    page.locator("#own-pictures input[type=file]").first.set_input_files(files)
    expect_measured(page, f"{BACKBONE} on 2 of your own pictures")
    view(page, "Early answers")
    page.get_by_role("button", name="Apply the head early").click()
    expect_toast(page, "This measurement needs labels")
    page.get_by_test_id("toast-close").click()
    expect(page.get_by_test_id("toast-body")).to_have_count(0)
    view(page, "Size of F(x)")
    page.locator("#explore-views").get_by_role("button", name="Copy as Python").filter(visible=True).click()
    code = page.locator(".cm-content").filter(visible=True)
    expect(code).to_contain_text("'cat.jpg', 'horse.jpg'")
    here = code.inner_text().replace("'cat.jpg', 'horse.jpg'", ", ".join(repr(str(file)) for file in files))
    assert "layer3.2" in printed(here)


@pytest.mark.long
def test_a_long_measurement_is_asked_for_stopped_and_keeps_what_it_has(fresh_page: Page) -> None:
    page = fresh_page
    choose(page, "Network", "timm mobilenetv2_100 (random weights)")
    expect_measured(page, "mobilenetv2_100 (random weights) on 64 test images")
    page.get_by_label("How many").fill("1000")
    stale = page.locator("#explore-status .stale")
    expect(stale).to_contain_text("1,000 images of 224 x 224 pixels takes more than a few seconds. Press Measure.")
    expect(chart(page, "norms-0")).to_have_css("opacity", "0.35")
    measure_for_long(page)
    expect(page.locator("#explore-status")).to_contain_text("of 2,000 images", timeout=SHOWN_MS)
    page.get_by_role("button", name="Stop measuring").click()
    expect(page.locator("#explore-status")).to_contain_text("Stopped. The results so far are of", timeout=SHOWN_MS)
    done = re.search(r"on ([\d,]+) train images", page.locator("#explore-status").inner_text())
    assert done is not None
    assert 0 < int(done[1].replace(",", "")) < 2_000
    expect(page.get_by_role("button", name="Stop measuring")).to_be_hidden()


@pytest.mark.long
def test_measuring_something_else_meanwhile_ends_what_goes_on(fresh_page: Page) -> None:
    page = fresh_page
    measure_for_long(page)
    expect(page.locator("#explore-status")).to_contain_text("of 2,000 images", timeout=SHOWN_MS)
    choose(page, "Run", SHOWPIECE)  # which is looked at instead
    page.get_by_label("How many").fill("32")
    expect_measured(page, f"{SHOWPIECE} on 32 train images from cifar10-mini")
    expect(page.get_by_role("button", name="Stop measuring")).to_be_hidden()
    view(page, "Remove a block")
    expect(page.locator(".prose.said:visible")).to_contain_text("matters most")
    expect_measured(page, f"{SHOWPIECE} on 32 train images from cifar10-mini")
