"""Every view of the Explore tab: what it draws, tells and tabulates of one measurement, and what its buttons give."""

import csv
import threading
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from resnet_space.runs import SHOWPIECE
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore.findings import Findings, asked_for, measured
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.places import ViewPlaces, kept_of
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.explore.views.view import Table, View

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Of the run that the app shows first, on eight images, with all that is measured on demand."""
    workshop, never = Workshop(CHECKPOINTS), threading.Event()
    *_, (_, found, _) = measured(workshop, SHOWPIECE, Images("cifar10-mini", "test", 8), never)
    for kind in {kind for view in VIEWS for kind, _ in view.kinds}:
        *_, (_, found.asked[kind], _) = asked_for(workshop, found, kind, never)
    return found


@pytest.fixture(params=VIEWS, ids=lambda view: view.key)
def view(request: pytest.FixtureRequest) -> View:
    return request.param


def test_a_view_draws_tells_and_tabulates_what_was_measured(view: View, findings: Findings) -> None:
    charts = view.draw(findings, False)
    columns, rows = view.table(findings, False)
    assert len(charts) == view.charts
    assert all(chart is not None for chart in charts)
    assert view.words(findings, False)
    assert rows
    assert {len(row) for row in rows} == {len(columns)}


def test_an_update_computes_the_table_once(view: View, findings: Findings) -> None:
    calls: list[bool] = []

    def table(found: Findings, ungated: bool) -> Table:
        calls.append(ungated)
        return view.table(found, ungated)

    charts = [gr.HTML() for _ in range(view.charts)]
    place = ViewPlaces(replace(view, table=table), gr.Markdown(), charts, [], None, gr.Dataframe(), None)
    place.update(findings, False)
    assert calls == [False]


@pytest.mark.parametrize("ungated", [False, True])
def test_each_button_below_a_view_gives_its_file(view: View, findings: Findings, ungated: bool) -> None:
    kept = kept_of(view, findings, ungated)
    assert Path(kept.figure_file("png")).read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in Path(kept.figure_file("svg")).read_bytes()
    with open(kept.table_file(), encoding="utf-8-sig", newline="") as file:
        assert next(csv.reader(file)) == list(kept.columns)
    compile(kept.lines(), view.key, "exec")


def test_a_view_without_lines_of_python_still_gives_its_figure_and_table(findings: Findings) -> None:
    kept = kept_of(replace(VIEWS[0], key="another"), findings, False)
    assert Path(kept.figure_file("png")).is_file()
    assert Path(kept.table_file()).is_file()
    with pytest.raises(gr.Error, match="no lines of Python"):
        kept.lines()
