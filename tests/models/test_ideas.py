"""What is told of each network: an idea for all, and errors that their sources have."""

import re

import pytest

from resnet_space.models.ideas import ADD, BLOCKS, GUIDE, IDEAS, JOIN, PUBLISHED, SPLIT, idea_of
from resnet_space.models.registry import entries

# Names of torchvision's networks by those of the registry.
TORCHVISION = {
    name: match[1]
    for name, published in PUBLISHED.items()
    if (match := re.fullmatch(r"torchvision's (\w+), IMAGENET1K_V1", published.source))
}


def test_every_network_of_the_registry_has_an_idea_in_three_sentences_and_a_block() -> None:
    for name in entries(trains=False):
        assert idea_of(name), f"{name} has no idea: write one in models/ideas.py"
    for idea in IDEAS.values():
        assert len(re.findall(r"\.(?: |$)", idea.words)) == 3, idea.title
        assert idea.block in BLOCKS


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("resnet18", "ResNet"),
        ("resnet110", "ResNet"),
        ("resnet152", "ResNet with bottlenecks"),
        ("tf_efficientnet_b7", "EfficientNet"),
        ("tf_efficientnet_lite0", "EfficientNet-Lite"),
        ("vit_small_patch16_224", "Vision Transformer (ViT)"),
        ("vit_small_patch16_224.dino", "DINO"),
        ("vit_small_patch14_dinov2.lvd142m", "DINOv2"),
        ("mobilenet_v3_large", "MobileNetV3"),
    ],
)
def test_the_longest_beginning_of_a_name_says_which_idea_it_has(name: str, title: str) -> None:
    idea = idea_of(name)
    assert idea is not None
    assert idea.title == title


def test_a_network_from_outside_has_no_idea() -> None:
    assert idea_of("somebody_elses") is None


def test_every_shortcut_of_a_drawing_ends() -> None:
    for name, steps in BLOCKS.items():
        open_ones = 0
        for step in steps:
            open_ones += (step == SPLIT) - (step in (ADD, JOIN))
            assert open_ones in (0, 1), name
        assert open_ones == 0, name


@pytest.mark.parametrize(("ours", "theirs"), TORCHVISION.items())
def test_errors_said_to_be_torchvisions_are_those_of_its_weights(ours: str, theirs: str) -> None:
    from torchvision.models import get_model_weights

    metrics = get_model_weights(theirs)["IMAGENET1K_V1"].meta["_metrics"]["ImageNet-1K"]
    assert PUBLISHED[ours].top5 == pytest.approx(1 - metrics["acc@5"] / 100)
    assert not PUBLISHED[ours].of_paper


def test_a_published_error_has_its_source_and_is_near_that_of_torchvisions_weights() -> None:
    from torchvision.models import get_model_weights

    for name, published in PUBLISHED.items():
        assert bool(published.source) == (published.top5 is not None), name
    for name in ("alexnet", "vgg16", "googlenet", "inception_v3", "densenet121", "resnet50", "resnet152"):
        metrics = get_model_weights(name)["IMAGENET1K_V1"].meta["_metrics"]["ImageNet-1K"]
        # Other crops and recipes move it by a point or two, a slip of the pen by more.
        assert PUBLISHED[name].top5 == pytest.approx(1 - metrics["acc@5"] / 100, abs=0.03), name


def test_the_guide_names_networks_of_the_registry_that_can_be_trained() -> None:
    assert {name for _, name, _ in GUIDE} <= set(entries())
    assert 6 <= len(GUIDE) <= 8
