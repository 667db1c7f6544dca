"""How long x, shortcut(x), F(x) and their sum are at every residual block, and how they lie to one another.

||F(x)|| beside ||x|| is what He et al. 2015 (arXiv:1512.03385, section 3.1) argue with: a block that should do nothing
only has to make F small. The blocks here end in a ReLU after the addition; Jastrzebski et al. 2018 (arXiv:1710.04773),
who published such ratios, used pre-activation blocks.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from resnet_space.models.additions import Addition
from resnet_space.models.hooks import Hook, eval_mode, hooked
from resnet_space.residuals.adapters import additions
from resnet_space.residuals.adapters import responses as response_layers
from resnet_space.residuals.parts import Parts, parts_hooks
from resnet_space.residuals.probes import last

CHUNK = 1_024  # numbers that are added in float32 before float64 takes over
TOO_UNEQUAL = 0.05  # of two lengths, for their angle to be told from the length of their sum


@dataclass(frozen=True)
class ResidualNorms:
    """Per image l2 norms over C, H, W, float32, one row a block in forward order.

    At an identity shortcut ||x|| and ||shortcut(x)|| are the same; at a projection only the latter has F(x)'s shape,
    which is why ratios use it.

    Attributes:
        blocks: B names of additions: those of their modules ("layer2.0"), where a module has only one.
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
        std: float64 [L], the standard deviation over all images, channels and positions.
    """

    layers: list[str]
    std: Tensor


@dataclass(frozen=True)
class Measured:
    """What a pass over the first N images found. Tensors are on the CPU.

    Attributes:
        norms: see there. In a plain network the shortcut's norms are not numbers, and neither is the ratio; the output
            is F(x).
        stages: B numbers from 0: a new one begins where F(x) gets another shape.
        cosine: float64 [B, N] cos(F(x), shortcut(x)).
        before_gate: float64 [B, N], the norm of the branch before its CBAM; as `norms.residual` where there is none.
        gated: B flags: whether the block has a CBAM inside.
        responses: of all N images.
        plain: whether the network is plain: it has blocks, but no shortcuts.
        parts: B names of the additions that a block has several of, `ATTENTION` or `MLP`; else empty.
    """

    norms: ResidualNorms
    stages: list[int]
    cosine: Tensor
    before_gate: Tensor
    gated: list[bool]
    responses: LayerResponses
    plain: bool
    parts: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        return self.norms.input.shape[1]

    @property
    def has_gates(self) -> bool:
        """Whether any block has a CBAM inside."""
        return any(self.gated)


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
    yield from _measure(model, batches, responses=True)


def _measure(model: nn.Module, batches: Iterable[Tensor], *, responses: bool) -> Iterator[Measured]:
    """As `measure`, if need be without looking at the layers within the blocks."""
    found = additions(model, plain=True)
    layers = response_layers(model) * responses
    per_image: list[Tensor] = []  # of each batch: [B, 6, n]
    sums = torch.zeros(len(layers), 3, dtype=torch.float64)
    stages: list[int] = []
    for batch in batches:
        if not len(batch):
            continue
        passed = _Pass(found)
        with torch.inference_mode(), eval_mode(model), hooked(model, passed.hooks(layers)):
            model(batch)
        per_image.append(torch.stack(passed.values).cpu())
        if layers:
            sums += torch.stack([passed.responses[norm] for _, norm in layers]).cpu()
        stages = stages or _stages(passed.shapes)
        yield _so_far(found, layers, torch.cat(per_image, dim=2), sums, stages)
    if not per_image:
        raise ValueError("There are no images to measure: give at least one.")


def residual_norms(model: nn.Module, images: Tensor, *, batch_size: int = 64) -> ResidualNorms:
    """Measure every residual block on images float [N, 3, H, W], already normalised.

    Memory does not grow with the number of images beyond the norms themselves.

    Raises:
        ValueError: for a model without residual blocks, or no images.
    """
    additions(model)  # refuses a plain network, too
    return last(_measure(model, images.split(batch_size), responses=False)).norms


class _Pass:
    """What one forward pass leaves: six numbers an addition and image, three a layer."""

    def __init__(self, found: Sequence[Addition]) -> None:
        self.found = found
        # Float64 [6, n] each: ||x||, ||shortcut(x)||, ||F(x)||, ||sum||, cosine, ||F(x)|| before its gates.
        self.values: list[Tensor] = [torch.empty(0)] * len(found)
        self.shapes: list[torch.Size] = [torch.Size()] * len(found)
        self.before_gate: dict[int, Tensor] = {}
        # Of a norm layer: how many numbers, their sum, and the sum of their squares: float64 [3].
        self.responses: dict[str, Tensor] = {}

    def hooks(self, layers: Sequence[tuple[str, str]]) -> list[tuple[str, Hook]]:
        hooks: list[tuple[str, Hook]] = [(norm, self._response(norm)) for _, norm in layers]
        for i, addition in enumerate(self.found):
            if addition.gate:
                hooks.append((addition.gate, self._gate(i)))
            hooks += parts_hooks(addition, self._see(i))
            if addition.gives_sum:
                hooks.append((addition.gives_sum, self._sum(i)))
        return hooks

    def _response(self, norm: str) -> Hook:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows = _rows(output)
            squares = lengths(output).square().sum()
            total = rows.sum(dim=2, dtype=_at_least_float32(output)).double().sum()
            self.responses[norm] = torch.stack([squares.new_tensor(output.numel()), total, squares])

        return hook

    def _gate(self, i: int) -> Hook:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            self.before_gate[i] = lengths(inputs[0])

        return hook

    def _see(self, i: int) -> Callable[[Parts], None]:
        def see(parts: Parts) -> None:
            self.shapes[i] = parts.residual.shape[1:]
            residual = lengths(parts.residual)
            nothing = torch.full_like(residual, torch.nan)
            x = shortcut = lengths(parts.x)
            if parts.shortcut is None:
                shortcut = nothing
            elif parts.shortcut is not parts.x:
                shortcut = lengths(parts.shortcut)
            sum_ = residual if parts.shortcut is None else nothing
            self.values[i] = torch.stack([x, shortcut, residual, sum_, nothing, self.before_gate.get(i, residual)])
            if parts.shortcut is not None and not self.found[i].gives_sum:
                self._add(i, parts.residual, parts.shortcut, parts.residual + parts.shortcut)

        return see

    def _sum(self, i: int) -> Hook:
        return lambda _module, inputs, output: self._add(i, inputs[0], inputs[1], output)

    def _add(self, i: int, residual: Tensor, shortcut: Tensor, output: Tensor) -> None:
        """The sum's length, and with it the angle between its parts."""
        _, s, f, *_ = self.values[i]
        total = lengths(output)
        in_float32 = torch.finfo(output.dtype).bits >= 32
        if in_float32 and bool(((f > TOO_UNEQUAL * s) & (s > TOO_UNEQUAL * f)).all()):
            product = (total.square() - f.square() - s.square()) / 2  # the law of cosines: nothing is read again
        else:
            product = torch.linalg.vecdot(_rows(residual).float(), _rows(shortcut).float()).double().sum(1)
        self.values[i][3] = total
        self.values[i][4] = product / (f * s)


