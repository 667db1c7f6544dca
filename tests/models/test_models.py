import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from resnet_space.config import ModelConfig
from resnet_space.models import (
    BasicBlock,
    Bottleneck,
    ResidualBlock,
    create_model,
    list_models,
)
from resnet_space.models.resnet import PadShortcut
from resnet_space.models.unfilled import Unfilled

IMAGENET_FAMILY = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
CIFAR_FAMILY = ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"]


def give_running_statistics(model: nn.Module, seed: int = 0) -> None:
    """BatchNorm as after a training: statistics, scales and shifts that are not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.0, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)


def random_images(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", IMAGENET_FAMILY)
@torch.inference_mode()
def test_torchvisions_weights_load_and_give_the_same_logits(name: str) -> None:
    theirs = torchvision.models.get_model(name, weights=None).eval()
    give_running_statistics(theirs)
    ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert parameter_count(ours) == parameter_count(theirs)
    expected = theirs(random_images(64))
    # Deep networks with random weights have logits far from 1: the tolerance of 1e-5 is meant for logits of that size.
    scale = max(expected.abs().max().item(), 1.0)
    torch.testing.assert_close(ours(random_images(64)) / scale, expected / scale, rtol=0, atol=1e-5)
    assert expected.std() > 1e-3  # the logits are not all alike


@pytest.mark.parametrize(
    ("name", "n", "millions"),
    [
        ("resnet20", 3, "0.27"),
        ("resnet32", 5, "0.46"),
        ("resnet44", 7, "0.66"),
        ("resnet56", 9, "0.85"),
        ("resnet110", 18, "1.7"),
    ],
)
def test_the_cifar_family_has_the_papers_depth_and_parameters(name: str, n: int, millions: str) -> None:
    # He et al. 2015, table 6.
    model = create_model(name, num_classes=10)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 6 * n + 2 == int(name.removeprefix("resnet"))
    decimals = len(millions.split(".")[1])
    assert f"{parameter_count(model) / 1e6:.{decimals}f}" == millions
    # The same, by hand: 3x3 convolutions, each with a scale and a shift a channel, and the head.
    convolutions = [(3, 16), *[(16, 16)] * (2 * n), (16, 32), *[(32, 32)] * (2 * n - 1), (32, 64)]
    convolutions += [(64, 64)] * (2 * n - 1)
    assert parameter_count(model) == sum(9 * i * o + 2 * o for i, o in convolutions) + 64 * 10 + 10


@pytest.mark.parametrize("name", IMAGENET_FAMILY)
def test_the_depth_of_the_imagenet_family_is_in_its_name(name: str) -> None:
    with torch.device("meta"), Unfilled():
        model = create_model(name, num_classes=10, stem="cifar", shortcut="pad")
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == int(name.removeprefix("resnet"))


@pytest.mark.parametrize(
    ("name", "stem", "size", "shape"),
    [
        ("resnet20", "cifar", 32, (64, 8, 8)),
        ("resnet18", "cifar", 32, (512, 4, 4)),
        ("resnet18", "imagenet", 64, (512, 2, 2)),
        ("resnet50", "cifar", 32, (2048, 4, 4)),
        ("resnet50", "imagenet", 64, (2048, 2, 2)),
    ],
)
@torch.inference_mode()
def test_the_stem_and_the_stages_set_the_resolution(name: str, stem: str, size: int, shape: tuple[int, ...]) -> None:
    model = create_model(name, num_classes=7, stem=stem).eval()
    x = random_images(size)
    features = model.forward_features(x)
    assert features.shape == (2, *shape)
    logits = model(x)
    assert logits.shape == (2, 7)
    assert torch.equal(logits, model.forward_head(features))


def test_the_head_is_a_linear_layer_on_the_mean_over_places() -> None:
    model = create_model("resnet20", num_classes=5)
    features = torch.randn(4, 64, 8, 8)
    expected = features.mean((2, 3)) @ model.fc.weight.T + model.fc.bias
    torch.testing.assert_close(model.forward_head(features), expected, rtol=1e-5, atol=1e-6)


def test_option_a_takes_every_second_pixel_and_pads_with_zero_channels() -> None:
    shortcut = create_model("resnet20").blocks()["layer2.0"].downsample
    assert isinstance(shortcut, PadShortcut)
    assert parameter_count(shortcut) == 0
    x = torch.arange(2 * 16 * 4 * 4, dtype=torch.float32).reshape(2, 16, 4, 4)
    y = shortcut(x)
    assert y.shape == (2, 32, 2, 2)
    assert torch.equal(y[:, :8], torch.zeros(2, 8, 2, 2))
    assert torch.equal(y[:, 24:], torch.zeros(2, 8, 2, 2))
    for row in (0, 1):
        for column in (0, 1):
            assert torch.equal(y[:, 8:24, row, column], x[:, :, 2 * row, 2 * column])
    # Image 0, channel 0 of x is 0..15 in rows of four.
    assert y[0, 8].tolist() == [[0.0, 2.0], [8.0, 10.0]]


def test_option_b_projects_with_a_1x1_convolution() -> None:
    model = create_model("resnet20", shortcut="projection")
    projections = {name: block.downsample for name, block in model.blocks().items() if name.endswith(".0")}
    assert isinstance(projections.pop("layer1.0"), nn.Identity)  # the shape does not change there
    assert list(projections) == ["layer2.0", "layer3.0"]
    for width, projection in zip((32, 64), projections.values(), strict=True):
        convolution, norm = projection.children()
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert convolution.weight.shape == (width, width // 2, 1, 1)
        assert convolution.stride == (2, 2)
        assert convolution.bias is None
    assert parameter_count(model) - parameter_count(create_model("resnet20")) == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def normalised(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance, scale, shift = (
        value[:, None, None] for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + norm.eps).sqrt() * scale + shift


@pytest.mark.parametrize(("stride", "shortcut"), [(1, "projection"), (2, "projection"), (2, "pad")])
@torch.inference_mode()
def test_a_basic_block_is_relu_of_residual_plus_shortcut(stride: int, shortcut: Any) -> None:
    torch.manual_seed(0)
    block = BasicBlock(8, 8 * stride, stride=stride, shortcut=shortcut).eval()
    give_running_statistics(block)
    x = torch.randn(2, 8, 6, 6)
    f = F.conv2d(x, block.conv1.weight, stride=stride, padding=1)
    f = normalised(f, block.bn1).clamp(min=0)
    f = normalised(F.conv2d(f, block.conv2.weight, padding=1), block.bn2)
    if stride == 1:
        straight = x
    elif shortcut == "pad":
        straight = torch.zeros_like(f)
        straight[:, 4:12] = x[:, :, ::2, ::2]
    else:
        convolution, norm = block.downsample.children()
        assert isinstance(norm, nn.BatchNorm2d)
        straight = normalised(F.conv2d(x, convolution.weight, stride=2), norm)  # pyrefly: ignore[no-matching-overload]
    torch.testing.assert_close(block.residual(x), f, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block.downsample(x), straight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block(x), (f + straight).clamp(min=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("in_channels", "stride"), [(32, 1), (8, 1), (16, 2)])
@torch.inference_mode()
def test_a_bottleneck_is_relu_of_residual_plus_shortcut(in_channels: int, stride: int) -> None:
    torch.manual_seed(0)
    block = Bottleneck(in_channels, 8, stride=stride).eval()
    give_running_statistics(block)
    x = torch.randn(2, in_channels, 6, 6)
    f = normalised(F.conv2d(x, block.conv1.weight), block.bn1).clamp(min=0)
    f = normalised(F.conv2d(f, block.conv2.weight, stride=stride, padding=1), block.bn2).clamp(min=0)
    f = normalised(F.conv2d(f, block.conv3.weight), block.bn3)
    straight = x
    if in_channels != 32 or stride != 1:
        convolution, norm = block.downsample.children()
        assert isinstance(norm, nn.BatchNorm2d)
        straight = normalised(F.conv2d(x, convolution.weight, stride=stride), norm)  # pyrefly: ignore[no-matching-overload]
    torch.testing.assert_close(block.residual(x), f, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block(x), (f + straight).clamp(min=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "block", [BasicBlock(8, 8, cbam=True), Bottleneck(8, 2, cbam=True)], ids=["basic", "bottleneck"]
)
@torch.inference_mode()
def test_a_blocks_cbam_gates_the_residual_branch_and_not_the_shortcut(block: ResidualBlock) -> None:
    give_running_statistics(block.eval())
    nn.init.constant_(block.cbam.get_parameter("spatial.conv.weight"), -1.0)
    nn.init.normal_(block.cbam.get_parameter("channel.mlp.2.weight"))
    x = torch.randn(2, 8, 6, 6)
    gated = block.residual(x)
    cbam, block.cbam = block.cbam, nn.Identity()
    plain = block.residual(x)
    assert not torch.allclose(gated, plain)
    torch.testing.assert_close(gated, cbam(plain))
    block.cbam = cbam
    torch.testing.assert_close(block(x), (gated + x).clamp(min=0))


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
@torch.inference_mode()
def test_hooks_on_a_block_see_values_that_nobody_changes_afterwards(kind: type[BasicBlock] | type[Bottleneck]) -> None:
    block = kind(8, 8, stride=2).eval()
    seen: dict[str, tuple[Tensor, Tensor]] = {}  # the tensor itself and its value at the time

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            for i, tensor in enumerate((*inputs, output)):
                seen[f"{name} {i}"] = (tensor, tensor.clone())

        return hook

    for name in ("downsample", "cbam", "add", "relu"):
        block.get_submodule(name).register_forward_hook(keep(name))
    block(torch.randn(2, 8, 6, 6))
    assert len(seen) == 9
    for name, (now, then) in seen.items():
        assert torch.equal(now, then), name


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
@pytest.mark.parametrize("cbam", [None, "block"])
@torch.inference_mode()
def test_zero_init_residual_makes_every_residual_branch_zero(name: str, cbam: str | None) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, stem="cifar", cbam=cbam, zero_init_residual=True)
    plain = create_model(name, num_classes=3, stem="cifar", cbam=cbam)
    for block_name, block in model.blocks().items():
        x = torch.randn(2, block.conv1.in_channels, 4, 4)
        f = block.residual(x)
        assert torch.equal(f, torch.zeros_like(f)), block_name
        assert plain.blocks()[block_name].residual(x).abs().mean() > 0.1, block_name


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_convolutions_start_with_the_kaiming_variance_of_the_chosen_mode(mode: str) -> None:
    torch.manual_seed(0)
    model = create_model("resnet18", num_classes=2, kaiming_mode=mode)
    checked = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            out_channels, in_channels, height, width = module.weight.shape
            fan = (in_channels if mode == "fan_in" else out_channels) * height * width
            expected = math.sqrt(2 / fan)
            # The standard error of a sample's deviation is sigma / sqrt(2 n); five of them.
            margin = 5 / math.sqrt(2 * module.weight.numel())
            assert module.weight.std().item() == pytest.approx(expected, rel=margin), name
            assert abs(module.weight.mean().item()) < 5 * expected / math.sqrt(module.weight.numel()), name
            checked += 1
    assert checked == 20


def test_convolutions_start_with_fan_out_unless_told_otherwise() -> None:
    weights = []
    choices: list[dict[str, Any]] = [{}, {"kaiming_mode": "fan_out"}, {"kaiming_mode": "fan_in"}]
    for options in choices:
        torch.manual_seed(0)
        weights.append(create_model("resnet20", **options).blocks()["layer2.0"].conv1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("place", ["stage", "block"])
@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
@torch.inference_mode()
def test_putting_cbam_into_a_network_changes_nothing_at_first(name: str, place: str) -> None:
    plain = create_model(name, num_classes=10, stem="cifar").eval()
    give_running_statistics(plain)
    with_cbam = create_model(name, num_classes=10, stem="cifar", cbam=place).eval()
    missing, unexpected = with_cbam.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == []
    assert missing
    assert all("cbam" in parameter for parameter in missing)
    expected = plain(random_images(32))
    assert torch.equal(with_cbam(random_images(32)), expected)
    # And it is really there: closing one gate changes the logits.
    nn.init.constant_(next(p for n, p in with_cbam.named_parameters() if n.endswith("spatial.conv.weight")), -1.0)
    assert not torch.allclose(with_cbam(random_images(32)), expected)


@pytest.mark.parametrize(
    ("name", "place", "count"), [("resnet20", "stage", 3), ("resnet20", "block", 9), ("resnet18", "stage", 4)]
)
def test_cbam_sits_after_every_stage_or_in_every_block(name: str, place: str, count: int) -> None:
    model = create_model(name, num_classes=10, cbam=place)
    found = [name for name, _ in model.named_modules() if name.endswith("spatial.gate")]
    expected = [f"cbam{i + 1}" for i in range(count)]
    if place == "block":
        expected = [f"layer{i}.{j}.cbam" for i in (1, 2, 3) for j in (0, 1, 2)]
    assert found == [f"{module}.spatial.gate" for module in expected]


def test_the_initialisation_of_the_network_leaves_cbams_own_alone() -> None:
    for place in ("stage", "block"):
        state = create_model("resnet20", cbam=place).state_dict()
        last_layers = [value for name, value in state.items() if name.endswith(("spatial.conv.weight", "mlp.2.weight"))]
        assert len(last_layers) == {"stage": 6, "block": 18}[place]
        assert all(value.count_nonzero() == 0 for value in last_layers)


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
@torch.inference_mode()
def test_blocks_are_named_and_in_forward_order(name: str) -> None:
    model = create_model(name, num_classes=10, stem="cifar", cbam="block").eval()
    depths = {"resnet20": (3, 3, 3), "resnet50": (3, 4, 6, 3)}[name]
    expected = [f"layer{stage + 1}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    assert list(model.blocks()) == expected
    visited: list[str] = []
    for block_name, block in model.blocks().items():
        assert block is model.get_submodule(block_name)
        block.register_forward_hook(lambda *_, block_name=block_name: visited.append(block_name))
    model(random_images(16))
    assert visited == expected


def test_stages_come_in_forward_order_with_what_follows_them() -> None:
    model = create_model("resnet18", num_classes=2, cbam="stage")
    assert model.stages() == {f"layer{i}": f"cbam{i}" for i in (1, 2, 3, 4)}


def test_this_packages_networks_come_first() -> None:
    assert list_models()[:10] == CIFAR_FAMILY + IMAGENET_FAMILY


def test_unless_told_otherwise_only_the_cifar_family_has_the_small_stem_and_padded_shortcuts() -> None:
    with torch.device("meta"), Unfilled():
        for name in CIFAR_FAMILY + IMAGENET_FAMILY:
            model = create_model(name, 10)
            small = name in CIFAR_FAMILY
            assert model.conv1.kernel_size == ((3, 3) if small else (7, 7)), name
            assert isinstance(model.maxpool, nn.Identity if small else nn.MaxPool2d), name
            assert isinstance(model.blocks()["layer2.0"].downsample, PadShortcut if small else nn.Sequential), name


@pytest.mark.parametrize(
    ("name", "options", "named", "allowed"),
    [
        ("resnet19", {}, "'resnet19'", f"{', '.join(list_models()[:10])} or {len(list_models()) - 10} others"),
        ("", {}, "''", "(see docs/networks.md)"),
        ("resnet20", {"stem": "imagenet"}, "not 'imagenet'", "stem must be cifar for resnet20"),
        ("resnet18", {"stem": "large"}, "not 'large'", "stem must be one of imagenet, cifar"),
        ("resnet18", {"shortcut": "skip"}, "not 'skip'", "shortcut must be one of pad, projection"),
        ("resnet18", {"cbam": "everywhere"}, "not 'everywhere'", "CBAM option must be one of None, stage, block"),
        ("resnet18", {"kaiming_mode": "fan"}, "not 'fan'", "kaiming_mode must be one of fan_in, fan_out"),
    ],
)
def test_an_unknown_name_or_option_is_refused_in_one_sentence(
    name: str, options: dict[str, Any], named: str, allowed: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as caught:
        create_model(name, 10, **options)
    assert named in str(caught.value)
    assert allowed in str(caught.value)


def test_a_plain_network_has_the_same_weights_and_no_shortcuts() -> None:
    torch.manual_seed(0)
    residual, plain = create_model("resnet20", 5).eval(), create_model("resnet20", 5, shortcut="none").eval()
    plain.load_state_dict(residual.state_dict())  # strict: the same names and shapes
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        state = residual.bn1(residual.conv1(x)).relu()
        for block in residual.blocks().values():
            state = block.residual(state).relu()
        torch.testing.assert_close(plain(x), residual.fc(state.mean(dim=(2, 3))))
    with pytest.raises(ValueError, match=r"^A plain network .* cannot start with F\(x\) = 0: .*\.$"):
        create_model("resnet20", 5, shortcut="none", zero_init_residual=True)


@pytest.mark.parametrize("cbam", [None, "stage", "block"])
@pytest.mark.parametrize("shortcut", ["pad", "projection", "none"])
def test_a_configuration_describes_its_model(cbam: Any, shortcut: Any) -> None:
    config = ModelConfig("resnet18", ("a", "b", "c"), options={"shortcut": shortcut, "cbam": cbam})
    with torch.device("meta"), Unfilled():
        described = config.build()
        expected = create_model("resnet18", 3, stem="imagenet", cbam=cbam, shortcut=shortcut)
    assert {name: value.shape for name, value in described.state_dict().items()} == {
        name: value.shape for name, value in expected.state_dict().items()
    }
    assert described.fc.out_features == 3
