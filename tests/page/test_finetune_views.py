import base64
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.archives import Decision, ImportReport, Skipped, import_archive
from resnet_space.data.batches import augmented
from resnet_space.data.images import to_model_size
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.summary import DatasetSummary, Sample, cautions
from resnet_space.plots import Chart, accuracy_chart, figure, loss_chart, palette, range_chart
from resnet_space.runs import Metric
from resnet_space.serve.datasets import HUB_DATASETS
from resnet_space.training.strategies import STRATEGIES, Phase, plan, planned_epochs, recipe
from resnet_space.ui.finetune.data_view import MOST_CLASSES, TILE, data_html
from resnet_space.ui.finetune.more_data import (
    chosen_otherwise,
    free_dataset_name,
    other_choices,
    report_html,
)
from resnet_space.ui.finetune.plan import plan_html
from resnet_space.ui.html import cautions_html
from resnet_space.ui.reports import LISTED
from tests.conftest import WriteSplit
from tests.trainings import phases

RESNET20 = ModelConfig("resnet20", ("cat", "dog"))
RESNET18 = ModelConfig("resnet18", ("cat", "dog"), options={"shortcut": "pad", "cbam": "stage"}, image_size=224)
EVIL = "<img src=x onerror=alert('&')>"
VOID = ("img", "br")


class Element:
    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.pieces)).strip()


