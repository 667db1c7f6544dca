"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), part by part.

The modules have the names that timm gives them, so that its weights, and those of DeiT, load as they are.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_space.models.additions import ATTENTION, Addition
from resnet_space.models.additions import MLP as MLP_PART
from resnet_space.models.contract import Backbone, Part, Segment, run_all
from resnet_space.models.registry import HEAD, STEM

Norm = Literal["pre", "post"]


class PatchEmbedding(nn.Module):
    """images [N, 3, H, W] -> one token a patch [N, T, D], row by row. A convolution whose stride is its kernel size
    applies one linear layer to every patch.
    """

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


class Attention(nn.Module):
    """Multi-head self-attention [N, T, D] -> [N, T, D]: softmax(Q Kᵀ / √d) V in every head (Vaswani et al. 2017, 3.2).

    `weights` gives softmax(Q Kᵀ / √d) [N, heads, T, T], each row summing to 1, but only while something looks at it, as
    by a forward hook: otherwise PyTorch's fused attention computes the same without keeping it.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.weights = nn.Softmax(dim=-1)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # [N, T, 3 D] -> three of [N, heads, T, d]
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.weights._forward_hooks:
            attended = self.weights(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])) @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        merged: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return merged


class MLP(nn.Module):
    """Two layers with GELU between them, for every token by itself."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.fc2(self.act(self.fc1(x)))
        return mixed


class LayerScale(nn.Module):
    """One learned factor a channel (Touvron et al. 2021, arXiv:2103.17239, section 2), small at first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Two residual branches, attention and MLP: x + F(norm(x)), or norm(x + F(x)) where the norm comes "post".

    Where `layer_scale` is set, each branch ends with one.
    """

    def __init__(self, dim: int, heads: int, norm: Norm, layer_scale: bool = False) -> None:
        super().__init__()
        self.norm = norm
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, 4 * dim)
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.norm == "pre":
            x = x + self.ls1(self.attn(self.norm1(x)))
            x = x + self.ls2(self.mlp(self.norm2(x)))
        else:
            x = self.norm1(x + self.ls1(self.attn(x)))
            x = self.norm2(x + self.ls2(self.mlp(x)))
        return x

    def without_residuals(self, x: Tensor) -> Tensor:
        """What is left where both F(x) are 0."""
        normed: Tensor = self.norm2(self.norm1(x))
        return x if self.norm == "pre" else normed


class _Stem(nn.Module):
    """What comes before the first block, with the parameters of a network that has them itself, as timm's has."""

    def __init__(self, network: "VisionTransformer") -> None:
        super().__init__()
        self.cls_token, self.pos_embed, self.patch_embed = network.cls_token, network.pos_embed, network.patch_embed
        self._embed = network.embed

    def forward(self, x: Tensor) -> Tensor:
        return self._embed(x)


def _sincos_positions(side: int, dim: int) -> Tensor:
    """Fixed position embedding [1, 1 + side², dim], 0 for the class token (Chen, Xie & He 2021, arXiv:2104.02057).

    A quarter of the channels each has the sines and cosines of a patch's row, then of its column, at frequencies that
    fall from 1 to 1/10,000.
    """
    place = torch.arange(side, dtype=torch.float32)
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    frequencies = 1 / 10_000 ** (torch.arange(dim // 4, dtype=torch.float32) / (dim // 4))
    angles = [axis.flatten()[:, None] * frequencies for axis in (rows, columns)]
    of_patches = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(1, dim), of_patches])[None]


