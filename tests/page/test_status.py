import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from resnet_space.common.cost import PRICE_VARIABLE
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.plots import palette
from resnet_space.runs import Doing, Metric, Run
from resnet_space.runs.queue import Status
from resnet_space.training.strategies import plan, recipe
from resnet_space.ui import reports
from resnet_space.ui.finetune import comparison
from resnet_space.ui.finetune import status as page

CONFIG = RunConfig(
    ModelConfig("resnet20", ("cat", "dog"), options={"cbam": "stage"}),
    TrainConfig(dataset="cifar10-mini", start="a-start", epochs=10),
)
Row = tuple[Run, Status, list[Metric]]
SCRATCH = replace(CONFIG, training=replace(CONFIG.training, start=None))
START: Metric = {"event": "start", "device": "cpu", "epochs": 10, "steps_per_epoch": 20, "seconds": 0.0}
START |= {"validation_images": 200}


def a_run(name: str = "a-run", config: RunConfig = CONFIG) -> Run:
    return Run(Path("/nowhere") / name, config)  # nothing is read from its folder


def step(number: int, seconds: float) -> Metric:
    return {"event": "step", "step": number, "loss": 1.0, "images_per_second": 1234.4, "seconds": seconds}


def epoch(number: int, validation: float = 0.5) -> Metric:
    return {"event": "epoch", "epoch": number, "validation_accuracy": validation, "seconds": 1.0 * number}


def judged(accuracy: float, split: str = "test", seconds: float = 42.4) -> Metric:
    return {"event": "test", "split": split, "images": 1_000, "accuracy": accuracy, "seconds": seconds}


def end(state: str) -> Metric:
    return {"event": "end", "status": state, "time": 1.0}


