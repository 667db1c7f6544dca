from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_space.explain.attention import AttentionMaps, attention_maps, recorded_attention
from resnet_space.models import CBAM, BasicBlock, Bottleneck, ResNet, create_model
from tests.networks import alive


def basic(cbam: Any = "stage") -> ResNet:
    """Two stages of BasicBlocks, 8 and 12 channels, for small images."""
    torch.manual_seed(0)
    return alive(ResNet(BasicBlock, (1, 2), (8, 12), num_classes=5, stem="cifar", shortcut="pad", cbam=cbam))


def bottleneck(cbam: Any = "stage") -> ResNet:
    """Two stages of Bottlenecks, 4 x 8 and 4 x 16 channels, behind the ImageNet stem."""
    torch.manual_seed(0)
    return alive(ResNet(Bottleneck, (2, 1), (8, 16), num_classes=5, cbam=cbam))


def images(n: int = 3, size: int = 16) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def gates_by_hand(cbam: CBAM, x: Tensor) -> tuple[Tensor, Tensor]:
    """(channel [N, C], spatial [N, h, w]) by Woo et al. 2018, equations 2 and 3, in float64."""
    x = x.double()
    squeeze, excite = (cbam.channel.get_submodule(f"mlp.{i}").weight.double() for i in (0, 2))
    from_mean, from_max = (
        (pooled @ squeeze.T).clamp(min=0) @ excite.T for pooled in (x.mean(dim=(2, 3)), x.amax(dim=(2, 3)))
    )
    channel = 1 / (1 + (-from_mean - from_max).exp())
    x = x * (cbam.channel.gain * channel[:, :, None, None])
    planes = torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1)
    spatial = 1 / (1 + (-F.conv2d(planes, cbam.spatial.conv.weight.double(), padding=3)).exp())
    return channel, spatial[:, 0]


