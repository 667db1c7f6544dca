"""ResNet (He et al. 2015, arXiv:1512.03385): the CIFAR family 20 to 110 and the ImageNet family 18 to 152."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from resnet_space.models.registry import Entry, Option, Pretrained, register

if TYPE_CHECKING:
    from resnet_space.models.resnet import ResNet

Block = Literal["basic", "bottleneck"]
_CIFAR_WIDTHS, _IMAGENET_WIDTHS = (16, 32, 64), (64, 128, 256, 512)

_CBAM = Option(
    "The CBAM option",
    None,
    {None: "no CBAM", "stage": "CBAM after every stage", "block": "CBAM inside every block"},
)
_SHORTCUTS = {"pad": "", "projection": "", "none": "no shortcuts (a plain network)"}
_INITIAL = {
    "zero_init_residual": Option("zero_init_residual", False, {False: "", True: ""}, initial=True),
    "kaiming_mode": Option("kaiming_mode", "fan_out", {"fan_in": "", "fan_out": ""}, initial=True),
}


@dataclass(frozen=True)
class ResNetEntry(Entry):
    """`blocks` are those of layer1, layer2, ..."""

    def stages(self) -> dict[str, tuple[str, ...]]:
        return {f"layer{i}": tuple(f"layer{i}.{j}" for j in range(count)) for i, count in enumerate(self.blocks, 1)}


def _build(block: Block, blocks: tuple[int, ...], widths: tuple[int, ...], classes: int, **options: Any) -> "ResNet":
    from resnet_space.models.resnet import BasicBlock, Bottleneck, ResNet

    kind = BasicBlock if block == "basic" else Bottleneck
    return ResNet(kind, blocks, widths, num_classes=classes, **options)


def _register(
    depth: int,
    block: Block,
    blocks: tuple[int, ...],
    parameters: int,
    multiply_adds: int,
    *weights: tuple[str, int, float],
) -> None:
    """`weights`: torchvision's, as timm's repositories hold them: (version, resize, accuracy as torchvision has it)."""
    small = len(blocks) == 3
    widths = _CIFAR_WIDTHS if small else _IMAGENET_WIDTHS
    stems = {"cifar": ""} if small else {"imagenet": "", "cifar": ""}
    names = [(f"resnet{depth}.{version}_in1k", resize, accuracy) for version, resize, accuracy in weights]
    register(
        ResNetEntry(
            f"resnet{depth}",
            "resnet",
            partial(_build, block, blocks, widths),
            "resnet_space",
            2015,
            "https://arxiv.org/abs/1512.03385",
            depth,
            parameters,
            multiply_adds,
            head="fc",
            small_images={"stem": "cifar"},
            timm=not small,
            blocks=blocks,
            options={
                "stem": Option("The stem", next(iter(stems)), stems),
                "cbam": _CBAM,
                "shortcut": Option("The shortcut", "pad" if small else "projection", _SHORTCUTS),
                **_INITIAL,
            },
            pretrained=tuple(
                Pretrained(name, f"timm/{name}", resize, "bsd-3-clause", accuracy=accuracy)
                for name, resize, accuracy in names
            ),
            label=f"ResNet-{depth}",
            pixels=32 if small else 224,
        )
    )


# Section 4.2: 6n + 2 layers.
for _n, _parameters, _multiply_adds in (
    (3, 334_072, 40_614_400),
    (5, 528_504, 68_925_952),
    (7, 722_936, 97_237_504),
    (9, 917_368, 125_549_056),
    (18, 1_792_312, 252_951_040),
):
    _register(6 * _n + 2, "basic", (_n,) * 3, _parameters, _multiply_adds)
# Table 1.
_register(18, "basic", (2, 2, 2, 2), 11_689_512, 1_814_073_344, ("tv", 256, 0.69758))
_register(34, "basic", (3, 4, 6, 3), 21_797_672, 3_663_761_408, ("tv", 256, 0.73314))
_register(50, "bottleneck", (3, 4, 6, 3), 25_557_032, 4_089_184_256, ("tv", 256, 0.7613), ("tv2", 232, 0.80858))
_register(101, "bottleneck", (3, 4, 23, 3), 44_549_160, 7_801_405_440, ("tv", 256, 0.77374), ("tv2", 232, 0.81886))
_register(152, "bottleneck", (3, 8, 36, 3), 60_192_808, 11_513_626_624, ("tv", 256, 0.78312), ("tv2", 232, 0.82284))
