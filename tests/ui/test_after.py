"""Trained runs in a real browser: look at their errors, compare, train on, rename, delete, export."""

import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from resnet_space.common.files import discard
from resnet_space.data.checks.items import LabelIssue, NearDuplicate, Outlier
from resnet_space.data.decisions import read_manifest
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.summary import summarise
from resnet_space.runs import WEIGHTS, Run
from resnet_space.training.data_report import DataReport
from resnet_space.training.evaluation import confusion_matrix, load_evaluation
from resnet_space.training.robustness import load_robustness
from resnet_space.training.study import Study
from tests.mapped import write_check
from tests.ui.conftest import SHOWN_MS, TINY, App, drawn, visit
from tests.ui.quality import serious_faults
from tests.ui.test_browser import (
    SETUP,
    TRAINED_MS,
    choose_data,
    choose_strategy,
    dataset,
    keep,
    learn,
    subject,
    unfold,
)

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def page(app: App, browser: Browser) -> Iterator[Page]:
    """One visitor's page for all of the module, with a run that is trained."""
    with visit(browser, app.url) as visitor:
        choose_data(visitor, TINY)
        choose_strategy(visitor, "full")  # so many steps
        visitor.get_by_label("Batch size").fill("16")
        learn(visitor, app, epochs=2)
        unfold(visitor, "All runs")
        yield visitor


@pytest.fixture
def run(app: App) -> Run:
    return app.run("fine-tune-1")


def live_chart(page: Page, name: str) -> Locator:
    return drawn(page.locator(f"#live [data-chart={name}]"))


def x_range(plot: Locator) -> list[float]:
    found: list[float] = plot.evaluate("chart => chart.layout.xaxis.range")
    return found


def click_cell(page: Page, true: int, predicted: int) -> None:
    """With the mouse, in the middle of the confusion matrix's cell."""
    area = page.locator("#confusion .nsewdrag")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + (predicted + 0.5) / 10 * box["width"], box["y"] + (true + 0.5) / 10 * box["height"])
    page.wait_for_timeout(200)
    page.mouse.down()
    page.mouse.up()


def test_the_scores_and_the_images_behind_a_cell_are_those_of_the_test(page: Page, run: Run) -> None:
    evaluation = load_evaluation(run)
    assert evaluation is not None
    expect(page.locator(".scores")).to_contain_text(f"{100 * evaluation.correct.mean():.1f} %", timeout=SHOWN_MS)
    expect(page.locator(".scores")).to_contain_text("Showing: fine-tune-1")
    expect(page.locator(".scores")).to_contain_text("expected calibration error")
    matrix = confusion_matrix(evaluation)
    counts = "chart => chart.data[0].customdata.map(row => row.map(cell => cell[0]))"
    shown = drawn(page.locator("#confusion .chart")).evaluate(counts)
    assert np.array_equal(shown, matrix)

    errors = matrix - np.diag(matrix.diagonal())
    true, predicted = (int(i) for i in np.unravel_index(errors.argmax(), errors.shape))
    click_cell(page, true, predicted)
    names, count = run.config.model.classes, errors[true, predicted]
    title = f"{names[true]}, predicted as {names[predicted]}: {count}"
    expect(page.get_by_label("Pictures", exact=True)).to_have_value(title)
    expect(page.locator("#tiles .note")).to_contain_text(title)
    expect(page).to_have_url(re.compile(f"cell={names[true]}%2C{names[predicted]}"))
    pictures = page.locator(".data .tiles figure").filter(has_text=f"{names[true]} → {names[predicted]}")
    expect(pictures).to_have_count(min(int(count), 24))
    keep(page, "13-errors")

    click_cell(page, 0, 0)
    title = f"{names[0]}, predicted correctly: {matrix[0, 0]}"
    expect(page.get_by_label("Pictures", exact=True)).to_have_value(title)
    expect(page).to_have_url(re.compile(f"cell={names[0]}%2C{names[0]}"))
    page.reload()
    expect(page.get_by_label("Pictures", exact=True)).to_have_value(title)
    unfold(page, "All runs")


