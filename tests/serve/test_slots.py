import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_space.common.errors import UserError
from resnet_space.serve.slots import WIDTHS, Slots, Width
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.measuring import measure_network
from resnet_space.ui.explore.networks import Network
from resnet_space.ui.predict.looks import looks
from resnet_space.ui.predict.wanted import Wanted


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Work:
    """Threads that each want a slot, and hold it until `done` is set."""

    def __init__(self, slots: Slots, threads: int) -> None:
        self.done, self.running, self.most, self.refused = threading.Event(), 0, 0, list[str]()
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._work, args=(slots,)) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _work(self, slots: Slots) -> None:
        try:
            with slots.taken("exports"):
                with self._lock:
                    self.running += 1
                    self.most = max(self.most, self.running)
                self.done.wait(30)
                with self._lock:
                    self.running -= 1
        except UserError as error:
            self.refused.append(str(error))


def test_as_many_run_and_wait_as_may_and_the_others_are_refused_at_once() -> None:
    slots = Slots({"exports": Width(2, 3)})
    work = Work(slots, 9)
    eventually(lambda: len(work.refused) == 4)
    assert work.running == 2
    work.done.set()
    for thread in work.threads:
        thread.join(30)
    assert (work.most, work.running, len(work.refused)) == (2, 0, 4)
    assert set(work.refused) == {"Too many exports are running at once: try again in a moment."}


def test_who_waits_too_long_is_refused_and_takes_no_place() -> None:
    slots = Slots({"exports": Width(1, 1)}, wait_seconds=0.05)
    work = Work(slots, 1)
    eventually(lambda: work.running == 1)
    for _ in range(3):
        with pytest.raises(UserError), slots.taken("exports"):
            pass
    work.done.set()
    work.threads[0].join(30)
    with slots.taken("exports"):
        pass


def test_a_slot_is_free_again_however_its_work_ended_and_each_kind_has_its_own() -> None:
    slots = Slots({"exports": Width(1, 0), "previews": Width(1, 0)})
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots.taken("exports"), slots.taken("previews"):
            raise ZeroDivisionError
    with slots.taken("exports"):
        pass


def test_pictures_and_measurements_are_read_and_computed_in_a_slot_only() -> None:
    context: Any = SimpleNamespace(slots=Slots(dict.fromkeys(WIDTHS, Width(0, 0))), public=True)
    for kind, work in (
        ("predictions", lambda: looks(context, Wanted(), None)),
        ("measurements", lambda: next(measure_network(context, Network("a-run"), Images(), threading.Event()))),
    ):
        with pytest.raises(UserError, match=f"Too many {kind} are running at once: try again in a moment"):
            work()


def test_a_kind_whose_id_says_little_has_words_of_its_own() -> None:
    with pytest.raises(UserError, match="Too many heatmap tests are running"):
        Slots({"tests of maps": Width(0, 0)}).taken("tests of maps").__enter__()


def test_all_that_run_and_wait_leave_some_of_gradios_forty_threads() -> None:
    assert sum(width.at_once + width.waiting for width in WIDTHS.values()) <= 30
