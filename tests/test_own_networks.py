"""Networks from outside the package go all the way: training by every strategy, resuming, calibration, prediction with
maps and their tests, Explore, ONNX, the Hub, and the page's lists.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import STRATEGIES, ModelConfig, RunConfig
from resnet_space.data.splits import ImageSet, Splits
from resnet_space.hub import pull_run, push_run
from resnet_space.hub.export import write_onnx
from resnet_space.inference import Classifier
from resnet_space.models import list_models
from resnet_space.models.registry import HEAD
from resnet_space.residuals import NoResidualBlocksError, early_readings, last, lesioned, measure, single_drops, swaps
from resnet_space.runs import STATE, WEIGHTS, Run
from resnet_space.serve.context import AppContext
from resnet_space.training import state as training_module
from resnet_space.training.strategies import plan, recipe
from resnet_space.ui.explore.networks import Network, load_network, network_choices
from tests import own_networks
from tests.hub_stub import HubStub, isolate_client, without_waiting
from tests.own_networks import SIZE
from tests.trainings import train_to_the_end, without_times

CPU = torch.device("cpu")
CLASSES = ("dark", "bright")


@pytest.fixture(scope="module", autouse=True)
def own() -> Iterator[None]:
    with own_networks.registered():
        yield


@pytest.fixture(scope="module", params=[entry.name for entry in own_networks.OWN])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def images(count: int, seed: int) -> ImageSet:
    """Noise, dark or bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    noise = torch.randint(100, (count, SIZE, SIZE, 3), generator=generator)
    return ImageSet((noise + 100 * labels[:, None, None, None]).to(torch.uint8), labels, CLASSES)


SPLITS = Splits(images(48, 0), images(40, 1), images(20, 2), "test")


def config(name: str, strategy: str = "scratch", cbam: str | None = None, **settings: Any) -> RunConfig:
    own = {"epochs": 3, "batch_size": 16, "crop_padding": 0, "start": None if strategy == "scratch" else "start"}
    options = {"cbam": cbam} if cbam else {}
    return RunConfig(ModelConfig(name, CLASSES, options, image_size=SIZE), recipe(strategy, "-", **(own | settings)))


def trained(path: Path, config: RunConfig, start: Run | None = None, interval: int | None = None) -> Run:
    """A run after its training, interrupted after every so many metrics."""
    run = Run.create(path, config, start=start)
    return train_to_the_end(run, SPLITS, interval)


@pytest.fixture(scope="module")
def start(name: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = {"epochs": 12, "optimizer": "adamw", "backbone_lr": 0.01, "head_lr": 0.01}
    return trained(tmp_path_factory.mktemp("runs") / "start", config(name, **settings))


def test_it_learns_and_is_calibrated(start: Run) -> None:
    events = {metric["event"]: metric for metric in start.metrics()}
    assert events["test"]["accuracy"] > 0.9
    assert events["calibration"]["temperature"] == Run.open(start.path).config.model.temperature
    assert events["sanity"]["parts"][0] == HEAD


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in ("scratch", "attention")])
def test_every_strategy_trains_exactly_what_it_says(strategy: str, name: str, start: Run, tmp_path: Path) -> None:
    asked = config(name, strategy)
    run = trained(tmp_path / "run", asked, start)
    state = torch.load(run.path / STATE, weights_only=True)["model"]
    before = start.load_weights()
    phases = plan(asked.training, asked.model)
    ever = {part for phase in phases for part in phase.rates}
    for part in asked.model.build().parts():
        trains = part.name in ever or part.stage in ever
        same = all(torch.equal(state[parameter], before[parameter]) for parameter in part.parameters)
        assert same is not trains, part.name


@pytest.mark.parametrize("place", ["stage", "last"])
def test_its_attention_trains_with_the_head_alone_and_tells_where_it_looks(
    place: str, name: str, start: Run, tmp_path: Path
) -> None:
    if name == "own-mixer":
        with pytest.raises(UserError, match="own-mixer does not support CBAM"):
            config(name, "attention", place)
        with pytest.raises(UserError, match="trains CBAM, which this model lacks"):
            plan(config(name, "attention").training, config(name, "attention").model)
        return
    run = trained(tmp_path / "run", config(name, "attention", place, head_lr=0.1), start)
    before, after = start.load_weights(), run.load_weights()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"head.weight", "head.bias"}
    new = set(after) - set(before)
    gates = {key.split(".")[0] for key in new}
    assert gates == ({"cbam1", "cbam2"} if place == "stage" else {"cbam2"})
    assert all(after[key].any() for key in new)  # the last layers have left their zeros
    events = [(metric["event"], metric.get("method")) for metric in run.metrics()]
    assert ("sanity", "gates") in events
    prediction = Classifier(run).predict(Image.new("RGB", (SIZE, SIZE), (180, 180, 180)), features=True)
    assert set(prediction.attention.spatial) == gates
    if place == "stage":  # of which the other is a part
        assert write_onnx(run, tmp_path / "model.onnx") < 1e-3


