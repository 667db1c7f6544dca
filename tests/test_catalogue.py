"""Every network of the catalogue with random weights, from its run to what the tabs and the Hub do with it.

That its parts, segments and stages are what the contract says is tested in models/test_contract.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.hub.export import write_onnx
from resnet_space.hub.pretrained import PRETRAINED, TORCHVISION, pretrained_model
from resnet_space.inference import Classifier
from resnet_space.models import Backbone, create_model
from resnet_space.models.additions import NoResidualBlocksError
from resnet_space.models.catalogue import vits
from resnet_space.models.registry import HEAD, Entry, Pretrained, entries
from resnet_space.models.unfilled import Unfilled
from resnet_space.runs import Run
from resnet_space.training.features import CutModel, frozen_segments
from resnet_space.training.optim import freeze_all_but, parameter_groups, set_training_mode, trained_at
from resnet_space.training.strategies import STRATEGIES, plan, recipe
from tests.networks import alive

CLASSES = ("a", "b", "c")
PLAIN = ("lenet", "alexnet", "vgg", "googlenet", "inception", "densenet")  # families without residual additions
# Two that are small, one of maps and one of tokens; the others with -m long.
QUICK = {"lenet5", "vit_tiny_patch4_32"}
NETWORKS = list(entries())
# Those without a network of the same weights elsewhere.
ALONE = {*(name for name in NETWORKS if name.startswith("resnet") and entries()[name].pixels == 32), "lenet5"}
# With norm layers that have random scales, these amplify the rounding of an image by 1,000 and more.
UNSTABLE = {"resnet152", "efficientnet_b4", "tf_efficientnet_b6", "tf_efficientnet_b7"}


def _size(entry: Entry) -> int:
    """Pixels of a test's images: few, as a forward pass takes its time."""
    size = entry.pixels if entry.fixed else max(entry.least, min(entry.pixels, 96))
    return size - size % entry.least if entry.family == "vit" else size  # whole patches


def config_of(name: str, **training: Any) -> RunConfig:
    model = ModelConfig(name, CLASSES, image_size=_size(entries()[name]))
    return RunConfig(model, recipe("scratch", "cifar10-mini", **training))


def marked(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.long]) for name in names]


def made_run(path: Path, name: str) -> Run:
    """With weights that look trained, but for networks that are not stable then."""
    config = config_of(name)
    made = Run.create(path, config)
    model = config.model.build(seed=0)
    if name not in UNSTABLE:
        alive(model, config.model.image_size)
    made.save_weights(model.eval().state_dict())
    return made


