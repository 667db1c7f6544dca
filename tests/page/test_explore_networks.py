"""Which networks can be measured: their ids, which are no words, and the words that stood in their place before."""

from pathlib import Path

import pytest

from resnet_space.common.errors import UserError
from resnet_space.runs import DEEP, PHOTO_BACKBONE, SHALLOW, SHOWPIECE
from resnet_space.serve.context import AppContext
from resnet_space.training.footprint import multiply_adds
from resnet_space.ui.explore import networks
from resnet_space.ui.explore.address import link_of, shared
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.networks import (
    RANDOM,
    UNTRAINED,
    Network,
    load_network,
    network_choices,
    other_choices,
)

CONTEXT = AppContext(Path(__file__).parents[2] / "checkpoints")
ALL = [Network("a-run"), Network("a-run", UNTRAINED), Network("resnet50", RANDOM)]


@pytest.mark.parametrize("network", ALL, ids=str)
def test_a_network_is_known_by_its_id_and_by_what_it_was_called_before(network: Network) -> None:
    assert Network.parse(str(network)) == network
    former = {"run": "a-run", "untrained": "a-run (untrained)", "random": "torchvision resnet50 (random weights)"}
    assert Network.parse(former[network.kind]) == network


@pytest.mark.parametrize("network", ALL, ids=str)
def test_a_choice_without_a_name_is_the_subjects(network: Network) -> None:
    assert network.beside("a-run").about("a-run") == network
    assert network.beside("another").about("a-run") == network
    assert Network.parse(str(network.beside("a-run"))) == network.beside("a-run")


def test_the_labels_can_be_reworded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [id_ for _, id_ in other_choices(["a-run"])]
    monkeypatch.setattr(networks, "LABELS", {kind: f"{kind} <{{}}>" for kind in networks.LABELS})
    choices = other_choices(["a-run"])
    assert [id_ for _, id_ in choices] == before
    assert ("run <a-run>", "a-run") in choices
    assert [str(Network.parse(id_)) for id_ in before] == before


def test_what_is_chosen_stays_a_choice_though_it_is_no_run_any_more() -> None:
    assert ("gone (untrained)", "untrained:gone") in other_choices(["a-run"], ["untrained:gone", "a-run"])
    assert [id_ for _, id_ in network_choices()][:2] == ["run:", "untrained:"]


def test_an_image_costs_more_in_a_deeper_network_and_at_more_pixels() -> None:
    cost = {name: multiply_adds(CONTEXT.library.open(name).config.model) for name in (SHALLOW, DEEP, PHOTO_BACKBONE)}
    assert cost[SHALLOW] < cost[DEEP] < cost[PHOTO_BACKBONE]


def test_an_address_of_before_still_names_its_networks() -> None:
    asked = {"tab": "explore", "run": f"{SHOWPIECE} (untrained)"}
    asked["with"] = f"{SHOWPIECE},gone,torchvision vgg16 (random weights),random:vgg99,random:swin_t"
    link = link_of(CONTEXT, asked)
    assert link is not None
    assert (link.network, link.subject, link.view) == (Network(SHOWPIECE, UNTRAINED), SHOWPIECE, "compare")
    assert link.others == (
        Network(SHOWPIECE),
        Network("vgg16", RANDOM),
        Network("swin_tiny_patch4_window7_224", RANDOM),
    )
    assert link_of(CONTEXT, asked | {"run": str(link.network)}) == link
    assert link_of(CONTEXT, asked | {"tab": "predict"}) is None


def test_an_address_names_the_view_the_images_and_the_picture_and_nonsense_is_the_usual() -> None:
    asked = {"tab": "explore", "run": SHOWPIECE, "network": "random:vgg16", "view": "pictures", "picture": "5"}
    link = link_of(CONTEXT, asked | {"split": "train", "count": "32", "block": "layer1.0"})
    assert link is not None
    assert (link.network, link.subject) == (Network("vgg16", RANDOM), None)
    assert (link.view, link.split, link.count, link.picture, link.block) == ("pictures", "train", 32, 5, "layer1.0")
    odd = link_of(CONTEXT, asked | {"network": "gone", "count": "-1", "picture": "9" * 30})
    assert odd is not None
    assert (odd.network, odd.count, odd.picture) == (None, 64, 0)


def test_what_is_usual_is_not_in_the_address() -> None:
    usual = Images("cifar10-mini", "test", 64)
    assert shared(Network("a-run"), "a-run", usual) == "network=&data=&split=&count="
    other = shared(Network("a-run", UNTRAINED), "a-run", Images("pets", "train", 8))
    assert other == "network=untrained%3Aa-run&data=pets&split=train&count=8"


@pytest.mark.parametrize("network", [Network(""), Network("gone", UNTRAINED), Network("resnet99", RANDOM)], ids=str)
def test_a_network_that_is_not_there_is_one_sentence(network: Network) -> None:
    with pytest.raises(UserError):
        load_network(CONTEXT, network)