def inputs_and_outputs(model: nn.Module, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes into and comes out of each CBAM, by its name, in the order in which they run."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, CBAM):

            def before(_module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                seen[name] = (inputs[0].clone(), torch.empty(0))

            def after(_module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:
                seen[name] = (seen[name][0], output.clone())

            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("place", ["stage", "block"])
@pytest.mark.parametrize("build", [basic, bottleneck])
def test_the_gates_are_those_of_the_paper_computed_by_hand(build: Any, place: str) -> None:
    model, x = build(place), images(size=32)
    seen = inputs_and_outputs(model, x)
    maps = attention_maps(model, x)
    assert len(seen) == (2 if place == "stage" else 3)
    for name, (features, _) in seen.items():
        with torch.no_grad():
            channel, spatial = gates_by_hand(model.get_submodule(name), features)
        assert channel.std() > 0.01, name  # not all alike
        assert spatial.std() > 0.01, name
        torch.testing.assert_close(maps.channel[name].double(), channel, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps.spatial[name].double(), spatial, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", ["stage", "block"])
def test_gain_times_the_gates_is_what_each_cbam_multiplied_its_input_with(place: str) -> None:
    model, x = basic(place), images()
    model.get_submodule("cbam1" if place == "stage" else "layer1.0.cbam.spatial")  # there is one
    maps = attention_maps(model, x)
    for name, (features, output) in inputs_and_outputs(model, x).items():
        assert maps.gain[name] == 2
        channel = maps.gain[name] * maps.channel[name][:, :, None, None]
        spatial = maps.gain[name] * maps.spatial[name][:, None]
        torch.testing.assert_close(features * channel * spatial, output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_the_papers_gain_is_told_apart_from_ours(gain: float) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), CBAM(8, gain=gain))
    maps = attention_maps(model, images())
    assert maps.gain == {"1": gain}
    assert torch.equal(maps.channel["1"], torch.full((3, 8), 0.5))  # untrained: the gates are half open


@pytest.mark.parametrize(
    ("build", "place", "shapes"),
    [
        (basic, "stage", {"cbam1": (8, 16), "cbam2": (12, 8)}),
        (basic, "block", {"layer1.0.cbam": (8, 16), "layer2.0.cbam": (12, 8), "layer2.1.cbam": (12, 8)}),
        (bottleneck, "stage", {"cbam1": (32, 4), "cbam2": (64, 2)}),
        (bottleneck, "block", {"layer1.0.cbam": (32, 4), "layer1.1.cbam": (32, 4), "layer2.0.cbam": (64, 2)}),
    ],
)
def test_every_cbam_has_gates_of_its_features_shape_between_0_and_1_in_forward_order(
    build: Any, place: str, shapes: dict[str, tuple[int, int]]
) -> None:
    model, x = build(place), images()
    order = list(inputs_and_outputs(model, x))
    maps = attention_maps(model, x)
    assert list(maps.channel) == list(maps.spatial) == list(maps.gain) == order == list(shapes)
    for name, (channels, side) in shapes.items():
        assert maps.channel[name].shape == (3, channels)
        assert maps.spatial[name].shape == (3, side, side)
        for gates in (maps.channel[name], maps.spatial[name]):
            assert gates.dtype == torch.float32
            assert gates.min() >= 0
            assert gates.max() <= 1


def test_the_shipped_architecture_has_one_map_a_stage() -> None:
    maps = attention_maps(create_model("resnet20", 10, cbam="stage"), images(2, size=32))
    assert {name: tuple(gates.shape) for name, gates in maps.channel.items()} == {
        "cbam1": (2, 16),
        "cbam2": (2, 32),
        "cbam3": (2, 64),
    }
    assert [tuple(gates.shape) for gates in maps.spatial.values()] == [(2, 32, 32), (2, 16, 16), (2, 8, 8)]


def test_images_that_are_not_square_have_maps_that_are_not_square() -> None:
    maps = attention_maps(basic(), torch.randn(1, 3, 16, 24))
    assert maps.spatial["cbam2"].shape == (1, 8, 12)


@pytest.mark.parametrize("model", [basic(None), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())], ids=["ResNet", "other"])
def test_a_model_without_cbam_has_no_maps(model: nn.Module) -> None:
    assert attention_maps(model, images()) == AttentionMaps({}, {}, {})


def test_looking_changes_neither_logits_nor_modes_nor_statistics_even_while_in_training() -> None:
    model, x = basic("block"), images()
    with torch.no_grad():
        logits = model(x)
    maps = attention_maps(model, x)
    model.train()
    model.layer2.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    maps_in_training = attention_maps(model, x)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert hooks_on(model) == 0
    for name, gates in maps.spatial.items():
        assert torch.equal(maps_in_training.spatial[name], gates)  # measured in eval mode
    with torch.no_grad():
        assert torch.equal(model.eval()(x), logits)


def test_one_forward_pass_is_all_it_takes() -> None:
    model, passes = basic(), []
    model.register_forward_hook(lambda _module, _inputs, output: passes.append(len(output)))
    attention_maps(model, images(4))
    assert passes == [4]


def test_maps_of_several_passes_stand_one_after_another() -> None:
    model, x = basic(), images(5)
    whole = attention_maps(model, x)
    with torch.no_grad(), recorded_attention(model) as maps:
        for part in x.split(2):
            model(part)
    assert hooks_on(model) == 0
    assert list(maps.channel) == list(whole.channel)
    for name in whole.channel:
        torch.testing.assert_close(maps.channel[name], whole.channel[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps.spatial[name], whole.spatial[name], rtol=1e-4, atol=1e-5)


def test_without_a_pass_there_are_no_maps() -> None:
    with recorded_attention(basic()) as maps:
        pass
    assert maps == AttentionMaps({}, {}, {})


def test_channels_last_images_have_the_same_maps() -> None:
    model, x = basic(), images()
    maps, others = (attention_maps(model, y) for y in (x, x.to(memory_format=torch.channels_last)))
    for name in maps.channel:
        torch.testing.assert_close(others.channel[name], maps.channel[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(others.spatial[name], maps.spatial[name], rtol=1e-4, atol=1e-5)


def test_gates_of_a_bfloat16_model_are_given_in_float32() -> None:
    maps = attention_maps(basic().bfloat16(), images().bfloat16())
    assert {gates.dtype for gates in (*maps.channel.values(), *maps.spatial.values())} == {torch.float32}
