"""What the predict tab shows of a transformer's attention, as text and as files: no browser, and no app."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.explain.attention import attention_maps, head_maps
from resnet_space.inference import Classifier
from resnet_space.runs import Run
from resnet_space.ui.predict.endpoint import program_html
from resnet_space.ui.predict.evidence import Judged, evidence_value
from resnet_space.ui.predict.gates import gates_html
from resnet_space.ui.predict.heads import Attended, heads_export, heads_html
from resnet_space.ui.predict.looks import Look
from resnet_space.ui.predict.wanted import Shown, Wanted

CLASSES = ("ant", "bee", "<img src=x>")
TITLES = ["Rollout", "Mean of the heads", "Head 1", "Head 2", "Head 3"]


def looked(folder: Path, architecture: str) -> Look:
    """A network's look at a picture of noise, of 4 x 4 patches; its weights are random."""
    config = ModelConfig(architecture, CLASSES, image_size=16)
    run = Run.create(folder, RunConfig(config))
    run.save_weights(config.build(seed=0).state_dict())
    classifier = Classifier(run)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8))
    return Look(folder.name, classifier, picture, classifier.predict(picture, features=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def vit(runs: Path) -> Look:
    return looked(runs / "a-vit", "vit_tiny_patch4_32")


@pytest.fixture(scope="module")
def resnet(runs: Path) -> Look:
    return looked(runs / "a-resnet", "resnet20")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, Attended()),
        ({"layer": None, "query": None}, Attended()),
        ({"layer": 3, "query": [2, 1]}, Attended(3, (1, 0))),
        ({"layer": 0, "query": [0, 1]}, Attended()),
        ({"layer": "3", "query": "2,1"}, Attended()),
        ({"layer": True, "query": [1, 2, 3]}, Attended()),
        ([1], Attended()),
    ],
)
def test_what_the_page_says_of_layer_and_query_is_read_and_nonsense_is_left_out(told: Any, expected: Attended) -> None:
    assert Attended.parse(json.dumps(told)) == expected


def test_a_layer_or_patch_beyond_the_last_is_the_last(vit: Look) -> None:
    assert Attended().at(vit) == Attended(12)
    assert Attended(99, (1, 99)).at(vit) == Attended(12, (1, 3))


def test_every_map_of_the_layer_is_shown_with_its_highest_share(vit: Look) -> None:
    html = heads_html([vit], Attended(5, (2, 3)))
    assert re.findall(r"<figcaption><b>(.*?)</b>", html) == ["Query", *TITLES]
    assert "a-vit, layer 5 (blocks.4)" in html
    assert 'max="12" value="5"' in html
    assert "Query: patch in row 3, column 4." in html
    assert "--row: 2; --column: 3" in html
    found = head_maps(vit.classifier.model, vit.prediction.attention, 4, (2, 3))
    assert re.findall(r"up to ([\d.]+) %", html) == [
        f"{100 * values.max():.1f}" for values in (found.rollout, found.mean, *found.heads)
    ]
    assert "<img src=x>" not in html


def test_a_run_without_heads_says_so_beside_one_that_has_some_and_alone_shows_its_gates(
    vit: Look, resnet: Look
) -> None:
    sentence = "a-resnet has no attention over the whole picture, so it has no heads to show."
    assert sentence in heads_html([vit, resnet], Attended())
    assert heads_html([resnet], Attended()) == ""
    assert "has no CBAM" in gates_html([resnet])
    assert gates_html([vit]) == ""
    assert "Attention heads" in program_html(vit)


def test_heads_and_rollout_are_judged_as_every_other_map_is(vit: Look) -> None:
    event = SimpleNamespace(method="heads", classes=[1], side=0, attended='{"layer": 2, "query": null}')
    judged = Judged.of(event)
    class_index, rollout = judged.maps(vit)["Rollout, layer 2, query class token, for bee"]
    assert class_index == 1
    assert list(judged.maps(vit)) == [f"{title}, layer 2, query class token, for bee" for title in TITLES]
    by_hand = torch.eye(17)
    weights = attention_maps(vit.classifier.model, vit.classifier.prepare([vit.picture])).heads
    for name in ("blocks.0", "blocks.1"):
        by_hand = (0.5 * weights[name][0].mean(0) + 0.5 * torch.eye(17)) @ by_hand
    np.testing.assert_allclose(rollout.ravel(), by_hand[0, 1:], rtol=1e-4)
    value = evidence_value(vit, judged, lambda share: None)
    assert value["html"].count('<section class="evidence') == len(TITLES)
    assert "Faithfulness of the heads, a-vit" in value["html"]
    assert [len(trace["x"]) for trace in value["figures"]["0"]["data"]] == [57, 3, 3]  # 19 random maps by 3 measures


def test_a_run_without_heads_has_none_to_judge_or_to_export(resnet: Look) -> None:
    with pytest.raises(UserError, match="a-resnet has no attention heads to test"):
        Judged("heads", (1,)).maps(resnet)
    with pytest.raises(UserError, match="There are no attention heads"):
        heads_export([resnet], Shown(resnet.picture), Wanted(), Attended())


def test_the_maps_leave_as_a_table_a_figure_and_lines_that_run(
    vit: Look, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = heads_export([vit], Shown(vit.picture, name="cat.jpg"), Wanted(example="cat"), Attended(3, (0, 1)))
    with Path(export.table_file()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(TITLES) * 16
    found = head_maps(vit.classifier.model, vit.prediction.attention, 2, (0, 1))
    first = [float(row["share"]) for row in rows if row["map"] == "Head 1"]
    np.testing.assert_allclose(first, found.heads[0].ravel(), rtol=1e-3)
    drawn = Path(export.figure_file("svg", "paper")).read_text(encoding="utf-8")
    assert all(title in drawn for title in TITLES)
    exec(export.code().replace("checkpoints/", f"{runs}/"), {})
    picture = Image.open("resnet_space/datasets/examples/cat.jpg").convert("RGB")
    of_cat = head_maps(vit.classifier.model, vit.classifier.predict(picture).attention, 2, (0, 1))
    assert capsys.readouterr().out == f"{of_cat.heads.shape} {of_cat.rollout}\n"
