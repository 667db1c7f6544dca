import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from resnet_space.explain.saliency import METHODS, ClassMaps, class_maps
from resnet_space.models import Backbone, ResNet, create_model
from tests.networks import alive

CLASSES = [4, 0, 2]


@pytest.fixture(scope="module", params=["stage", "block", None])
def model(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return alive(create_model("resnet20", 6, cbam=request.param))


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def output_of(model: ResNet, image: torch.Tensor, stage: str | None) -> torch.Tensor:
    """The stage's output, by a forward pass written here."""
    x = model.maxpool(model.relu(model.bn1(model.conv1(image))))
    for name in model.stage_names:
        x = getattr(model, name.replace("layer", "cbam"))(getattr(model, name)(x))
        if name == stage:
            break
    return x


def logits_after(model: ResNet, features: torch.Tensor, stage: str | None) -> torch.Tensor:
    later = model.stage_names[model.stage_names.index(stage) + 1 :] if stage else ()
    for name in later:
        features = getattr(model, name.replace("layer", "cbam"))(getattr(model, name)(features))
    return model.fc(features.mean((2, 3)))


@pytest.mark.parametrize("stage", [None, "layer2"])
def test_grad_cam_is_that_of_a_computation_by_hand(model: ResNet, image: torch.Tensor, stage: str | None) -> None:
    found = class_maps(model, image, CLASSES, "grad-cam", stage)
    features = output_of(model, image, stage).detach().requires_grad_()
    logits = logits_after(model, features, stage)
    assert (found.raw.max((1, 2)) > 0).any()
    for k, c in enumerate(CLASSES):
        (gradient,) = torch.autograd.grad(logits[0, c], features, retain_graph=True)
        weights = gradient[0].mean((1, 2))
        expected = (weights[:, None, None] * features[0]).sum(0).relu().detach()
        np.testing.assert_allclose(found.raw[k], expected.numpy(), rtol=1e-5, atol=1e-5)
        large = F.interpolate(expected[None, None], size=(32, 32), mode="bilinear")[0, 0]
        np.testing.assert_allclose(found.maps[k], large / large.max().clamp(min=1e-9), atol=1e-4)


def test_ablation_cam_is_that_of_taking_each_channel_away_by_hand(model: ResNet, image: torch.Tensor) -> None:
    found = class_maps(model, image, CLASSES, "ablation-cam")
    with torch.no_grad():
        features = output_of(model, image, None)
        whole = logits_after(model, features, None)[0]
        assert (whole[CLASSES] < 0).any()  # where the library's own turns the map around
        falls = torch.zeros(len(CLASSES), features.shape[1])
        for channel in range(features.shape[1]):
            without = features.clone()
            without[:, channel] = 0
            falls[:, channel] = (whole - logits_after(model, without, None)[0])[CLASSES]
        expected = torch.einsum("kc,chw->khw", falls, features[0]).relu()
    np.testing.assert_allclose(found.raw, expected.numpy(), rtol=1e-4, atol=1e-5 * expected.max().item())


def test_it_is_what_the_library_finds_in_the_whole_model(model: ResNet, image: torch.Tensor) -> None:
    ending = model.get_submodule(model.stage_names[-1].replace("layer", "cbam"))
    with GradCAM(model, [ending]) as library:
        expected = library(image, [ClassifierOutputTarget(2)])
    model.zero_grad()
    found = class_maps(model, image, [2]).maps[0]
    # The library takes the lowest value off, too.
    np.testing.assert_allclose((found - found.min()) / (1 - found.min()), expected[0], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_is(model: ResNet, image: torch.Tensor, method: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    class_maps(model, image, CLASSES, method, "layer2")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not model.training


def test_an_error_on_the_way_leaves_no_hooks(model: ResNet) -> None:
    with pytest.raises(RuntimeError):
        class_maps(model, torch.zeros(1, 5, 32, 32), [0])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("classes", "method", "stage", "message"),
    [
        ([0], "lime", None, "method is 'lime'"),
        ([0], "grad-cam", "layer9", "stage is 'layer9'"),
        ([6], "grad-cam", None, "from 0 to 5"),
        ([-1], "grad-cam", None, "from 0 to 5"),
        ([], "grad-cam", None, "from 0 to 5"),
    ],
)
def test_what_does_not_exist_is_refused(
    model: ResNet, image: torch.Tensor, classes: list[int], method: str, stage: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        class_maps(model, image, classes, method, stage)


def test_a_class_without_any_place_has_an_empty_map() -> None:
    maps = ClassMaps("grad-cam", "layer3", (0,), np.zeros((1, 4, 4), np.float32), (8, 8)).maps
    assert maps.shape == (1, 8, 8)
    assert not maps.any()
