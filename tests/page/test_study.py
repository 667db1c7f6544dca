"""A study and a stress test as the page shows them, and what one takes away."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.data.corruptions import CORRUPTIONS
from resnet_space.runs import BACKBONE, RESUME, Run
from resnet_space.serve.context import AppContext
from resnet_space.serve.limits import Limits
from resnet_space.serve.studies import plan_study, start_study
from resnet_space.training.robustness import Robustness, Stressed, digest, store
from resnet_space.training.study import Point, Study
from resnet_space.training.work import Doing, LeftOut
from resnet_space.ui.finetune.stress import export_of as stress_export
from resnet_space.ui.finetune.stress import report_of as stress_report
from resnet_space.ui.finetune.study.shown import export_of, markdown_of, plan_html, progress_of, report_of

ACCURACIES = {"scratch": (0.2, 0.5), "frozen": (0.4, 0.6), "fine-tuned": (0.41, 0.7)}
FOUND = Study(
    dataset="cifar10-mini",
    start=BACKBONE,
    sizes=(5, 200),
    seeds=2,
    classes=10,
    machine="a machine",
    state="finished",
    seconds=65.0,
    left_out=(LeftOut("1,000", "the smallest class has <200> images"),),
    points=tuple(
        Point(arm, size, seed, round(1_000 * (value + 0.01 * seed)), 1_000, 90.0, 0 if arm == "frozen" else 300, 10)
        for arm, values in ACCURACIES.items()
        for size, value in zip((5, 200), values, strict=True)
        for seed in range(2)
    ),
)


def test_a_study_is_shown_by_its_sentence_its_curves_and_its_tables() -> None:
    shown = report_of(FOUND)
    html = shown["html"]
    assert "Scratch does not catch up" in html
    assert "<td>20.5\u00a0% (14.1 to 26.9\u00a0%)</td>" in html  # 20.5 ± 12.7 * 0.5, Student's t with one degree
    assert "<td>+21.0 points (+21.0 to +21.0)</td>" in html
    assert "<td>1.5</td>" in html  # minutes
    assert "76.3\u00a0% from scratch in 100 epochs" in html
    assert "quoted and not measured here" in html
    assert "&lt;200&gt;" in html
    traces = shown["figures"]["curves"]["data"]
    assert [trace["name"] for trace in traces] == ["from scratch", "frozen, solved head", "fine-tuned"]
    assert traces[0]["x"] == [5, 200]
    assert traces[0]["y"] == [0.205, 0.505]
    assert len({trace["marker"]["symbol"] for trace in traces}) == 3  # so that no colour is needed
    assert report_of(replace(FOUND, points=()))["figures"] == {}
    failed = replace(FOUND, points=(Point("scratch", 5, 0, problem="No <room>."),))
    assert "No &lt;room&gt;." in report_of(failed)["html"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "running"}, "Loading PyTorch"),
        (
            {"state": "running", "doing": Doing("scratch-5-0", "training", 20, 100, 0.5)},
            "<b>scratch-5-0</b>: training, step 20 of 100",
        ),
        ({"state": "running", "doing": Doing("", "waiting for another study")}, "Waiting for another study"),
        ({"state": "stopped", "reason": "It was interrupted."}, "It was interrupted."),
        ({}, "12 of 12 trainings · 1 min 5 s"),
    ],
)
def test_its_progress_is_told_in_words(changes: dict[str, object], words: str) -> None:
    assert words in progress_of(replace(FOUND, **changes))


def test_a_plan_says_how_long_it_takes_and_what_is_left_out() -> None:
    told = plan_html(replace(FOUND, expected=1_200.0))
    assert "12 trainings, about 20 min in all" in told
    assert "Left out: 1,000 images per class" in told
    assert "not measured yet" in plan_html(FOUND)


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """An app with the backbone and a study `done`."""
    context = AppContext(tmp_path, limits=Limits(minutes=30, epochs=50))
    source = Path(__file__).parents[2] / "checkpoints" / BACKBONE
    shutil.copytree(source, tmp_path / BACKBONE, ignore=shutil.ignore_patterns(RESUME))
    (context.studies.folder / "done").mkdir(parents=True)
    FOUND.write(context.studies.folder / "done")
    return context


def test_a_study_gives_its_figure_its_table_its_python_and_a_report(context: AppContext) -> None:
    export = export_of(context, "done")
    assert Path(export.figure_file("png")).read_bytes().startswith(b"\x89PNG")
    with Path(export.table_file()).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[0] == {
        "arm": "scratch",
        "images per class": "5",
        "seed": "0",
        "accuracy %": "20.0",
        "correct": "200",
        "test images": "1000",
        "steps": "300",
        "epochs": "10",
        "seconds": "90.0",
    }
    assert "study_transfer('cifar10-mini', 'resnet20-cbam-imagenet32'" in export.code()
    text = markdown_of(context, FOUND)
    assert "| 200 | 50.5\u00a0% (44.1 to 56.9\u00a0%) |" in text
    assert "### frozen, solved head\n\n- architecture: `resnet20`, 32 pixels" in text
    assert "- images_per_class: `200`" in text
    with pytest.raises(UserError, match="There is no study yet"):
        export_of(context, "")


def test_a_study_obeys_the_limits_of_the_app(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"start": BACKBONE, "sizes": "5, 10", "seeds": 3.0, "steps": 300.0, "minutes": 60.0}
    study = plan_study(context, "cifar10-mini", None, **asked)
    assert (study.sizes, study.minutes, study.budget, study.most_epochs) == ((5, 10), 30, 30, 50)
    for changes, words in (
        ({"start": ""}, "Choose weights to start from"),
        ({"sizes": "five"}, "must be whole numbers, such as 5, 10, 30"),
        ({"seeds": 2.5}, "The number of seeds must be"),
        ({"steps": None}, "The number of steps must be"),
        ({"minutes": 0}, "The minutes must be above 0"),
    ):
        with pytest.raises(UserError, match=words):
            plan_study(context, "cifar10-mini", None, **{**asked, **changes})
    with pytest.raises(UserError, match="read-only"):
        start_study(AppContext(context.library.root, readonly=True), study, None)
    with pytest.raises(UserError, match="finished, so it cannot be continued"):
        context.studies.resume("done", None)
    started: list[Path] = []

    class Ended:
        def poll(self) -> int:
            return 0

    def begin(path: Path, module: str) -> Ended:
        started.append(path)
        return Ended()

    monkeypatch.setattr("resnet_space.serve.works._process", begin)
    name = start_study(context, study, None)
    assert context.studies.open(name).state == "stopped"  # its process is gone
    context.studies.resume(name, None)
    assert started == [context.studies.folder / name] * 2


def test_a_stress_test_is_a_heat_map_with_a_row_for_each_corruption(context: AppContext) -> None:
    rows = [Stressed("", 0, 0.9, 0.02, 0.05)]
    rows += [
        Stressed(name, severity, 0.9 - 0.1 * severity, 0.1, 0.2) for name in CORRUPTIONS for severity in range(1, 6)
    ]
    run = Run.open(context.library.root / BACKBONE)
    found = Robustness(digest(run), 100, 0, tuple(rows), len(rows))
    (heat,) = stress_report(found)["figures"]["stress"]["data"]
    assert heat["y"][0] == "Gaussian noise"
    assert heat["x"] == ["none", "1", "2", "3", "4", "5"]
    assert heat["z"][0] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    partial = stress_report(replace(found, rows=tuple(rows[:3])), "<p>line</p>")
    assert partial["figures"]["stress"]["data"][0]["z"] == [[0.9, 0.8, 0.7]]
    assert "finding" not in partial["html"]
    with pytest.raises(UserError, match="has no stress test yet"):
        stress_export(context, BACKBONE)
    store(found, run)
    export = stress_export(context, BACKBONE)
    assert [chart["layout"]["title"]["text"] for chart in export.charts if chart] == [
        "Accuracy in % by corruption and severity",
        "Calibration error in % by corruption and severity",
        "Warned as unlike, in % by corruption and severity",
    ]
    assert Path(export.figure_file("svg", "paper")).stat().st_size > 1_000
