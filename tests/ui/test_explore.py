"""The explore tab in a real browser, and what one takes away from it."""

import contextlib
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from resnet_space.residuals import last, measure, probe, probe_batches
from resnet_space.runs import Run
from tests.ui.conftest import REPOSITORY, SHIPPED, SHOWN_MS, App, visit
from tests.ui.test_browser import expect_toast, keep

pytestmark = pytest.mark.ui

BACKBONE, SHOWPIECE = SHIPPED
EXAMPLES = REPOSITORY / "resnet_space" / "datasets" / "examples"


@pytest.fixture
def page(app: App, browser: Browser) -> Iterator[Page]:
    """Opened by an address that names the tab and a run."""
    with visit(browser, f"{app.url}/?tab=explore&run={BACKBONE}&with={SHOWPIECE}") as visitor:
        expect(visitor.get_by_role("button", name="Measure", exact=True)).to_be_visible(timeout=SHOWN_MS)
        yield visitor


def view(page: Page, name: str) -> None:
    page.locator("#explore-views").get_by_role("tab", name=name, exact=True).first.click()


def measure_now(page: Page, sentence: str) -> None:
    page.get_by_role("button", name="Measure", exact=True).click()
    expect(page.get_by_text(sentence).filter(visible=True).first).to_be_visible(timeout=SHOWN_MS)


def measure_for_long(page: Page) -> None:
    choose(page, "Run", "torchvision mobilenet_v2 (random weights)")  # at 224 pixels it takes a while
    choose(page, "Split", "train")
    page.get_by_label("number input for How many").fill("2000")
    page.get_by_role("button", name="Measure", exact=True).click()


def choose(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).filter(visible=True).first.fill(value)
    page.get_by_role("option", name=value, exact=True).click()


def kept(page: Page, button: str) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    path = Path(download.value.path())
    return path.rename(path.with_name(download.value.suggested_filename))


def chart(page: Page, name: str) -> Locator:
    return page.locator(f"#{name} .js-plotly-plot")


