import pytest
import torch
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from resnet_space.models import CBAM, ChannelAttention, SpatialAttention


def random_cbam(channels: int, gain: float) -> CBAM:
    """With weights large enough that gates range over most of 0..1."""
    torch.manual_seed(0)
    cbam = CBAM(channels, gain=gain, identity_init=False)
    nn.init.normal_(cbam.get_parameter("channel.mlp.2.weight"), std=1.0)
    nn.init.normal_(cbam.spatial.conv.weight, std=0.3)
    return cbam


def timm_twin(cbam: CBAM, channels: int, *, spatial_scale: float = 1.0) -> CbamModule:
    """timm's module with the same weights.

    By definition timm differs in three things: a BatchNorm after the spatial convolution, which in eval mode with mean
    0 and variance 1 - eps is the identity; no floor for the hidden layer, so its width is given; and no gain.
    """
    first, last = (cbam.get_parameter(f"channel.mlp.{i}.weight") for i in (0, 2))
    twin = CbamModule(channels, rd_channels=len(first)).eval()
    norm = twin.get_submodule("spatial.conv.bn")
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.get_buffer("running_var"), 1 - norm.eps)
    weights = {
        "channel.fc1.weight": first[:, :, None, None],
        "channel.fc2.weight": last[:, :, None, None],
        "spatial.conv.conv.weight": cbam.spatial.conv.weight * spatial_scale,
    }
    with torch.no_grad():
        for name, weight in weights.items():
            twin.get_parameter(name).copy_(weight)
    return twin


def images(channels: int, height: int = 9, width: int = 7) -> Tensor:
    return torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [16, 64, 256])
def test_with_the_papers_gain_of_1_it_equals_timms(channels: int) -> None:
    cbam = random_cbam(channels, gain=1.0)
    x = images(channels)
    expected = timm_twin(cbam, channels)(x)
    assert (expected / x).max() - (expected / x).min() > 0.25  # the gates do something
    torch.testing.assert_close(cbam(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [16, 64])
def test_with_a_gain_of_2_it_is_four_times_timms(channels: int) -> None:
    # The spatial convolution sees the output of the channel attention, which the gain has doubled: the same gates need
    # half its weights.
    cbam = random_cbam(channels, gain=2.0)
    x = images(channels)
    expected = 4 * timm_twin(cbam, channels, spatial_scale=2.0)(x)
    torch.testing.assert_close(cbam(x), expected, rtol=1e-5, atol=1e-6)


def test_each_attention_alone_equals_timms() -> None:
    cbam = random_cbam(32, gain=1.0)
    twin = timm_twin(cbam, 32)
    x = images(32)
    torch.testing.assert_close(x * cbam.channel(x), twin.get_submodule("channel")(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x * cbam.spatial(x), twin.get_submodule("spatial")(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("channels", "hidden"), [(16, 4), (32, 4), (64, 4), (80, 5), (128, 8), (512, 32), (2048, 128)])
def test_the_hidden_layer_is_a_sixteenth_but_never_narrower_than_the_floor(channels: int, hidden: int) -> None:
    attention = ChannelAttention(channels)
    assert attention.mlp[0].weight.shape == (hidden, channels)
    assert attention.mlp[2].weight.shape == (channels, hidden)
    assert attention.mlp[0].bias is None
    assert attention.mlp[2].bias is None


def test_reduction_and_floor_can_be_chosen() -> None:
    assert ChannelAttention(64, reduction=4).mlp[0].out_features == 16
    assert ChannelAttention(64, reduction=64, min_hidden=2).mlp[0].out_features == 2


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_gates_lie_between_0_and_1_and_scales_between_0_and_the_gain(gain: float) -> None:
    cbam = random_cbam(16, gain=gain)
    gates: dict[str, Tensor] = {}
    for part in ("channel", "spatial"):
        cbam.get_submodule(f"{part}.gate").register_forward_hook(
            lambda _module, _inputs, output, part=part: gates.update({part: output.detach().clone()})
        )
    x = 10 * images(16)
    cbam(x)
    assert gates["channel"].shape == (3, 16)
    assert gates["spatial"].shape == (3, 1, 9, 7)
    for gate in gates.values():
        assert gate.min() >= 0
        assert gate.max() <= 1
        assert gate.max() - gate.min() > 0.5  # not all closed, not all open
    torch.testing.assert_close(cbam.channel(x), gain * gates["channel"][:, :, None, None])
    torch.testing.assert_close(cbam.spatial(x * cbam.channel(x)), gain * gates["spatial"])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (8, 8)])
def test_shapes_are_kept_at_any_size(height: int, width: int) -> None:
    x = images(16, height, width)
    assert ChannelAttention(16)(x).shape == (3, 16, 1, 1)
    assert SpatialAttention()(x).shape == (3, 1, height, width)
    assert random_cbam(16, gain=2.0)(x).shape == x.shape


def test_a_new_cbam_is_exactly_the_identity() -> None:
    x = images(64)
    assert torch.equal(CBAM(64)(x), x)


def test_with_the_papers_gain_a_new_cbam_quarters_its_input() -> None:
    x = images(64)
    assert torch.equal(CBAM(64, gain=1.0)(x), x / 4)


def test_a_new_cbam_learns_from_its_first_step_on() -> None:
    cbam = CBAM(16)
    cbam(images(16)).square().sum().backward()
    for name in ("channel.mlp.2.weight", "spatial.conv.weight"):
        gradient = cbam.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_channels_last_images_give_the_same() -> None:
    cbam = random_cbam(16, gain=2.0)
    x = images(16)
    torch.testing.assert_close(cbam(x.to(memory_format=torch.channels_last)), cbam(x), rtol=1e-5, atol=1e-6)