@pytest.mark.long
def test_a_run_is_stressed_and_a_study_says_what_its_start_is_worth(page: Page, run: Run, app: App) -> None:
    page.locator("#stress").get_by_role("button", name="Corrupted images: a stress test").click()
    page.locator("#stress-start").click()
    report = page.locator("#stress-report")
    expect(report).to_contain_text("of 61 sets of", timeout=SHOWN_MS)
    expect(report).to_contain_text("Accuracy falls from", timeout=TRAINED_MS)
    found = load_robustness(run)
    assert found is not None
    expect(report.locator(".finding")).to_have_text(found.words)
    z = drawn(report.locator(".chart")).evaluate("chart => chart.data[0].z")
    assert [len(row) for row in z] == [6] * 12
    assert z[0][5] == found.of("gaussian-noise")[5].accuracy

    page.locator("#study").get_by_role("button", name="Does transfer help? Learning curves").click()
    for label, value in (("Images per class", "5"), ("Seeds", "1"), ("Steps", "4")):
        page.locator("#study").get_by_label(label).fill(value)
    expect(page.locator("#study-plan")).to_contain_text("on 5", timeout=SHOWN_MS)
    page.locator("#study-start").click()
    expect(page.locator("#study-progress .ended")).to_contain_text("Finished", timeout=TRAINED_MS)
    expect(page.locator("#study-report .finding")).to_contain_text("With 5 images per class, fine-tuning is")
    (folder,) = (app.checkpoints / Study.FOLDER).glob("*/study.json")
    study = Study.read(folder.parent)
    assert study.dataset == TINY
    curve = drawn(page.locator("#study-report .chart"))
    assert curve.evaluate("chart => chart.data[0].y[0]") == study.points[0].accuracy
    keep(page, "14-study")


def test_checked_pictures_are_drawn_as_a_map_from_which_some_are_taken_to_review(page: Page, app: App) -> None:
    folder = write_check(app.checkpoints)
    page.get_by_role("button", name="Check the data").click()
    page.get_by_role("button", name="Draw the map").click()
    fold = page.locator("#data-map")
    stage = fold.get_by_role("application", name="Map of 120 pictures.")
    expect(stage).to_be_visible(timeout=SHOWN_MS)
    expect(fold).to_contain_text("distances between groups, and their sizes, mean little")
    expect(fold.get_by_role("button", name="a 40")).to_have_attribute("aria-pressed", "false")
    fold.get_by_label("Colour by").select_option("finding")
    fold.get_by_role("button", name="copy 2").click()  # all others are faded, and not selected
    page.evaluate("document.addEventListener('review-pictures', (event) => (window.review = event.detail))")
    fold.get_by_role("button", name="Rectangle").click()
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=3)
    page.mouse.up()
    fold.get_by_role("button", name="Review these 2").click()
    chosen = sorted(page.evaluate("window.review"), key=lambda one: one["index"])
    assert chosen == [{"split": "test", "index": 8}, {"split": "train", "index": 9}]
    fold.get_by_role("button", name="Show", exact=True).click()
    expect(fold.locator("figure")).to_have_count(2)
    fold.get_by_role("button", name="copy 2").click()
    stage.focus()
    page.keyboard.press("Shift+ArrowRight")  # to the picture in the middle
    expect(fold.locator(".card")).to_contain_text("Label: ")
    page.keyboard.press("Space")
    expect(fold.locator("figure")).to_have_count(3)
    assert serious_faults(page, "#data-map") == []
    keep(page, "15-map")
    discard(folder)


