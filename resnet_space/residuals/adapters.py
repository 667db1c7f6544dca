"""What is measured of a network: its additions, responses and head, of this package's by its contract, of torchvision's
and timm's own classes by what is known of them.
"""

from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.models.additions import (
    EARLY_HEADS,
    Addition,
    NoResidualBlocksError,
    class_name,
    foreign_additions,
)
from resnet_space.models.contract import Backbone


def additions(model: nn.Module, *, plain: bool = False) -> list[Addition]:
    """All of a model's, in forward order.

    Args:
        model: a network of this package's registry, or one of torchvision or timm whose blocks are known.
        plain: whether a plain network (`shortcut="none"`) will do too.

    Raises:
        NoResidualBlocksError: for a model without any, such as AlexNet, VGG, or a plain network.
    """
    found = model.additions() if isinstance(model, Backbone) else foreign_additions(model)
    if found[0].plain and not plain:
        raise NoResidualBlocksError("This is a plain network: its blocks have no shortcuts to add F(x) to.")
    return found


def responses(model: nn.Module) -> list[tuple[str, str]]:
    """3x3 convolutions and the norm layers whose outputs are their responses, in forward order."""
    if isinstance(model, Backbone):
        return model.responses()
    return [layer for addition in foreign_additions(model) for layer in addition.responses]


def read_early(model: nn.Module, state: Tensor) -> Tensor:
    """From the output of a block of the last stage to logits.

    Raises:
        UserError: for a head that cannot read it.
    """
    if isinstance(model, Backbone):
        return model.read_early(state)
    if class_name(model) not in EARLY_HEADS:
        raise UserError(f"The head of this {type(model).__name__} cannot read a block's output.")
    return EARLY_HEADS[class_name(model)](model, state)
