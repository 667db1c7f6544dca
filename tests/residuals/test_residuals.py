import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnet_space.models import Backbone, BasicBlock, Bottleneck, ResNet, create_model
from resnet_space.residuals import NoResidualBlocksError, ResidualNorms, measure, residual_norms
from resnet_space.residuals.norms import lengths
from tests.networks import alive


def resnet(name: str = "resnet20", **options: Any) -> Backbone:
    torch.manual_seed(0)
    return alive(create_model(name, 5, **options))


def tiny() -> Backbone:
    """Two stages of one and two blocks."""
    torch.manual_seed(0)
    return alive(ResNet(BasicBlock, (1, 2), (8, 12), num_classes=5, stem="cifar", shortcut="pad"))


def images(n: int, size: int = 16) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def length(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N]"""
    return x.square().sum(dim=(1, 2, 3)).sqrt()


def norms_by_hand(model: ResNet, batch: Tensor) -> dict[str, Tensor]:
    """Walk a copy of the network block by block in float64: block -> [4, N] input, shortcut, residual, output."""
    walked = copy.deepcopy(model).double().eval()
    norms = {}
    with torch.no_grad():
        x = walked.maxpool(walked.relu(walked.bn1(walked.conv1(batch.double()))))
        for stage in range(1, 1 + len(walked.stage_names)):
            for name, block in walked.get_submodule(f"layer{stage}").named_children():
                assert isinstance(block, BasicBlock | Bottleneck)
                residual, shortcut = block.residual(x.clone()), block.downsample(x.clone())
                total = residual + shortcut
                norms[f"layer{stage}.{name}"] = torch.stack([length(v) for v in (x, shortcut, residual, total)])
                x = total.clamp(min=0)
            x = walked.get_submodule(f"cbam{stage}")(x)
        torch.testing.assert_close(walked.fc(x.mean(dim=(2, 3))), walked(batch.double()))  # nothing was left out
    return norms


def stacked(norms: ResidualNorms) -> Tensor:
    """[4, B, N]"""
    return torch.stack([norms.input, norms.shortcut, norms.residual, norms.output])


def hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# The numbers


@pytest.mark.parametrize(
    ("name", "options", "n", "size", "changing"),
    [
        ("resnet20", {"shortcut": "pad"}, 4, 32, ["layer2.0", "layer3.0"]),
        ("resnet20", {"shortcut": "projection", "cbam": "block"}, 3, 32, ["layer2.0", "layer3.0"]),
        ("resnet20", {"cbam": "stage"}, 3, 16, ["layer2.0", "layer3.0"]),
        ("resnet50", {}, 2, 64, ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
    ],
    ids=["resnet20 pad", "resnet20 projection, CBAM in blocks", "resnet20 CBAM after stages", "resnet50"],
)
def test_the_norms_equal_those_of_a_walk_by_hand_in_float64(
    name: str, options: dict[str, Any], n: int, size: int, changing: list[str]
) -> None:
    model, x = resnet(name, **options), images(n, size)
    expected = norms_by_hand(model, x)
    norms = residual_norms(model, x)
    assert norms.blocks == list(expected)
    assert len(norms.blocks) == (9 if name == "resnet20" else 16)
    assert [block for block, same in zip(norms.blocks, norms.identity, strict=True) if not same] == changing
    assert stacked(norms).dtype == torch.float32
    torch.testing.assert_close(stacked(norms).double(), torch.stack([*expected.values()], 1), rtol=1e-5, atol=0)


def test_at_an_identity_shortcut_its_norm_is_the_inputs_and_elsewhere_it_is_not() -> None:
    norms = residual_norms(resnet(shortcut="projection"), images(3))
    for i, same in enumerate(norms.identity):
        assert torch.equal(norms.input[i], norms.shortcut[i]) == same


def test_the_ratio_is_the_residuals_length_over_the_shortcuts() -> None:
    norms = ResidualNorms(
        ["layer1.0", "layer2.0"],
        [True, False],
        torch.tensor([[4.0, 5.0], [100.0, 100.0]]),
        torch.tensor([[4.0, 5.0], [2.0, 8.0]]),
        torch.tensor([[1.0, 10.0], [3.0, 2.0]]),
        torch.zeros(2, 2),
    )
    assert torch.equal(norms.ratio, torch.tensor([[0.25, 2.0], [1.5, 0.25]]))


def test_the_output_is_measured_before_the_last_relu() -> None:
    model, x = tiny(), images(3)
    sums: dict[str, Tensor] = {}
    for name, block in model.blocks().items():
        block.add.register_forward_hook(lambda _module, _inputs, sum, name=name: sums.update({name: sum.clone()}))
    norms = residual_norms(model, x)
    assert list(sums) == norms.blocks
    for i, total in enumerate(sums.values()):
        assert (total < 0).any()
        torch.testing.assert_close(norms.output[i], length(total), rtol=1e-5, atol=0)
        assert (norms.output[i] > 1.01 * length(total.relu())).all()


def test_norms_of_a_bfloat16_model_are_summed_in_float32() -> None:
    model, x = tiny().bfloat16(), images(3, 32).bfloat16()
    lengths: list[Tensor] = []
    for block in model.blocks().values():
        block.add.register_forward_hook(
            lambda _module, parts, sum: lengths.append(torch.stack([length(v.double()) for v in (*parts, sum)]))
        )
    norms = residual_norms(model, x)
    measured = torch.stack([norms.residual, norms.shortcut, norms.output], dim=1)
    assert measured.dtype == torch.float32
    torch.testing.assert_close(measured.double(), torch.stack(lengths), rtol=1e-5, atol=0)  # bfloat16 has 3 digits


# What else one pass tells


def test_angles_gates_and_layer_responses_equal_those_of_a_walk_by_hand() -> None:
    torch.manual_seed(0)
    model = alive(ResNet(BasicBlock, (1, 2), (8, 12), num_classes=5, stem="cifar", shortcut="pad", cbam="block"))
    x = images(5)
    walked = copy.deepcopy(model).double()
    cosines, before, layers = [], [], []
    with torch.no_grad():
        layers.append(walked.bn1(walked.conv1(x.double())))
        state = layers[0].relu()
        for block in walked.blocks().values():
            assert isinstance(block, BasicBlock)
            layers.append(block.bn1(block.conv1(state)))
            layers.append(block.bn2(block.conv2(layers[-1].relu())))
            residual, shortcut = block.cbam(layers[-1]), block.downsample(state)
            before.append(length(layers[-1]))
            cosines.append((residual * shortcut).sum(dim=(1, 2, 3)) / (length(residual) * length(shortcut)))
            state = (residual + shortcut).relu()
    *_, found = measure(model, x.split(2))
    torch.testing.assert_close(found.cosine, torch.stack(cosines), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.before_gate, torch.stack(before), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        found.responses.std, torch.stack([v.std(unbiased=False) for v in layers]), rtol=1e-5, atol=0
    )
    assert found.responses.layers[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert found.stages == [0, 1, 1]
    assert found.has_gates
    assert not found.plain


def test_an_angle_is_right_even_where_one_part_is_far_shorter_than_the_other() -> None:
    model, x = tiny(), images(3)
    model.layer1[0].bn2.weight.data *= 1e-5  # from the length of the sum it could not be told any more
    model.layer1[0].bn2.bias.data *= 1e-5
    walked = copy.deepcopy(model).double()
    with torch.no_grad():
        state = walked.bn1(walked.conv1(x.double())).relu()
        residual = walked.layer1[0].residual(state.clone())
    expected = (residual * state).sum(dim=(1, 2, 3)) / (length(residual) * length(state))
    *_, found = measure(model, [x])
    torch.testing.assert_close(found.cosine[0], expected, rtol=0, atol=1e-5)


def test_a_long_x_is_measured_to_five_digits_too() -> None:
    # 800,000 numbers, all above zero: float32 alone loses the fourth digit.
    x = torch.rand(2, 64, 112, 112, generator=torch.Generator().manual_seed(0)) + 0.1
    for order in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(lengths(order), length(x.double()), rtol=1e-6, atol=0)


def test_every_yield_has_the_images_so_far_and_leaves_no_hook_even_when_left_early() -> None:
    model, x = tiny(), images(7)
    whole = residual_norms(model, x)
    measuring = measure(model, x.split(3))
    for count in (3, 6):
        found = next(measuring)
        assert found.images == count
        torch.testing.assert_close(found.norms.residual, whole.residual[:, :count], rtol=1e-5, atol=0)
        assert hooks_on(model) == 0  # not even while it waits
    measuring.close()
    assert hooks_on(model) == 0


def test_an_exception_in_the_model_leaves_no_hook_and_the_mode_as_it_was() -> None:
    model = tiny().train()
    with pytest.raises(RuntimeError):
        next(measure(model, [torch.zeros(2, 4, 16, 16)]))  # four channels
    assert hooks_on(model) == 0
    assert model.training


def test_a_plain_network_has_branches_and_responses_but_no_ratios() -> None:
    torch.manual_seed(0)
    model = alive(ResNet(BasicBlock, (1, 2), (8, 12), num_classes=5, stem="cifar", shortcut="none"))
    x = images(3)
    *_, found = measure(model, [x])
    assert found.plain
    assert found.norms.ratio.isnan().all()
    assert torch.equal(found.norms.output, found.norms.residual)
    with torch.no_grad():
        state = model.bn1(model.conv1(x)).relu()
        torch.testing.assert_close(found.norms.residual[0], length(model.layer1[0].residual(state)), rtol=1e-5, atol=0)
    assert len(found.responses.layers) == 7
    with pytest.raises(NoResidualBlocksError, match=r"^This is a plain network: .*\.$"):
        residual_norms(model, x)


# However the images come


def test_batches_give_the_same_as_all_images_at_once() -> None:
    model, x, sizes = tiny(), images(7), []
    model.register_forward_hook(lambda _module, _inputs, output: sizes.append(len(output)))
    whole = residual_norms(model, x)
    batched = residual_norms(model, x, batch_size=3)
    assert sizes == [7, 3, 3, 1]
    assert batched.blocks == whole.blocks
    assert stacked(batched).shape == (4, 3, 7)
    torch.testing.assert_close(stacked(batched), stacked(whole), rtol=1e-5, atol=0)


@pytest.mark.parametrize("model_too", [False, True])
def test_channels_last_gives_the_same_as_contiguous(model_too: bool) -> None:
    model, x = resnet(shortcut="projection"), images(3)
    expected = stacked(residual_norms(model, x))
    if model_too:
        model = model.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    x = x.to(memory_format=torch.channels_last)
    assert not x.is_contiguous()
    torch.testing.assert_close(stacked(residual_norms(model, x)), expected, rtol=1e-5, atol=0)


def test_a_single_image_has_the_norms_that_it_has_among_others() -> None:
    model, x = tiny(), images(3)
    alone = residual_norms(model, x[1:2])
    torch.testing.assert_close(stacked(alone), stacked(residual_norms(model, x))[:, :, 1:2], rtol=1e-5, atol=0)


def test_images_that_are_not_square_are_measured_too() -> None:
    model, x = tiny(), torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    expected = torch.stack([*norms_by_hand(model, x).values()], dim=1)
    torch.testing.assert_close(stacked(residual_norms(model, x)).double(), expected, rtol=1e-5, atol=0)


# Nothing is changed, and what cannot be measured


def test_measuring_changes_neither_logits_nor_modes_nor_statistics_even_while_in_training() -> None:
    model, x = tiny(), images(4)
    with torch.no_grad():
        logits = model(x)
    norms = residual_norms(model, x)
    model.train()
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    norms_in_training = residual_norms(model, x)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert hooks_on(model) == 0
    assert torch.equal(stacked(norms_in_training), stacked(norms))  # measured in eval mode
    with torch.no_grad():
        assert torch.equal(model.eval()(x), logits)


@pytest.mark.parametrize("model", [nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Identity()])
def test_a_model_without_residual_blocks_is_refused_in_a_sentence(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"^This (Sequential|Identity) has no residual blocks .*\.$"):
        residual_norms(model, images(1))


def test_no_images_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^There are no images.*\.$"):
        residual_norms(tiny(), images(0))
