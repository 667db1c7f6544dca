"""The predict tab as a person uses it, in a real browser, and what no page would send."""

import csv
import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.images import open_image
from resnet_space.data.mistakes import FILE
from resnet_space.inference import Classifier
from resnet_space.runs import PHOTO_BACKBONE, Run
from tests.hub_stub import HubStub
from tests.tested import with_test_pictures
from tests.ui.conftest import REPOSITORY, SHIPPED, SHOWN_MS, App, drawn, go, pick, visit
from tests.ui.test_browser import SLOW_NETWORK, dataset, expect_toast, keep

pytestmark = pytest.mark.ui

BACKBONE, SHOWPIECE = SHIPPED
EXAMPLES = REPOSITORY / "resnet_space" / "datasets" / "examples"
PHOTOGRAPHS = EXAMPLES.parent / "photographs"
NAMES = ("cat", "dog", "ship")
TESTED = "tested"  # a run whose test pictures are on the machine
TRANSFORMER = "transformer"  # of 4 x 4 patches


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    """A public app."""
    running = App(
        tmp_path_factory.mktemp("predict"),
        hub,
        ["--host=0.0.0.0"],
        runs=(*SHIPPED, PHOTO_BACKBONE),
        RESNET_SPACE_MAX_REQUESTS="1000",
    )
    with_test_pictures(running.checkpoints / TESTED)
    config = ModelConfig("vit_tiny_patch4_32", ("ant", "bee"), image_size=16)
    Run.create(running.checkpoints / TRANSFORMER, RunConfig(config)).save_weights(config.build(seed=0).state_dict())
    running.start()
    yield running
    running.close(after_nonsense=True)


@pytest.fixture(scope="module")
def page(served: App, browser: Browser) -> Iterator[Page]:
    with visit(browser, f"{served.url}/?tab=predict&run={SHOWPIECE}&example=dog&with={BACKBONE}") as visitor:
        yield visitor


def shown_classes(page: Page, side: int) -> list[str]:
    """Of the heatmaps that a reader sees."""
    return page.locator(f"#why .why[data-side='{side}'] figcaption b").locator("visible=true").all_inner_texts()


def downloaded(page: Page, link: str) -> bytes:
    with page.expect_download() as download:
        page.locator(link).locator("visible=true").first.click()
    return Path(download.value.path()).read_bytes()