@pytest.mark.long
def test_a_zoom_outlives_what_comes_after_it(page: Page, app: App) -> None:
    """The run is trained on, and its plots are drawn again and again meanwhile."""
    plot = live_chart(page, "loss")
    expect(plot).to_contain_text("Loss by iteration")
    box = plot.locator(".nsewdrag").bounding_box()
    assert box is not None
    left, top = box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"]
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(left + 0.3 * box["width"], top + 0.5 * box["height"], steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)
    zoomed = x_range(plot)
    points = 2 * (288 // 16)  # images to train with, in batches
    has_points = "([chart, count]) => chart.data[0].x.length === count"  # it is drawn twice a second at most
    page.wait_for_function(has_points, arg=[plot.element_handle(), points])
    assert 0 < zoomed[0] < zoomed[1] < points

    page.get_by_label("More epochs").fill("2")
    page.get_by_role("button", name="Train longer").click()
    expect(page.locator(".status.training")).to_contain_text(re.compile("epoch [34] of 4"), timeout=TRAINED_MS)
    expect(page.locator(".status.finished")).to_contain_text("4 epochs in", timeout=TRAINED_MS)
    page.wait_for_function(has_points, arg=[plot.element_handle(), 2 * points])
    assert x_range(plot) == zoomed
    plot.locator(".nsewdrag").dblclick()
    page.wait_for_timeout(500)
    assert x_range(plot) == [0, 2 * points]
    assert app.run("fine-tune-1").config.training.more_epochs == (2,)
    expect(plot.locator(".modebar")).to_be_visible()  # as the mouse is over it


def test_two_runs_are_laid_over_one_another_with_what_differs_and_the_rates_of_one(page: Page, app: App) -> None:
    unfold(page, SETUP)
    page.get_by_label("Batch size").fill("32")
    choose_strategy(page, "linear-probe")
    other = learn(page, app, epochs=1)
    expect(page.locator(".runs tbody tr").filter(has_text="Batch size")).to_have_text(re.compile("32.*16"))
    accuracy = live_chart(page, "accuracy")
    expect(accuracy).to_contain_text("Accuracy:")
    assert accuracy.evaluate("chart => chart.data.length") == 6  # two runs: validation, training, test
    page.get_by_text("Learning rates, speed and memory").click()
    rates = live_chart(page, "rates")
    expect(rates).to_contain_text("Learning rate of every part")
    assert rates.evaluate("chart => chart.data.map(trace => trace.name)") == ["head"]
    expect(live_chart(page, "memory")).to_contain_text("Memory of the trainer")
    keep(page, "14-two-runs")
    assert other.config.training.batch_size == 32


def choose(page: Page, name: str) -> None:
    """A click on a run makes it what the page is about."""
    page.locator("#run-list").get_by_text(name, exact=True).first.click()
    expect(subject(page)).to_have_value(name)
    expect(page.locator("#result")).to_contain_text(name)


@pytest.mark.long
def test_a_run_is_exported_as_what_can_be_used_elsewhere(page: Page, run: Run) -> None:
    choose(page, run.name)
    page.get_by_role("button", name="Take it with you").first.click()
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.get_by_text("On random pictures, the answers of the exported")).to_be_visible(timeout=TRAINED_MS)
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("MB")).first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert f"{run.name}/index.html" in archive.namelist()
    keep(page, "15-export")
    page.get_by_label("Folder with safetensors").check()
    expect(page.get_by_text("On random pictures")).to_be_hidden()
    page.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("MB")).first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.read(f"{run.name}/{WEIGHTS}") == (run.path / WEIGHTS).read_bytes()


def test_a_run_is_renamed_and_deleted_after_a_second_question(page: Page, app: App) -> None:
    choose(page, "fine-tune-2")
    rename = page.get_by_label("Rename the shown run")
    rename.fill("fine-tune-1")
    rename.press("Enter")
    toast = page.get_by_test_id("toast-body").filter(has_text="A run named fine-tune-1 already exists")
    expect(toast.first).to_be_visible(timeout=SHOWN_MS)
    rename.fill("only-the-head")
    rename.press("Enter")
    expect(page.locator("#run-list")).to_contain_text("only-the-head", timeout=SHOWN_MS)
    assert app.run("only-the-head").config.training.strategy == "linear-probe"
    expect(page.locator("#live .runs")).to_contain_text("only-the-head", timeout=SHOWN_MS)

    page.get_by_role("button", name="Delete the shown run").click()
    page.get_by_role("button", name="Keep it").click()
    assert (app.checkpoints / "only-the-head").is_dir()
    page.get_by_role("button", name="Delete the shown run").click()
    page.get_by_role("button", name="Delete it permanently").click()
    expect(page.locator("#run-list")).not_to_contain_text("only-the-head", timeout=SHOWN_MS)
    assert not list(Path(app.checkpoints).glob("*only-the-head*"))
    expect(page.locator("#live .runs")).not_to_contain_text("only-the-head", timeout=SHOWN_MS)


def test_what_came_with_the_app_is_not_deleted(page: Page, app: App) -> None:
    choose(page, "resnet20-cbam-cifar10")
    page.get_by_role("button", name="Delete the shown run").click()
    page.get_by_role("button", name="Delete it permanently").click()
    toast = page.get_by_test_id("toast-body").filter(has_text="comes with the app")
    expect(toast.first).to_be_visible(timeout=SHOWN_MS)
    assert app.run("resnet20-cbam-cifar10").has_weights


