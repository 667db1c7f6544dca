"""Networks for photographs made to fit images of 32 pixels, and what becomes of weights that were trained without."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from resnet_space.config import ModelConfig, RunConfig
from resnet_space.models import Backbone, create_model
from resnet_space.models.registry import entries
from resnet_space.models.unfilled import Unfilled
from resnet_space.runs import Run
from resnet_space.training.state import initial_model
from resnet_space.training.strategies import plan, recipe

CLASSES = ("a", "b", "c")
SUITED = {name: entry for name, entry in entries().items() if entry.small_images and entry.pixels > 32}


def fitted(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], Backbone]:
    """(random weights of the network for photographs, what they become for small images, the network for these)."""
    torch.manual_seed(0)
    large, small = create_model(name, 3), create_model(name, 3, **SUITED[name].small_images)
    return large.state_dict(), small.fit_weights(large.state_dict()), small


@pytest.mark.parametrize(
    ("name", "first", "margin"), [("alexnet", "features.0.weight", 4), ("resnet18", "conv1.weight", 2)]
)
def test_the_first_kernel_is_cut_to_the_3x3_in_its_centre(name: str, first: str, margin: int) -> None:
    before, after, small = fitted(name)
    small.load_state_dict(after, strict=True)
    assert torch.equal(after[first], before[first][:, :, margin:-margin, margin:-margin])
    assert after[first].shape[2:] == (3, 3)
    assert all(torch.equal(after[key], before[key]) for key in set(before) - {first})
    assert small.get_submodule(first.removesuffix(".weight")).stride == (1, 1)


def test_a_vits_patches_and_positions_are_resampled_as_timm_does() -> None:
    before, after, small = fitted("vit_tiny_patch16_224")
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, patch_size=4)
    expected = checkpoint_filter_fn(dict(before), theirs, interpolation="bicubic", antialias=True)
    small.load_state_dict(after, strict=True)
    assert after["patch_embed.proj.weight"].shape == (192, 3, 4, 4)
    assert after["pos_embed"].shape == (1, 1 + 64, 192)
    assert set(after) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(after[key], value, rtol=1e-5, atol=1e-6)


def test_vgg_loses_its_hidden_layers_and_its_last_stage_is_what_follows_the_first_ten_convolutions() -> None:
    with torch.device("meta"), Unfilled():
        large, small = create_model("vgg16", 3), create_model("vgg16", 3, hidden=False)
    after = small.fit_weights({key: value for key, value in large.state_dict().items() if not key.startswith("head")})
    assert set(after) == {key for key in small.state_dict() if not key.startswith("head")}
    model = ModelConfig("vgg16", CLASSES, SUITED["vgg16"].small_images)
    (phase,) = plan(recipe(SUITED["vgg16"].small_strategy, "-"), model)
    trained = [name for part in small.parts() if part.stage in phase.rates for name in part.parameters]
    frozen = [name for name, _ in small.named_parameters() if name not in trained and name.endswith("weight")]
    assert len(frozen) == 10
    layers = ("features.24", "features.26", "features.28", "head.fc")
    assert trained == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def test_a_mobilenets_stem_keeps_every_pixel() -> None:
    weights, after, small = fitted("mobilenetv3_small_100")
    assert all(torch.equal(after[key], value) for key, value in weights.items())
    with torch.inference_mode():
        assert small.eval().conv_stem(torch.randn(1, 3, 32, 32)).shape[2:] == (32, 32)


@pytest.mark.parametrize("name", SUITED)
def test_it_then_is_for_32_pixels_and_leaves_more_than_one_position_of_them(name: str) -> None:
    config = ModelConfig(name, CLASSES, SUITED[name].small_images)
    assert config.input_size == 32
    assert ModelConfig(name, CLASSES).input_size == SUITED[name].pixels
    with torch.device("meta"), Unfilled():
        last = config.build().forward_features(torch.empty(2, 3, 32, 32))
        # VGG's five poolings leave one position, as its authors' of 224 pixels leave 7 x 7.
        assert last.shape[1 if last.ndim == 3 else -1] > 1 or name == "vgg16"


def test_a_training_starts_from_the_weights_that_were_fitted(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    torch.manual_seed(0)
    start = Run.create(tmp_path / "start", RunConfig(ModelConfig(name, ("x", "y"), image_size=224)))
    start.save_weights(start.config.model.build().state_dict())
    own: dict[str, Any] = dict(SUITED[name].small_images)
    config = RunConfig(ModelConfig(name, CLASSES, own), recipe("full", "cifar10-mini", start="start"))
    model, _ = initial_model(Run.create(tmp_path / "run", config, start=start))
    expected = model.fit_weights(start.load_weights())
    for key, value in model.state_dict().items():
        if not key.startswith("head."):
            assert torch.equal(value, expected[key]), key
