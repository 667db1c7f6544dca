"""The Vision Transformer beside timm's, and the parts that it is made of."""

import math

import pytest
import timm
import torch
from torch import nn

from resnet_space.models import create_model
from resnet_space.models.hooks import recorded
from resnet_space.models.vit import Attention, VisionTransformer


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224"])
@pytest.mark.parametrize("size", [224, 160, 256])
def test_timms_weights_load_as_they_are_and_give_timms_logits_at_any_size(name: str, size: int) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False, num_classes=5, dynamic_img_size=True).eval()
    for parameter in (theirs.cls_token, theirs.pos_embed):
        nn.init.normal_(parameter)  # or it would not matter which patch is where
    ours = create_model(name, 5).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)


def test_attention_that_is_looked_at_is_the_fused_one_and_its_rows_sum_to_1() -> None:
    torch.manual_seed(0)
    attention, tokens = Attention(dim=12, heads=3), torch.randn(2, 5, 12)
    with torch.inference_mode():
        fused = attention(tokens)
        with recorded(attention, {"weights": lambda _inputs, weights: weights.clone()}) as seen:
            looked_at = attention(tokens)
    torch.testing.assert_close(looked_at, fused)
    ((weights,),) = (seen["weights"],)
    assert weights.shape == (2, 3, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
    # By hand, of one head.
    query, key, _ = attention.qkv(tokens[:1]).detach()[0].split(12, dim=-1)
    scores = query[:, 4:8] @ key[:, 4:8].T / math.sqrt(4)
    torch.testing.assert_close(weights[0, 1], scores.softmax(-1))


def test_with_the_norm_after_each_sum_it_is_the_encoder_of_the_original_transformer() -> None:
    torch.manual_seed(0)
    ours = VisionTransformer(8, 4, 12, 2, 3, stages=2, num_classes=4, norm="post").eval()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True
    )
    block = ours.blocks[0]
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(block.attn.qkv.weight)
        theirs.self_attn.in_proj_bias.copy_(block.attn.qkv.bias)
    for mine, other in (
        (block.attn.proj, theirs.self_attn.out_proj),
        (block.mlp.fc1, theirs.linear1),
        (block.mlp.fc2, theirs.linear2),
        (block.norm1, theirs.norm1),
        (block.norm2, theirs.norm2),
    ):
        other.load_state_dict(mine.state_dict())
    tokens = torch.randn(2, 5, 12)
    with torch.inference_mode():
        torch.testing.assert_close(block(tokens), theirs.eval()(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_each_block_adds_twice_and_without_both_it_is_left_out(norm: str) -> None:
    torch.manual_seed(0)
    model = create_model("vit_tiny_patch4_32", 3, norm=norm).eval()
    assert [addition.name for addition in model.additions()][:3] == [
        "blocks.0.attention",
        "blocks.0.MLP",
        "blocks.1.attention",
    ]
    block, tokens = model.blocks[0], torch.randn(1, 5, 192)
    for branch in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(branch.weight)
    (segment,) = (segment for segment in model.segments() if segment.block == "blocks.0")
    assert segment.dropped is not None
    with torch.inference_mode():
        torch.testing.assert_close(segment.dropped(tokens), block(tokens))


def test_class_token_and_positions_have_no_weight_decay() -> None:
    assert {"cls_token", "pos_embed"} <= create_model("vit_tiny_patch4_32", 3).no_weight_decay()