class Page(HTMLParser):
    """All elements in order, each with the text in it; a tag that is not closed is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.elements: list[Element] = []
        self.feed(html)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.pieces.append(data)

    def of(self, tag: str, *classes: str) -> list[Element]:
        return [e for e in self.elements if e.tag == tag and (not classes or e.attributes.get("class") in classes)]


# The plan


def table(page: Page, columns: int) -> list[list[Element]]:
    """The plan's cells row by row, the head first, each row with its part's name."""
    cells = page.of("div", "part", "epochs", "trains", "frozen")
    assert len(cells) % (columns + 1) == 0
    return [cells[i : i + columns + 1] for i in range(0, len(cells), columns + 1)]


def test_three_stages_rows_and_cells_are_exactly_its_phases() -> None:
    found = phases("three-stage", 10, RESNET18)
    page = Page(plan_html("three-stage", found, RESNET18))
    assert [[cell.text for cell in row] for row in table(page, 3)] == [
        ["", "epoch 1", "epochs 2 to 4", "epochs 5 to 10"],
        ["head", "0.001", "0.001", "1e-05"],
        ["spatial attention", "1e-05", "1e-05", "1e-07"],
        ["channel attention", "0.0001", "0.0001", "1e-06"],
        ["layer4", "frozen", "0.0001", "1e-05"],
        ["layer3", "frozen", "0.0001", "1e-05"],
        ["layer2", "frozen", "frozen", "1e-05"],
        ["layer1", "frozen", "frozen", "1e-05"],
        ["stem", "frozen", "frozen", "1e-05"],
    ]
    (drawing,) = page.of("div", "plan")
    assert re.findall(r"(\d+)fr", drawing.attributes["style"]) == ["1", "3", "6"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", [RESNET20, RESNET20.with_options(cbam="block"), RESNET18])
@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_every_strategys_plan_shows_each_phase_of_each_part_with_its_rate(
    strategy: str, model: ModelConfig, epochs: int
) -> None:
    training = recipe(strategy, "cifar10-mini", epochs=epochs)
    if strategy == "attention" and not model.added_parts:
        with pytest.raises(UserError, match="trains CBAM, which this model lacks"):
            plan(training, model)
        return
    found = plan(training, model, new_cbam=True)
    page = Page(plan_html(strategy, found, model))
    head, *rows = table(page, len(found))
    parts = [row[0].text for row in rows]
    assert (parts[0], parts[-1]) == ("head", "stem")
    assert set(parts) >= {part for phase in found for part in phase.rates}
    assert ("channel attention" in parts) == ("spatial attention" in parts) == (model.options["cbam"] is not None)
    spans = [[int(number) for number in re.findall(r"\d+", cell.text)] for cell in head[1:]]
    days = [day for span in spans for day in range(span[0], span[-1] + 1)]
    assert days == list(range(1, planned_epochs(found) + 1))
    shares: list[tuple[float, float]] = []
    for part, *cells in rows:
        for cell, phase in zip(cells, found, strict=True):
            rate = phase.rates.get(part.text)
            assert (cell.attributes["class"], cell.text == "frozen") == (
                ("frozen", True) if rate is None else ("trains", False)
            )
            if phase.solved and rate is not None:
                assert cell.text == "solved"
            elif rate is not None:
                assert float(cell.text) == pytest.approx(rate, rel=0.05)
                shares.append((rate, float(cell.attributes["style"].removeprefix("--share: "))))
    by_rate = [share for _, share in sorted(shares)]
    assert by_rate == sorted(by_rate)
    assert all(0 <= share <= 1 for share in by_rate)
    assert by_rate[-1:] == [1] * bool(by_rate)
    told = page.of("p", "note")[0].text
    assert told.startswith(f"{STRATEGIES[strategy].label}: {STRATEGIES[strategy].summary}")


def test_the_lowest_rate_is_the_palest_on_a_logarithmic_scale() -> None:
    page = Page(plan_html("full", [Phase(1, {"stem": 1e-4, "layer1": 1e-3, "head": 1e-2})], RESNET20))
    shares = {row[0].text: row[1].attributes.get("style") for row in table(page, 1)[1:]}
    assert shares == {
        "head": "--share: 1.00",
        "layer1": "--share: 0.50",
        "stem": "--share: 0.00",
        "layer2": None,
        "layer3": None,
    }


def test_a_stage_that_learns_block_by_block_shows_the_range_of_its_rates() -> None:
    training = recipe("discriminative", "cifar10-mini", layer_decay=0.7)
    found = plan(training, RESNET20)
    rows = {row[0].text: row[1].text for row in table(Page(plan_html("discriminative", found, RESNET20)), 1)[1:]}
    assert rows["head"] == "0.001"
    assert rows["stem"] == f"{1e-3 * 0.7**10:.2g}"
    for i, stage in enumerate(("layer3", "layer2", "layer1")):
        low, high = (float(number) for number in rows[stage].split(" to "))
        assert low == pytest.approx(1e-3 * 0.7 ** (3 * i + 3), rel=0.2)
        assert high == pytest.approx(1e-3 * 0.7 ** (3 * i + 1), rel=0.2)


@pytest.mark.parametrize("decay", [0.95, 0.99])
def test_a_range_has_two_different_ends(decay: float) -> None:
    found = plan(recipe("discriminative", "cifar10-mini", layer_decay=decay), RESNET20)
    rows = table(Page(plan_html("discriminative", found, RESNET20)), 1)
    ranges = [row[1].text.split(" to ") for row in rows if " to " in row[1].text and row[0].text]
    assert len(ranges) == 3
    assert all(low != high for low, high in ranges)


# The data


def picture(red: int, size: tuple[int, int] = (20, 20)) -> Image.Image:
    """No two of its pixels are the same."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = red, np.arange(size[0]), np.arange(size[1])[:, None]
    return Image.fromarray(pixels)


def a_summary(
    classes: Sequence[str] = ("cat", "dog"), train: Sequence[int] = (30, 10), name: str = "pets", **others: list[int]
) -> DatasetSummary:
    samples = [Sample(picture(50 * i), label) for i, label in enumerate(classes[:2])]
    return DatasetSummary(DatasetRef(name), tuple(classes), {"train": list(train), **others}, 20, samples)


AS_THEY_ARE = RunConfig(
    replace(RESNET20, image_size=16), TrainConfig(dataset="pets", crop_padding=0, flip=False, validation_fraction=0.25)
)