def test_findings_are_reviewed_by_keyboard_and_by_thumb_and_become_a_new_version(
    app: App, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = DataReport(
        dataset=TINY,
        backbone="a-run",
        state="finished",
        counts={"train": 320, "test": 200},
        created=time.time(),
        label_issues=(
            LabelIssue("train", 3, "", "cat", 0.97, "dog"),
            LabelIssue("train", 5, "", "cat", 0.9, "deer"),
            LabelIssue("test", 8, "", "cat", 0.8, "frog"),
        ),
        near_duplicates=(NearDuplicate("test", 5, "", "cat", 0.99, True, "train", 7, "", "cat"),),
        outliers=(Outlier("train", 9, "", "cat", 1.4, "blurred"),),
    )
    folder = app.checkpoints / DataReport.FOLDER / "reviewed"
    folder.mkdir(parents=True)
    found.write(folder)
    with visit(browser, app.url) as page:
        page.get_by_role("button", name="Are their labels right?").click()
        page.get_by_role("button", name="Review 5 findings").click()
        queue, said = page.locator(".review .queue"), page.locator(".review .said")
        counter = queue.locator("header")
        expect(queue.locator(".picture img")).to_be_visible()
        expect(queue.locator(".sample img")).to_have_count(4)
        keep(page, "review-1-label")
        assert serious_faults(page) == []
        page.keyboard.press("Enter")
        expect(said).to_have_text("Relabelled as dog.")
        expect(counter).to_contain_text("2 of 5 · 1 decided")
        page.keyboard.press("1")
        expect(said).to_have_text("Relabelled as airplane.")
        page.keyboard.press("u")
        expect(counter).to_contain_text("2 of 5 · 1 decided")
        page.keyboard.press("k")
        page.keyboard.press("d")
        expect(said).to_contain_text("A test picture: it stays as it is unless you say so at the end.")
        expect(queue.locator(".picture img")).to_have_count(2)
        keep(page, "review-2-pair")

        page.reload()  # what was decided is still there
        page.get_by_role("button", name="Are their labels right?").click()
        expect(page.locator(".review")).to_contain_text("3 decided")
        page.set_viewport_size({"width": 390, "height": 844})
        page.get_by_role("button", name="Review 5 findings").click()
        expect(counter).to_contain_text("4 of 5 · 3 decided")
        take = page.get_by_role("button", name="Same picture: drop the one in train")
        expect(queue.locator(".picture img")).to_have_count(2)  # it is drawn for the last time
        boxes = [box for button in queue.locator(".actions button").all() if (box := button.bounding_box())]
        assert len(boxes) == 7
        assert all(box["height"] >= 44 and 422 < box["y"] < box["y"] + box["height"] <= 844 for box in boxes)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        keep(page, "review-3-phone")
        take.click()
        expect(counter).to_contain_text("5 of 5 · 4 decided")
        page.get_by_role("button", name="Next").click()
        page.set_viewport_size({"width": 1440, "height": 1000})
        summary = page.locator(".review .summary")
        expect(summary).to_contain_text("1 relabelled, 1 dropped, 1 kept; 1 test picture seen, not changed.")
        chosen = [{"split": "train", "index": 20}]
        page.evaluate("detail => document.dispatchEvent(new CustomEvent('review-pictures', { detail }))", chosen)
        expect(queue).to_contain_text("Chosen on the map.")
        expect(counter).to_contain_text("1 of 6 · 4 decided")
        page.keyboard.press("d")
        page.get_by_role("button", name="Finish").click()
        expect(summary).to_contain_text("1 relabelled, 2 dropped, 1 kept; 1 test picture seen, not changed.")
        name, clean = page.get_by_label("Name", exact=True), page.get_by_label("Clean the test pictures, too")
        name.fill("my duk")  # in a field, its letters are no keys
        name.press("ArrowLeft")
        clean.evaluate("box => box.click()")  # the summary is drawn anew around the field
        expect(summary).to_contain_text("1 relabelled, 3 dropped, 1 kept.")
        page.keyboard.type("c")
        expect(name).to_have_value("my duck")
        clean.uncheck()
        expect(summary).to_contain_text("1 test picture seen, not changed.")
        expect(name).to_have_value("my duck")
        keep(page, "review-4-summary")
        page.get_by_role("button", name="Make the new version").click()
        expect(said).to_have_text("my-duck is ready, and chosen in the form.")
        unfold(page, "Other data")
        expect(dataset(page)).to_have_value("my-duck")
        train, verdict = page.get_by_role("button", name="Train before and after"), page.locator(".review .verdict")
        train.click()
        page.locator(".review").get_by_role("button", name="Stop").click()
        expect(verdict).to_have_text("It was stopped.")
        train.click()
        expect(verdict).to_contain_text("on the same 200 pictures", timeout=TRAINED_MS)
        assert verdict.evaluate("element => element.scrollWidth <= element.clientWidth")  # all of it is in sight
        keep(page, "review-5-verdict")
    manifest = read_manifest(app.checkpoints.parent / "data" / "my-duck")
    assert manifest is not None
    assert {(one.split, one.index): (one.action, one.changed) for one in manifest.changes} == {
        ("train", 3): ("relabel", True),
        ("train", 5): ("keep", False),
        ("train", 7): ("same", True),
        ("train", 20): ("drop", True),
        ("test", 8): ("drop", False),
    }
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(app.checkpoints.parent / "data"))
    assert {name: sum(counts) for name, counts in summarise(DatasetRef("my-duck")).counts.items()} == {
        "train": 318,
        "test": 200,
    }
