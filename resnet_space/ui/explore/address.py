"""The tab's part of the page's address, which rebuilds what it shows.

`network` where it is not the subject, `data`, `split` and `count` where they are not the usual ones, `view` for the
open sub-tab, and what only a view has: `with=A,B` of a comparison, `picture`, `block` and `channel` of one picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from resnet_space.common.errors import UserError
from resnet_space.models.registry import entries
from resnet_space.serve.context import AppContext
from resnet_space.ui.explore.comparing import MOST_NETWORKS
from resnet_space.ui.explore.controls import FIRST_COUNT, FIRST_DATASET, FIRST_SPLIT
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.networks import RANDOM, Network

COMPARE = "compare"


@dataclass(frozen=True)
class Link:
    """What an address names, as far as it is there.

    Attributes:
        network: None: the subject.
        others: to compare it with.
        view: the key of a sub-tab; empty: the first.
        data, split, count: of the images; empty: the usual ones.
        picture, block, channel: of one picture.
    """

    network: Network | None
    others: tuple[Network, ...] = ()
    view: str = ""
    data: str = ""
    split: str = ""
    count: int = FIRST_COUNT
    picture: int = 0
    block: str = ""
    channel: str = ""

    @property
    def subject(self) -> str | None:
        """The run that it makes the subject; None where it names none."""
        return self.network.run if self.network else None


def link_of(context: AppContext, asked: Mapping[str, str]) -> Link | None:
    """What a page's address asks of this tab; None where another tab is asked for."""
    if asked.get("tab") != "explore":
        return None
    named = map(Network.parse, (asked.get("network") or asked.get("run", ""), *asked.get("with", "").split(",")))
    first, *others = (network if _is_there(context, network) else None for network in named)
    there = tuple(network for network in dict.fromkeys(others) if network is not None and network != first)
    return Link(
        first,
        there[: MOST_NETWORKS - 1],
        # Before views had addresses, one that named others to compare with was all that there was of a comparison.
        asked.get("view", COMPARE if there else ""),
        asked.get("data", ""),
        asked.get("split", ""),
        _number(asked.get("count"), FIRST_COUNT),
        _number(asked.get("picture"), 0),
        asked.get("block", ""),
        asked.get("channel", ""),
    )


def shared(network: Network, subject: str | None, images: Images) -> str:
    """The part of the address for what was measured. Pictures of one's own have none."""
    usual: dict[str, tuple[Any, Any]] = {
        "network": (str(network), subject),
        "data": (images.dataset, FIRST_DATASET),
        "split": (images.split, FIRST_SPLIT),
        "count": (images.count or FIRST_COUNT, FIRST_COUNT),
    }
    return urlencode({name: "" if value == default else value for name, (value, default) in usual.items()})


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 6 else default


def _is_there(context: AppContext, network: Network) -> bool:
    if network.kind == RANDOM:
        return network.name in entries(trains=False)
    try:
        return context.library.open(network.name).has_weights
    except UserError:
        return False
