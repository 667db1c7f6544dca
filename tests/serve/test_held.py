from copy import deepcopy
from dataclasses import dataclass

import gradio as gr
import pytest
import torch
from torch import Tensor

from resnet_space.ui.explore.held import Held, Holding, kept, nbytes


@dataclass(frozen=True, eq=False)
class Thing:
    name: str
    values: Tensor
    asked: dict[str, Tensor]


def thing(count: int = 250) -> Thing:
    return Thing("", torch.zeros(count), {})


def test_the_bytes_of_a_thing_are_those_of_its_parts() -> None:
    assert 1_000 < nbytes(thing()) < 1_100
    grown = thing()
    grown.asked["more"] = torch.zeros(500)
    assert 3_000 < nbytes(grown) < 3_200
    assert 6_000 < nbytes([grown, (grown,)]) < 6_400


def test_the_oldest_go_where_it_is_too_much_and_the_newest_stays() -> None:
    holding = Holding(3_500)
    held = [holding.hold(Held(thing())) for _ in range(5)]
    assert [handle.thing is not None for handle in held] == [False, False, True, True, True]
    large = holding.hold(Held(thing(10_000)))
    assert large.thing is not None
    assert all(handle.thing is None for handle in held)


def test_one_that_is_used_again_and_has_grown_is_counted_anew() -> None:
    holding = Holding(3_500)
    first, second = holding.hold(Held(thing())), holding.hold(Held(thing()))
    assert first.thing is not None
    first.thing.asked["more"] = torch.zeros(500)
    holding.hold(first)
    assert first.thing is not None
    assert second.thing is None


def test_what_its_page_has_left_is_not_counted() -> None:
    holding = Holding(3_500)
    kept = holding.hold(Held(thing()))
    for _ in range(20):
        holding.hold(Held(thing()))
    assert kept.thing is not None


def test_a_copy_of_a_handle_is_the_handle() -> None:
    held = Held(thing())
    assert deepcopy({"state": held})["state"] is held


def test_a_page_is_told_whether_there_was_nothing_yet_or_it_had_to_go() -> None:
    held = Held(thing())
    assert kept(held, "Nothing yet.") is held.thing
    with pytest.raises(gr.Error, match="Nothing yet"):
        kept(None, "Nothing yet.")
    held.thing = None
    with pytest.raises(gr.Error, match="is not kept any longer, as others have measured since: measure again"):
        kept(held, "Nothing yet.")
