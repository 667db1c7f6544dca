"""Which networks can be measured: their ids, which are no words, and the words that stood in their place before."""

from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.runs import SHOWPIECE
from resnet_space.serve.context import AppContext
from resnet_space.ui.explore import networks
from resnet_space.ui.explore.address import linked_networks
from resnet_space.ui.explore.networks import RANDOM, UNTRAINED, Network, load_network, network_choices

CONTEXT = AppContext(Path(__file__).parents[2] / "checkpoints")
ALL = [Network("a-run"), Network("a-run", UNTRAINED), Network("resnet50", RANDOM)]


@pytest.mark.parametrize("network", ALL, ids=str)
def test_a_network_is_known_by_its_id_and_by_what_it_was_called_before(network: Network) -> None:
    assert Network.parse(str(network)) == network
    former = {"run": "a-run", "untrained": "a-run (untrained)", "random": "torchvision resnet50 (random weights)"}
    assert Network.parse(former[network.kind]) == network


def test_the_labels_can_be_reworded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [id_ for _, id_ in network_choices(["a-run"])]
    monkeypatch.setattr(networks, "LABELS", {kind: f"{kind} <{{}}>" for kind in networks.LABELS})
    choices = network_choices(["a-run"])
    assert [id_ for _, id_ in choices] == before
    assert ("untrained <a-run>", "untrained:a-run") in choices
    assert [str(Network.parse(id_)) for id_ in before] == before


def test_an_address_of_before_still_names_its_networks() -> None:
    asked = {"tab": "explore", "run": f"{SHOWPIECE} (untrained)"}
    asked["with"] = f"{SHOWPIECE},gone,torchvision vgg16 (random weights),random:vgg99"
    expected = [Network(SHOWPIECE, UNTRAINED), Network(SHOWPIECE), Network("vgg16", RANDOM)]
    assert linked_networks(CONTEXT, asked) == expected
    assert linked_networks(CONTEXT, asked | {"run": str(expected[0])}) == expected
    assert linked_networks(CONTEXT, asked | {"tab": "predict"}) == []


@pytest.mark.parametrize("network", [Network(""), Network("gone", UNTRAINED), Network("resnet99", RANDOM)], ids=str)
def test_a_network_that_is_not_there_is_one_sentence(network: Network) -> None:
    with pytest.raises(UserError):
        load_network(CONTEXT, network)
