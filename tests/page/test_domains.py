"""Domain adaptation on the page: what the form asks for, the charts, the result, and the map of the features."""

import csv
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.restyled import RESTYLED
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, DATASET_OWNER
from resnet_space.plots import accuracy_chart, domains_chart
from resnet_space.runs import START_WEIGHTS, Metric, Run
from resnet_space.runs.queue import Status
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.limits import Limits
from resnet_space.training import domain_map as map_module
from resnet_space.training.domain_map import domain_map
from resnet_space.training.footprint import batch_bytes
from resnet_space.training.loop import train
from resnet_space.ui.finetune.comparison import result_html
from resnet_space.ui.finetune.domains import domains_of
from resnet_space.ui.finetune.figures import figure_of
from resnet_space.ui.finetune.form import Request, create_run, go_on, requested_config
from resnet_space.ui.finetune.status import RANDOM
from tests.conftest import WriteSplit
from tests.trainings import png

CLASSES = ("dark", "bright")
MODEL = ModelConfig("resnet20", CLASSES, image_size=8)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_split: WriteSplit) -> Path:
    folder = tmp_path / "data"
    for name, shift in (("source", 0), ("target", 60)):
        for split, count in (("train", 32), ("test", 12)):
            labels = [i % 2 for i in range(count)]
            images = [png(80 * label + shift + 3 * (i % 20)) for i, label in enumerate(labels)]
            write_split(folder / name, split, images, labels, CLASSES)
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(folder))
    return folder


def context(tmp_path: Path, **more: Any) -> AppContext:
    return AppContext(tmp_path / "checkpoints", **more)


def ask(key: str | None = None, **settings: Any) -> Request:
    return Request(RANDOM, "source", "resnet20", "none", {"strategy": "full", "image_size": 8, **settings}, key)


def trained(context: AppContext) -> Run:
    settings: dict[str, Any] = {"objective": "dann", "target": "target", "batch_size": 8, "epochs": 2}
    run = create_run(context, ask(**settings))
    with closing(train(run, device=torch.device("cpu"))) as metrics:
        for metric in metrics:
            if metric["event"] == "test":
                break
    return run


def test_the_form_makes_a_training_with_a_target_or_says_in_a_sentence_why_not(tmp_path: Path) -> None:
    app = context(tmp_path)
    config = requested_config(
        app, ask(objective="coral", target="target", domain_weight=10, domain_schedule="constant")
    )
    training = config.training
    assert (training.objective, training.target, training.domain_weight) == ("coral", "target", 10)
    restyled = next(iter(RESTYLED))
    assert requested_config(app, ask(target=restyled)).training.target == restyled
    assert (RESTYLED[restyled], restyled) in app.datasets.targets()
    assert restyled not in dict(app.datasets.choices()).values()
    for settings, why in (
        ({"objective": "coral"}, "needs images of another domain: choose a target dataset"),
        ({"objective": "coral", "target": "source"}, "is the dataset with the labels itself"),
        ({"target": "nowhere"}, "There is no dataset named 'nowhere'"),
        ({"objective": "magic"}, "The objective must be one of"),
    ):
        with pytest.raises(UserError, match=why):
            requested_config(app, ask(**settings))


def test_another_visitors_dataset_is_no_target(tmp_path: Path, data: Path) -> None:
    app = context(tmp_path, public=True, limits=Limits(images=40))
    mine, theirs = visitors.new_key(), visitors.new_key()
    for name in ("source", "target"):
        visitors.claim(data / name / DATASET_OWNER, mine)
    create_run(app, ask(mine, target="target"))
    with pytest.raises(UserError, match="64 training images, above this app's limit of 40"):
        create_run(app, ask(mine, target="target", objective="coral"))
    run = create_run(app, ask(mine, target="target"))
    visitors.claim(run.path / "resume" / "owner", theirs)
    (data / "target" / DATASET_OWNER).unlink()
    visitors.claim(data / "target" / DATASET_OWNER, theirs)
    with pytest.raises(UserError, match="There is no dataset named 'target'"):
        requested_config(app, ask(mine, target="target"))


