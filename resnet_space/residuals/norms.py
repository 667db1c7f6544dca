"""What residual blocks do to their input, measured: ||F(x)|| beside ||x|| (He et al. 2015, arXiv:1512.03385, section
3.1).

The blocks here end in a ReLU after the addition; Jastrzebski et al. 2018 (arXiv:1710.04773), who published such ratios,
used pre-activation blocks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnet_space.hooks import eval_mode, recorded
from resnet_space.models import BasicBlock, Bottleneck


@dataclass(frozen=True)
class ResidualNorms:
    """Per image l2 norms over C, H, W, float32, one row a block in forward order.

    At an identity shortcut ||x|| and ||shortcut(x)|| are the same; at a projection only the latter has F(x)'s shape,
    which is why ratios use it.

    Attributes:
        blocks: B module names ("layer2.0").
        identity: B flags: whether the shortcut is the identity.
        input: [B, N] ||x||.
        shortcut: [B, N] ||shortcut(x)||.
        residual: [B, N] ||F(x)||.
        output: [B, N] ||F(x) + shortcut(x)||, before the last ReLU.
    """

    blocks: list[str]
    identity: list[bool]
    input: Tensor
    shortcut: Tensor
    residual: Tensor
    output: Tensor

    @property
    def ratio(self) -> Tensor:
        """[B, N] ||F(x)|| / ||shortcut(x)||: by how much the block changes its input."""
        return self.residual / self.shortcut


@dataclass(frozen=True)
class LayerResponses:
    """How strongly each 3x3 convolution responds: after its BN, before ReLU or addition (He et al. 2015, figure 7).

    Of a bottleneck that is its middle layer. The stem counts where it is a 3x3 convolution too.

    Attributes:
        layers: L module names of the convolutions ("conv1", "layer1.0.conv1", ...), in forward order.
        std: float64 [L], the standard deviation over all images, channels and places.
    """

    layers: list[str]
    std: Tensor


@dataclass(frozen=True)
class Measured:
    """What a pass over the first N images found. Tensors are on the CPU.

    Attributes:
        norms: see there. In a plain network `shortcut` is not a number, and so is the ratio.
        stages: B numbers from 0: a new one begins where F(x) gets another shape.
        cosine: float64 [B, N] cos(F(x), shortcut(x)).
        before_gate: float64 [B, N], the norm of the branch before its CBAM; as `norms.residual` where there is none.
        responses: of all N images.
        plain: whether the network is plain: it has blocks, but no shortcuts.
    """

    norms: "ResidualNorms"
    stages: list[int]
    cosine: Tensor
    before_gate: Tensor
    responses: LayerResponses
    plain: bool

    @property
    def images(self) -> int:
        return self.norms.input.shape[1]

    @property
    def has_gates(self) -> bool:
        """Whether any block has a CBAM inside."""
        return not torch.equal(self.before_gate, self.norms.residual.double())


def measure(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[Measured]:
    """Measure batch by batch; each yield has all images so far. Stop whenever you like.

    Args:
        model: a ResNet of this package, plain ones too, or one of torchvision or timm that has an adapter; left as it
            was, at every yield.
        batches: images float [n, 3, H, W], already normalised.

    Raises:
        NoResidualBlocksError: see `additions`.
        ValueError: for no images.
    """
    raise NotImplementedError


def _norms(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N], accumulated in float32 whatever x's type."""
    if x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # in memory order, or flattening would copy
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float32)
    return norms


def _norms_at_addition(inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    residual, shortcut = inputs
    return torch.stack([_norms(residual), _norms(shortcut), _norms(output)])


def residual_norms(model: nn.Module, images: Tensor, *, batch_size: int = 64) -> ResidualNorms:
    """Measure every residual block on images float [N, 3, H, W], already normalised.

    Memory does not grow with the number of images beyond the norms themselves.

    Raises:
        ValueError: for a model without residual blocks, or no images.
    """
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, BasicBlock | Bottleneck)}
    if not blocks:
        raise ValueError("This model has no residual blocks.")
    if not len(images):
        raise ValueError("There are no images to measure: give at least one.")
    identity = [isinstance(block.downsample, nn.Identity) for block in blocks.values()]
    at_addition = {f"{name}.add": _norms_at_addition for name in blocks}
    # An identity shortcut has the norms of x already.
    at_projection = {
        f"{name}.downsample": (lambda inputs, _output: _norms(inputs[0]))
        for name, same in zip(blocks, identity, strict=True)
        if not same
    }
    with torch.inference_mode(), eval_mode(model), recorded(model, at_addition | at_projection) as measured:
        for batch in images.split(batch_size):
            model(batch)
    residual, shortcut, output = torch.stack([torch.cat(measured[name], dim=1) for name in at_addition]).unbind(1)
    inputs = torch.stack(
        [
            shortcut[i] if same else torch.cat(measured[f"{name}.downsample"])
            for i, (name, same) in enumerate(zip(blocks, identity, strict=True))
        ]
    )
    return ResidualNorms(
        list(blocks), identity, *(norms.cpu().float() for norms in (inputs, shortcut, residual, output))
    )
