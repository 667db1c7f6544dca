"""Every view of the Explore tab: what it draws, tells and tabulates of one measurement, and what its buttons give."""

import asyncio
import csv
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from resnet_space.common.errors import UserError
from resnet_space.plots import Chart
from resnet_space.plots.base import chart
from resnet_space.runs import PLAIN, SHALLOW, SHOWPIECE
from resnet_space.serve.context import AppContext
from resnet_space.ui.explore import build_explore
from resnet_space.ui.explore.comparing import Comparison, compare
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.measuring import Findings, is_quick, measure_network, measure_on_demand
from resnet_space.ui.explore.memory import Handle
from resnet_space.ui.explore.networks import RANDOM, Network
from resnet_space.ui.explore.pictures import BlockView
from resnet_space.ui.explore.questions import QUESTIONS, card_value
from resnet_space.ui.explore.questions import export_of as question_export
from resnet_space.ui.explore.view_tab import ViewTab, export_of
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.explore.views.change import CHANGES, Change
from resnet_space.ui.explore.views.early import READINGS, Early
from resnet_space.ui.explore.views.norms import UNGATED, Norms
from resnet_space.ui.explore.views.view import Table, View
from resnet_space.ui.subject import Shared, place_subject

CONTEXT = AppContext(Path(__file__).parents[2] / "checkpoints")
NEVER = threading.Event()


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Of the run that the app shows first, on eight images, with all that is measured on demand."""
    *_, (_, findings, _) = measure_network(CONTEXT, Network(SHOWPIECE), Images("cifar10-mini", "test", 8), NEVER)
    for wanted in {wanted.id: wanted for view in VIEWS for wanted in view.on_demand}.values():
        *_, (_, findings.on_demand[wanted.id], _) = measure_on_demand(CONTEXT, findings, wanted, NEVER)
    return findings


@pytest.fixture(params=VIEWS, ids=lambda view: view.key)
def view(request: pytest.FixtureRequest) -> View:
    return request.param


def test_a_view_draws_tells_and_tabulates_what_was_measured(view: View, findings: Findings) -> None:
    charts = view.draw(findings)
    columns, rows = view.table(findings)
    assert len(charts) == view.charts
    assert all(chart is not None for chart in charts)
    assert view.words(findings)
    assert rows
    assert {len(row) for row in rows} == {len(columns)}


def test_an_update_computes_the_table_once(view: View, findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    table = type(view).table

    def counted(self: View, found: Findings, variant: str = "") -> Table:
        calls.append(variant)
        return table(self, found, variant)

    monkeypatch.setattr(type(view), "table", counted)

    async def update() -> None:  # in a running loop: else gradio makes some of its own, and never closes them
        with gr.Blocks():
            ViewTab(view, gr.State(""), gr.State(None)).update(findings, "")

    asyncio.run(update())
    assert calls == [""]


@pytest.mark.parametrize("variant", ["gated", UNGATED])
def test_each_button_below_a_view_gives_its_file(view: View, findings: Findings, variant: str) -> None:
    export = export_of(view, findings, variant)
    assert Path(export.figure_file("png")).read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in Path(export.figure_file("svg")).read_bytes()
    with open(export.table_file(), encoding="utf-8-sig", newline="") as file:
        assert next(csv.reader(file)) == list(export.table[0])
    compile(export.code(), view.key, "exec")


def test_a_view_without_lines_of_python_still_gives_its_figure_and_table(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Early, "lines", None)
    export = export_of(Early(), findings)
    assert Path(export.figure_file("png")).is_file()
    assert Path(export.table_file()).is_file()
    with pytest.raises(UserError, match="no Python code"):
        export.code()


def test_what_changed_needs_the_weights_that_the_run_started_from(findings: Findings) -> None:
    assert "General early, specific late" in Change().words(findings)
    for name, words in ((SHALLOW, "started from random weights"), (f"untrained:{SHALLOW}", "was not trained")):
        other = replace(findings, network=Network.parse(name))
        with pytest.raises(UserError, match=words):
            next(measure_on_demand(CONTEXT, other, CHANGES, NEVER))


def test_what_needs_labels_says_so_where_the_network_does_not_know_the_classes(findings: Findings) -> None:
    unlabelled = Findings(findings.network, findings.images, findings.names, findings.measured, labelled=False)
    with pytest.raises(UserError, match="needs labels"):
        next(measure_on_demand(CONTEXT, unlabelled, READINGS, NEVER))
    with pytest.raises(UserError, match="needs labels"):
        export_of(Early(), unlabelled)
    assert export_of(Norms(), unlabelled).code()


def test_the_branch_before_its_gate_is_another_variant_where_there_are_gates(findings: Findings) -> None:
    measured = findings.measured
    gated = replace(measured, gated=[True] * len(measured.gated), before_gate=2 * measured.before_gate)
    with_gates = replace(findings, measured=gated)
    assert Norms().table(with_gates, "") == Norms().table(findings)
    for row, doubled in zip(Norms().table(findings)[1], Norms().table(with_gates, UNGATED)[1], strict=True):
        assert doubled[3] == pytest.approx(2 * row[3], rel=1e-3)
    assert Norms().variant_of(with_gates, UNGATED) == UNGATED
    assert Norms().variant_of(findings, UNGATED) == Norms().variant_of(with_gates, "gated") == ""
    assert "before_gate" in export_of(Norms(), with_gates, UNGATED).code()
    assert export_of(Norms(), with_gates, UNGATED).caption.endswith("F(x) before the CBAM gate.")


def test_the_pictures_and_the_comparison_can_be_taken_away_too(findings: Findings) -> None:
    block = findings.measured.norms.blocks[0]
    for export in (BlockView.of(CONTEXT, findings, block, 0).export, Comparison((findings, findings)).export):
        assert Path(export.figure_file("png")).is_file()
        assert Path(export.table_file()).is_file()
        compile(export.code(), export.stem, "exec")


def test_a_comparison_has_accuracies_gradients_removed_blocks_and_ratios_also_of_a_plain_network() -> None:
    images, networks = Images("cifar10-mini", "test", 4), [Network(SHALLOW), Network(PLAIN)]
    steps = [comparison for _, comparison in compare(CONTEXT, networks, images, NEVER)]
    assert steps[0].charts[0] is not None  # the accuracies at once
    accuracy, *others = [drawn for drawn in steps[-1].charts if drawn is not None]
    assert "plain56-cifar10<br>40.6 %" in accuracy["layout"]["xaxis"]["ticktext"]
    # Gradients; removed blocks, with a dashed line each for the intact networks; ratios; layer outputs.
    assert [len(drawn["data"]) for drawn in others] == [2, 4, 1, 2]
    columns, rows = steps[-1].table
    assert {len(row) for row in rows} == {len(columns)}
    assert {tuple(row[:4]) for row in rows} == {
        (SHALLOW, "test images from cifar10", 10_000, 7_493),
        (PLAIN, "test images from cifar10", 10_000, 4_055),
    }
    with pytest.raises(UserError, match=r"^1 network is chosen, but 2 to 4 can be compared"):
        next(compare(CONTEXT, networks[:1], images, NEVER))


def test_what_was_measured_once_of_a_loaded_network_is_kept_with_all_that_was_asked_for(findings: Findings) -> None:
    *_, (progress, again, _) = measure_network(CONTEXT, findings.network, findings.images, NEVER)
    assert progress.seconds == 0
    assert again.measured is findings.measured
    (kept,) = measure_on_demand(CONTEXT, again, READINGS, NEVER)
    assert kept[1] is findings.on_demand[READINGS.id]


def test_what_takes_long_is_not_measured_unasked(findings: Findings) -> None:
    assert is_quick(CONTEXT, Network(SHOWPIECE), 1_000)
    assert is_quick(CONTEXT, Network("mobilenetv2_100", RANDOM), 64)
    assert not is_quick(CONTEXT, Network("mobilenetv2_100", RANDOM), 2_000)
    assert not is_quick(CONTEXT, Network(SHOWPIECE), 1_000, passes=25)


def test_each_question_is_answered_from_what_the_shipped_runs_measure() -> None:
    assert [question.is_there(CONTEXT) for question in QUESTIONS] == [True] * 3
    answers = [question.answer(CONTEXT) for question in QUESTIONS]
    assert "33.8 points of accuracy</b> at 56 layers" in answers[0].words
    assert "Mostly the last stage" in answers[1].words
    assert "layer3.0:</b> without it, the accuracy falls from" in answers[2].words
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert card_value(CONTEXT, question)["figures"]["answer"]["data"] == answer.chart["data"]
        export = question_export(CONTEXT, question)
        assert Path(export.figure_file("svg")).is_file()
        assert Path(export.table_file()).is_file()
        compile(export.code(), question.key, "exec")
    assert not QUESTIONS[0].is_there(AppContext(Path(__file__).parent))


class Tiny(View):
    """How many blocks there are."""

    key = "tiny"
    title = "Tiny"
    about = "How many blocks are there?"
    on_demand = (READINGS,)

    def draw(self, findings: Findings, variant: str = "") -> list[Chart | None]:
        count = len(findings.measured.norms.blocks)
        bar = {"type": "bar", "name": "blocks", "x": [0], "y": [count], "marker": {"color": "#888"}}
        return [chart("Blocks", [bar], {"title": "network"}, {"title": "blocks"})]

    def words(self, findings: Findings, variant: str = "") -> str:
        return f"There are {len(findings.measured.norms.blocks)} blocks."

    def table(self, findings: Findings, variant: str = "") -> Table:
        return ["blocks"], [[len(findings.measured.norms.blocks)]]


def test_a_view_of_ones_own_is_one_entry_and_appears_with_its_charts_table_and_exports(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_space.ui.explore.VIEWS", [*VIEWS, Tiny()])

    async def built() -> gr.Blocks:  # in a running loop: else gradio makes some of its own, and never closes them
        with gr.Blocks() as app:
            settled, subject = app.load(None), place_subject(CONTEXT)
            with gr.Tab("Explore") as tab:
                build_explore(Shared(CONTEXT, gr.BrowserState(None), subject, gr.State([]), settled), tab)
        return app

    app = asyncio.run(built())
    by_id = {getattr(block, "elem_id", None): block for block in app.blocks.values()}
    assert any(isinstance(block, gr.Tab) and block.label == "Tiny" for block in app.blocks.values())
    handlers: dict[str, list[Any]] = {}
    for handler in app.fns.values():
        handlers.setdefault(handler.name or "", []).append(handler)

    # A press of Measure draws and tabulates it.
    measure, _ = handlers["on_measure"]
    source = ["dataset", "cifar10-mini", "test", 8, None]
    variants = ["gated"] + [""] * len(VIEWS)
    asked = ["tiny", None, None, SHOWPIECE, "run:", None, [], None, 0, "", *variants, *source]
    *_, shown = measure.fn(SimpleNamespace(session_hash="a page"), *asked)
    assert shown[by_id["tiny-0"]]["data"][0]["y"] == [9]
    assert shown[by_id["tiny-table"]] == {"headers": ["blocks"], "data": [[9]]}
    assert any(isinstance(value, str) and "There are 9 blocks." in value for value in shown.values())
    assert set(shown) <= set(measure.outputs)

    # Its buttons: one that measures more, and what can be taken away.
    pressed = next(f for f in handlers["on_press"] if by_id["tiny-0"] in f.outputs)
    handle = Handle(findings)
    *_, last = pressed.fn(SimpleNamespace(session_hash="a page"), asked[0], handle, *asked[2:])
    assert last
    export = export_of(Tiny(), findings)
    assert Path(export.figure_file("svg")).is_file()
    assert Path(export.table_file()).name.endswith("tiny.csv")