def printed(code: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.chdir(REPOSITORY):
        exec(compile(code, "copied", "exec"), {})
    return said.getvalue()


def test_a_learner_measures_clicks_asks_for_more_and_takes_it_away(page: Page) -> None:
    expect(page.get_by_label("Run", exact=True).filter(visible=True)).to_have_value(BACKBONE)
    view(page, "Lesion")
    page.get_by_role("button", name="Drop each block").click()
    expect_toast(page, "There is nothing measured yet: press Measure first.")
    view(page, "Norms")
    choose(page, "Run", SHOWPIECE)
    measure_now(page, "Of the 7 blocks that keep x's shape")
    expect(page.get_by_text(f"{SHOWPIECE} on 64 test images of cifar10-mini.").filter(visible=True)).to_be_visible()

    # A click shows the image and the block's pictures.
    points = chart(page, "norms-0").locator(".scatterlayer .points path")
    expect(points).to_have_count(64 * 9, timeout=SHOWN_MS)
    points.nth(64 * 4 + 7).click(force=True)
    expect(page.locator("#clicked img")).to_have_count(4, timeout=SHOWN_MS)
    expect(page.locator("#clicked")).to_contain_text(
        re.compile(r"In layer2\.\d, for image \d+, \w+: F\(x\) is \d+% as")
    )
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

    # A figure for a paper.
    with Image.open(kept(page, "PNG")) as figure:
        assert figure.width > 1_000
    svg = kept(page, "SVG")
    assert svg.name == f"{SHOWPIECE}-residual-norms.svg"
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")

    # The lines of Python print the same numbers.
    page.get_by_role("button", name="Copy as Python").click()
    code = page.locator(".cm-content").filter(visible=True)
    expect(code).to_contain_text("print(found.norms.blocks")
    said = printed(code.inner_text())
    assert f"{medians[4]:.4f}" in said

    # What costs more is measured when it is asked for.
    view(page, "Lesion")
    page.get_by_role("button", name="Drop each block").click()
    expect(page.get_by_text("Whole, it is right for")).to_be_visible(timeout=SHOWN_MS)
    page.get_by_role("button", name="Exchange two").click()
    expect(page.get_by_text("Of 5 pairs, exchanging")).to_be_visible(timeout=SHOWN_MS)
    view(page, "Early")
    page.get_by_role("button", name="Read early").click()
    expect(page.get_by_text("Read after layer3.0, the head is right for")).to_be_visible(timeout=SHOWN_MS)
    view(page, "Gradient")
    page.get_by_role("button", name="Measure the gradients").click()
    expect(page.get_by_text("From the last block (layer3.2) to the first (layer1.0)")).to_be_visible(timeout=SHOWN_MS)
    view(page, "Direction")
    expect(chart(page, "direction-1")).to_be_visible()
    view(page, "Responses")
    expect(page.get_by_text("The 19 layers respond")).to_be_visible()
    view(page, "Pictures")
    page.get_by_label("Channel").fill("99")
    page.get_by_label("Channel").press("Enter")
    expect_toast(page, "99")
    page.get_by_label("Channel").fill("3")
    page.get_by_label("Channel").press("Enter")
    expect(page.locator("#pictures-shown")).to_contain_text("channel 3 of")
    assert kept(page, "PNG").name.endswith("-pictures.png")
    view(page, "Growth")
    expect(page.get_by_text(f"Nothing was recorded for {SHOWPIECE}")).to_be_visible()


def test_networks_are_compared_and_one_without_residual_blocks_gets_a_sentence(page: Page) -> None:
    address = re.compile(rf"(?=.*tab=explore)(?=.*run={BACKBONE}(&|$))(?=.*with={SHOWPIECE}(&|$))")
    expect(page).to_have_url(address, timeout=SHOWN_MS)  # kept, to be shared
    view(page, "Compare")
    page.locator("#compare-networks").click()
    expect(page.get_by_text(f"From {BACKBONE} to {SHOWPIECE} these blocks changed most")).to_be_visible(
        timeout=SHOWN_MS
    )
    expect(chart(page, "compare-0").locator(".scatterlayer .trace")).to_have_count(2, timeout=SHOWN_MS)
    keep(page, "51-explore-compare")
    with kept(page, "Table as CSV").open(encoding="utf-8") as file:
        assert {row["network"] for row in csv.DictReader(file)} == {BACKBONE, SHOWPIECE}
    shown = page.locator("#explore-views .tab-container:not(.visually-hidden) > button").all_inner_texts()
    assert len(shown) == len(set(shown)) == 9
    page.get_by_role("button", name="Untrained and trained").click()  # at once, with nothing chosen
    expect(page.get_by_text(f"From {SHOWPIECE} (untrained) to {SHOWPIECE} these blocks changed most")).to_be_visible()
    view(page, "Norms")
    choose(page, "Run", "torchvision vgg16 (random weights)")
    page.get_by_role("button", name="Measure", exact=True).click()
    expect_toast(page, "This VGG has no residual blocks of a supported type.")
    choose(page, "Run", f"{SHOWPIECE} (untrained)")
    measure_now(page, f"{SHOWPIECE} (untrained) on 64 test images")


def test_ones_own_pictures_are_measured_and_what_needs_labels_says_so(page: Page) -> None:
    page.get_by_label("pictures of your own").check()
    page.get_by_role("button", name="Measure", exact=True).click()
    expect_toast(page, "There is no image yet")
    files = [EXAMPLES / "cat.jpg", EXAMPLES / "horse.jpg"]
    page.locator("#own-pictures input[type=file]").first.set_input_files(files)
    expect(page.locator("#own-pictures img").nth(1)).to_be_visible()
    measure_now(page, f"{BACKBONE} on 2 pictures of your own.")
    view(page, "Early")
    page.get_by_role("button", name="Read early").click()
    expect_toast(page, "This needs to know what is right")
    page.get_by_test_id("toast-close").click()
    expect(page.get_by_test_id("toast-body")).to_have_count(0)
    page.get_by_role("button", name="Copy as Python").filter(visible=True).click()
    expect_toast(page, "This needs to know what is right")
    view(page, "Norms")
    page.get_by_role("button", name="Copy as Python").click()
    code = page.locator(".cm-content").filter(visible=True)
    expect(code).to_contain_text("'cat.jpg', 'horse.jpg'")
    here = code.inner_text().replace("'cat.jpg', 'horse.jpg'", ", ".join(repr(str(file)) for file in files))
    assert "layer3.2" in printed(here)


def test_a_long_measurement_is_stopped_and_keeps_what_it_has(page: Page) -> None:
    measure_for_long(page)
    expect(page.locator(".measuring")).to_be_visible()
    page.get_by_role("button", name="Stop measuring").click()
    expect(page.locator(".measuring")).to_contain_text("were measured, and what they tell is kept", timeout=SHOWN_MS)
    done = re.search(r"([\d,]+) of 2,000 images", page.locator(".measuring").inner_text())
    assert done is not None
    assert 0 < int(done[1].replace(",", "")) < 2_000
    kept = page.get_by_text(f"(random weights) on {done[1]} train images of cifar10-mini.").filter(visible=True)
    expect(kept).to_be_visible()
    expect(page.get_by_role("button", name="Stop measuring")).to_be_hidden()


def test_measuring_something_else_meanwhile_ends_what_goes_on_and_its_views_say_of_what_they_are(page: Page) -> None:
    measure_for_long(page)
    expect(page.locator(".measuring")).to_contain_text("of 2,000 images")
    choose(page, "Run", SHOWPIECE)
    page.get_by_label("number input for How many").fill("32")
    measure_now(page, f"{SHOWPIECE} on 32 train images of cifar10-mini.")
    expect(page.get_by_role("button", name="Stop measuring")).to_be_hidden()
    choose(page, "Run", BACKBONE)  # and not measured
    view(page, "Lesion")
    page.get_by_role("button", name="Drop each block").click()
    expect(page.locator(".prose.said:visible")).to_contain_text(f"{SHOWPIECE} on 32 train images of cifar10-mini.")
    expect(page.locator(".prose.said:visible")).to_contain_text("right for")
