"""The interface of every network, with timm's names where they exist. Code outside `models/` uses nothing else.

A custom network inherits from `Backbone` and implements `forward_features`, `forward_head`, `get_classifier`,
`reset_classifier` and `parts`; the other methods have defaults, or say in one sentence what the network lacks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.models.additions import Addition, NoResidualBlocksError, foreign_additions
from resnet_space.models.cbam import CBAM, cbams


@dataclass(frozen=True)
class Part:
    """Parameters that are frozen together and share a learning rate.

    Attributes:
        name: "stem", "head", a block as "layer2.0", or what was added to the network, as "channel attention".
        stage: "stem", "head", or the stage that it is in, as "layer2".
        parameters: their names.
        added: whether a strategy names it by itself: it does not belong to its stage's rate.
    """

    name: str
    stage: str
    parameters: tuple[str, ...]
    added: bool = False


@dataclass(frozen=True)
class Segment:
    """A section of the forward pass, after which it can be cut.

    Attributes:
        stage: as in `Part`.
        run: computes the input of the next segment.
        modules: the modules that run in it.
        block: the module name of its block, if it is one.
        dropped: for a residual block, the replacement with F(x) = 0.
    """

    stage: str
    run: Callable[[Tensor], Tensor]
    modules: tuple[nn.Module, ...]
    block: str | None = None
    dropped: Callable[[Tensor], Tensor] | None = None


def run_all(segments: Sequence[Segment]) -> Callable[[Tensor], Tensor]:
    """Run segments one after the other."""

    def run(x: Tensor) -> Tensor:
        for segment in segments:
            x = segment.run(x)
        return x

    return run


def with_cut_kernel(weights: dict[str, Tensor], name: str, size: int) -> dict[str, Tensor]:
    """Weights with a convolution's kernel [out, in, k, k] cut to the `size` x `size` in its centre, if it is larger."""
    kernel = weights.get(name)
    margin = 0 if kernel is None else (kernel.shape[-1] - size) // 2
    if kernel is None or margin <= 0:
        return weights
    return weights | {name: kernel[..., margin : margin + size, margin : margin + size].contiguous()}


def _all_but(module: nn.Module, left_out: nn.Module) -> Iterator[nn.Module]:
    """What a module consists of without one in it, however deep that is."""
    for child in module.children():
        if child is not left_out and left_out in child.modules():
            yield from _all_but(child, left_out)
        elif child is not left_out:
            yield child


class _Own(nn.Module):
    """The parameters that a network has itself, in none of its modules, such as a class token."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, parameter in network.named_parameters(recurse=False):
            self.register_parameter(name, parameter)


class Backbone(nn.Module):
    """images [N, 3, H, W] -> logits [N, num_classes]"""

    def forward_features(self, x: Tensor) -> Tensor:
        """images [N, 3, H, W] -> maps [N, C, h, w], or tokens [N, T, D]."""
        raise NotImplementedError

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """features -> logits [N, num_classes], or the input of the classifier [N, D]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        raise NotImplementedError

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one with random weights."""
        raise NotImplementedError

    def parts(self) -> list[Part]:
        """All parameters, each in one part, in forward order."""
        raise NotImplementedError

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the same network with its default options, changed to fit this one's; others as they are."""
        return weights

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay: norm layers and biases, which have fewer than two axes."""
        return {name for name, parameter in self.named_parameters() if parameter.ndim < 2}

    def segments(self) -> Sequence[Segment]:
        """The forward pass, to the bit, as what runs one after the other: so a frozen beginning is computed once.

        Unless a network says more, it can be cut before its classifier only.
        """
        classifier = self.get_classifier()
        body = (*_all_but(self, classifier), _Own(self))
        return (
            Segment("features", lambda x: self.forward_head(self.forward_features(x), pre_logits=True), body),
            Segment("head", classifier, (classifier,)),
        )

    def stages(self) -> dict[str, str]:
        """Every stage whose output is worth a look, and the name of the module that gives it; the last one's is that of
        `forward_features`.
        """
        raise NotImplementedError

    def observed(self) -> list[str]:
        """The modules whose mean outputs tell what an image is like: of every stage, from the first layers on."""
        return list(self.stages().values())

    def to_map(self, features: Tensor) -> Tensor:
        """A stage's output as a feature map [N, C, h, w]."""
        return features

    def after(self, stage: str) -> Callable[[Tensor], Tensor] | None:
        """The function from a stage's output to the logits; None if the forward pass cannot be resumed there."""
        if stage == list(self.stages())[-1]:
            return self.forward_head
        segments = self.segments()
        last = max((i for i, segment in enumerate(segments) if segment.stage == stage), default=None)
        return None if last is None else run_all(segments[last + 1 :])

    def map_stages(self) -> dict[str, str]:
        """The stages that class maps can be made of: every position of their output reaches the logits."""
        return self.stages()

    def additions(self) -> list[Addition]:
        """Where F(x) + shortcut(x) is formed, in forward order.

        Raises:
            NoResidualBlocksError: if there are none.
        """
        return foreign_additions(self)

    def responses(self) -> list[tuple[str, str]]:
        """3x3 convolutions and the norm layers whose outputs are their responses (He et al. 2015, figure 7)."""
        try:
            return [layer for addition in self.additions() for layer in addition.responses]
        except NoResidualBlocksError:
            return []

    def attention(self) -> dict[str, CBAM]:
        """The modules that gate channels and positions, in forward order."""
        return cbams(self)

    def attention_weights(self) -> dict[str, str]:
        """By the name of its block, the module that outputs softmax(Q Kᵀ / √d) [N, heads, T, T] of all tokens while
        `hooks.unfused` and a hook ask for it; none where attention is within windows.
        """
        return {}

    def read_early(self, state: Tensor) -> Tensor:
        """Apply the head early: from the output of a block of the last stage to logits.

        Raises:
            UserError: if the head cannot be applied to it.
        """
        raise UserError(f"The head of this {type(self).__name__} cannot be applied to a block's output.")
