import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from resnet_space.config import ModelConfig
from resnet_space.data.batches import centre_crop, normalise
from resnet_space.data.splits import ImageSet
from resnet_space.explain.ood import recorded_means
from resnet_space.models import Backbone
from resnet_space.runs import PHOTO_BACKBONE, Run
from resnet_space.training import extraction as extraction_module
from resnet_space.training.extraction import Extracted, Extractor
from resnet_space.training.feature_store import FeatureStore
from tests.networks import alive

SHIPPED = Run.open(Path(__file__).parents[2] / "checkpoints" / PHOTO_BACKBONE)
CONFIGS = [
    ModelConfig("resnet20", ("a", "b"), options={"cbam": "stage"}, image_size=16),
    replace(SHIPPED.config.model, image_size=64, resize=72),
]


def pictures(count: int, config: ModelConfig, seed: int = 0) -> Tensor:
    size = config.stored_size
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def network(config: ModelConfig) -> Backbone:
    """One that looks trained; the large one is, as random weights blow up what is rounded."""
    return SHIPPED.load_model() if config is CONFIGS[1] else alive(config.build(seed=0))


def by_hand(model: Backbone, config: ModelConfig, pixels: Tensor) -> Extracted:
    images = normalise(centre_crop(pixels, config.image_size), config)
    with torch.inference_mode(), recorded_means(model) as means:
        features = model.forward_head(model.forward_features(images), pre_logits=True)
    return Extracted(features, means[0])


class Counting(FeatureStore):
    """Counts the pictures whose features are computed."""

    computed = 0

    def put(self, extractor: bytes, features: Mapping[bytes, Any]) -> None:
        self.computed += len(features)
        super().put(extractor, features)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
@pytest.mark.parametrize("worth", [0, 10**9], ids=["a choice", "no choice"])
def test_features_and_means_are_those_of_a_plain_forward_pass_by_every_route(
    config: ModelConfig, worth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction_module, "WORTH_A_CHOICE", worth)
    model, pixels = network(config), pictures(9, config)
    expected = by_hand(model, config, pixels)
    told: list[tuple[int, int]] = []
    data = ImageSet(pixels, torch.zeros(9, dtype=torch.int64), config.classes)
    found = Extractor(model, config, FeatureStore(tmp_path)).of(data, lambda *done: told.append(done))
    for ours, theirs in ((found.features, expected.features), (found.means, expected.means)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())
    assert told[0] == (0, 9)
    assert told[-1] == (9, 9)
    assert not any(module.training for module in model.modules())  # as an exporter might leave it
    assert by_hand(model, config, pixels).features.equal(expected.features)  # nor has it changed
    choices = list(tmp_path.glob("*.json"))
    assert len(choices) == (worth == 0)
    for choice in choices:
        known = json.loads(choice.read_text())
        assert known["agree"]
        assert set(known["images_per_second"]) == {"pytorch", "onnxruntime"}
        fastest = max(known["images_per_second"], key=known["images_per_second"].get)
        assert known["route"] == fastest


def test_a_picture_that_is_known_is_not_computed_again_whatever_the_head(tmp_path: Path) -> None:
    config, store = CONFIGS[0], Counting(tmp_path)
    model = network(config)
    first = Extractor(model, config, store)(pictures(10, config))
    assert store.computed == 10
    with torch.no_grad():
        model.get_classifier().weight.mul_(2)
    again = Extractor(model, config, store)(torch.cat([pictures(10, config).flip(0), pictures(3, config, seed=1)]))
    assert store.computed == 13
    assert again.features[:10].flip(0).equal(first.features)


@pytest.mark.parametrize("change", ["weights", "statistics", "size", "mean"])
def test_whatever_else_changes_the_features_are_computed_anew(change: str, tmp_path: Path) -> None:
    config, model = CONFIGS[0], network(CONFIGS[0])
    before = Extractor(model, config).key
    with torch.no_grad():
        if change == "weights":
            model.get_parameter("layer1.0.conv1.weight")[0, 0, 0, 0] += 1e-3
        elif change == "statistics":
            model.get_buffer("bn1.running_mean")[0] += 1e-3
    options = {"size": {"image_size": 24}, "mean": {"mean": (0.5, 0.5, 0.5)}}.get(change, {})
    changed = ModelConfig("resnet20", ("a", "b"), options={"cbam": "stage"}, **({"image_size": 16} | options))
    assert Extractor(model, changed).key != before
    assert Extractor(network(config), config).key == before


def test_a_route_whose_numbers_differ_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction_module, "WORTH_A_CHOICE", 0)
    monkeypatch.setattr(extraction_module, "AGREEMENT", 0.0)
    config = CONFIGS[0]
    model, pixels = network(config), pictures(4, config)
    found = Extractor(model, config, FeatureStore(tmp_path))(pixels)
    torch.testing.assert_close(found.features, by_hand(model, config, pixels).features)
    (choice,) = tmp_path.glob("*.json")
    assert json.loads(choice.read_text()) | {"images_per_second": None} == {
        "route": "pytorch",
        "cores": torch.get_num_threads(),
        "agree": False,
        "images_per_second": None,
    }


def test_a_network_that_cannot_be_exported_runs_in_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(extraction_module, "WORTH_A_CHOICE", 0)
    monkeypatch.setattr(torch.onnx, "export", refuse)
    config = CONFIGS[0]
    model, pixels = network(config), pictures(4, config)
    found = Extractor(model, config, FeatureStore(tmp_path))(pixels)
    torch.testing.assert_close(found.features, by_hand(model, config, pixels).features)
    assert "resnet20 runs in PyTorch: RuntimeError: no such operator" in capsys.readouterr().out


def test_where_nothing_may_be_exported_a_route_is_taken_that_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction_module, "WORTH_A_CHOICE", 0)
    config, pixels = CONFIGS[0], pictures(4, CONFIGS[0])
    Extractor(network(config), config, FeatureStore(tmp_path), exports=False)(pixels)
    assert list(tmp_path.glob("*.onnx")) == list(tmp_path.glob("*.json")) == []
    Extractor(network(config), config, FeatureStore(tmp_path))(pictures(3, config, seed=1))
    (choice,) = tmp_path.glob("*.json")
    choice.write_text(json.dumps(json.loads(choice.read_text()) | {"route": "onnxruntime"}))
    later = Extractor(network(config), config, FeatureStore(tmp_path), exports=False)
    later(pictures(2, config, seed=2))
    assert isinstance(later._route, extraction_module._OnnxRuntime)


def test_only_the_newest_exported_networks_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction_module, "WORTH_A_CHOICE", 0)
    monkeypatch.setattr(extraction_module, "MOST_ROUTES", 2)
    for size in (8, 16, 24):
        config = ModelConfig("resnet20", ("a", "b"), image_size=size)
        Extractor(network(config), config, FeatureStore(tmp_path))(pictures(2, config))
    assert len(list(tmp_path.glob("*.onnx"))) == len(list(tmp_path.glob("*.json"))) == 2