def pictures(page: Page) -> list[Image.Image]:
    """What the page shows, decoded."""
    sources = [element.attributes["src"] for element in page.of("img")]
    start = "data:image/png;base64,"
    assert all(source.startswith(start) for source in sources)
    return [Image.open(io.BytesIO(base64.b64decode(source.removeprefix(start)))) for source in sources]


def bars(page: Page) -> list[tuple[str, str, str]]:
    """(class, the bar's style, count)."""
    names, counts = page.of("div", "name"), page.of("div", "count")
    inner = [e for e in page.of("div") if e.attributes.get("style", "").startswith("width: ")]
    return [
        (name.text, bar.attributes["style"], count.text) for name, bar, count in zip(names, inner, counts, strict=True)
    ]


def test_every_class_has_a_bar_as_long_as_it_has_images_the_largest_first() -> None:
    page = Page(data_html(a_summary(("ant", "bee", "cat"), (250, 2_000, 0), test=[1, 2, 3]), None))
    assert bars(page) == [
        ("bee", "width: 100.0%", "2,000"),
        ("ant", "width: 12.5%", "250"),
        ("cat", "width: 0.0%", "0"),
    ]


def test_classes_of_one_size_stay_in_their_order() -> None:
    page = Page(data_html(a_summary(("cat", "ant", "bee"), (5, 5, 5)), None))
    assert [name for name, _, _ in bars(page)] == ["cat", "ant", "bee"]


def test_of_more_classes_than_fit_the_largest_and_the_smallest_are_shown() -> None:
    def shown(count: int) -> Page:
        return Page(data_html(a_summary([f"class {i}" for i in range(count)], [10 + i for i in range(count)]), None))

    page = shown(MOST_CLASSES + 12)
    names = [name for name, _, _ in bars(page)]
    half = MOST_CLASSES // 2
    largest = [f"class {i}" for i in range(MOST_CLASSES + 11, MOST_CLASSES + 11 - half, -1)]
    assert names == largest + [f"class {i}" for i in range(half - 1, -1, -1)]
    assert "; the 12 in between are not shown." in page.root.text
    page = shown(MOST_CLASSES)
    assert len(bars(page)) == MOST_CLASSES
    assert "not shown" not in page.root.text


@pytest.mark.parametrize(
    ("others", "said", "unsaid"),
    [
        ({}, ["40 training images", "fifth", "25 % of the training images are held out", "The test images are"], []),
        ({"test": [5, 6]}, ["40 training + 11 test images", "25 %", "The test images are"], ["fifth"]),
        ({"validation": [5, 6]}, ["25 %", "The validation images are evaluated once"], ["fifth"]),
        ({"validation": [1, 2], "test": [3, 4]}, ["3 validation + 7 test", "The test images are"], ["fifth", "%"]),
    ],
)
def test_it_is_told_what_learns_what_chooses_and_what_judges(
    others: dict[str, list[int]], said: list[str], unsaid: list[str]
) -> None:
    page = Page(data_html(a_summary(**others), AS_THEY_ARE))
    text = page.root.text
    assert page.of("p")[0].text.startswith("pets: 2 classes, 40 training")
    assert all(words in text for words in (*said, "20 pixels on their short side"))
    assert "random" not in text  # neither cropped nor flipped
    assert not any(words in text for words in unsaid)


def test_the_share_without_a_configuration_is_a_configurations_default() -> None:
    assert (
        f"{100 * TrainConfig(dataset='-').validation_fraction:.0f} % of" in Page(data_html(a_summary(), None)).root.text
    )


def test_the_samples_are_shown_as_they_are_with_their_classes() -> None:
    summary = a_summary()
    page = Page(data_html(summary, None))
    assert [caption.text for caption in page.of("figcaption")] == ["cat", "dog"]
    for shown, sample in zip(pictures(page), summary.samples, strict=True):
        assert np.array_equal(np.asarray(shown), np.asarray(sample.image))