def _interpolated(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """A position embedding [1, 1 + T, D] of a square grid for another one; the class token's stays."""
    of_class, of_patches = positions[:, :1], positions[:, 1:]
    side = math.isqrt(of_patches.shape[1])
    square = of_patches.transpose(1, 2).unflatten(2, (side, side))
    # With antialiasing where it is made smaller, as timm does.
    resized = F.interpolate(square, grid, mode="bicubic", antialias=True)
    return torch.cat([of_class, resized.flatten(2).transpose(1, 2)], dim=1)


class VisionTransformer(Backbone):
    """images [N, 3, H, W] -> logits [N, num_classes]; H and W are multiples of the patch size.

    Args:
        image_size: pixels of the images that the position embedding is made for; for others it is interpolated.
        patch_size: pixels a side.
        dim: D, the length of a token.
        depth: blocks.
        heads: of every attention; each has dim / heads channels.
        stages: how many stages the blocks are divided into, for freezing and learning rates.
        num_classes: logits.
        norm: before each residual branch, as in the paper ("pre"), or after each sum, as in the original Transformer
            (Vaswani et al. 2017).
        layer_scale: whether each residual branch ends with a learned factor per channel, as in DINOv2.
        positions: "learned", or fixed sines and cosines ("sincos"), as in MoCo v3.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        dim: int,
        depth: int,
        heads: int,
        *,
        stages: int,
        num_classes: int = 1000,
        norm: Norm = "pre",
        layer_scale: bool = False,
        positions: Literal["learned", "sincos"] = "learned",
    ) -> None:
        super().__init__()
        self.patch_size, self.stage_blocks = patch_size, depth // stages
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        side = image_size // patch_size
        self.pos_embed: Tensor
        if positions == "learned":
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + side**2, dim))
        else:
            self.register_buffer("pos_embed", _sincos_positions(side, dim))
        self.patch_embed = PatchEmbedding(patch_size, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, norm, layer_scale) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)
        self._init_weights()

    def _init_weights(self) -> None:
        """As timm's: normal with a deviation of 0.02, cut at two of them; biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
                nn.init.zeros_(module.bias)
        if isinstance(self.pos_embed, nn.Parameter):
            nn.init.trunc_normal_(self.pos_embed, std=0.02, a=-0.04, b=0.04)
        nn.init.normal_(self.cls_token, std=1e-6)

    def embed(self, x: Tensor) -> Tensor:
        """images -> tokens [N, 1 + T, D]: the class token, then the patches, each with its position."""
        grid = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        # Not len(x), which tracing would take for a constant.
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), self.patch_embed(x)], dim=1)
        return tokens + self._positions(grid)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """The position embedding for so many rows and columns of patches."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        return self.pos_embed if grid == (side, side) else _interpolated(self.pos_embed, grid)

    def forward_features(self, x: Tensor) -> Tensor:
        """images [N, 3, H, W] -> tokens [N, 1 + T, D], the class token first."""
        tokens: Tensor = self.norm(self.blocks(self.embed(x)))
        return tokens

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """tokens -> logits [N, num_classes], or the class token [N, D]."""
        of_class = features[:, 0]
        logits: Tensor = of_class if pre_logits else self.head(of_class)
        return logits

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(self.head.in_features, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.head.bias)

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Larger patches are resampled to smaller ones (Beyer et al. 2022, arXiv:2212.08013, section 3.4), position
        embeddings are interpolated to this grid.
        """
        patches, positions = weights.get("patch_embed.proj.weight"), weights.get("pos_embed")
        fitted = dict(weights)
        if patches is not None and patches.shape[-1] != self.patch_size:
            from timm.layers.patch_embed import resample_patch_embed

            fitted["patch_embed.proj.weight"] = resample_patch_embed(patches, [self.patch_size, self.patch_size])
        if positions is not None and positions.shape != self.pos_embed.shape:
            side = math.isqrt(self.pos_embed.shape[1] - 1)
            fitted["pos_embed"] = _interpolated(positions, (side, side))
        return fitted

    def _stage(self, block: int) -> str:
        return f"stage{block // self.stage_blocks + 1}"

    def parts(self) -> list[Part]:
        """The last norm belongs to the last block, whose output it reads."""
        last = len(self.blocks) - 1
        found: dict[tuple[str, str], list[str]] = {}
        for name, _ in self.named_parameters():
            first, second, *_ = (*name.split("."), "")
            if first in ("blocks", "norm"):
                block = int(second) if first == "blocks" else last
                key = (f"{self._stage(block)}.{block % self.stage_blocks}", self._stage(block))
            else:
                key = (HEAD, HEAD) if first == "head" else (STEM, STEM)
            found.setdefault(key, []).append(name)
        return [Part(part, stage, tuple(names)) for (part, stage), names in found.items()]

    def no_weight_decay(self) -> set[str]:
        return super().no_weight_decay() | {"cls_token", "pos_embed"}

    def segments(self) -> tuple[Segment, ...]:
        blocks = (
            Segment(self._stage(i), block, (block,), f"blocks.{i}", block.without_residuals)
            for i, block in enumerate(self.blocks)
            if isinstance(block, Block)
        )
        last = self._stage(len(self.blocks) - 1)
        stem = _Stem(self)
        return (
            Segment(STEM, stem, (stem,)),
            *blocks,
            Segment(last, self.norm, (self.norm,)),
            Segment(HEAD, self.forward_head, (self.head,)),
        )

    def stages(self) -> dict[str, str]:
        """The last one's is the norm's output."""
        names = {self._stage(i): f"blocks.{i}" for i in range(len(self.blocks))}
        return {**names, self._stage(len(self.blocks) - 1): "norm"}

    def map_stages(self) -> dict[str, str]:
        """Not the last one, of which the head reads the class token only, but the last block's input."""
        *earlier, _ = self.stages().items()
        return {**dict(earlier), self._before_last: self._before_last}

    def after(self, stage: str) -> Callable[[Tensor], Tensor] | None:
        return run_all(self.segments()[-3:]) if stage == self._before_last else super().after(stage)

    @property
    def _before_last(self) -> str:
        return f"blocks.{len(self.blocks) - 2}"

    def attention_weights(self) -> dict[str, str]:
        return {f"blocks.{i}": f"blocks.{i}.attn.weights" for i in range(len(self.blocks))}

    def to_map(self, features: Tensor) -> Tensor:
        """tokens [N, 1 + T, D] -> [N, D, h, w] of square images, without the class token."""
        tokens = features[:, 1:].transpose(1, 2)
        side = math.isqrt(tokens.shape[2])
        mapped: Tensor = tokens.unflatten(2, (side, side))
        return mapped

    def additions(self) -> list[Addition]:
        """Two a block."""
        found = []
        for i, block in enumerate(self.blocks):
            name = f"blocks.{i}"
            for part, module, norm, scale in ((ATTENTION, "attn", "norm1", "ls1"), (MLP_PART, "mlp", "norm2", "ls2")):
                sees_x = norm if isinstance(block, Block) and block.norm == "pre" else module
                gives = scale if isinstance(block.get_submodule(scale), LayerScale) else module
                names = (f"{name}.{part}", name, f"{name}.{sees_x}", f"{name}.{gives}")
                found.append(Addition(*names, maps=False, part=part))
        return found

    def read_early(self, state: Tensor) -> Tensor:
        features: Tensor = self.norm(state)
        return self.forward_head(features)
