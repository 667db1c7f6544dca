from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.ui.explore.memory import Handle, Memory, nbytes, value_of


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
    memory = Memory(3_500)
    held = [memory.count(Handle(thing())) for _ in range(5)]
    assert [handle.value is not None for handle in held] == [False, False, True, True, True]
    large = memory.count(Handle(thing(10_000)))
    assert large.value is not None
    assert all(handle.value is None for handle in held)


def test_one_that_is_used_again_and_has_grown_is_counted_anew() -> None:
    memory = Memory(3_500)
    first, second = memory.count(Handle(thing())), memory.count(Handle(thing()))
    assert first.value is not None
    first.value.asked["more"] = torch.zeros(500)
    memory.count(first)
    assert first.value is not None
    assert second.value is None


def test_what_its_page_has_left_is_not_counted() -> None:
    memory = Memory(3_500)
    kept = memory.count(Handle(thing()))
    for _ in range(20):
        memory.count(Handle(thing()))
    assert kept.value is not None


def test_a_copy_of_a_handle_is_the_handle() -> None:
    held = Handle(thing())
    assert deepcopy({"state": held})["state"] is held


def test_a_page_is_told_whether_there_was_nothing_yet_or_it_had_to_go() -> None:
    held = Handle(thing())
    assert value_of(held, "Nothing yet.") is held.value
    with pytest.raises(UserError, match="Nothing yet"):
        value_of(None, "Nothing yet.")
    held.value = None
    with pytest.raises(UserError, match="is not kept any longer, as others have measured since: measure again"):
        value_of(held, "Nothing yet.")
