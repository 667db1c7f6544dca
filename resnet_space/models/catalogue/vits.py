"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), and networks that are it but for how they were
trained: DeiT (Touvron et al. 2020), MoCo v3 (Chen et al. 2021), DINO, DINOv2 and MAE, as weights of ViT's.

Repositories, licences, sizes and means of timm's weights are those of its list; accuracies are those of timm's
results-imagenet.csv for weights that timm's authors trained, else the papers'. What is self-supervised has no
classifier, hence no accuracy.
"""

from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from resnet_space.models.registry import SMALL, Entry, Option, Options, Pretrained, register

if TYPE_CHECKING:
    from resnet_space.models.vit import VisionTransformer

STAGES = 4  # that the blocks are divided into
DEPTH = 12  # blocks
VIT, DEIT, MOCO, DINO2 = "2010.11929", "2012.12877", "2104.02057", "2304.07193"
_NORM = Option("The norm layers' place", "pre", {"pre": "", "post": "norm layers after each sum"})
_PATCH = Option("The patch size", 16, {16: "", 4: "patches of 4 pixels"})  # in pixels
_SMALL_PATCH = {"patch": 4}
_HALF = (0.5, 0.5, 0.5)
_AUGREG: dict[str, Any] = {"trained_on": "imagenet-21k", "mean": _HALF, "std": _HALF}


@dataclass(frozen=True)
class ViTEntry(Entry):
    """`timm_name` is that of timm's network of the same size, in which `timm_arguments` change the heads; `patch` and
    `made_for` are the pixels of a patch and of the images that the position embedding is made for.
    """

    timm_name: str = ""
    patch: int = 16
    made_for: int = 224

    def in_timm(self, options: Options, image_size: int) -> tuple[str, dict[str, Any]] | None:
        if options["norm"] != "pre":
            return None
        arguments, made_for = dict(self.timm_arguments), self.made_for
        if options.get("patch", self.patch) == _SMALL_PATCH["patch"]:
            arguments |= {"patch_size": _SMALL_PATCH["patch"], "img_size": SMALL}
            made_for = SMALL
        return self.timm_name, arguments | ({} if image_size == made_for else {"dynamic_img_size": True})


def _build(
    pixels: int, patch_size: int, dim: int, heads: int, own: dict[str, Any], num_classes: int, **options: Any
) -> "VisionTransformer":
    """`own`: of the network, beside its `options`; with smaller patches it is made for small images."""
    from resnet_space.models.vit import VisionTransformer

    patch = options.pop("patch", patch_size)
    pixels = pixels if patch == patch_size else SMALL
    return VisionTransformer(pixels, patch, dim, DEPTH, heads, stages=STAGES, num_classes=num_classes, **own, **options)


def _weights(name: str, licence: str = "apache-2.0", *, crop: float = 0.9, **known: Any) -> Pretrained:
    """`crop`: the share of the resized image's side that the network sees."""
    return Pretrained(name, f"timm/{name}", int(224 / crop), licence, **known)


def _register(
    name: str,
    label: str,
    year: int,
    paper: str,
    dim: int,
    heads: int,
    parameters: int,
    multiply_adds: int,
    *weights: Pretrained,
    patch: int = 16,
    pixels: int = 224,
    made_for: int = 0,
    timm: str = "",
    timm_arguments: Options = MappingProxyType({}),
    **own: Any,
) -> None:
    """`made_for`: the image size of the position embedding, where it is not `pixels`; `timm`: timm's name, where it is
    another, and the arguments.
    """
    small = patch == 16
    register(
        ViTEntry(
            name,
            "vit",
            partial(_build, made_for or pixels, patch, dim, heads, own),
            "resnet_space",
            year,
            f"https://arxiv.org/abs/{paper}",
            4 * DEPTH + 2,
            parameters,
            multiply_adds,
            head="head",
            blocks=(DEPTH // STAGES,) * STAGES,
            options={"norm": _NORM} | ({"patch": _PATCH} if small else {}),
            pretrained=weights,
            small_images=_SMALL_PATCH if small else {},
            timm=not timm,
            timm_name=timm or name,
            timm_arguments=timm_arguments,
            patch=patch,
            made_for=made_for or pixels,
            maps=False,
            label=label,
            pixels=pixels,
            least=patch,
        )
    )


_NO_HEAD: dict[str, Any] = {"head": False}
_SIZES = {  # dim, heads, parameters, multiply-adds at 224 pixels
    "tiny": (192, 3, 5_717_416, 1_253_683_200),
    "small": (384, 6, 22_050_664, 4_598_882_304),
    "base": (768, 12, 86_567_656, 17_563_828_224),
}
_VIT_WEIGHTS = {
    "tiny": (_weights("vit_tiny_patch16_224.augreg_in21k_ft_in1k", accuracy=0.75452, **_AUGREG),),
    "small": (
        _weights("vit_small_patch16_224.augreg_in21k_ft_in1k", accuracy=0.81402, **_AUGREG),
        _weights("vit_small_patch16_224.dino", **_NO_HEAD),
    ),
    "base": (
        _weights("vit_base_patch16_224.augreg_in21k_ft_in1k", accuracy=0.84534, **_AUGREG),
        _weights("vit_base_patch16_224.mae", "cc-by-nc-4.0", **_NO_HEAD),
    ),
}
_DEIT = {"tiny": 0.722, "small": 0.798, "base": 0.818}  # table 5

_register(
    "vit_tiny_patch4_32", "ViT-Tiny for 32 pixels", 2020, VIT, 192, 3, 5_553_832, 365_297_664,
    patch=4, pixels=32, timm="vit_tiny_patch16_224",
)  # fmt: skip
for _size, _numbers in _SIZES.items():
    _title, _patches = _size.title(), f"{_size}_patch16_224"
    _deit = _weights(f"deit_{_patches}.fb_in1k", accuracy=_DEIT[_size])
    _register(f"vit_{_patches}", f"ViT-{_title}", 2020, VIT, *_numbers, *_VIT_WEIGHTS[_size])
    _register(f"deit_{_patches}", f"DeiT-{_title}", 2020, DEIT, *_numbers, _deit)

# MoCo v3's small network has as many heads as its base one. Its authors publish pickles only; NYU's repository has the
# base network's weights as safetensors, but states no licence: the authors' applies.
_moco = Pretrained(
    "mocov3_vit_base.nyu_in1k", "nyu-visionx/moco-v3-vit-b", 256, "cc-by-nc-4.0", head=False
)  # fmt: skip
_register(
    "mocov3_vit_small", "MoCo v3 ViT-Small", 2021, MOCO, 384, 12, 21_975_016, 4_598_882_304,
    timm="vit_small_patch16_224", timm_arguments={"num_heads": 12}, positions="sincos",
)  # fmt: skip
_register(
    "mocov3_vit_base", "MoCo v3 ViT-Base", 2021, MOCO, 768, 12, 86_416_360, 17_563_828_224, _moco,
    timm="vit_base_patch16_224", positions="sincos",
)  # fmt: skip
# Made for 518 pixels; at 224, where its authors measure it, it is ten times as fast: timm's list has 518.
_register(
    "vit_small_patch14_dinov2", "DINOv2 ViT-Small", 2023, DINO2, 384, 6, 22_441_192, 6_123_945_984,
    _weights(
        "vit_small_patch14_dinov2.lvd142m", crop=0.875, trained_on="LVD-142M", **_NO_HEAD
    ),
    patch=14, made_for=518, layer_scale=True,
)  # fmt: skip
