"""Where a network adds F(x) to shortcut(x): the networks of this package declare it; some of torchvision's and timm's
are recognised by their class names, because neither library is imported here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from resnet_space.common.errors import UserError

ATTENTION, MLP = "attention", "MLP"


class NoResidualBlocksError(UserError):
    """The network has no residual additions; the message says so in one sentence."""


@dataclass(frozen=True)
class Addition:
    """One place where F(x) + shortcut(x) is formed, and the modules at which its parts can be seen.

    A convolutional block has one, a transformer block two: attention and MLP.

    Attributes:
        name: "layer2.0", or "blocks.3.attention".
        block: the module name of the whole block.
        sees_x: module whose first input is x.
        gives_residual: module whose output is F(x), as the addition receives it.
        gives_shortcut: module whose output is shortcut(x); None where that is x itself.
        gives_sum: module whose output is the sum before the last ReLU; None where no module is.
        gate: module (a CBAM) whose input is F(x) before its gates; None where there is none.
        responses: convolutions of 3x3 and the norm layers whose outputs are their responses.
        plain: whether the shortcut was left out: then nothing is added to F(x).
        keeps_shape: whether F(x) has the shape of x, so that the block can be left out.
        maps: whether x and F(x) are maps [N, C, H, W], and not tokens.
        part: which of a block's additions it is, `ATTENTION` or `MLP`; empty where a block has one.
    """

    name: str
    block: str
    sees_x: str
    gives_residual: str
    gives_shortcut: str | None = None
    gives_sum: str | None = None
    gate: str | None = None
    responses: tuple[tuple[str, str], ...] = ()
    plain: bool = False
    keeps_shape: bool = False
    maps: bool = True
    part: str = ""

    @property
    def identity(self) -> bool:
        """Whether the shortcut passes x unchanged."""
        return self.gives_shortcut is None and not self.plain


Adapter = Callable[[str, nn.Module], Iterable[Addition]]  # of the name of a block, and the block


def foreign_additions(model: nn.Module) -> list[Addition]:
    """The additions of a network of torchvision or timm, in forward order.

    Raises:
        NoResidualBlocksError: for a network without supported residual blocks, such as AlexNet or VGG.
    """
    found = [
        addition
        for name, module in model.named_modules()
        for addition in ADAPTERS.get(class_name(module), _none)(name, module)
    ]
    if not found:
        raise NoResidualBlocksError(f"This {type(model).__name__} has no residual blocks of a supported type.")
    return found


def class_name(module: nn.Module) -> str:
    """By which networks of others are known. Not of what it inherits from: a subclass may add elsewhere."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _none(_name: str, _module: nn.Module) -> Iterable[Addition]:
    return ()


def _responses(name: str, block: nn.Module) -> tuple[tuple[str, str], ...]:
    """The 3x3 convolutions of a ResNet's block and their norm layers."""
    numbers = (2,) if hasattr(block, "conv3") else (1, 2)
    return tuple((f"{name}.conv{i}", f"{name}.bn{i}") for i in numbers)


def _resnet(name: str, block: nn.Module) -> Iterable[Addition]:
    """torchvision's and timm's basic block and bottleneck: `out += identity` after the last norm layer (and gate)."""
    last = ("bn3" if hasattr(block, "conv3") else "bn2", "se", "drop_path")
    residual = [part for part in last if getattr(block, part, None) is not None][-1]
    downsample = getattr(block, "downsample", None)
    yield Addition(
        name,
        block=name,
        sees_x=f"{name}.conv1",
        gives_residual=f"{name}.{residual}",
        gives_shortcut=None if downsample is None else f"{name}.downsample",
        responses=_responses(name, block),
    )


def _regnet(name: str, block: nn.Module) -> Iterable[Addition]:
    """torchvision's: `proj(x) + f(x)`."""
    shortcut = f"{name}.proj" if getattr(block, "proj", None) is not None else None
    yield Addition(name, block=name, sees_x=f"{name}.f", gives_residual=f"{name}.f", gives_shortcut=shortcut)