def test_a_second_stream_needs_twice_the_memory() -> None:
    plain, other = (TrainConfig("source", target="target", objective=objective) for objective in ("adabn", "coral"))
    assert batch_bytes(MODEL, other) == 2 * batch_bytes(MODEL, plain)


def test_the_result_and_the_charts_have_the_targets_accuracy_and_the_map_both_domains(tmp_path: Path) -> None:
    app = context(tmp_path)
    run = trained(app)
    metrics = run.metrics()
    html = result_html([(run, Status("finished"), metrics)])
    assert "Target target: <b>" in html
    assert "of 12 images; its labels served for this test alone" in html
    names = [trace["name"] for trace in accuracy_chart({"run": metrics})["data"]]
    assert names[:4] == ["run", "run, training", "run, target", "run, domain-accuracy"]
    with open(figure_of(app, "accuracy", run.name, [], None).table_file(), encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    assert columns == ["run", "epoch", "train_accuracy", "target_accuracy", "validation_accuracy"]
    assert len(rows) == 2

    found = domain_map(run)
    assert found.before is not None
    assert found.source_classes == found.target_classes == CLASSES * 6
    export = domains_of(app, run.name)
    assert len(export.charts) == 2
    with open(export.table_file(), encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + 2 * 24
    assert "domain_map" in export.code()
    assert Path(export.figure_file("png")).stat().st_size > 1_000


def test_the_plane_is_scikit_learns_first_two_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(context(tmp_path))
    plane = domain_map(run).after
    model, sets = run.load_model(), []
    for name in ("source", "target"):
        training = TrainConfig("-", target=name)
        tested = map_module.Target(training, 8).test(CLASSES)
        assert tested is not None
        images = next(map_module.evaluation_batches(tested[0], run.config.model))[0]
        with torch.inference_mode():
            sets.append(model.forward_head(model.forward_features(images), pre_logits=True).numpy())
    reference = PCA(2, svd_solver="full").fit(np.concatenate(sets))
    expected = reference.transform(np.concatenate(sets))
    ours = torch.cat([plane.source, plane.target]).numpy()
    assert np.allclose(np.abs(ours), np.abs(expected), atol=1e-3 * np.abs(expected).max())
    assert np.allclose(plane.shares, reference.explained_variance_ratio_, atol=1e-3)


def test_a_run_without_a_target_or_its_first_weights_has_no_map_or_half_of_one(tmp_path: Path) -> None:
    app = context(tmp_path)
    plain = Run.create(tmp_path / "checkpoints" / "plain", RunConfig(MODEL, TrainConfig("source")))
    with pytest.raises(UserError, match="plain has no target dataset"):
        domain_map(plain)
    young = create_run(app, ask(target="target"))
    with pytest.raises(UserError, match="has no weights yet"):
        domain_map(young)
    run = trained(app)
    started = Run.create(
        tmp_path / "checkpoints" / "started",
        RunConfig(MODEL, TrainConfig("source", start=run.name, target="target")),
        start=run,
    )
    started.save_weights(run.load_weights())
    (started.path / START_WEIGHTS).unlink()
    assert domain_map(started).before is None
    shutil.rmtree(started.path)


def test_the_domains_differ_in_shape_and_not_in_colour_alone() -> None:
    points = [[0.0, 1.0], [1.0, 0.0]]
    drawn = domains_chart("t", ("a", points, ["x", "y"]), ("b", points, ["x", ""]), (0.5, 0.25))
    symbols, colours = ({trace["marker"][key] for trace in drawn["data"]} for key in ("symbol", "color"))
    assert len(symbols) == len(colours) == 2
    assert drawn["layout"]["xaxis"]["title"]["text"] == "component 1: 50% of the variance"


def test_what_a_run_learned_from_a_target_can_go_on_only_for_who_may_use_it(tmp_path: Path, data: Path) -> None:
    app = context(tmp_path)
    run = create_run(app, ask(target="target"))
    metric: Metric = {"event": "end", "status": "failed", "reason": "-", "cause": "loss"}
    run.append_metric(metric)
    shutil.rmtree(data / "target")
    with pytest.raises(UserError, match="There is no dataset named 'target'"):
        go_on(app, run.name, None, 0)