@pytest.fixture(scope="module", params=marked(NETWORKS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of each network."""
    made = made_run(tmp_path_factory.mktemp("runs") / "run", request.param)
    yield made
    made.path.joinpath("model.safetensors").unlink()  # of up to half a gigabyte


def images(run: Run, count: int = 2) -> Tensor:
    size = run.config.model.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_it_predicts_with_a_class_map_of_its_last_stage(run: Run) -> None:
    classifier = Classifier(run)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    prediction = classifier.predict(Image.fromarray(noise), features=True)
    assert sorted(prediction.classes) == sorted(CLASSES)
    maps = classifier.class_maps(prediction, [0])
    assert maps.maps.shape == (1, run.config.model.image_size, run.config.model.image_size)
    assert np.isfinite(maps.maps).all()


def test_it_tells_what_it_adds_or_that_it_adds_nothing(run: Run) -> None:
    model = run.load_model()
    if run.config.model.entry.family in PLAIN:
        with pytest.raises(NoResidualBlocksError, match=r"^This \w+ has no residual blocks of a supported type\.$"):
            model.additions()
        return
    modules = dict(model.named_modules())
    assert model.additions()
    for addition in model.additions():
        assert {addition.block, addition.sees_x, addition.gives_residual} <= set(modules)


def test_its_onnx_file_gives_its_logits(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if run.config.model.entry.family == "vit":  # whose blocks are alike: one of each stage, as tracing takes long
        monkeypatch.setattr(vits, "DEPTH", vits.STAGES)
        run = made_run(tmp_path / "run", run.config.model.architecture)
    assert write_onnx(run, tmp_path / "model.onnx") < 1e-3


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "attention"])
def test_a_step_changes_what_the_strategy_says_and_nothing_else(run: Run, strategy: str) -> None:
    model, training = run.load_model(), recipe(strategy, "-", epochs=10)
    for phase in plan(training, run.config.model):
        freeze_all_but(model, phase.rates)
        set_training_mode(model)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = torch.optim.SGD(parameter_groups(model, phase, 0.1), lr=0.1)
        model(images(run)).logsumexp(1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        learned = set(trained_at(model, phase.rates))
        assert {f"{run.config.model.entry.head}.weight"} <= changed
        assert changed & set(dict(model.named_parameters())) <= learned
        # What is no parameter is a norm layer's statistics, and moves with the layer's own weights.
        layers = {name.rpartition(".")[0] for name in learned}
        assert {name.rpartition(".")[0] for name in changed} <= layers


@pytest.mark.parametrize("trained", ["the head", "the last stage"])
def test_features_that_are_computed_once_give_the_logits_of_the_forward_pass(run: Run, trained: str) -> None:
    model = run.load_model()
    freeze_all_but(model, [HEAD] if trained == "the head" else [HEAD, list(run.config.model.entry.stages())[-1]])
    cut = CutModel(model, frozen_segments(model))
    batch = images(run)
    with torch.no_grad():
        assert torch.equal(cut(cut.features(batch)), model(batch))
    assert cut.frozen > 0 or trained != "the head"


# Beside their source


def theirs_of(name: str) -> nn.Module:
    """The same network as its source builds it, with random weights."""
    if name in ("alexnet", "googlenet"):
        own = {"init_weights": True, "aux_logits": True} if name == "googlenet" else {}
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=3, **own)
        return model
    if name.startswith("moco"):
        size = {"small": {"embed_dim": 384, "num_heads": 12}, "base": {}}[name.rpartition("_")[2]]
        return timm.create_model("vit_base_patch16_224", num_classes=3, dynamic_img_size=True, **size)
    if name == "vit_tiny_patch4_32":
        return timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, patch_size=4)
    own = {"dynamic_img_size": True} if re.match("vit|deit|swin", name) else {}
    return timm.create_model(name, num_classes=3, **own)


@pytest.mark.parametrize("name", marked([name for name in NETWORKS if name not in ALONE]))
def test_its_source_computes_the_same_logits_from_the_same_weights(name: str) -> None:
    torch.manual_seed(0)
    size = _size(entries()[name])
    theirs = alive(theirs_of(name), size) if name != "googlenet" else theirs_of(name).eval()
    ours = create_model(name, 3).eval()
    weights = {key: value for key, value in theirs.state_dict().items() if not key.startswith("aux")}
    ours.load_state_dict(weights, strict=True)
    batch = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = theirs(batch)
        assert expected.std() > 0
        torch.testing.assert_close(ours(batch), expected, rtol=1e-5, atol=1e-5)


def test_lenet_is_the_papers_layers_one_after_the_other() -> None:
    torch.manual_seed(0)
    ours = create_model("lenet5", 10).eval()
    assert isinstance(ours, Backbone)
    theirs = nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    batch = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(batch), theirs(batch))


# What the entries say


@pytest.mark.parametrize("name", [name for name, entry in entries().items() if entry.least > 8])
def test_an_entry_names_the_smallest_images_that_its_network_computes(name: str) -> None:
    entry = entries()[name]
    with torch.device("meta"), Unfilled():
        model = create_model(name, 2).eval()

    def passes(size: int) -> bool:
        try:
            with torch.no_grad():
                model(torch.empty(1, 3, size, size, device="meta"))
        except (RuntimeError, AssertionError):
            return False
        return True

    assert passes(entry.least)
    assert not passes(entry.least - 1)
    assert config_of(name).model.image_size >= entry.least
    words = f"{entry.title} needs images of at least {entry.least} pixels, not {entry.least - 1}"
    with pytest.raises(UserError, match=re.escape(words)):
        RunConfig(ModelConfig(name, CLASSES, image_size=entry.least - 1))


@pytest.mark.parametrize("size", [192, 256])
def test_beit_says_that_it_takes_images_of_one_size_only(size: int) -> None:
    with pytest.raises(UserError, match=rf"^BEiT-Base only takes images of 224 pixels, not {size}: choose 224\.$"):
        RunConfig(ModelConfig("beit_base_patch16_224", CLASSES, image_size=size))


@pytest.mark.parametrize("known", PRETRAINED, ids=lambda known: known.name)
def test_the_weights_that_it_names_are_of_its_shapes(known: Pretrained) -> None:
    """As timm or torchvision builds the network for these weights; what is on the Hub cannot be seen from here."""
    model = pretrained_model(known.name)
    head = f"{model.entry.head}."
    with torch.device("meta"), Unfilled():
        ours = model.build().state_dict()
        if known.repo_id.startswith("timm/"):
            theirs = timm.create_model(known.name, pretrained=False).state_dict()
        elif known.repo_id.startswith(TORCHVISION):
            own = {"init_weights": True} if model.architecture == "googlenet" else {}
            with_aux = torchvision.models.get_model(model.architecture, weights=None, **own).state_dict()
            theirs = {name: value for name, value in with_aux.items() if not name.startswith("aux")}
        else:
            theirs = theirs_of(model.architecture).state_dict()  # MoCo v3's authors build timm's
    expected = {name: value.shape for name, value in ours.items() if known.head or not name.startswith(head)}
    found = {name: value.shape for name, value in theirs.items() if known.head or not name.startswith(head)}
    assert found == expected