def lengths(x: Tensor) -> Tensor:
    """[N, ...] -> float64 [N], the l2 norm of each."""
    # Float64 from the first number on would take ten times as long, and float32 to the last lose the fifth digit.
    short: Tensor = torch.linalg.vector_norm(_rows(x), dim=2, dtype=_at_least_float32(x))
    long: Tensor = torch.linalg.vector_norm(short, dim=1, dtype=torch.float64)
    return long


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _rows(x: Tensor) -> Tensor:
    """[N, ...] -> [N, K, at most CHUNK], the same numbers in their order in memory."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # or flattening would copy
    flat = x.flatten(1)
    size = flat.shape[1]
    chunk = next(chunk for chunk in range(min(CHUNK, size), 0, -1) if size % chunk == 0)
    return flat.view(len(flat), -1, chunk) if flat.is_contiguous() else flat.reshape(len(flat), -1, chunk)


def _stages(shapes: Sequence[torch.Size]) -> list[int]:
    """Numbers from 0 that rise where the shape changes."""
    stages = [0]
    for before, shape in itertools.pairwise(shapes):
        stages.append(stages[-1] + (shape != before))
    return stages


def _so_far(
    found: Sequence[Addition], layers: Sequence[tuple[str, str]], values: Tensor, sums: Tensor, stages: list[int]
) -> Measured:
    """Values float64 [B, 6, N] and sums float64 [L, 3] in their places."""
    x, shortcut, residual, output, cosine, before_gate = values.unbind(1)
    count, total, squares = sums.unbind(1)
    std = (squares / count - (total / count).square()).clamp(min=0).sqrt()
    norms = ResidualNorms(
        [addition.name for addition in found],
        [addition.identity for addition in found],
        *(part.float() for part in (x, shortcut, residual, output)),
    )
    gated = [addition.gate is not None for addition in found]
    responses = LayerResponses([layer for layer, _ in layers], std)
    parts = [addition.part for addition in found]
    return Measured(norms, stages, cosine, before_gate, gated, responses, plain=found[0].plain, parts=parts)