def test_large_samples_are_made_small_for_the_page_and_stay_whole() -> None:
    summary = replace(a_summary(), samples=[Sample(picture(0, (4 * TILE, 2 * TILE)), "cat")])
    (shown,) = pictures(Page(data_html(summary, None)))
    assert shown.size == (TILE, TILE // 2)
    assert summary.samples[0].image.size == (4 * TILE, 2 * TILE)  # other visitors see it too


def test_the_model_sees_the_samples_at_its_own_size() -> None:
    summary = a_summary()
    page = Page(data_html(summary, AS_THEY_ARE))
    assert "at 16 x 16 pixels" in page.root.text
    assert [caption.text for caption in page.of("figcaption")] == ["cat", "dog", "cat", "dog"]
    for shown, sample in zip(pictures(page)[2:], summary.samples, strict=True):
        assert np.array_equal(np.asarray(shown), np.asarray(to_model_size(sample.image, 16)))


@pytest.mark.parametrize(
    ("model", "crop"), [({"image_size": 16}, "padded"), ({"image_size": 24, "resize": 32}, "resized")]
)
def test_it_sees_them_augmented_the_same_way_every_time(model: dict[str, Any], crop: Any) -> None:
    training = TrainConfig(dataset="pets", crop=crop)
    config = RunConfig(replace(RESNET20, **model), training)
    html = data_html(a_summary(), config)
    assert data_html(a_summary(), config) == html
    assert data_html(a_summary(), replace(config, training=replace(training, seed=1))) != html
    for shown, sample in zip(pictures(Page(html))[2:], a_summary().samples, strict=True):
        assert shown.size == (config.model.image_size,) * 2
        stored = to_model_size(sample.image, config.model.image_size)
        assert not np.array_equal(np.asarray(shown), np.asarray(stored))


@pytest.mark.parametrize("crop", ["padded", "resized"])
def test_each_is_augmented_as_in_the_whole_batch_although_one_at_a_time(crop: Any) -> None:
    config = RunConfig(replace(RESNET20, image_size=24), TrainConfig(dataset="pets", crop=crop))
    summary = a_summary()
    stored = [np.array(to_model_size(sample.image, 24)) for sample in summary.samples]
    generator = torch.Generator().manual_seed(config.training.seed)
    whole = augmented(torch.from_numpy(np.stack(stored)), config.model, config.training, generator)
    for shown, expected in zip(pictures(Page(data_html(summary, config)))[2:], whole, strict=True):
        assert np.array_equal(np.asarray(shown), expected.round().clamp(0, 255).to(torch.uint8).numpy())


def test_names_are_never_markup() -> None:
    classes = (EVIL, "<script>", *(f"<b>{i}" for i in range(40)))
    summary = a_summary(classes, [3] + [2] * 41, name=EVIL)
    config = RunConfig(replace(RESNET20, classes=classes, image_size=8), TrainConfig(dataset=EVIL))
    page = Page(data_html(summary, config))
    used = {"div", "p", "b", "figure", "img", "figcaption", "details", "summary"}
    assert {element.tag for element in page.elements} == used
    assert all(set(element.attributes) == {"src", "alt"} for element in page.of("img"))
    assert page.of("p")[0].text.startswith(f"{EVIL}: 42 classes")
    assert bars(page)[0][0] == EVIL
    assert [caption.text for caption in page.of("figcaption")] == [EVIL, "<script>"] * 2

    sentences = cautions(summary, config.model, config.training)
    assert EVIL in sentences[0]
    warned = Page(cautions_html(*sentences))
    assert {element.tag for element in warned.elements} == {"p"}
    assert [element.text for element in warned.of("p", "caution")] == sentences
    assert cautions_html() == ""


# Other images


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("pets.zip", "pets"),
        ("Pets-2.0_b.tar.gz", "Pets-2.0_b"),
        ("pets.TAR.XZ", "pets"),
        ("pets.tgz", "pets"),
        ("pets.v2", "pets.v2"),
        ("my holiday pictures (2).zip", "my-holiday-pictures-2"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "images"),
        ("", "images"),
        (".zip", "images"),
        ("画像.zip", "images"),
        (".hidden.zip", "hidden"),
        (EVIL, "img-src-x-onerror-alert"),
        ("a" * 200, "a" * 60),
        ("cifar10-mini.zip", "cifar10-mini-2"),
    ],
)
@pytest.mark.usefixtures("data_folder")
def test_a_data_sets_name_is_made_of_the_files(wanted: str, name: str) -> None:
    assert free_dataset_name(wanted) == name


