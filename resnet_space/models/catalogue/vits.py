"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), and DeiT (Touvron et al. 2020, arXiv:2012.12877),
which is the same network trained in another way.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from resnet_space.models.registry import Entry, Option, Pretrained, register

if TYPE_CHECKING:
    from resnet_space.models.vit import VisionTransformer

STAGES = 4  # that the blocks are divided into
_NORM = Option("The norm layers' place", "pre", {"pre": "", "post": "norm layers after each sum"})


def _build(
    pixels: int, patch: int, dim: int, depth: int, heads: int, classes: int, **options: Any
) -> "VisionTransformer":
    from resnet_space.models.vit import VisionTransformer

    return VisionTransformer(pixels, patch, dim, depth, heads, stages=STAGES, num_classes=classes, **options)


def _register(
    name: str,
    label: str,
    year: int,
    paper: str,
    pixels: int,
    patch: int,
    dim: int,
    depth: int,
    heads: int,
    parameters: int,
    *weights: Pretrained,
) -> None:
    register(
        Entry(
            name,
            "vit",
            partial(_build, pixels, patch, dim, depth, heads),
            "resnet_space",
            year,
            f"https://arxiv.org/abs/{paper}",
            4 * depth + 2,
            parameters,
            head="head",
            blocks=(depth // STAGES,) * STAGES,
            options={"norm": _NORM},
            pretrained=weights,
            timm=pixels == 224,
            maps=False,
            label=label,
            pixels=pixels,
        )
    )


_SIZES = (
    ("tiny", "Tiny", 192, 3, 5_717_416),
    ("small", "Small", 384, 6, 22_050_664),
    ("base", "Base", 768, 12, 86_567_656),
)
_DEIT = {"tiny": 0.722, "small": 0.798, "base": 0.818}  # table 5
_register("vit_tiny_patch4_32", "ViT-Tiny for 32 pixels", 2020, "2010.11929", 32, 4, 192, 12, 3, 5_553_832)
for _size, _label, _dim, _heads, _parameters in _SIZES:
    for _name, _title, _paper in (("vit", "ViT", "2010.11929"), ("deit", "DeiT", "2012.12877")):
        _weights = [
            Pretrained(
                f"deit_{_size}_patch16_224.fb_in1k",
                f"timm/deit_{_size}_patch16_224.fb_in1k",
                248,
                "apache-2.0",
                accuracy=_DEIT[_size],
            )
        ]
        _register(
            f"{_name}_{_size}_patch16_224",
            f"{_title}-{_label}",
            2020,
            _paper,
            224,
            16,
            _dim,
            12,
            _heads,
            _parameters,
            *(_weights if _name == "deit" else []),
        )
