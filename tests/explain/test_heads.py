"""The attention of transformers beside timm's with the same weights, and beside plain numpy."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.explain.attention import AttentionMaps, attention_maps, head_maps, rollout
from resnet_space.explain.saliency import class_maps
from resnet_space.explain.sanity import ROLLOUT, sanity_check, sanity_checks, sanity_metric
from resnet_space.models import Backbone, create_model
from resnet_space.models.timm_networks import adapted
from resnet_space.models.vit import VisionTransformer

SIDE = 4  # patches


@pytest.fixture(scope="module")
def model() -> VisionTransformer:
    """Three layers of three heads with sharp attention."""
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, 24, 3, 3, stages=3, num_classes=5).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.4 if "qkv" in name else 0.2)
    return network


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def timms(ours: VisionTransformer) -> Any:
    theirs = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5, mlp_ratio=4
    ).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs


def weights_of_timms(theirs: Any, images: Tensor) -> list[Tensor]:
    """softmax(Q Kᵀ / √d) of every block, by a forward pass written here."""
    found = []
    with torch.inference_mode():
        tokens = theirs.pos_drop(
            torch.cat([theirs.cls_token.expand(len(images), -1, -1), theirs.patch_embed(images)], 1)
        )
        tokens = tokens + theirs.pos_embed
        for block in theirs.blocks:
            attention = block.attn
            query, key, _ = attention.qkv(block.norm1(tokens)).unflatten(2, (3, 3, 8)).permute(2, 0, 3, 1, 4)
            found.append((query @ key.transpose(-2, -1) / 8**0.5).softmax(-1))
            tokens = block(tokens)
    return found


def test_the_heads_are_softmax_of_queries_and_keys_in_timms_network_with_the_same_weights(
    model: VisionTransformer, images: Tensor
) -> None:
    expected = weights_of_timms(timms(model), images)
    maps = attention_maps(model, images)
    assert list(maps.heads) == ["blocks.0", "blocks.1", "blocks.2"]
    for found, other in zip(maps.heads.values(), expected, strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-5)
        assert found.amax(-1).mean() > 0.2  # far from the same for every token, 1/17


@pytest.mark.parametrize("fused", [True, False])
def test_timms_attention_has_the_same_maps_fused_or_not_and_is_left_as_it_was(
    model: VisionTransformer, images: Tensor, fused: bool
) -> None:
    theirs = timms(model)
    for block in theirs.blocks:
        block.attn.fused_attn = fused
    found = attention_maps(adapted(theirs), images).heads
    for name, weights in attention_maps(model, images).heads.items():
        torch.testing.assert_close(found[name], weights, rtol=0, atol=1e-5)
    assert all(block.attn.fused_attn == fused for block in theirs.blocks)
    assert not any(module._forward_hooks for module in theirs.modules())


def test_beits_heads_are_seen_and_swins_windows_are_not() -> None:
    images = torch.randn(1, 3, 32, 32)
    beit = adapted(
        timm.models.Beit(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5).eval()
    )
    maps = attention_maps(beit, images)
    assert [weights.shape for weights in maps.heads.values()] == [(1, 3, 17, 17)] * 2
    torch.testing.assert_close(maps.heads["blocks.1"].sum(-1), torch.ones(1, 3, 17))
    swin = adapted(
        timm.models.SwinTransformer(
            img_size=32, patch_size=4, window_size=4, embed_dim=12, depths=(1, 1), num_heads=(1, 1)
        )
    )
    assert attention_maps(swin, images) == AttentionMaps()


def test_rollout_is_the_product_of_the_layers_with_their_shortcuts_by_numpy(
    model: VisionTransformer, images: Tensor
) -> None:
    maps = attention_maps(model, images)
    expected = np.eye(SIDE**2 + 1)
    for weights in maps.heads.values():
        mean = weights[1].double().numpy().mean(0)
        expected = (0.5 * mean + 0.5 * np.eye(len(mean))) @ expected
    found = rollout(list(maps.heads.values()))[1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("query", [None, (0, 0), (2, 3)])
def test_a_querys_maps_are_its_row_of_the_weights_as_a_grid(
    model: VisionTransformer, images: Tensor, query: tuple[int, int] | None
) -> None:
    maps = attention_maps(model, images)
    found = head_maps(model, maps, 1, query)
    row = 0 if query is None else 1 + SIDE * query[0] + query[1]
    weights = maps.heads["blocks.1"][0, :, row].numpy()
    np.testing.assert_array_equal(found.heads.reshape(3, -1), weights[:, 1:])
    np.testing.assert_allclose(found.mean.ravel(), weights[:, 1:].mean(0), rtol=1e-6)
    through = rollout(list(maps.heads.values())[:2])[0, row, 1:].numpy()
    np.testing.assert_allclose(found.rollout.ravel(), through, rtol=1e-6)


def test_without_a_class_token_the_mean_of_all_patches_stands_for_it(images: Tensor) -> None:
    torch.manual_seed(0)
    pooled = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, class_token=False, global_pool="avg"
    )
    network = adapted(pooled.eval())
    maps = attention_maps(network, images)
    expected = maps.heads["blocks.1"][0].mean(1).numpy()
    np.testing.assert_allclose(head_maps(network, maps, 1).heads.reshape(3, -1), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "query", "message"),
    [
        (3, None, "from 1 to 3, not 4"),
        (-1, None, "from 1 to 3, not 0"),
        (0, (4, 0), "rows 1 to 4"),
        (0, (0, -1), "columns 1 to 4"),
    ],
)
def test_a_layer_or_patch_that_does_not_exist_is_refused(
    model: VisionTransformer, images: Tensor, layer: int, query: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        head_maps(model, attention_maps(model, images), layer, query)


def as_map(tokens: Tensor) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (SIDE, SIDE))


def test_class_maps_of_a_transformer_are_the_librarys_at_the_last_blocks_input(
    model: VisionTransformer, images: Tensor
) -> None:
    target, image = [model.blocks[1]], images[:1]
    with GradCAM(model, target, reshape_transform=as_map) as library:
        expected = library(image, [ClassifierOutputTarget(2)])[0]
    model.zero_grad()
    found = class_maps(model, image, [2])
    assert found.stage == "blocks.1"
    assert found.raw.max() > 0  # the last block's own output would have an empty one
    scaled = found.maps[0]
    np.testing.assert_allclose((scaled - scaled.min()) / (1 - scaled.min()), expected, atol=1e-4)


def test_ablation_cam_takes_each_channel_from_all_tokens(model: VisionTransformer, images: Tensor) -> None:
    found = class_maps(model, images[:1], [2], "ablation-cam").raw[0]
    with torch.inference_mode():
        tokens = model.blocks[:2](model.embed(images[:1]))

        def logit(tokens: Tensor) -> Tensor:
            return model.head(model.norm(model.blocks[2](tokens)))[0, 0, 2]

        falls = []
        for channel in range(24):
            without = tokens.clone()
            without[..., channel] = 0
            falls.append(logit(tokens) - logit(without))
        expected = torch.einsum("c,chw->hw", torch.stack(falls), as_map(tokens)[0]).relu()
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5 * expected.max().item())


def test_a_transformers_class_maps_are_checked_against_random_weights(images: Tensor) -> None:
    torch.manual_seed(0)
    network: Backbone = create_model("vit_tiny_patch4_32", 4).eval()
    check, of_rollout = sanity_check(network, images, ["grad-cam", ROLLOUT])
    assert check.parts == ("head", "stage4", "stage3", "stage2", "stage1", "stem")
    assert check.correlations[0] != 0  # maps with contrast are compared
    assert of_rollout.correlations[0] == 1  # attention precedes the head
    assert of_rollout.correlations[-1] < 1
    assert of_rollout.words.startswith("Attention rollout to the class token: after all weights are randomised")
    assert of_rollout.words.endswith("the same for every class.")
    assert sanity_checks([sanity_metric(of_rollout)]) == [of_rollout]
