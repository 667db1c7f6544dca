"""Where a network adds F(x) to shortcut(x): one `Addition` each, whoever wrote the network."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from resnet_space.models import CBAM, BasicBlock, Bottleneck, ResNet
from resnet_space.models.resnet import NoShortcut


class NoResidualBlocksError(ValueError):
    """A network in which nothing is added to its input; the message says so in one sentence."""


@dataclass(frozen=True)
class Addition:
    """One place where F(x) + shortcut(x) is formed, and the modules at which its parts can be seen.

    A convolutional block has one, a transformer block two: attention and MLP.

    Attributes:
        name: "layer2.0", or "blocks.3.attn".
        block: the module name of the whole block.
        sees_x: module whose first input is x.
        gives_residual: module whose output is F(x), as the addition receives it.
        gives_shortcut: module whose output is shortcut(x); None where that is x itself.
        gives_sum: module whose output is the sum before the last ReLU; None where no module is.
        gate: module (a CBAM) whose input is F(x) before its gates; None where there is none.
        responses: convolutions of 3x3 and the norm layers whose outputs are their responses.
        plain: whether the shortcut was left out: then nothing is added to F(x).
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

    @property
    def identity(self) -> bool:
        """Whether x comes through unchanged."""
        return self.gives_shortcut is None and not self.plain


def additions(model: nn.Module, *, plain: bool = False) -> list[Addition]:
    """All of a model's, in forward order.

    Args:
        model: a ResNet of this package, or one of torchvision or timm that has an adapter here.
        plain: whether a plain network (`shortcut="none"`) will do too.

    Raises:
        NoResidualBlocksError: for a model without any, such as AlexNet, VGG, or a plain network.
    """
    found = [addition for name, module in model.named_modules() for addition in _of_block(name, module)]
    if not found:
        raise NoResidualBlocksError("This model has no residual blocks.")
    if found[0].plain and not plain:
        raise NoResidualBlocksError(
            "This is a plain network: its blocks have no shortcuts, so nothing is added to F(x)."
        )
    return found


def stem_response(model: nn.Module) -> list[tuple[str, str]]:
    """The stem's 3x3 convolution and its norm layer, where it is one of this package's and not 7x7."""
    stem = model.conv1 if isinstance(model, ResNet) else None
    return [("conv1", "bn1")] if isinstance(stem, nn.Conv2d) and stem.kernel_size == (3, 3) else []


def _of_block(name: str, module: nn.Module) -> Iterator[Addition]:
    if isinstance(module, BasicBlock | Bottleneck):
        yield _ours(name, module)


def _ours(name: str, block: BasicBlock | Bottleneck) -> Addition:
    """Of a block of this package, where every part is a module."""
    plain = isinstance(block.downsample, NoShortcut)
    layers = ("1", "2") if isinstance(block, BasicBlock) else ("2",)
    return Addition(
        name,
        block=name,
        sees_x=f"{name}.conv1",
        gives_residual=f"{name}.cbam",  # an Identity where there is no CBAM
        gives_shortcut=None if plain or isinstance(block.downsample, nn.Identity) else f"{name}.downsample",
        gives_sum=None if plain else f"{name}.add",
        gate=f"{name}.cbam" if isinstance(block.cbam, CBAM) else None,
        responses=tuple((f"{name}.conv{i}", f"{name}.bn{i}") for i in layers),
        plain=plain,
    )