def test_cached_features_and_interruptions_change_no_bit(
    name: str, start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(name, "freeze-unfreeze", flip=False, ema=0.9, epochs=4)
    ours = trained(tmp_path / "ours", asked, start)
    interrupted = trained(tmp_path / "interrupted", asked, start, interval=3)
    monkeypatch.setattr(training_module, "frozen_segments", lambda model: 0)
    theirs = trained(tmp_path / "theirs", asked, start)
    for other in (interrupted, theirs):
        assert without_times(ours.metrics()) == without_times(other.metrics())
        assert (ours.path / WEIGHTS).read_bytes() == (other.path / WEIGHTS).read_bytes()


def test_it_predicts_with_class_maps_their_tests_and_an_out_of_distribution_score(start: Run) -> None:
    classifier = Classifier(start)
    bright = Image.fromarray(np.full((SIZE, SIZE, 3), 180, dtype=np.uint8))
    prediction = classifier.predict(bright, features=True)
    assert prediction.classes[0] == "bright"
    for method in ("grad-cam", "ablation-cam"):
        maps = classifier.class_maps(prediction, [0, 1], method)
        assert maps.stage == list(classifier.model.stages())[-1]
        assert maps.maps.shape == (2, SIZE, SIZE)
        assert np.isfinite(maps.maps).all()
    found = classifier.evidence(bright, 1, {"grad-cam": maps.raw[1]})
    assert set(found) == {"grad-cam"}
    strange = Image.fromarray(np.random.default_rng(0).integers(0, 2, (SIZE, SIZE, 3), dtype=np.uint8) * 255)
    unusual, usual = (classifier.predict(image).ood_score for image in (strange, bright))
    assert unusual is not None
    assert usual is not None
    assert unusual > usual


def test_it_is_explored_or_says_why_not(start: Run) -> None:
    model = start.load_model()
    batches = [(torch.randn(4, 3, SIZE, SIZE), torch.tensor([0, 1, 0, 1]))]
    if start.config.model.architecture == "own-mixer":
        with pytest.raises(NoResidualBlocksError, match="This MlpMixer has no residual blocks"):
            last(measure(model, [batches[0][0]]))
        return
    found = last(measure(model, [batches[0][0]]))
    assert found.norms.blocks == ["blocks.0", "blocks.1"]
    x = model.stem(batches[0][0])
    expected = model.blocks[0].branch(x).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.norms.residual[0], expected.detach(), rtol=1e-4, atol=1e-5)
    dropped = last(lesioned(model, batches, single_drops(model) + swaps(model)))
    assert [lesion.blocks for lesion in dropped.lesions] == [("blocks.0",), ("blocks.1",), ("blocks.0", "blocks.1")]
    with torch.inference_mode():
        without = model.forward_head(model.blocks[1](model.stem(batches[0][0]))).argmax(1)
    assert dropped.accuracy[0] == (without == batches[0][1]).double().mean()
    assert last(early_readings(model, batches)).blocks == ["blocks.0", "blocks.1"]


def test_its_onnx_file_gives_the_same_logits(start: Run, tmp_path: Path) -> None:
    assert write_onnx(start, tmp_path / "model.onnx") < 1e-3


def test_it_is_pushed_and_pulled(start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_client(monkeypatch, tmp_path)
    without_waiting(monkeypatch)
    token = "hf_annswritetoken"
    with HubStub() as stub:
        stub.add_user(token, "ann")
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        push_run(start, "ann/own", token=token)
        pulled = pull_run("ann/own", token=token, root=tmp_path / "checkpoints")
    assert pulled.config.model == start.config.model
    ours, theirs = start.load_weights(), pulled.load_weights()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_pages_lists_have_it(start: Run, name: str) -> None:
    assert name in list_models()
    context = AppContext(start.path.parent)
    assert "start" in context.trained_names()
    chosen = next(identifier for _, identifier in network_choices() if name in identifier)
    assert load_network(context, Network.parse(chosen)).config.architecture == name
