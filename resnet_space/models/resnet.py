"""ResNet (He et al. 2015, arXiv:1512.03385): the ImageNet family 18 to 152 and the CIFAR family 20 to 110.

Parameter names equal torchvision's, so its weights load as they are. Beyond torchvision, everything worth observing is
a submodule whose output is not changed afterwards: `block.downsample` sees x and gives shortcut(x), `block.cbam` sees
the residual branch before its gates, and `block.add` sees F(x) and shortcut(x) and gives their sum before the last
ReLU.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.models.additions import Addition
from resnet_space.models.cbam import CBAM
from resnet_space.models.contract import Backbone, Part, Segment, with_cut_kernel
from resnet_space.models.registry import CHANNEL_ATTENTION, HEAD, SPATIAL_ATTENTION, STEM

Stem = Literal["imagenet", "cifar"]
Shortcut = Literal["projection", "pad", "none"]
CbamPlace = Literal["stage", "block"]


class Add(nn.Module):
    """F(x) + shortcut(x), as a module so that a hook sees both."""

    def forward(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        return residual + shortcut


class PadShortcut(nn.Module):
    """Option A of He et al. 2015, section 3.3: take every `stride`-th pixel, fill the new channels with zeros."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


class NoShortcut(nn.Module):
    """Replaces the shortcut in a plain network, whose blocks are relu(F(x)) (He et al. 2015, section 3.3)."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("A plain network has no shortcuts.")


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: Shortcut) -> nn.Module:
    if kind == "none":
        return NoShortcut()
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class ResidualBlock(nn.Module):
    """relu(F(x) + shortcut(x)): base of the two block types below."""

    expansion: int  # channels of the output for each of the 3x3 convolutions' `width`
    conv1: nn.Conv2d
    cbam: nn.Module
    downsample: nn.Module
    add: Add
    relu: nn.ReLU

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The last norm layer of the branch."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """F(x), as the addition receives it."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.residual(x)
        if not isinstance(self.downsample, NoShortcut):
            out = self.add(out, self.downsample(x))
        activated: Tensor = self.relu(out)
        return activated


class BasicBlock(ResidualBlock):
    """relu(F(x) + shortcut(x)) with F = conv3x3 - BN - ReLU - conv3x3 - BN [- CBAM] (He et al. 2015, figure 5 left).

    Args:
        in_channels: channels of x.
        width: channels of the 3x3 convolutions; the block's output has `width * expansion`.
        stride: of the first convolution and the shortcut.
        shortcut: its type where the shape changes; "none" leaves every shortcut out.
        cbam: gate the residual branch before the addition (Woo et al. 2018, figure 3).
    """

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, *, stride: int = 1, shortcut: Shortcut = "projection", cbam: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)  # bn1's output is never measured
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.cbam = CBAM(width) if cbam else nn.Identity()
        self.downsample = _shortcut(in_channels, width, stride, shortcut)
        self.add = Add()
        self.relu = nn.ReLU()

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        return self.bn2

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        residual: Tensor = self.cbam(self.bn2(self.conv2(x)))
        return residual


