"""What goes back through the blocks, what the network can do without, and how its prediction forms."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_space.models import BasicBlock, ResNet
from resnet_space.models.vit import VisionTransformer
from resnet_space.residuals import (
    Lesion,
    block_pictures,
    early_readings,
    gradients,
    last,
    lesioned,
    random_drops,
    single_drops,
    swaps,
)
from tests.networks import alive


def tiny(**options: Any) -> ResNet:
    """Blocks layer1.0, layer1.1, and layer2.0 (new shape), layer2.1, layer2.2."""
    torch.manual_seed(0)
    options = {"shortcut": "pad", "cbam": "stage"} | options
    return alive(ResNet(BasicBlock, (2, 3), (8, 12), num_classes=5, stem="cifar", **options))


IMAGES = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
BATCHES = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]


def from_block(model: ResNet, name: str, state: Tensor) -> Tensor:
    """The logits from a block's input on, by plain code."""
    blocks = model.blocks()
    names = list(blocks)
    for later in names[names.index(name) :]:
        block = blocks[later]
        state = (block.residual(state.clone()) + block.downsample(state)).relu()
        if later == "layer1.1":
            state = model.cbam1(state)
    return model.fc(model.cbam2(state).mean(dim=(2, 3)))


def inputs_of_blocks(model: ResNet, images: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    handles = [
        block.register_forward_pre_hook(lambda _m, x, name=name: seen.update({name: x[0].detach().clone()}))
        for name, block in model.blocks().items()
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return seen


# Gradients


def test_gradients_equal_finite_differences_and_autograd_by_hand() -> None:
    model = tiny().double()
    images = IMAGES.double()
    found = last(gradients(model, [(images[:4], LABELS[:4]), (images[4:], LABELS[4:])]))
    assert found.images == 6
    for i, (name, x) in enumerate(inputs_of_blocks(model, images).items()):
        x = x.requires_grad_()
        loss = F.cross_entropy(from_block(model, name, x), LABELS, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        torch.testing.assert_close(found.norm[i], gradient.flatten(1).norm(dim=1), rtol=1e-6, atol=0)
        residual = model.blocks()[name].residual(x.detach().clone())
        if name == "layer2.0":
            assert found.alignment[i].isnan().all()
            continue
        cosine = (residual * gradient).flatten(1).sum(1) / (
            residual.flatten(1).norm(dim=1) * gradient.flatten(1).norm(dim=1)
        )
        torch.testing.assert_close(found.alignment[i], cosine, rtol=0, atol=1e-6)
        # A step along F changes the loss by as much as the angle and the lengths say.
        step = 1e-6
        with torch.no_grad():
            ends = [
                F.cross_entropy(from_block(model, name, x + sign * step * residual), LABELS, reduction="none")
                for sign in (1, -1)
            ]
        slope = (ends[0] - ends[1]) / (2 * step)
        told = found.alignment[i] * found.norm[i] * residual.flatten(1).norm(dim=1)
        torch.testing.assert_close(told, slope, rtol=1e-4, atol=1e-7)


def test_without_shortcuts_the_gradient_is_that_of_a_plain_network_or_of_the_branches_alone() -> None:
    model = tiny(cbam=None).double()
    images = IMAGES.double()
    found = last(gradients(model, [(images, LABELS)]))
    plain = ResNet(BasicBlock, (2, 3), (8, 12), num_classes=5, stem="cifar", shortcut="none").double().eval()
    plain.load_state_dict(model.state_dict())
    seen: dict[str, Tensor] = {}
    for name, block in plain.blocks().items():
        block.register_forward_pre_hook(lambda _m, x, name=name: seen.update({name: x[0]}))
    loss = F.cross_entropy(plain(images), LABELS, reduction="sum")
    expected = torch.autograd.grad(loss, list(seen.values()))
    torch.testing.assert_close(
        found.plain, torch.stack([g.flatten(1).norm(dim=1) for g in expected]), rtol=1e-6, atol=0
    )
    # By the branches alone: the last block's Jacobian, transposed, on what arrives at its sum.
    x = inputs_of_blocks(model, images)["layer2.2"].requires_grad_()
    residual = model.layer2[2].residual(x.clone())
    loss = F.cross_entropy(model.fc((residual + x.detach()).relu().mean(dim=(2, 3))), LABELS, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(found.branches[-1], gradient.flatten(1).norm(dim=1), rtol=1e-6, atol=0)
    assert (found.branches[0] < found.norm[0]).all()


def test_measuring_gradients_leaves_the_model_without_gradients_hooks_or_another_mode() -> None:
    model = tiny()
    for parameter in model.fc.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        logits = model(IMAGES)
    model.train()
    with torch.inference_mode():  # as a server's thread may be
        last(gradients(model, BATCHES))
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model.eval()(IMAGES), logits)


# Lesions


class Dropped(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block.downsample(x).relu()


def judged(model: nn.Module) -> tuple[float, float]:
    with torch.no_grad():
        logits = model(IMAGES)
    return (logits.argmax(1) == LABELS).double().mean().item(), F.cross_entropy(logits, LABELS).item()


def test_lesions_give_what_hand_modified_networks_give() -> None:
    model = tiny()
    lesions = [*single_drops(model), Lesion("drop", ("layer1.1", "layer2.2")), *swaps(model), Lesion("drop", ())]
    assert [lesion.blocks for lesion in lesions[5:]] == [
        ("layer1.1", "layer2.2"),
        ("layer1.0", "layer1.1"),
        ("layer2.1", "layer2.2"),
        (),
    ]
    expected = []
    for lesion in lesions:
        changed = copy.deepcopy(model)
        for name in lesion.blocks if lesion.kind == "drop" else ():
            stage, number = name.split(".")
            changed.get_submodule(stage)[int(number)] = Dropped(changed.get_submodule(name))
        if lesion.kind == "swap":
            stage, a = lesion.blocks[0].split(".")
            blocks: Any = changed.get_submodule(stage)
            blocks[int(a)], blocks[int(a) + 1] = blocks[int(a) + 1], blocks[int(a)]
        expected.append(judged(changed))
    steps = list(lesioned(model, BATCHES, lesions))
    assert [step.images for step in steps] == [4, 6]
    found = steps[-1]
    torch.testing.assert_close(found.accuracy, torch.tensor([a for a, _ in expected], dtype=torch.float64))
    torch.testing.assert_close(
        found.loss, torch.tensor([b for _, b in expected], dtype=torch.float64), rtol=1e-5, atol=0
    )
    assert (found.base_accuracy, found.base_loss) == pytest.approx(judged(model), rel=1e-5)
    assert found.loss[-1] == found.base_loss


def test_only_what_follows_a_lesion_is_computed_again() -> None:
    model, calls = tiny(), []
    for name, block in model.blocks().items():
        block.register_forward_hook(lambda *_, name=name: calls.append(name))
    last(lesioned(model, BATCHES[:1], [Lesion("drop", ("layer2.1",))]))
    assert sorted(calls) == sorted([*model.blocks(), "layer2.2"])


def test_a_plain_network_loses_whole_blocks_where_they_keep_the_shape() -> None:
    model = tiny(shortcut="none", cbam=None)
    lesions = single_drops(model)
    assert [lesion.blocks for lesion in lesions] == [("layer1.0",), ("layer1.1",), ("layer2.1",), ("layer2.2",)]
    changed = copy.deepcopy(model)
    changed.layer2[1] = nn.Identity()
    found = last(lesioned(model, BATCHES, lesions))
    assert found.loss[2].item() == pytest.approx(judged(changed)[1], rel=1e-5)


def test_random_drops_are_different_blocks_in_each_draw_and_the_same_for_the_same_seed() -> None:
    model = tiny()
    lesions = random_drops(model, [1, 3], draws=4, seed=2)
    assert [len(set(lesion.blocks)) for lesion in lesions] == [1] * 4 + [3] * 4
    assert lesions == random_drops(model, [1, 3], draws=4, seed=2)
    assert lesions != random_drops(model, [1, 3], draws=4, seed=3)


@pytest.mark.parametrize(
    ("lesion", "why"),
    [
        (Lesion("drop", ("layer9.0",)), r"^There is no block 'layer9\.0' to drop: choose among layer1\.0, .*\.$"),
        (Lesion("swap", ("layer2.0", "layer2.1")), r"^layer2\.0 and layer2\.1 cannot be swapped: .*\.$"),
        (Lesion("swap", ("layer1.0", "layer2.1")), r"^layer1\.0 and layer2\.1 cannot be swapped: .*\.$"),
        (Lesion("swap", ("layer1.0",)), r"^A swap needs two blocks, but 1 are named\.$"),
    ],
)
def test_an_impossible_lesion_is_refused_in_a_sentence(lesion: Lesion, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        next(lesioned(tiny(), BATCHES, [lesion]))


def test_images_of_classes_that_the_model_does_not_know_are_refused_in_a_sentence() -> None:
    for measured in (gradients(tiny(), [(IMAGES, -LABELS)]), early_readings(tiny(), [(IMAGES, -LABELS)])):
        with pytest.raises(ValueError, match=r"^The network does not know the classes of these images: .*\.$"):
            next(measured)


# Early readings and pictures


def test_the_head_reads_the_state_after_each_block_of_the_last_stage() -> None:
    model = tiny()
    found = last(early_readings(model, BATCHES))
    assert found.blocks == ["layer2.0", "layer2.1", "layer2.2"]
    after = inputs_of_blocks(model, IMAGES)
    with torch.no_grad():
        states = [after["layer2.1"], after["layer2.2"]]
        logits = [model.fc(model.cbam2(state).mean(dim=(2, 3))) for state in states] + [model(IMAGES)]
    ends = logits[-1].argmax(1)
    for k, said in enumerate(logits):
        assert torch.equal(found.top[k], said.argmax(1))
        torch.testing.assert_close(found.probability[k], said.softmax(1).max(1).values)
        torch.testing.assert_close(found.final[k], said.softmax(1).gather(1, ends[:, None])[:, 0])
        assert found.accuracy[k] == (said.argmax(1) == LABELS).double().mean()
    assert found.agreement[-1] == 1


@pytest.mark.parametrize("channel", [None, 9])
def test_pictures_are_the_blocks_own_maps(channel: int | None) -> None:
    model = tiny()
    found = block_pictures(model, IMAGES[:1], "layer2.0", channel)
    x = inputs_of_blocks(model, IMAGES[:1])["layer2.0"]
    with torch.no_grad():
        residual, shortcut = model.layer2[0].residual(x.clone()), model.layer2[0].downsample(x)
    expected = [
        part[0].mean(0) if channel is None else part[0, channel] for part in (shortcut, residual, residual + shortcut)
    ]
    for map_, part in zip((found.shortcut, found.residual, found.sum), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(map_), part)
    torch.testing.assert_close(torch.from_numpy(found.x), x[0].mean(0))  # x has no channel 9
    assert found.x.shape == (12, 12)
    assert (found.channels, found.low, found.high) == (
        12,
        min(p.min() for p in expected),
        max(p.max() for p in expected),
    )


def test_a_block_or_channel_that_is_not_there_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^There is no block 'layer3\.0': choose one of layer1\.0, .*\.$"):
        block_pictures(tiny(), IMAGES[:1], "layer3.0")
    with pytest.raises(ValueError, match=r"^The channel is 8, but must be from 0 to 7\.$"):
        block_pictures(tiny(), IMAGES[:1], "layer1.0", 8)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_transformers_branches_are_removed_each_by_itself_and_its_blocks_are_swapped(norm: Any) -> None:
    torch.manual_seed(0)
    model = VisionTransformer(12, 4, 12, 3, 3, stages=3, num_classes=5, norm=norm).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    drops, pairs = single_drops(model), swaps(model)
    assert [lesion.blocks for lesion in drops] == [
        (f"blocks.{i}.{part}",) for i in range(3) for part in ("attention", "MLP")
    ]
    assert [lesion.blocks for lesion in pairs] == [
        ("blocks.0", "blocks.1"),
        ("blocks.0", "blocks.2"),
        ("blocks.1", "blocks.2"),
    ]

    def loss(blocks: list[Any], dropped: str = "") -> float:
        """By plain code."""
        x = model.embed(IMAGES)
        for block in blocks:
            name = f"blocks.{list(model.blocks).index(block)}"
            for part, branch, normed in (("attention", block.attn, block.norm1), ("MLP", block.mlp, block.norm2)):
                kept = 0 if dropped == f"{name}.{part}" else 1
                x = x + kept * branch(normed(x)) if norm == "pre" else normed(x + kept * branch(x))
        return F.cross_entropy(model.head(model.norm(x)[:, 0]), LABELS).item()

    blocks = list(model.blocks)
    with torch.inference_mode():
        expected = [loss(blocks, lesion.blocks[0]) for lesion in drops]
        expected += [loss([blocks[i] for i in order]) for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1))]
        intact = loss(blocks)
    found = last(lesioned(model, BATCHES, [*drops, *pairs]))
    assert found.base_loss == pytest.approx(intact, rel=1e-5)
    assert found.loss.tolist() == pytest.approx(expected, rel=1e-5)
    assert last(lesioned(model, BATCHES, pairs)).loss.tolist() == pytest.approx(expected[6:], rel=1e-5)