class Page(HTMLParser):
    """The visible text and the tags with their attributes; a tag that is not closed is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", "".join(self.pieces)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.pieces.append(data + " ")

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def shown(status: Status, metrics: list[Metric], run: Run | None = None) -> Page:
    return Page(page.status_html(run or a_run(), status, metrics))


def progress(shown: Page) -> str | None:
    (bar,) = (attributes for _, attributes in shown.tags if attributes.get("role") == "progressbar")
    return bar["aria-valuenow"]


# Durations


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (42, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (4800, "1 h 20 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert page.duration(seconds) == words


def test_the_time_left_follows_from_the_pace_so_far() -> None:
    # 200 steps in all, of which 49 after the first, slow one took 24.5 s: the other 150 take 75 s.
    assert page.seconds_left([START, step(1, 9.0), epoch(1), step(50, 33.5)]) == pytest.approx(75)
    assert page.seconds_left([START, step(1, 9.0)]) is None
    assert page.seconds_left([START, step(1, 9.0), step(200, 80.0), epoch(10), judged(0.5)]) is None


@pytest.mark.parametrize("tested", [False, True])
def test_beside_its_steps_a_training_names_what_it_does_and_how_much_of_it_is_done(tested: bool) -> None:
    metrics = [START, step(200, 9.0), epoch(10), *([judged(0.5)] if tested else [])]
    status = Status("training", doing=Doing("checking" if tested else "testing", 3, 40, 12.0))
    text = shown(status, metrics).text
    assert "3 of 40 images · about 12 s left" in text
    assert "images/s" not in text
    assert ("Now checking heatmaps." in text) == ("50.0 %" in text) == tested


def test_a_solved_head_says_nothing_of_the_pace_of_what_follows() -> None:
    phases = [{"epochs": 1, "rates": {"head": 0.1}, "solved": True}, {"epochs": 9, "rates": {"head": 0.1}}]
    metrics = [START | {"phases": phases}, step(10, 30.0), step(20, 60.0), epoch(1), step(25, 61.0)]
    assert page.seconds_left(metrics) is None
    assert page.seconds_left([*metrics, step(45, 71.0)]) == pytest.approx(0.5 * 155)


@pytest.mark.parametrize("metrics", [[], [START], [step(3, 1.0)]])
def test_before_the_first_step_nobody_knows_the_time_left(metrics: list[Metric]) -> None:
    assert page.seconds_left(metrics) is None


# The progress line


@pytest.mark.parametrize("metrics", [[], [START]])
def test_a_starting_run_says_so_and_has_an_empty_bar(metrics: list[Metric]) -> None:
    result = shown(Status("starting"), metrics)
    assert "a-run is starting" in result.text
    assert progress(result) == "0"


@pytest.mark.parametrize(("device", "word", "other"), [("cpu", "CPU", "GPU"), ("cuda", "GPU", "CPU")])
def test_a_training_run_tells_epoch_speed_and_time_left(device: str, word: str, other: str) -> None:
    metrics = [START | {"device": device}, step(1, 0.5), epoch(1), epoch(2), step(50, 25.0)]
    result = shown(Status("training"), metrics)
    assert "a-run is training" in result.text
    assert word in result.text
    assert other not in result.text
    assert "epoch 3 of 10" in result.text
    assert "1,234 images/s" in result.text
    assert "1 min 15 s left" in result.text
    assert progress(result) == "25"


def test_while_it_is_judged_on_the_test_images_the_last_epoch_is_still_the_last() -> None:
    metrics = [START, step(200, 80.0), *(epoch(i) for i in range(1, 11))]
    result = shown(Status("training"), metrics)
    assert "epoch 10 of 10" in result.text
    assert progress(result) == "100"


def test_a_stopping_run_says_so_and_no_longer_promises_an_end() -> None:
    result = shown(Status("stopping"), [START, step(50, 25.0)])
    assert "a-run is stopping" in result.text
    assert "left" not in result.text


@pytest.mark.parametrize(
    ("split", "words"), [("test", "test images"), ("validation", "validation images"), ("train", "training images")]
)
def test_a_finished_run_tells_its_accuracy_and_how_long_it_took(split: str, words: str) -> None:
    metrics = [START, step(200, 40.0), *(epoch(i) for i in range(1, 11)), judged(0.7654, split), end("finished")]
    result = shown(Status("finished"), metrics)
    assert "a-run has finished" in result.text
    assert f"765 of 1,000 {'held-out ' if split != 'test' else ''}{words} correct, 76.5 %" in result.text
    assert "10 epochs in 42 s" in result.text
    assert progress(result) == "100"


def test_a_stopped_run_tells_how_far_it_came() -> None:
    result = shown(Status("stopped"), [START, step(50, 25.0), epoch(1), epoch(2), end("stopped")])
    assert "a-run was stopped" in result.text
    assert "2 of 10 epochs" in result.text
    assert progress(result) == "25"


def test_a_failed_run_tells_why() -> None:
    result = shown(Status("failed", "The loss is no longer a number."), [START, step(50, 25.0), epoch(1)])
    assert "a-run has failed" in result.text
    assert "The loss is no longer a number." in result.text
    assert "1 of 10 epochs" in result.text


def test_a_run_that_failed_before_it_wrote_anything_has_an_empty_bar() -> None:
    assert progress(shown(Status("failed", "No module."), [])) == "0"


def test_a_new_run_says_that_it_has_not_been_trained() -> None:
    result = shown(Status("new"), [])
    assert "a-run has not been trained" in result.text
    assert progress(result) == "0"


@pytest.mark.parametrize("state", ["new", "starting", "training", "stopping", "finished", "stopped", "failed"])
def test_names_and_reasons_are_never_markup(state: Any) -> None:
    evil = "<script>alert('&')</script>"
    metrics = [START, step(50, 25.0), epoch(1), judged(0.5)]
    result = shown(Status(state, evil if state == "failed" else ""), metrics, a_run("<img src=x onerror=1>"))
    assert "<img src=x onerror=1>" in result.text
    assert (evil in result.text) == (state == "failed")
    assert {tag for tag, _ in result.tags} <= {"div", "span", "b"}
    assert state in (result.tags[0][1]["class"] or "").split()  # for the style sheet


# The table of runs


def rows(html: str) -> list[list[str]]:
    """The text of each cell of the table's body."""
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    return [[Page(cell).text for cell in re.findall(r"<td>(.*?)</td>", row)] for row in body.split("</tr>")[:-1]]


