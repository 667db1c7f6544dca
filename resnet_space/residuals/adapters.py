"""Which networks have additions, and where: this package's, and by the names of their classes some of torchvision's and
timm's, neither of which is imported here.
"""

from collections.abc import Callable, Iterable

from torch import nn

from resnet_space.models import CBAM, BasicBlock, Bottleneck, NoShortcut, ResNet
from resnet_space.residuals.addition import Addition, NoResidualBlocksError

Adapter = Callable[[str, nn.Module], Iterable[Addition]]  # of the name of a block, and the block


def additions(model: nn.Module, *, plain: bool = False) -> list[Addition]:
    """All of a model's, in forward order.

    Args:
        model: a ResNet of this package, or a network of torchvision or timm whose blocks have an adapter here.
        plain: whether a plain network (`shortcut="none"`) will do too.

    Raises:
        NoResidualBlocksError: for a model without any, such as AlexNet, VGG, or a plain network.
    """
    found = [
        addition
        for name, module in model.named_modules()
        for addition in ADAPTERS.get(class_name(module), _none)(name, module)
    ]
    if not found:
        raise NoResidualBlocksError(f"This {type(model).__name__} has no residual blocks of a kind that is known here.")
    if found[0].plain and not plain:
        raise NoResidualBlocksError(
            "This is a plain network: its blocks have no shortcuts, so that F(x) is added to nothing."
        )
    return found


def stem_response(model: nn.Module) -> list[tuple[str, str]]:
    """The stem's 3x3 convolution and its norm layer, where it is one of this package's and not 7x7."""
    stem = model.conv1 if isinstance(model, ResNet) else None
    return [("conv1", "bn1")] if isinstance(stem, nn.Conv2d) and stem.kernel_size == (3, 3) else []


def class_name(module: nn.Module) -> str:
    """By which networks of others are known. Not of what it inherits from: a subclass may add elsewhere."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _none(_name: str, _module: nn.Module) -> Iterable[Addition]:
    return ()


def _ours(name: str, block: nn.Module) -> Iterable[Addition]:
    """Of a block of this package, where every part is a module."""
    assert isinstance(block, BasicBlock | Bottleneck)
    plain = isinstance(block.downsample, NoShortcut)
    yield Addition(
        name,
        block=name,
        sees_x=f"{name}.conv1",
        gives_residual=f"{name}.cbam",  # an Identity where there is no CBAM
        gives_shortcut=None if plain or isinstance(block.downsample, nn.Identity) else f"{name}.downsample",
        gives_sum=None if plain else f"{name}.add",
        gate=f"{name}.cbam" if isinstance(block.cbam, CBAM) else None,
        responses=_responses(name, block),
        plain=plain,
    )


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
        for part, (sees_x, gives_residual) in (("attn", attention), ("mlp", mlp)):
            yield Addition(
                f"{name}.{part}",
                block=name,
                sees_x=f"{name}.{sees_x}",
                gives_residual=f"{name}.{gives_residual}",
                maps=False,
            )

    return adapter


ADAPTERS: dict[str, Adapter] = {
    "resnet_space.models.resnet.BasicBlock": _ours,
    "resnet_space.models.resnet.Bottleneck": _ours,
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
    "timm.models.vision_transformer.Block": _transformer(("norm1", "drop_path1"), ("norm2", "drop_path2")),
}
