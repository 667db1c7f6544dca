"""A comparison as the page, its charts and its report show it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.plots.networks import BEATEN, FRONT, SEEN
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE, RESUME
from resnet_space.serve.context import AppContext
from resnet_space.serve.fitting import Fit
from resnet_space.serve.limits import Limits
from resnet_space.training.choosing import Row
from resnet_space.training.comparison import Candidate, Comparison
from resnet_space.training.work import Doing, LeftOut
from resnet_space.ui.finetune.compare import network_choices, start_all, start_one
from resnet_space.ui.finetune.compare.report import markdown_of
from resnet_space.ui.finetune.compare.shown import charts_of, fit_html, progress_of, report_of
from resnet_space.ui.finetune.status import RANDOM

CONTEXT = AppContext(Path(__file__).parents[2] / "checkpoints")


def row(name: str, correct: int, speed: float, parameters: int, *, seen: bool = False) -> Row:
    right = f"{int('1' * correct + '0' * (100 - correct), 2):x}"
    return Row(
        name,
        "resnet20",
        "ResNet-20",
        32,
        correct,
        100,
        right,
        correct,
        0.031,
        speed,
        parameters,
        41_000_000,
        0.1,
        "mit",
        seen,
    )


ROWS = (
    row(BACKBONE, 70, 1_000.0, 270_000),
    Row("broken", problem="The weights of <broken> do not fit."),
    row(PHOTO_BACKBONE, 90, 50.0, 3_400_000),
    row("slow-and-poor", 60, 10.0, 9_000_000),
    row("knowing", 99, 500.0, 270_000, seen=True),
)
HALF = Doing("n", "features", 20, 100, 0.5)
DONE = Comparison(
    "a<b",
    (),
    (LeftOut("x", "its weights are not downloaded (47 MB)"), LeftOut("y", "its weights are not downloaded (9 MB)")),
    images=100,
    classes=2,
    folds=5,
    machine="a machine",
    rows=ROWS,
    state="finished",
    seconds=65.0,
)


def test_the_table_has_the_best_first_a_button_in_each_row_and_no_markup_of_others() -> None:
    shown = report_of(DONE, writable=True)["html"]
    order = [shown.index(f"<b>{name}</b>") for name in ("knowing", PHOTO_BACKBONE, BACKBONE, "slow-and-poor", "broken")]
    assert order == sorted(order)
    assert shown.count("data-network=") == 4
    assert f'aria-label="Train a linear probe of {BACKBONE}"' in shown
    assert "<b>90.0\u00a0%</b>" in shown
    assert "82.6 to 94.5\u00a0%" in shown  # Wilson's interval of 90 of 100
    assert "&lt;broken&gt;" in shown
    assert "<broken>" not in shown
    assert "a&lt;b" in shown
    assert shown.count("take this") == shown.count("seen before") == 1
    assert f"Take {PHOTO_BACKBONE}: 90.0\u00a0%" in shown
    assert "data-network=" not in report_of(DONE, writable=False)["html"]


def test_while_it_runs_no_network_is_recommended_yet() -> None:
    shown = report_of(replace(DONE, state="running"), writable=True)["html"]
    assert "take this" not in shown
    assert "Take " not in shown
    assert report_of(replace(DONE, rows=()), writable=True)["figures"] == {}
    stopped = replace(DONE, state="stopped", networks=tuple(Candidate(str(i)) for i in range(6)))
    assert "Not all networks were judged." in report_of(stopped, writable=True)["html"]
    nothing = report_of(replace(DONE, rows=ROWS[1:2]), writable=True)["html"]
    assert "No network could be judged." in nothing
    assert "training images" not in nothing


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "running"}, "Loading PyTorch"),
        (
            {"state": "running", "doing": Doing("n", "features", 20, 100, 0.5)},
            "<b>n</b>: computing features, 20 of 100",
        ),
        ({"state": "running", "doing": Doing("n", "features", 20, 100, 0.5)}, "about 1 min 5 s left"),
        ({"state": "running", "busy": True}, "A training ran beside it"),
        ({"state": "stopped", "reason": "It was interrupted."}, "<b>Stopped</b> on a&lt;b. It was interrupted."),
        ({}, "5 of 2 networks judged · 1 min 5 s"),
    ],
)
def test_the_progress_is_told_in_words(changes: dict[str, object], words: str) -> None:
    assert words in progress_of(replace(DONE, networks=(Candidate("n"), Candidate("m")), **changes))


def test_the_charts_have_every_network_and_the_front_of_those_that_are_fair() -> None:
    for chart, front in zip(charts_of(DONE), ([BACKBONE, PHOTO_BACKBONE], [BACKBONE, PHOTO_BACKBONE]), strict=True):
        named = {trace["name"]: trace.get("customdata") for trace in chart["data"]}
        assert named[FRONT] == front
        assert named[BEATEN] == ["slow-and-poor"]
        assert named[SEEN] == ["knowing"]
        (staircase,) = (trace for trace in chart["data"] if trace["name"] == "Pareto front")
        assert staircase["y"] == [0.7, 0.7, 0.9]
        assert staircase["x"][0] < staircase["x"][1] == staircase["x"][2]
        symbols = {trace["marker"]["symbol"] for trace in chart["data"] if "symbol" in trace.get("marker", {})}
        assert len(symbols) == 3  # so that no colour is needed
        texts = [text for trace in chart["data"] for text in trace.get("text", ())]
        assert sorted(texts) == ["1", "2", "3", "4"]  # as in the table
    time, size = charts_of(DONE)
    assert 20.0 in time["data"][0]["x"]  # milliseconds, of 50 images a second
    assert 13.6 in size["data"][0]["x"]  # megabytes, of 3.4 million numbers


def test_few_networks_are_named_in_the_charts_and_one_that_is_hardly_faster_is_not_on_the_front() -> None:
    almost = row("almost", 60, 1_001.0, 270_100)
    time, size = charts_of(replace(DONE, rows=(*(r for r in ROWS if r.name in (BACKBONE, PHOTO_BACKBONE)), almost)))
    for chart in (time, size):
        named = {trace["name"]: trace.get("customdata") for trace in chart["data"]}
        assert named[FRONT] == [BACKBONE, PHOTO_BACKBONE]
        assert named[BEATEN] == ["almost"]
        assert "3 almost" in [text for trace in chart["data"] for text in trace.get("text", ())]


def test_what_would_be_judged_is_told_with_its_time_and_downloads() -> None:
    fit = Fit((Candidate("a", seconds=50.0), Candidate("b", seconds=70.0, download=47_000_000)), DONE.left_out)
    told = fit_html(fit)
    assert "Judges <b>a</b> and <b>b</b>: about 2 min." in told
    assert "First, 47 MB of weights are downloaded." in told
    assert "2 networks are left out" in told
    assert "its weights are not downloaded: x (47 MB), y (9 MB)" in told
    assert "not measured yet" in fit_html(Fit((Candidate("a"),), ()))
    assert "No network at hand fits this time." in fit_html(Fit((), ()))
    assert "c learned these classes before" in fit_html(Fit((Candidate("c", seen=True),), ()))


def test_a_report_has_the_table_the_method_and_every_configuration() -> None:
    fair = replace(DONE, rows=tuple(row for row in ROWS if row.name in (BACKBONE, PHOTO_BACKBONE, "broken")))
    text = markdown_of(CONTEXT, fair)
    assert f"| 1 {PHOTO_BACKBONE} | 90.0 % (82.6 to 94.5 %) | 90.0 % | 3.1 % | 50.0 | 3,400,000 |" in text
    assert "# Networks compared on a\\<b" in text
    assert "- broken: The weights of \\<broken\\> do not fit." in text
    assert "- its weights are not downloaded: x (47 MB), y (9 MB)" in text
    assert f"### {BACKBONE}\n\n- architecture: `resnet20`, https://arxiv.org/abs/1512.03385" in text
    assert "the test images were not looked at" in text


def test_every_start_with_weights_can_be_chosen() -> None:
    names = [name for _, name in network_choices(CONTEXT)]
    assert BACKBONE in names
    assert "resnet18.tv_in1k" in names
    assert RANDOM not in names


@pytest.fixture
def queueing(tmp_path: Path) -> AppContext:
    """An app in which trainings wait, with a comparison `done` of two networks on `cifar10-mini`."""
    context = AppContext(tmp_path, limits=Limits(queue=2))
    context.trainer.spawns = False
    for name in (BACKBONE, PHOTO_BACKBONE):
        shutil.copytree(CONTEXT.library.root / name, tmp_path / name, ignore=shutil.ignore_patterns(RESUME))
    rows = tuple(row for row in ROWS if row.name in (BACKBONE, PHOTO_BACKBONE, "broken"))
    folder = context.comparisons.folder / "done"
    folder.mkdir(parents=True)
    replace(DONE, dataset="cifar10-mini", rows=rows).write(folder)
    return context


def test_a_row_becomes_a_linear_probe_by_the_ordinary_way(queueing: AppContext) -> None:
    run = start_one(queueing, "done", PHOTO_BACKBONE, None)
    training = run.config.training
    assert (training.start, training.dataset, training.strategy) == (PHOTO_BACKBONE, "cifar10-mini", "linear-probe")
    assert run.config.model.image_size == 224
    assert queueing.trainer.status(run).state == "queued"
    unknown: object
    for unknown in ("broken", "gone", None, {}):
        with pytest.raises(UserError, match="Choose a network of the comparison"):
            start_one(queueing, "done", unknown, None)
    with pytest.raises(UserError, match="There is no recipe 'gone'"):
        start_one(queueing, "done", BACKBONE, None, "gone")
    with pytest.raises(UserError, match="There is no comparison yet"):
        start_one(queueing, "", BACKBONE, None)


def test_all_rows_are_fine_tuned_by_one_recipe_or_each_by_its_own(
    queueing: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing.trainer, "active", lambda: "another")
    runs, why_no_more = start_all(queueing, "done", None, "last-stage")
    assert [run.config.training.start for run in runs] == [PHOTO_BACKBONE, BACKBONE]
    assert {run.config.training.strategy for run in runs} == {"last-stage"}
    assert why_no_more == ""
    with pytest.raises(UserError, match="queue is full"):
        start_all(queueing, "done", None, "")
    for run in runs:
        queueing.delete_run(run.name, None)
    own, _ = start_all(queueing, "done", None, "")
    assert own[1].config.training.strategy == "probe-then-fine-tune"  # as is recommended for small images


def test_what_fits_into_the_queue_is_started_and_it_is_said_why_the_rest_is_not(
    queueing: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing.trainer, "active", lambda: "another")
    start_one(queueing, "done", BACKBONE, None)
    runs, why_no_more = start_all(queueing, "done", None, "linear-probe")
    assert [run.config.training.start for run in runs] == [PHOTO_BACKBONE]
    assert "queue is full" in why_no_more