def test_a_name_that_is_taken_gets_the_next_number(data_folder: Path, write_split: WriteSplit) -> None:
    for expected in ("pets", "pets-2", "pets-3"):
        assert free_dataset_name("pets.zip") == expected
        write_split(data_folder / expected, "train", [b"-"], [0], ("cat", "dog"))


@pytest.mark.parametrize("taken", ["pets", HUB_DATASETS])
def test_a_name_is_not_that_of_anything_in_the_folder(data_folder: Path, tmp_path: Path, taken: str) -> None:
    if taken == HUB_DATASETS:
        assert free_dataset_name(f"{taken}.zip") != taken
    else:
        (data_folder / taken).mkdir()
        with pytest.raises(UserError, match="There is no file"):  # not that the name is taken
            import_archive(tmp_path / "gone.zip", data_folder / free_dataset_name(f"{taken}.zip"))


def a_report(**changed: Any) -> ImportReport:
    counts = {"train": {"cat": 1_000, "dog": 234}, "test": {"cat": 5, "dog": 6}}
    return replace(ImportReport(("cat", "dog"), counts, (), 0, ()), **changed)


def test_an_imports_report_tells_how_many_images_of_which_classes() -> None:
    page = Page(report_html("pets", a_report()))
    assert page.root.text == "pets is ready: 1,245 images in 2 classes (1,234 train, 11 test)."


@pytest.mark.parametrize(
    ("count", "listed", "lines", "rest"),
    [(3, 3, 3, None), (LISTED, LISTED, LISTED, None), (2_021, 100, LISTED, "2,001")],
)
def test_what_was_left_out_is_told_with_the_reason_and_counted(
    count: int, listed: int, lines: int, rest: str | None
) -> None:
    skipped = tuple(Skipped(f"cat/{i}.txt", "It is not an image.") for i in range(listed))
    page = Page(report_html("pets", a_report(skipped=skipped, skipped_count=count)))
    assert page.of("summary")[0].text == f"{count:,} files were left out"
    items = [item.text for item in page.of("li")]
    assert items[:lines] == [f"cat/{i}.txt: It is not an image." for i in range(lines)]
    assert items[lines:] == ([] if rest is None else [f"and {rest} more"])


def test_names_in_an_archive_are_never_markup() -> None:
    report = a_report(skipped=(Skipped(EVIL, f"{EVIL}."),), skipped_count=1, warnings=(f"The class {EVIL} is empty.",))
    page = Page(report_html(EVIL, report))
    assert {element.tag for element in page.elements} == {"div", "p", "b", "details", "summary", "ul", "li"}
    assert page.of("b")[0].text == EVIL
    assert page.of("li")[0].text == f"{EVIL}: {EVIL}."
    assert page.of("p", "caution")[0].text == f"The class {EVIL} is empty."


def test_what_was_decided_is_told_in_one_fold_and_never_markup() -> None:
    page = Page(
        report_html("pets", a_report(decisions=[Decision("splits", f"So {EVIL}."), Decision("table", "And so.")]))
    )
    assert page.of("summary")[0].text == "How it was read (2)"
    assert [item.text for item in page.of("li")] == [f"So {EVIL}.", "And so."]


def test_only_what_was_offered_can_be_chosen_otherwise() -> None:
    assert other_choices(a_report()) == []
    report = a_report(choices={"folders": ["merge", "keep"], "label_column": [EVIL]})
    offered = other_choices(report)
    assert [words for words, _ in offered] == [
        "repeated folders: merge",
        "repeated folders: keep",
        f"label column: {EVIL}",
    ]
    assert [chosen_otherwise(value) for _, value in offered] == [
        {"folders": "merge"},
        {"folders": "keep"},
        {"label_column": EVIL},
    ]
    assert chosen_otherwise(None) == {}
    for wrong in ("{", "[1]", '{"limits": 1}', '{"folders": ["keep"]}'):
        with pytest.raises(UserError, match="is not an option: choose one from the list"):
            chosen_otherwise(wrong)


