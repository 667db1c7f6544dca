"""What every network of the registry promises (models/contract.py), and its entry says of it."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_space.config import ModelConfig
from resnet_space.models import Backbone, create_model, list_models, register
from resnet_space.models.contract import run_all
from resnet_space.models.hooks import hooked
from resnet_space.models.registry import HEAD, STEM, entries
from resnet_space.models.unfilled import Unfilled
from resnet_space.training.features import CutModel
from resnet_space.training.optim import freeze_all_but, parameter_groups, set_training_mode
from resnet_space.training.strategies import Phase
from tests import own_networks
from tests.networks import alive

OWN = [entry.name for entry in own_networks.OWN]
# Of the networks that are alike, one; the others, and those that take their time, with -m long.
QUICK = {"resnet18", "resnet20", "resnet50", "tf_efficientnet_lite0", "mobilenetv3_small_100", "densenet121"}
QUICK |= {"vit_tiny_patch4_32", "deit_tiny_patch16_224", "lenet5", "googlenet"}
NETWORKS = list_models()
TOKENS = ("own-mixer", *(name for name in NETWORKS if not entries()[name].maps))  # their stages give no maps
LARGE = 96  # pixels: enough for every network, and quick


@pytest.fixture(scope="module", autouse=True)
def own() -> Iterator[None]:
    with own_networks.registered():
        yield


def _case(name: str, **options: str) -> Any:
    marks = [] if name in QUICK or name in OWN else [pytest.mark.long]
    return pytest.param((name, options), id="-".join((name, *options.values())), marks=marks)


@pytest.fixture(
    scope="module",
    params=[_case(name) for name in (*NETWORKS, *OWN)]
    + [_case(name, cbam="stage") for name in (*NETWORKS, *OWN) if name not in TOKENS]
    + [_case(name, cbam="last") for name in ("tf_efficientnet_lite0", "own-residual")],
)
def network(own: None, request: pytest.FixtureRequest) -> tuple[str, Backbone, Tensor]:
    """(name, a network that looks trained, two images); every network that takes CBAM with it and without."""
    name, options = request.param
    entry = entries()[name]
    torch.manual_seed(0)
    size = entry.pixels if entry.fixed else min(entry.input_size(ModelConfig(name, ("a", "b")).options), LARGE)
    images = torch.randn(2, 3, size, size)
    return name, alive(create_model(name, 7, **options), size), images


def test_the_head_reads_the_features(network: tuple[str, Backbone, Tensor]) -> None:
    _, model, images = network
    with torch.inference_mode():
        features = model.forward_features(images)
        logits = model(images)
        assert logits.shape == (2, 7)
        assert torch.equal(model.forward_head(features), logits)
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.ndim == 2
        assert torch.equal(model.get_classifier()(pooled), logits)
        for whole, seen in zip((logits, pooled), CutModel(model, 0).with_head_input(images), strict=True):
            assert torch.equal(seen, whole)
        assert model.to_map(features).ndim == 4


def test_the_segments_are_the_forward_pass_to_the_bit(network: tuple[str, Backbone, Tensor]) -> None:
    _, model, images = network
    segments = model.segments()
    with torch.inference_mode():
        assert torch.equal(run_all(segments)(images), model(images))
    owned = {id(p) for segment in segments for module in segment.modules for p in module.parameters()}
    assert owned == {id(p) for p in model.parameters()}


def test_every_parameter_is_in_one_part_and_the_parts_are_those_of_the_entry(
    network: tuple[str, Backbone, Tensor],
) -> None:
    name, model, _ = network
    parts = model.parts()
    named = [parameter for part in parts for parameter in part.parameters]
    assert sorted(named) == sorted(parameter for parameter, _ in model.named_parameters())
    assert len(named) == len(set(named))
    entry = entries()[name]
    assert [part.name for part in parts if not part.added] == [
        STEM,
        *(block for blocks in entry.stages().values() for block in blocks),
        HEAD,
    ]
    head = next(module for module, found in model.named_modules() if found is model.get_classifier())
    assert head == entry.head


@pytest.mark.parametrize("name", NETWORKS + OWN)
def test_the_entry_has_the_networks_size_and_its_multiply_adds_are_those_that_pytorch_counts(name: str) -> None:
    entry = entries()[name]
    with torch.device("meta"), Unfilled():
        model = create_model(name, 1000).eval()
    assert isinstance(model, Backbone)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tolerance = 0.05 if entry.source == "tests" else 0
    assert parameters == pytest.approx(entry.parameters, rel=tolerance)
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules())
    shortcuts = sum(".downsample." in n for n, module in model.named_modules() if isinstance(module, nn.Conv2d))
    assert entry.depth == layers - shortcuts
    if entry.source != "tests":
        size = entry.input_size(ModelConfig(name, ("a", "b")).options)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, size, size, device="meta"))
        assert counter.get_total_flops() == 2 * (entry.multiply_adds or 0)
        assert entry.megabytes == pytest.approx(sum(p.nbytes for p in model.parameters()) / 1e6)


def test_the_last_stage_gives_the_features_and_what_follows_it_the_logits(
    network: tuple[str, Backbone, Tensor],
) -> None:
    _, model, images = network
    seen: dict[str, Tensor] = {}
    stages = model.stages()
    see = [
        (module, lambda _module, _inputs, output, stage=stage: seen.__setitem__(stage, output.clone()))
        for stage, module in stages.items()
    ]
    with torch.inference_mode(), hooked(model, see):
        logits, features = model(images), model.forward_features(images)
        assert list(seen) == list(stages)
        last = list(stages)[-1]
        assert torch.equal(seen[last], features)
        for stage, output in seen.items():
            after = model.after(stage)
            assert after is not None or stage != last
            if after is not None:
                assert torch.equal(after(output), logits)
        assert set(model.observed()) >= {stages[last]}


def test_a_new_head_has_as_many_classes_as_asked_for(network: tuple[str, Backbone, Tensor]) -> None:
    _, model, images = network
    other = copy.deepcopy(model)
    other.reset_classifier(3)
    with torch.inference_mode():
        assert other(images).shape == (2, 3)
        assert model(images).shape == (2, 7)


def test_norm_layers_and_biases_have_no_weight_decay(network: tuple[str, Backbone, Tensor]) -> None:
    _, model, _ = network
    freeze_all_but(model, [HEAD])
    groups = parameter_groups(model, Phase(1, {HEAD: 0.1}), 0.01)
    assert [(g["weight_decay"], [p.ndim for p in g["params"]]) for g in groups] == [(0.01, [2]), (0.0, [1])]
    excepted = model.no_weight_decay()
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm):
            assert {f"{name}.weight", f"{name}.bias"} <= excepted


def test_what_is_frozen_stays_as_it_is_in_training(network: tuple[str, Backbone, Tensor]) -> None:
    name, model, images = network
    ours = copy.deepcopy(model)
    last = list(entries()[name].stages())[-1]
    freeze_all_but(ours, [last, HEAD])
    set_training_mode(ours)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in ours.parameters() if p.requires_grad], lr=0.1)
    ours(images).logsumexp(1).sum().backward()
    optimizer.step()
    trained = {p for part in ours.parts() if part.stage in (last, HEAD) and not part.added for p in part.parameters}
    modules = {p.rpartition(".")[0] for p in trained}
    changed = {key for key, value in ours.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert {key.rpartition(".")[0] for key in changed} <= modules
    assert {key for key in changed if key in dict(ours.named_parameters())} <= trained


@pytest.mark.parametrize("size", [224, 160])
def test_timms_network_gives_timms_logits(size: int) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=5).eval()
    ours = create_model("tf_efficientnet_lite0", 5).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
    assert type(ours).__mro__[1:] != type(theirs).__mro__[1:]
    assert isinstance(ours, type(theirs))


def test_timms_parts_follow_its_own_groups() -> None:
    model = create_model("tf_efficientnet_lite0", 5)
    stage_of = {name: part.stage for part in model.parts() for name in part.parameters}
    assert stage_of["conv_stem.weight"] == STEM
    assert stage_of["blocks.0.0.conv_dw.weight"] == "stage1"
    assert stage_of["blocks.6.0.conv_pw.weight"] == "stage7"
    assert stage_of["conv_head.weight"] == "stage7"  # as timm's layer decay has it
    assert stage_of["classifier.bias"] == HEAD
    assert model.stages()["bn2"] == "bn2"  # what `forward_features` gives


def test_a_shape_is_that_of_a_real_forward_pass() -> None:
    config = ModelConfig("tf_efficientnet_lite0", ("a", "b"), image_size=160)
    model = config.build().eval()
    counts: list[int] = []
    channels: list[int] = []
    observed = model.observed()  # timm's networks find theirs by a forward pass
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _i, output: counts.append(output.numel()))
    for name in observed:
        model.get_submodule(name).register_forward_hook(lambda _m, _i, output: channels.append(output.shape[1]))
    with torch.inference_mode():
        features = model.forward_features(torch.randn(1, 3, 160, 160))
    assert config.shape.reduction == math.ceil(160 / features.shape[-1]) == 32
    assert sum(config.shape.numbers.values()) == sum(counts)
    assert list(config.shape.channels) == channels


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="A network named 'own-mixer' already exists"):
        register(own_networks.OwnEntry(**{**vars(own_networks.OWN[0]), "year": 1999}))