def test_a_link_leads_to_two_runs_looks_at_an_example_and_the_keyboard_is_enough_for_the_rest(
    page: Page, served: App
) -> None:
    answers = page.locator("#answer .answer")
    expect(answers).to_have_count(2)
    expect(answers.nth(0).locator(".said")).to_have_text("dog")
    expect(page.locator("#gates section")).to_have_count(2)
    history = page.evaluate("window.history.length")

    pick(page.get_by_label("Compare with"), "nothing")
    expect(answers).to_have_count(1)
    expect(page.locator("#gates section")).to_have_count(1)
    assert page.url.endswith(f"/?tab=predict&run={SHOWPIECE}&example=dog")
    page.get_by_role("button", name="Example: cat").focus()
    page.keyboard.press("Enter")
    expect(answers.locator(".said")).to_have_text("cat")
    expect(page.locator("#why figcaption").first).to_contain_text("cat")
    expect(page.locator("#answer .truth")).to_have_text("✓ labelled cat · model says cat")
    assert page.url.endswith("example=cat")
    assert page.evaluate("window.history.length") == history

    classifier = Classifier(served.run(SHOWPIECE))
    prediction = classifier.predict(Image.open(EXAMPLES / "cat.jpg").convert("RGB"), features=True)
    buttons = page.locator("#answer .classes button")
    assert buttons.locator(".name").all_inner_texts() == prediction.classes
    assert shown_classes(page, 0) == prediction.classes[:2]
    buttons.nth(3).focus()
    page.keyboard.press("Space")
    assert shown_classes(page, 0) == [prediction.classes[0], prediction.classes[3]]
    assert [b.get_attribute("aria-pressed") for b in buttons.all()] == ["false", "false", "false", "true", "false"]
    assert page.url.endswith(f"&example=cat&class={prediction.classes[3]}")

    values = np.load(io.BytesIO(downloaded(page, "#why a[download$='grad-cam.npy']")))
    assert values == pytest.approx(classifier.class_maps(prediction, prediction.indices[:1]).raw[0], abs=1e-4)
    assert downloaded(page, "#why a.png").startswith(b"\x89PNG")
    exports = page.locator("#predict-answer .exports")
    for kind, size in (("PNG", "Slide, 16:9"), ("SVG", "Paper, one column")):
        exports.get_by_label("Figure for").select_option(size)
        with page.expect_download() as download:
            exports.get_by_role("button", name=kind).click()
        if kind == "PNG":
            with Image.open(download.value.path()) as figure:
                assert figure.width / figure.height == pytest.approx(16 / 9, abs=0.01)
        else:
            svg = Path(download.value.path()).read_text(encoding="utf-8")
            assert all(name in svg for name in (*prediction.classes, "Label: cat."))  # text stays text
    with page.expect_download() as download:
        exports.get_by_role("button", name="Table as CSV").click()
    told = csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8")))
    assert [row["class"] for row in told] == prediction.classes
    page.get_by_label("Opacity of the heatmaps").fill("0")
    assert page.locator("#why .view img").first.evaluate("image => getComputedStyle(image).opacity") == "0"

    page.locator("#gates input.channel").nth(2).fill("7")
    page.keyboard.press("Enter")
    expect(page.locator("#channel")).to_contain_text("channel 7 after stage 3")
    page.locator("#why .ask").first.focus()
    page.keyboard.press("Enter")
    sections = page.locator("#evidence .evidence")
    expect(sections).to_have_count(2)
    assert sections.locator("h4 b").all_inner_texts() == [prediction.classes[0], prediction.classes[3]]
    expect(drawn(page.locator("#evidence .chart").first)).to_contain_text("Deletion")
    keep(page, "50-predict")

    page.get_by_text("Ablation-CAM").locator("visible=true").first.click()
    expect(sections.first).to_be_hidden()  # it is about other heatmaps
    values = np.load(io.BytesIO(downloaded(page, "#why a[download$='ablation-cam.npy']")))
    maps = classifier.class_maps(prediction, prediction.indices[:1], "ablation-cam")
    assert values == pytest.approx(maps.raw[0], abs=1e-4)
    assert page.url.endswith(f"&class={prediction.classes[3]}&method=ablation-cam")
    page.reload()
    expect(page.locator("#why figcaption").locator("visible=true")).to_have_count(2)
    assert shown_classes(page, 0) == [prediction.classes[0], prediction.classes[3]]
    assert page.get_by_role("radio", name="Ablation-CAM").is_checked()


def test_test_pictures_of_the_run_are_offered_with_their_labels_and_a_link_opens_one(
    served: App, browser: Browser
) -> None:
    with visit(browser, f"{served.url}/?tab=predict&run={TESTED}") as page:
        truth = page.locator("#answer .truth")
        expect(truth).to_contain_text("✓")  # the first look is at one that the run knows
        offered = page.locator("#tested button")
        expect(offered).to_have_count(10)
        offered.first.click()
        expect(truth).to_contain_text("✗")
        label, said = truth.locator("b").all_inner_texts()
        assert offered.first.get_attribute("title") == f"labelled {label}, predicted {said}"
        named = offered.first.get_attribute("data-picture")
        address = f"/?tab=predict&run={TESTED}&picture={str(named).replace(':', '%3A')}"
        assert page.url.endswith(address)
        pick(page.get_by_label("Run", exact=True).first, SHOWPIECE)
        expect(page.locator("#answer .of")).to_have_text(SHOWPIECE)
        expect(truth).to_contain_text(f"labelled {label}")  # the picture stays
        assert f"of={TESTED}" in page.url
        expect(offered).to_have_count(0)  # those of this run are not here

        go(page, served.url + address)
        expect(truth).to_have_text(f"✗ labelled {label} · model says {said}")
        pick(page.get_by_label("Wrong? Correct the label"), label, exact=True)
        page.get_by_role("button", name="Save the correction").click()
        expect(page.locator("#mistakes")).to_contain_text("(1 picture)")