# Charts


def as_json(chart: Chart) -> dict[str, Any]:
    """What a browser gets; numbers that JSON does not have are refused."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    content: dict[str, Any] = json.loads(figure(chart).to_json(), parse_constant=refuse)
    return content


POINTS = [(1e-4, 2.0), (1e-3, 1.9), (1e-2, 1.2), (1e-1, 0.9), (1.0, 3.0)]


def test_the_range_chart_has_the_curve_over_a_logarithmic_axis_with_a_star_at_the_suggestion() -> None:
    content = as_json(range_chart(POINTS, 0.012))
    curve, star = content["data"]
    assert (curve["x"], curve["y"]) == ([rate for rate, _ in POINTS], [loss for _, loss in POINTS])
    assert (star["x"], star["y"], star["marker"]["symbol"]) == ([1e-2], [1.2], "star")
    assert "0.012" in star["name"]
    assert content["layout"]["xaxis"]["type"] == "log"
    assert "no suggestion" not in content["layout"]["title"]["text"]


@pytest.mark.parametrize(("suggested", "at"), [(2e-2, 1e-2), (0.04, 1e-1), (9.0, 1.0)])
def test_the_star_is_at_the_nearest_point_of_the_logarithmic_axis(suggested: float, at: float) -> None:
    star = as_json(range_chart(POINTS, suggested))["data"][1]
    assert star["x"] == [at]
    assert abs(math.log(at / suggested)) == min(abs(math.log(rate / suggested)) for rate, _ in POINTS)


@pytest.mark.parametrize("points", [POINTS, POINTS[:1], []])
def test_without_a_suggestion_the_range_chart_says_so(points: list[tuple[float, float]]) -> None:
    content = as_json(range_chart(points, None))
    (curve,) = content["data"]
    assert len(curve["x"]) == len(points)
    assert "no suggestion" in content["layout"]["title"]["text"]


def started(*epochs: int, steps: int = 20) -> list[Metric]:
    """A training with phases of so many epochs."""
    phases = [{"epochs": length, "rates": {"head": 0.1}} for length in epochs]
    return [{"event": "start", "epochs": sum(epochs), "steps_per_epoch": steps, "phases": phases}]


def lines(chart: Chart) -> list[tuple[float, str]]:
    """(place, colour) of each upright line, which must be dashed and as high as the plot."""
    found = as_json(chart)["layout"].get("shapes", [])
    for shape in found:
        assert shape["x0"] == shape["x1"]
        assert (shape["yref"], shape["y0"], shape["y1"], shape["line"]["dash"]) == ("paper", 0, 1, "dash")
    return [(shape["x0"], shape["line"]["color"]) for shape in found]


def test_a_dashed_line_stands_where_the_next_phase_begins() -> None:
    first, second = palette.category(0), palette.category(1)
    histories = {"three stages": started(1, 3, 6), "two": started(5, 35, steps=7)}
    assert lines(loss_chart(histories)) == [(20, first), (80, first), (35, second)]
    # The first epoch is at 1: a new phase's first epoch is to the right of its line.
    assert lines(accuracy_chart(histories)) == [(1.5, first), (4.5, first), (5.5, second)]


@pytest.mark.parametrize("chart", [loss_chart, accuracy_chart])
def test_a_training_of_one_phase_has_no_line_nor_one_that_does_not_know_its_phases(chart: Any) -> None:
    old = [{"event": "start", "epochs": 4, "steps_per_epoch": 5}]
    assert lines(chart({"full": started(10), "old": old, "just created": []})) == []
    assert [colour for _, colour in lines(chart({"full": started(10), "two": started(1, 9)}))] == [palette.category(1)]