def _where(flag: str, sees_x: str, gives_residual: str) -> Adapter:
    """Of a block that adds x itself where its flag says so, and nothing where the shape changes."""

    def adapter(name: str, block: nn.Module) -> Iterable[Addition]:
        if getattr(block, flag):
            yield Addition(name, block=name, sees_x=f"{name}.{sees_x}", gives_residual=f"{name}.{gives_residual}")

    return adapter


def _convnext(name: str, _block: nn.Module) -> Iterable[Addition]:
    """torchvision's: `stochastic_depth(layer_scale * block(x)) + x`."""
    yield Addition(name, block=name, sees_x=f"{name}.block", gives_residual=f"{name}.stochastic_depth")


def _transformer(attention: tuple[str, str], mlp: tuple[str, str]) -> Adapter:
    """Of a block that adds twice: for each, who sees x and who gives F(x)."""

    def adapter(name: str, _block: nn.Module) -> Iterable[Addition]:
        for part, (sees_x, gives_residual) in ((ATTENTION, attention), (MLP, mlp)):
            yield Addition(
                f"{name}.{part}",
                block=name,
                sees_x=f"{name}.{sees_x}",
                gives_residual=f"{name}.{gives_residual}",
                maps=False,
                part=part,
            )

    return adapter


ADAPTERS: dict[str, Adapter] = {
    "torchvision.models.resnet.BasicBlock": _resnet,
    "torchvision.models.resnet.Bottleneck": _resnet,
    "torchvision.models.regnet.ResBottleneckBlock": _regnet,
    "torchvision.models.mobilenetv2.InvertedResidual": _where("use_res_connect", "conv", "conv"),
    "torchvision.models.mobilenetv3.InvertedResidual": _where("use_res_connect", "block", "block"),
    "torchvision.models.efficientnet.MBConv": _where("use_res_connect", "block", "block"),
    "torchvision.models.efficientnet.FusedMBConv": _where("use_res_connect", "block", "block"),
    "torchvision.models.convnext.CNBlock": _convnext,
    "torchvision.models.vision_transformer.EncoderBlock": _transformer(("ln_1", "dropout"), ("ln_2", "mlp")),
    "torchvision.models.swin_transformer.SwinTransformerBlock": _transformer(("norm1", "attn"), ("norm2", "mlp")),
    "torchvision.models.swin_transformer.SwinTransformerBlockV2": _transformer(("attn", "norm1"), ("mlp", "norm2")),
    "timm.models.resnet.BasicBlock": _resnet,
    "timm.models.resnet.Bottleneck": _resnet,
    "timm.models._efficientnet_blocks.ConvBnAct": _where("has_skip", "conv", "drop_path"),
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv": _where("has_skip", "conv_dw", "drop_path"),
    "timm.models._efficientnet_blocks.InvertedResidual": _where("has_skip", "conv_pw", "drop_path"),
    "timm.models._efficientnet_blocks.EdgeResidual": _where("has_skip", "conv_exp", "drop_path"),
    "timm.models.beit.Block": _transformer(("norm1", "drop_path1"), ("norm2", "drop_path2")),
    "timm.models.swin_transformer.SwinTransformerBlock": _transformer(("norm1", "drop_path1"), ("norm2", "drop_path2")),
    "timm.models.vision_transformer.Block": _transformer(("norm1", "drop_path1"), ("norm2", "drop_path2")),
}


EARLY_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {  # from the output of a block of the last stage to logits
    "torchvision.models.resnet.ResNet": lambda model, state: model.fc(model.avgpool(state).flatten(1)),
    "torchvision.models.vision_transformer.VisionTransformer": lambda model, state: model.heads(
        model.encoder.ln(state)[:, 0]
    ),
    "timm.models.resnet.ResNet": lambda model, state: model.forward_head(state),
    "timm.models.vision_transformer.VisionTransformer": lambda model, state: model.forward_head(model.norm(state)),
}