class Bottleneck(ResidualBlock):
    """relu(F(x) + shortcut(x)) with F = conv1x1 - conv3x3 - conv1x1, each with BN (He et al. 2015, figure 5 right).

    The stride sits in the 3x3 convolution, as in torchvision ("ResNet v1.5"); the paper has it in the first 1x1.
    Arguments as in `BasicBlock`; the output has 4 x `width` channels.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, *, stride: int = 1, shortcut: Shortcut = "projection", cbam: bool = False
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.cbam = CBAM(out_channels) if cbam else nn.Identity()
        self.downsample = _shortcut(in_channels, out_channels, stride, shortcut)
        self.add = Add()
        self.relu = nn.ReLU()

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        return self.bn3

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        residual: Tensor = self.cbam(self.bn3(self.conv3(x)))
        return residual


class ResNet(Backbone):
    """images [N, 3, H, W] -> logits [N, num_classes].

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks of each stage.
        widths: 3x3 channels of each stage.
        num_classes: logits of the head.
        stem: "imagenet" is 7x7/2 and a max-pool, for about 224 px; "cifar" is 3x3/1 without a pool, for about 32
        px.
        shortcut: where the shape changes, "projection" (option B) or "pad" (option A); "none" makes a plain network.
        cbam: none, one after every "stage", or one inside every "block" before the addition.
        zero_init_residual: start with F(x) = 0 by zeroing the last BN's scale (Goyal et al. 2017, section 5.1).
        kaiming_mode: "fan_out" (torchvision) or "fan_in" (He et al. 2015, arXiv:1502.01852, equation 10).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        widths: tuple[int, ...] = (64, 128, 256, 512),
        *,
        num_classes: int = 1000,
        stem: Stem = "imagenet",
        shortcut: Shortcut = "projection",
        cbam: CbamPlace | None = None,
        zero_init_residual: bool = False,
        kaiming_mode: Literal["fan_in", "fan_out"] = "fan_out",
    ) -> None:
        super().__init__()
        if shortcut == "none" and zero_init_residual:
            raise UserError("A plain network (shortcut='none') cannot start with F(x) = 0: its output would be zero.")
        channels = widths[0]
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

        self.stage_names = tuple(f"layer{i + 1}" for i in range(len(depths)))
        for i, (name, depth, width) in enumerate(zip(self.stage_names, depths, widths, strict=True)):
            blocks = nn.Sequential()
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(block(channels, width, stride=stride, shortcut=shortcut, cbam=cbam == "block"))
                channels = width * block.expansion
            self.add_module(name, blocks)
            self.add_module(f"cbam{i + 1}", CBAM(channels) if cbam == "stage" else nn.Identity())

        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self._init_weights(zero_init_residual, kaiming_mode)

    def _init_weights(self, zero_init_residual: bool, kaiming_mode: Literal["fan_in", "fan_out"]) -> None:
        for name, module in self.named_modules():
            # CBAM's own initialisation (see cbam.py) must stay as it is; BN starts at 1 and 0 by itself.
            if isinstance(module, nn.Conv2d) and "cbam" not in name:
                nn.init.kaiming_normal_(module.weight, mode=kaiming_mode, nonlinearity="relu")
        if zero_init_residual:
            for block in self.blocks().values():
                nn.init.zeros_(block.last_bn.weight)

    def blocks(self) -> dict[str, ResidualBlock]:
        """Every residual block by its module name ("layer2.0"), in forward order."""
        return {name: module for name, module in self.named_modules() if isinstance(module, ResidualBlock)}

    def forward_features(self, x: Tensor) -> Tensor:
        """images [N, 3, H, W] -> the last stage's features [N, C, h, w]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage, cbam in self.stages().items():
            x = self.get_submodule(cbam)(self.get_submodule(stage)(x))
        return x

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """features [N, C, h, w] -> logits [N, num_classes], or their mean over positions [N, C]."""
        pooled: Tensor = self.avgpool(features).flatten(1)
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        self.fc = nn.Linear(self.fc.in_features, num_classes)

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return with_cut_kernel(weights, "conv1.weight", self.conv1.kernel_size[0])

    def parts(self) -> list[Part]:
        found: dict[tuple[str, str, bool], list[str]] = {}
        for name, _ in self.named_parameters():
            found.setdefault(_part_of(name), []).append(name)
        return [Part(part, stage, tuple(names), added) for (part, stage, added), names in found.items()]

    def segments(self) -> tuple[Segment, ...]:
        def segment(stage: str, module: nn.Module, name: str | None = None) -> Segment:
            dropped = _without_residual(module) if isinstance(module, ResidualBlock) else None
            return Segment(stage, module, (module,), name, dropped)

        stages = (
            segment(stage, module, name)
            for stage, cbam in self.stages().items()
            for name, module in (
                *((f"{stage}.{i}", block) for i, block in enumerate(self.get_submodule(stage).children())),
                (None, self.get_submodule(cbam)),
            )
        )
        stem = (segment(STEM, module) for module in (self.conv1, self.bn1, self.relu, self.maxpool))
        head = (segment(HEAD, module) for module in (self.avgpool, nn.Flatten(), self.fc))
        return *stem, *stages, *head

    def stages(self) -> dict[str, str]:
        return {name: name.replace("layer", "cbam") for name in self.stage_names}

    def observed(self) -> list[str]:
        return ["maxpool", *self.stages().values()]

    def additions(self) -> list[Addition]:
        return [_addition(name, block) for name, block in self.blocks().items()]

    def responses(self) -> list[tuple[str, str]]:
        stem = [("conv1", "bn1")] if self.conv1.kernel_size == (3, 3) else []
        return stem + super().responses()

    def read_early(self, state: Tensor) -> Tensor:
        """A CBAM after the last stage is applied first, as the network does at its end."""
        *_, cbam = self.stages().values()
        return self.forward_head(self.get_submodule(cbam)(state))


def _part_of(name: str) -> tuple[str, str, bool]:
    """(part, stage, whether it was added) of a parameter."""
    first, second, *_ = name.split(".")
    if "cbam" in name:
        part = SPATIAL_ATTENTION if ".spatial." in name else CHANNEL_ATTENTION
        return part, first.replace("cbam", "layer"), True
    if first == "fc":
        return HEAD, HEAD, False
    if first in ("conv1", "bn1"):
        return STEM, STEM, False
    return f"{first}.{second}", first, False


def _addition(name: str, block: ResidualBlock) -> Addition:
    plain = isinstance(block.downsample, NoShortcut)
    numbers = (2,) if isinstance(block, Bottleneck) else (1, 2)  # of the 3x3 convolutions
    return Addition(
        name,
        block=name,
        sees_x=f"{name}.conv1",
        gives_residual=f"{name}.cbam",  # an Identity where there is no CBAM
        gives_shortcut=None if plain or isinstance(block.downsample, nn.Identity) else f"{name}.downsample",
        gives_sum=None if plain else f"{name}.add",
        gate=f"{name}.cbam" if isinstance(block.cbam, CBAM) else None,
        responses=tuple((f"{name}.conv{i}", f"{name}.bn{i}") for i in numbers),
        plain=plain,
        keeps_shape=block.conv1.in_channels == block.last_bn.num_features
        and all(module.stride == (1, 1) for module in block.modules() if isinstance(module, nn.Conv2d)),
    )


def _without_residual(block: ResidualBlock) -> Callable[[Tensor], Tensor]:
    """relu(shortcut(x)); in a plain network x, which is a ReLU's output already."""
    if isinstance(block.downsample, NoShortcut):
        return lambda x: x
    return lambda x: block.relu(block.downsample(x))