def test_every_run_has_a_row_with_what_it_reached() -> None:
    finished = [START, epoch(1, 0.61), epoch(2, 0.72), epoch(3, 0.7), judged(0.7, seconds=185), end("finished")]
    html = comparison.runs_html(
        [
            (a_run("one"), Status("finished"), finished),
            (a_run("two", SCRATCH), Status("training"), [START, step(3, 1.0), epoch(1, 0.25)]),
            (a_run("three"), Status("failed", "why"), []),
        ]
    )
    assert rows(html) == [
        ["one", "70.0 % (67.1 to 72.8 %)", "72.0 % of 200", "a-start", "cifar10-mini", "10", "3 min 5 s"],
        ["two", "training", "25.0 % of 200", "random initialisation", "cifar10-mini", "10", ""],
        ["three", "failed", "", "a-start", "cifar10-mini", "10", ""],
    ]
    whole = Page(html)
    assert len(whole.named("th")) == 7
    swatches = [tag["style"] for tag in whole.named("span") if tag.get("class") == "swatch"]
    for i, style in enumerate(swatches):
        assert palette.category(i) in (style or "")
    assert len(set(swatches)) == 3


def test_the_meter_is_as_long_as_the_accuracy() -> None:
    html = comparison.runs_html([(a_run(), Status("finished"), [START, judged(0.7654)])])
    assert any("width: 76.5%" in (tag.get("style") or "") for tag in Page(html).named("span"))


def test_without_runs_it_says_what_will_be_there() -> None:
    result = Page(comparison.runs_html([]))
    assert result.text == "Your runs are compared here."
    assert result.named("table") == []


def test_runs_of_other_data_or_classes_are_not_to_be_compared() -> None:
    def told(other: RunConfig) -> bool:
        both: list[Row] = [(a_run("one"), Status("finished"), []), (a_run("two", other), Status("finished"), [])]
        return "do not compare their accuracies" in Page(comparison.runs_html(both)).text

    assert not told(SCRATCH)
    assert told(replace(CONFIG, training=replace(CONFIG.training, dataset="pond")))
    assert told(replace(CONFIG, model=replace(CONFIG.model, classes=("cat", "frog"))))


def test_nothing_in_the_table_is_ever_markup() -> None:
    evil = "<script>1</script>"
    config = replace(CONFIG, training=TrainConfig(dataset="<i>data</i>", start=evil))
    html = comparison.runs_html([(a_run("<b>name<b>", config), Status("finished"), [START, judged(0.5)])])
    assert [rows(html)[0][i] for i in (0, 3, 4)] == ["<b>name<b>", evil, "<i>data</i>"]
    assert Page(html).named("script") == []


# What a comparison says


def row(name: str, config: RunConfig, accuracy: float | None) -> Row:
    return a_run(name, config), Status("finished"), [START, *([] if accuracy is None else [judged(accuracy)])]


def told(*compared: Row) -> str:
    return Page(comparison.result_html(compared)).text


@pytest.mark.parametrize(
    ("pretrained", "scratch", "points"),
    [(0.72, 0.5, "+22.0 points"), (0.5, 0.55, "-5.0 points"), (0.6, 0.6, "+0.0 points")],
)
@pytest.mark.parametrize("scratch_first", [False, True])
def test_equal_budgets_from_both_starts_are_compared_with_their_sign(
    pretrained: float, scratch: float, points: str, scratch_first: bool
) -> None:
    both = [row("one", CONFIG, pretrained), row("two", SCRATCH, scratch)]
    words = told(*(both[::-1] if scratch_first else both))
    first, second = (scratch, pretrained) if scratch_first else (pretrained, scratch)
    assert words.startswith(f"{100 * first:.1f} %")  # the subject's, in large
    start = "a-start" if scratch_first else "scratch"
    assert f"From {start}: {100 * second:.1f} % , so pretraining is worth {points}" in words
    assert "(same model, data, 10 epochs)" in words