def test_on_a_phone_the_answer_is_in_sight_and_the_gates_are_folded(served: App, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(SHOWN_MS)
    page.goto(f"{served.url}/?tab=predict")
    expect(page.locator("#gates summary").first).to_be_visible()
    said = page.locator("#answer .said").bounding_box()
    assert said is not None
    assert said["y"] < 844
    expect(page.locator("#gates figure").first).to_be_hidden()
    page.locator("#gates summary").first.click()
    expect(page.locator("#gates figure").first).to_be_visible()
    page.locator("#why .ask").click()
    expect(page.locator("#evidence .evidence")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "54-phone")
    context.close()


def test_heads_are_shown_by_layer_and_query_with_mouse_keys_and_address(served: App, browser: Browser) -> None:
    address = f"{served.url}/?tab=predict&run={TRANSFORMER}&example=cat"
    with visit(browser, f"{address}&layer=3&query=2%2C4") as page:
        heads, layer = page.locator("#heads"), page.locator("#heads input[type=range]")
        note, patches = page.locator("#heads .note"), page.locator("#heads .patches")
        expect(heads.locator("figure")).to_have_count(6)
        expect(note).to_contain_text("Query: patch in row 2, column 4.")
        expect(layer).to_have_value("3")
        expect(page.locator("#gates summary")).to_have_count(0)
        patches.focus()
        page.keyboard.press("ArrowDown")
        expect(note).to_contain_text("row 3, column 4")
        expect(patches).to_be_focused()  # also when it was drawn anew
        page.keyboard.press("ArrowRight")  # there is none
        box = patches.bounding_box()
        assert box is not None
        patches.click(position={"x": box["width"] * 0.3, "y": box["height"] * 0.1})
        expect(note).to_contain_text("row 1, column 2")
        layer.focus()
        page.keyboard.press("End")
        expect(heads.locator(".of")).to_contain_text("layer 12")
        assert page.url == f"{address}&layer=12&query=1%2C2"
        heads.get_by_role("button", name="Class token").click()
        expect(note).to_contain_text("Query: class token.")
        assert page.url == f"{address}&layer=12"
        exports = page.locator("#heads ~ * .exports")
        with page.expect_download() as download:
            exports.get_by_role("button", name="Table as CSV").click()
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
        assert {(row["layer"], row["query"]) for row in rows} == {("12", "class token")}
        assert len(rows) == 5 * 16
        page.locator("#heads .ask[data-evidence]").click()
        expect(page.locator("#evidence .evidence")).to_have_count(5)
        expect(page.locator("#evidence h4").first).to_contain_text("Rollout, layer 12, query class token")
        layer.focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#evidence .evidence").first).to_be_hidden()  # it is about another layer
        keep(page, "55-heads")
        pick(page.get_by_label("Run", exact=True).first, BACKBONE)
        expect(page.locator("#answer .of")).to_have_text(BACKBONE)
        expect(heads.locator("figure")).to_have_count(0)
        expect(exports).to_be_hidden()
        assert "layer=" not in page.url


def test_photographs_are_answered_by_the_photograph_model_until_a_run_is_chosen(served: App, browser: Browser) -> None:
    with visit(browser, f"{served.url}/?tab=predict") as page:
        answer, run = page.locator("#answer .answer"), page.get_by_label("Run", exact=True).first
        who = answer.locator(".of")
        expect(answer.locator(".said")).to_have_text("cat")  # the first look is that of a run with CBAM
        expect(run).to_have_value(SHOWPIECE)
        expect(page.locator("#gates figure")).to_have_count(4)
        assert page.url.endswith("/?tab=predict&example=cat")

        page.get_by_role("button", name="Example: espresso").click()
        expect(answer.locator(".said")).to_have_text("espresso")
        expect(who).to_have_text(PHOTO_BACKBONE)
        expect(answer).to_contain_text("Answers photographs unless you choose a run.")
        expect(run).to_have_value(SHOWPIECE)  # nobody has chosen another
        expect(answer.locator(".caution")).to_contain_text("The probabilities are not calibrated")
        expect(answer.locator(".classes button")).to_have_count(5)
        expect(page.locator("#why .why:visible")).to_have_count(2)
        expect(page.locator("#gates")).to_contain_text(f"{PHOTO_BACKBONE} has no CBAM, so it has no gates.")
        page.get_by_text("Photo credits").click()
        expect(page.locator("#examples li").filter(has_text="Rachel Michetti")).to_be_visible()

        page.get_by_role("button", name=f"Answer with {SHOWPIECE} instead").click()
        expect(answer.locator(".of")).to_have_text(SHOWPIECE)
        expect(run).to_have_value(SHOWPIECE)
        expect(page.locator("#gates figure")).to_have_count(4)
        assert page.url.endswith(f"/?tab=predict&run={SHOWPIECE}&example=espresso")
        page.reload()
        expect(answer.locator(".of")).to_have_text(SHOWPIECE)  # what was chosen stays
        page.get_by_role("button", name="Example: tripod").click()
        expect(page.locator("#answer .answers[data-example='tripod']")).to_be_visible()
        expect(answer.locator(".of")).to_have_text(SHOWPIECE)
        page.get_by_role("button", name=f"Answer with {PHOTO_BACKBONE} instead").click()
        expect(answer.locator(".said")).to_have_text("tripod")
        expect(run).to_have_value(PHOTO_BACKBONE)
        assert page.url.endswith(f"/?tab=predict&run={PHOTO_BACKBONE}&example=tripod")

        go(page, f"{served.url}/?tab=predict")
        expect(answer.locator(".said")).to_have_text("cat")
        page.locator("#picture").get_by_role("button", name="Remove Image").click()
        page.locator("#picture input[type=file]").set_input_files(EXAMPLES / "horse.jpg")  # a small one
        expect(answer.locator(".said")).to_have_text("horse")
        expect(answer.locator(".truth")).to_have_count(0)  # nobody has labelled it
        expect(who).to_have_text(SHOWPIECE)
        page.locator("#picture").get_by_role("button", name="Remove Image").click()
        page.locator("#picture input[type=file]").set_input_files(
            {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": (PHOTOGRAPHS / "palace.jpg").read_bytes()}
        )
        expect(answer.locator(".said")).to_contain_text("palace")
        expect(who).to_have_text(PHOTO_BACKBONE)
        pick(run, BACKBONE)
        expect(answer.locator(".of")).to_have_text(BACKBONE)
        page.locator("#picture").get_by_role("button", name="Remove Image").click()
        page.locator("#picture input[type=file]").set_input_files(PHOTOGRAPHS / "rocket.jpg")
        rocket = Classifier(served.run(BACKBONE)).predict(open_image(PHOTOGRAPHS / "rocket.jpg"))
        expect(answer.locator(".name").first).to_have_text(rocket.classes[0])
        assert "example=" not in page.url
        expect(answer.locator(".of")).to_have_text(BACKBONE)
        expect(run).to_have_value(BACKBONE)
        keep(page, "52-chosen")


def test_a_test_of_a_photographs_maps_is_stopped_by_a_button_and_by_another_picture(
    served: App, browser: Browser
) -> None:
    with visit(browser, f"{served.url}/?tab=predict&example=tabby&with={SHOWPIECE}") as page:
        answers, evidence = page.locator("#answer .answer"), page.locator("#evidence .evidence")
        expect(answers).to_have_count(2)  # of runs with other classes each
        assert answers.locator(".said").all_inner_texts() == ["Egyptian cat", "cat"]
        ask, stop = page.locator("#why .ask").first, page.get_by_role("button", name="Stop the test")
        expect(ask).to_be_visible()
        expect(stop).to_be_hidden()
        ask.click()
        expect(page.get_by_text("Testing the heatmaps")).to_be_visible()
        stop.click()
        expect(stop).to_be_hidden()
        expect(evidence).to_have_count(0)
        ask.click()
        expect(stop).to_be_visible()
        page.get_by_role("button", name="Example: palace").click()
        expect(answers.first.locator(".said")).to_contain_text("palace")
        expect(stop).to_be_hidden()  # the place is free for others
        expect(evidence).to_have_count(0)
        keep(page, "53-photograph")


@pytest.mark.long
def test_over_a_slow_network_what_was_chosen_last_is_what_is_shown(served: App, browser: Browser) -> None:
    with visit(browser, served.url) as page:
        page.evaluate(SLOW_NETWORK)
        said = page.locator("#answer .said")
        page.get_by_role("tab", name="Predict").click()
        horse = (EXAMPLES / "horse.jpg").read_bytes()
        page.locator(
            "#picture input[type=file]"
        ).set_input_files(  # before the example that the tab opens with is there
            {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": horse}
        )
        expect(said).to_have_text("horse")
        page.get_by_role("button", name="Example: dog").click()
        page.get_by_role("button", name="Example: ship").click()
        expect(said).to_have_text("ship")
        page.wait_for_timeout(3_000)  # what was asked before would be here by now
        expect(said).to_have_text("ship")

        channels = page.locator("#gates button.channel")
        channels.nth(0).click()
        channels.nth(1).click()
        second = channels.nth(1).get_attribute("data-channel")
        expect(page.locator("#channel b")).to_have_text(f"channel {second} after stage 1")

        page.locator("#why .ask").first.click()
        page.get_by_role("button", name="Example: cat").click()
        expect(said).to_have_text("cat")
        page.wait_for_timeout(6_000)
        expect(page.locator("#evidence .evidence")).to_have_count(0)  # it would be the ship's
        page.locator("#why .ask").first.click()
        expect(page.locator("#evidence h4").first).to_contain_text("cat")


def test_a_mistake_is_kept_as_the_visitors_own_data_and_offered_to_a_training(
    page: Page, served: App, browser: Browser
) -> None:
    page.get_by_role("button", name="Save the correction").click()
    expect_toast(page, "Choose the correct label first.")
    pick(page.get_by_label("Wrong? Correct the label"), "deer")
    page.get_by_role("button", name="Save the correction").click()
    expect(page.locator("#mistakes")).to_contain_text("(1 picture)")
    folder = served.checkpoints.parent / "data" / page.locator("#mistakes .note b").last.inner_text()
    assert {path.name for path in folder.iterdir()} == {FILE, "owner", "expires"}
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as Parquet").click()
    (row,) = pq.read_table(download.value.path()).to_pylist()
    assert (row["image"]["bytes"], row["label"]) == ((EXAMPLES / "cat.jpg").read_bytes(), 4)
    page.get_by_role("button", name="Train on the corrections").click()
    expect(dataset(page)).to_have_value(folder.name)
    assert "tab=" not in page.url

    other = browser.new_context()
    stranger = other.new_page()
    stranger.set_default_timeout(SHOWN_MS)
    stranger.goto(served.url)
    dataset(stranger).click()
    expect(stranger.get_by_role("option", name="cifar10-mini")).to_be_visible()
    assert stranger.get_by_role("option", name=folder.name).count() == 0
    other.close()
    page.get_by_role("tab", name="Predict").click()


def test_many_pictures_are_classified_checked_by_their_folders_and_kept_as_csv(page: Page) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in NAMES:
            archive.write(EXAMPLES / f"{name}.jpg", f"all/{name}/<b>=1.jpg")
        archive.write(EXAMPLES / "ship.jpg", "all/cat/really-a-ship.jpg")
        archive.writestr("all/cat/<img src=x>.txt", "no picture")
    page.get_by_role("tab", name="Many pictures").click()
    page.locator("#pictures input[type=file]").set_input_files(
        {"name": "all.zip", "mimeType": "application/zip", "buffer": packed.getvalue()}
    )
    expect(page.locator("#pictures")).to_contain_text("all")
    page.get_by_role("button", name="Classify all").click()
    report = page.locator("#many-pictures .report")
    expect(report).to_contain_text(f"4 pictures classified by {SHOWPIECE}")
    expect(report).to_contain_text("3 of 4 correct (75.0 %); 95 % interval 30.1 to 95.4 %")
    expect(report).to_contain_text("1 file was left out")
    expect(drawn(page.locator("#many-confusion .chart"))).to_contain_text("true class")
    cards = page.locator("#many-grid li")
    expect(cards).to_have_count(4)
    expect(cards.first).to_contain_text("✗ labelled cat")  # the mistake is first
    expect(cards.first).to_contain_text("really-a-ship.jpg")
    assert "all/" not in cards.first.inner_text()
    assert "view=many" in page.url
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 1000})
    with page.expect_download() as download:
        page.locator("#many-pictures").get_by_role("button", name="Predictions as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [row["predicted"] for row in rows] == [*NAMES, "ship"]
    assert [row["correct"] for row in rows] == ["yes", "yes", "yes", "no"]
    keep(page, "51-many")


def test_many_photographs_and_a_mistake_among_a_thousand_classes(served: App, browser: Browser) -> None:
    with visit(browser, f"{served.url}/?tab=predict") as page:
        expect(page.locator("#answer .said")).to_have_text("cat")
        page.get_by_role("tab", name="Many pictures").click()
        files = [PHOTOGRAPHS / f"{name}.jpg" for name in ("espresso", "tripod")]
        page.locator("#pictures input[type=file]").set_input_files(files)
        expect(page.locator("#pictures")).to_contain_text("tripod")
        page.get_by_role("button", name="Classify all").click()
        report = page.locator("#many-pictures .report")
        expect(report).to_contain_text(f"2 pictures classified by {PHOTO_BACKBONE}")
        expect(report).to_contain_text("The probabilities are not calibrated")
        expect(page.locator("#many-grid")).to_contain_text("espresso")

        page.get_by_role("tab", name="One picture").click()
        page.get_by_role("button", name="Example: tabby").click()
        expect(page.locator("#answer .said")).to_contain_text("Egyptian cat")
        label = page.get_by_label("Wrong? Correct the label")
        label.click()
        label.press_sequentially("Siamese cat")
        page.get_by_role("option", name="Siamese cat").click()
        page.get_by_role("button", name="Save the correction").click()
        expect(page.locator("#mistakes")).to_contain_text("(1 picture)")


def post(app: App, name: str, data: list[Any], event: dict[str, Any] | None = None) -> str | None:
    """A raw call of a private handler, by its place; what it was refused with."""
    with urllib.request.urlopen(f"{app.url}/config") as answer:
        ids = {d["api_name"]: d["id"] for d in json.load(answer)["dependencies"]}
    body = {"data": data, "fn_index": ids[name], "session_hash": "raw", "event_data": event}
    request = urllib.request.Request(
        f"{app.url}/gradio_api/run/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60):
            return None
    except urllib.error.HTTPError as error:
        with error:
            said: str | None = json.loads(error.read())["error"]
            return said


def test_a_raw_request_opens_no_path_and_writes_to_nobody_elses_data(served: App) -> None:
    for path in ("/etc/passwd", str(EXAMPLES / "cat.jpg")):
        picture = {"path": path}
        click = {"side": 0, "classes": [3], "method": "grad-cam", "module": "cbam1", "channel": 0}
        wanted = json.dumps({"run": SHOWPIECE})
        for name, data in (
            ("on_evidence", [wanted, picture]),
            ("on_channel", [wanted, picture]),
            ("on_attended", [wanted, picture, "{}"]),
            ("on_keep", [wanted, picture, SHOWPIECE, "cat", "key"]),
            ("on_classify", [[{**picture, "meta": {"_type": "gradio.FileData"}}], "", SHOWPIECE]),
        ):
            assert post(served, name, data, click) == "This file has not been uploaded: upload it first.", (name, path)
    assert post(served, "on_classify", [None, "/etc", SHOWPIECE]) == "Only the owner of the app can read a folder."
    assert post(served, "on_keep", ["", None, SHOWPIECE, "cat", ""]) == (
        "The page has not identified you yet: try again in a moment."
    )
