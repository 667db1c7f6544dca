"""A place where a network adds F(x) to shortcut(x), whoever wrote the network."""

from dataclasses import dataclass

from resnet_space.common.errors import UserError


class NoResidualBlocksError(UserError):
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
        maps: whether x and F(x) are maps [N, C, H, W], and not tokens.
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
    maps: bool = True

    @property
    def identity(self) -> bool:
        """Whether x comes through unchanged."""
        return self.gives_shortcut is None and not self.plain
