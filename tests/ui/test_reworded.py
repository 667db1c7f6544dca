"""The page does what it does whatever its words are: an app in which every label and every choice is reworded."""

import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from resnet_space.runs import SHOWPIECE
from tests.hub_stub import HubStub
from tests.reworded_app import MARK
from tests.ui.conftest import TINY, App, pick, visit
from tests.ui.test_browser import TRAINED_MS, unfold


@pytest.fixture(scope="module")
def reworded(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("reworded"), hub)
    running.run_as([sys.executable, "-m", "tests.reworded_app"])
    running.start()
    yield running
    running.close()


@pytest.fixture
def page(reworded: App, browser: Browser) -> Iterator[Page]:
    with visit(browser, reworded.url) as visitor:
        yield visitor


def choose(page: Page, label: str, choice: str) -> None:
    pick(field(page, label), f"{choice}{MARK}", exact=True)


def field(page: Page, label: str) -> Locator:
    return page.get_by_label(f"{label}{MARK}", exact=True).first


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"{name}{MARK}").first.click()


@pytest.mark.long
def test_a_page_in_other_words_trains_from_random_initialisation_predicts_and_compares(
    page: Page, reworded: App
) -> None:
    expect(field(page, "Architecture")).to_be_hidden()
    unfold(page, "Change the setup")
    choose(page, "Backbone", "random initialisation")
    expect(field(page, "Architecture")).to_be_visible()
    expect(field(page, "CBAM attention")).to_have_value(f"after every stage{MARK}")  # which it proposes
    choose(page, "Shortcuts", "none: a plain network")
    unfold(page, "Other data")
    choose(page, "Dataset", TINY)
    press(page, "Advanced")
    choose(page, "Strategy", "one-cycle")
    expect(field(page, "Schedule")).to_have_value(f"one-cycle{MARK}")
    choose(page, "Strategy", "full")
    field(page, "Epochs").fill("1")
    press(page, "Start")
    expect(page.locator(".status.finished")).to_contain_text("scratch-1 has finished", timeout=TRAINED_MS)
    config = reworded.run("scratch-1").config
    assert (config.training.start, config.training.strategy, config.training.dataset) == (None, "scratch", TINY)
    assert (config.model.options["cbam"], config.model.options["shortcut"]) == ("stage", "none")

    press(page, "Try it in Predict")
    expect(field(page, "Compare with")).to_have_value(f"nothing{MARK}")
    answers = page.locator("#answer .answer")
    expect(answers).to_have_count(1)
    choose(page, "Compare with", SHOWPIECE)
    expect(answers).to_have_count(2)
    choose(page, "Compare with", "nothing")
    expect(answers).to_have_count(1)

    page.get_by_role("tab", name=f"Fine-tune{MARK}").click()
    images = field(page, "Pictures")
    expect(images).to_have_value(f"Highest losses{MARK}")
    expect(page.get_by_text("Highest losses:")).to_be_visible()
    images.click()
    page.get_by_role("option").nth(1).click()
    expect(page.get_by_text("Highest losses:")).to_be_hidden()
    expect(page.locator(".tiles figure").first).to_be_visible()