@pytest.mark.parametrize(
    "other",
    [
        replace(SCRATCH, model=SCRATCH.model.with_options(cbam=None)),
        replace(SCRATCH, model=replace(SCRATCH.model, architecture="resnet32")),
        replace(SCRATCH, training=replace(SCRATCH.training, epochs=11)),
        replace(SCRATCH, training=replace(SCRATCH.training, batch_size=32)),
        replace(SCRATCH, training=replace(SCRATCH.training, dataset="cifar10")),
        CONFIG,
    ],
    ids=["CBAM", "architecture", "epochs", "batch size", "data", "the same start"],
)
def test_runs_that_differ_in_more_than_their_start_are_not_compared(other: RunConfig) -> None:
    assert "worth" in told(row("one", CONFIG, 0.7), row("two", SCRATCH, 0.5))
    assert "worth" not in told(row("one", CONFIG, 0.7), row("two", other, 0.5))


def test_a_seed_and_learning_rates_of_their_own_do_not_keep_runs_from_being_compared() -> None:
    other = replace(SCRATCH, training=replace(SCRATCH.training, seed=5, backbone_lr=0.2, head_lr=0.3))
    assert "+20.0 points" in told(row("one", CONFIG, 0.7), row("two", other, 0.5))


def test_runs_that_were_not_tested_are_not_compared() -> None:
    assert told() == "— No run is chosen."
    assert "worth" not in told(row("one", CONFIG, 0.7), row("two", SCRATCH, None))
    assert "worth" not in told(row("one", CONFIG, None), row("two", SCRATCH, 0.5))


def test_of_several_runs_the_subject_is_compared() -> None:
    rows = [row("3", CONFIG, 0.8), row("1", CONFIG, 0.1), row("4", SCRATCH, 0.5), row("2", SCRATCH, 0.2)]
    assert "+30.0 points" in told(*rows)


def test_a_result_has_its_counts_and_interval_and_before_the_test_the_best_validation() -> None:
    tested = [START, epoch(1, 0.61), judged(0.7), end("finished")]
    words = Page(comparison.result_html([(a_run(), Status("finished"), tested)])).text
    assert words == "70.0 % a-run on cifar10-mini 700 of 1,000 test images correct 95 % interval 67.1 to 72.8 %"
    for state, then in (("training", "follows after the last epoch"), ("stopped", "not tested")):
        status: Any = Status(state)
        words = Page(comparison.result_html([(a_run(), status, [START, epoch(1, 0.61), epoch(2, 0.5)])])).text
        assert words.startswith("61.0 % a-run on cifar10-mini Best validation accuracy so far of 200 images")
        assert then in words
    assert "after the first epoch" in Page(comparison.result_html([(a_run(), Status("starting"), [])])).text


def test_a_result_has_no_markup_of_its_names() -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, start="<script>", dataset="<i>"))
    scratch = replace(config, training=replace(config.training, start=None))
    result = Page(comparison.result_html([row("<b>", scratch, 0.5), row("two", config, 0.7)]))
    assert "From <script>: 70.0 %" in result.text
    assert "<b> on <i>" in result.text
    assert result.named("script") == []


def test_a_run_that_is_stopped_before_its_first_step_is_shown() -> None:
    assert "a-run is stopping" in shown(Status("stopping"), [START]).text


# The queue, the reasons, the cost, the differences


def test_a_run_that_waits_tells_its_place() -> None:
    assert "place 1 in the queue, it is the next" in shown(Status("queued", place=1), []).text
    assert "place 3 in the queue, 2 before it" in shown(Status("queued", place=3), []).text


@pytest.mark.parametrize(("waiting", "told"), [(1, "1 more waits for its turn."), (3, "3 more wait for their turn.")])
def test_a_run_that_trains_tells_how_many_wait(waiting: int, told: str) -> None:
    assert told in Page(page.status_html(a_run(), Status("training"), [START, step(1, 1.0)], waiting=waiting)).text
    assert "more wait" not in page.status_html(a_run(), Status("training"), [START, step(1, 1.0)])


