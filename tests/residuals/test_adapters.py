"""Networks of others: what is measured in them, against their blocks computed by hand."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import Tensor, nn

from resnet_space.models import BasicBlock, ResNet, create_model
from resnet_space.models.unfilled import Unfilled
from resnet_space.residuals import (
    Gradients,
    Lesion,
    NoResidualBlocksError,
    additions,
    block_pictures,
    early_readings,
    gradients,
    last,
    lesioned,
    measure,
    single_drops,
    swaps,
)

# A block and its input -> (F(x), shortcut(x)) of each of its additions.
By_hand = Callable[[Any, Tensor], list[tuple[Tensor, Tensor]]]


def randomised(model: nn.Module) -> nn.Module:
    """Norm layers with scales and statistics of their own, so that no part is the identity or zero by chance."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def basic(block: Any, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    residual = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    return [(residual, x if block.downsample is None else block.downsample(x))]


def inverted(block: Any, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    residual = x
    for layer in block.conv:
        residual = layer(residual)
    return [(residual, x)] if block.use_res_connect else []


def timm_inverted(block: Any, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    inner = block.bn2(block.conv_dw(block.bn1(block.conv_pw(x))))
    return [(block.bn3(block.conv_pwl(block.se(inner))), x)] if block.has_skip else []


def torchvision_vit(block: Any, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    normed = block.ln_1(x)
    attention = block.self_attention
    qkv = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, 2))
    attended = attention.out_proj(((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))
    return [(attended, x), (block.mlp(block.ln_2(x + attended)), x + attended)]


def timm_vit(block: Any, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    attended = block.ls1(block.attn(block.norm1(x)))
    return [(attended, x), (block.ls2(block.mlp(block.norm2(x + attended))), x + attended)]


CASES: dict[str, tuple[Callable[[], nn.Module], str, By_hand, int]] = {
    "torchvision resnet18": (lambda: tv.resnet18(), "torchvision.models.resnet.BasicBlock", basic, 8),
    "timm resnet": (lambda: timm.create_model("resnet10t"), "timm.models.resnet.BasicBlock", basic, 4),
    "torchvision mobilenet": (
        lambda: tv.mobilenet_v2(width_mult=0.25),
        "torchvision.models.mobilenetv2.InvertedResidual",
        inverted,
        11,
    ),
    "timm efficientnet": (
        lambda: timm.create_model("mobilenetv2_035"),
        "timm.models._efficientnet_blocks.InvertedResidual",
        timm_inverted,
        10,
    ),
    "torchvision vit": (
        lambda: tv.VisionTransformer(image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32),
        "torchvision.models.vision_transformer.EncoderBlock",
        torchvision_vit,
        6,
    ),
    "timm vit": (
        lambda: timm.create_model("test_vit", img_size=32),
        "timm.models.vision_transformer.Block",
        timm_vit,
        12,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_parts_of_a_foreign_network_are_those_of_its_blocks_computed_by_hand(case: str) -> None:
    make, kind, by_hand, count = CASES[case]
    torch.manual_seed(0)
    model = randomised(make()).double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    expected: list[Tensor] = []

    def see(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        parts = by_hand(block, inputs[0])
        if parts:  # the reference is right: with the block's last step it gives its output
            total = parts[-1][0] + parts[-1][1]
            torch.testing.assert_close(total.relu() if by_hand is basic else total, output)
        for residual, shortcut in parts:
            lengths = [part.flatten(1).norm(dim=1) for part in (shortcut, residual, residual + shortcut)]
            cosine = (residual * shortcut).flatten(1).sum(1) / (lengths[0] * lengths[1])
            expected.append(torch.stack([*lengths, cosine]))

    blocks = [m for m in model.modules() if f"{type(m).__module__}.{type(m).__qualname__}" == kind]
    handles = [block.register_forward_hook(see) for block in blocks]
    with torch.no_grad():
        logits = model(images)
    for handle in handles:
        handle.remove()
    found = last(measure(model, [images[:2], images[2:]]))
    measured = torch.stack([found.norms.shortcut, found.norms.residual, found.norms.output, found.cosine], 1)
    assert len(found.norms.blocks) == len(expected) == count
    torch.testing.assert_close(measured, torch.stack(expected), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(model(images), logits)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_a_network_without_additions_is_refused_in_a_sentence(name: str) -> None:
    with torch.device("meta"), Unfilled():
        model = getattr(tv, name)()
    with pytest.raises(NoResidualBlocksError, match=r"^This (AlexNet|VGG) has no residual blocks .*\.$"):
        next(measure(model, [torch.zeros(1, 3, 64, 64)]))


def stacked(found: Gradients) -> Tensor:
    return torch.stack([found.norm, found.branches, found.plain, found.alignment.nan_to_num(9)])


def test_torchvisions_resnet_gives_what_ours_gives_with_the_same_weights() -> None:
    # Other code, and additions in place: every measure of it has to agree with that of this package's own network.
    torch.manual_seed(0)
    theirs = randomised(tv.ResNet(tv.resnet.BasicBlock, [2, 1, 1, 1], num_classes=5))
    ours = ResNet(BasicBlock, (2, 1, 1, 1), num_classes=5).eval()
    ours.load_state_dict(theirs.state_dict())
    images, labels = torch.randn(3, 3, 40, 40), torch.tensor([0, 1, 4])
    batches = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    lesions = [*single_drops(ours), *swaps(ours)]
    assert [*single_drops(theirs), *swaps(theirs)] == lesions
    assert [lesion.blocks for lesion in swaps(ours)] == [("layer1.0", "layer1.1")]
    for measured in (
        lambda model: last(measure(model, [images])).norms.residual,
        lambda model: last(measure(model, [images])).responses.std,
        lambda model: last(lesioned(model, batches, lesions)).loss,
        lambda model: last(early_readings(model, batches)).final,
        lambda model: stacked(last(gradients(model, batches))),
        lambda model: torch.from_numpy(block_pictures(model, images[:1], "layer3.0").sum),
    ):
        torch.testing.assert_close(measured(theirs), measured(ours), rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in theirs.modules())


def test_a_transformers_blocks_can_be_dropped_swapped_and_read_but_not_drawn() -> None:
    torch.manual_seed(0)
    model = CASES["timm vit"][0]().eval()
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2])
    blocks: Any = model.blocks
    drop, swap = Lesion("drop", ("blocks.1.attention", "blocks.1.MLP")), Lesion("swap", ("blocks.0", "blocks.2"))
    assert swap in swaps(model)
    assert len(single_drops(model)) == 12
    found = last(lesioned(model, [(images, labels)], [drop, swap]))
    by_hand = []
    with torch.no_grad():
        for order in ([0, 2, 3, 4, 5], [2, 1, 0, 3, 4, 5]):
            changed = copy.deepcopy(model)
            changed.blocks = nn.Sequential(*(blocks[i] for i in order))
            by_hand.append(F.cross_entropy(changed(images), labels).double())
        readings = last(early_readings(model, [(images, labels)]))
        assert torch.equal(readings.top[-1], model(images).argmax(1))
    torch.testing.assert_close(found.loss, torch.stack(by_hand), rtol=1e-5, atol=0)
    assert readings.blocks == [f"blocks.{i}" for i in range(6)]
    with pytest.raises(ValueError, match=r"^blocks\.0\.attention works on tokens, so it has no feature maps\.$"):
        block_pictures(model, images[:1], "blocks.0.attention")


def test_additions_are_found_in_the_order_in_which_they_are_passed() -> None:
    names = [addition.name for addition in additions(create_model("resnet20"))]
    assert names == [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