@pytest.mark.parametrize(
    ("strategy", "done", "words"),
    [
        ("three-stage", 0, "Phase 1 of 3 trains CBAM and the head."),
        ("three-stage", 1, "Phase 2 of 3 trains layer2, layer3, CBAM and the head."),
        ("three-stage", 4, "Phase 3 of 3 trains everything."),
        ("linear-probe", 0, "It trains the head alone."),
        ("last-stage", 0, "It trains layer3 and the head."),
        ("full", 2, ""),
    ],
)
def test_a_run_that_trains_tells_its_phase_and_what_learns_in_it(strategy: str, done: int, words: str) -> None:
    planned = plan(recipe(strategy, "cifar10-mini", epochs=10), CONFIG.model)
    metrics = [START | {"phases": [asdict(phase) for phase in planned]}, *(epoch(i + 1) for i in range(done))]
    text = shown(Status("training"), [*metrics, step(20 * done + 1, 1.0)]).text
    assert f"on the CPU. {words}".strip() in text
    assert ("trains" in text) == bool(words)


def test_that_the_test_images_were_looked_at_before_is_told_beside_the_accuracy() -> None:
    metrics = [START, epoch(1), judged(0.7) | {"test_evaluations": 2}, end("finished")]
    assert "The test set was evaluated 2 times" in shown(Status("finished"), metrics).text
    assert "evaluated" not in shown(Status("finished"), [START, epoch(1), judged(0.7), end("finished")]).text


def test_a_failed_run_has_the_end_of_its_log_a_click_away() -> None:
    html = page.status_html(a_run(), Status("failed", "Why."), [START], log=["first <i>", "last"])
    parsed = Page(html)
    assert len(parsed.named("details")) == 1
    assert "first <i> last" in parsed.text
    assert "<i>" not in html
    assert not Page(page.status_html(a_run(), Status("failed", "Why."), [START])).named("details")


def test_a_run_that_a_limit_stopped_tells_which() -> None:
    text = shown(Status("stopped", "It reached this app's limit of 30 minutes."), [START, epoch(1)]).text
    assert "It reached this app's limit of 30 minutes. Its best weights are kept." in text


def test_a_finished_run_tells_what_it_cost_where_the_price_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = [START, epoch(1), judged(0.7, seconds=1800), end("finished")]
    monkeypatch.delenv(PRICE_VARIABLE, raising=False)
    assert "$" not in shown(Status("finished"), metrics).text
    for price, words in (("0.40", "$0.20"), ("0.001", "less than $0.01")):
        monkeypatch.setenv(PRICE_VARIABLE, price)
        assert shown(Status("finished"), metrics).text.endswith(words)
    monkeypatch.setenv(PRICE_VARIABLE, "a lot")
    assert "$" not in shown(Status("finished"), metrics).text


def test_the_interval_stands_beside_the_accuracy() -> None:
    # By hand, Wilson 1927: n = 1000, p = 0.7, z = 1.96 gives 0.6708 to 0.7276.
    assert reports.accuracy_words(judged(0.7)) == "70.0 % (67.1 to 72.8 %)"


def test_of_two_runs_the_settings_that_differ_are_listed_and_no_others() -> None:
    changes = {"batch_size": 7, "start": None, "strategy": "scratch", "more_epochs": (2,)}
    # The temperature is what a training found, not what was set.
    other = RunConfig(replace(CONFIG.model, temperature=1.5), replace(CONFIG.training, **changes))
    other = replace(other, model=other.model.with_options(cbam=None))
    labels = {"batch_size": "Batch size", "start": "Backbone", "flip": "Random horizontal flip", "cbam": "CBAM"}
    flipped = replace(other, training=replace(other.training, flip=False))
    found = rows(comparison.difference_html([a_run("one"), a_run("two", flipped)], labels))
    assert sorted(found) == [
        ["Backbone", "a-start", "random initialisation"],
        ["Batch size", "64", "7"],
        ["CBAM", "stage", "none"],
        ["More epochs", "none", "2"],
        ["Random horizontal flip", "yes", "no"],
        ["Strategy", CONFIG.training.strategy, "scratch"],
    ]
    assert "are the same" in comparison.difference_html([a_run("one"), a_run("two")])
    assert (
        comparison.difference_html([a_run("one")])
        == comparison.difference_html([a_run(str(i)) for i in range(3)])
        == ""
    )
