"""The app's handlers by every route that leads to them, asked from many addresses."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest

from resnet_space.serve import handlers
from resnet_space.serve.handlers import Guarded, costly, costs, visitors_error
from resnet_space.serve.limits import Limits
from resnet_space.serve.sessions import SESSIONS_OF_ONE
from tests.handlers_app import A_MINUTE

FILE = {"path": "x", "meta": {"_type": "gradio.FileData"}}


class Served:
    """The app, and its visitors."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}gradio_api"
        self._numbers = iter(range(1, 255))

    def new_address(self) -> str:
        """From which nobody asked yet."""
        return f"8.8.8.{next(self._numbers)}"

    def ask(self, address: str, path: str, body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/{path}", json=body, headers={"X-Forwarded-For": address}, timeout=60)

    def run(self, address: str, name: str, *values: Any, **more: Any) -> Any:
        """By the route beside the queue: what came of it, or the error's sentence."""
        answer = self.ask(address, f"run/{name}", {"data": values, **more}).json()
        return answer["data"] if "data" in answer else answer["error"]

    def begin(self, address: str, name: str, *values: Any) -> str:
        """By the queue, without waiting: where to hear what came of it."""
        event: str = self.ask(address, f"call/{name}", {"data": values}).json()["event_id"]
        return f"{self.url}/call/{name}/{event}"

    def call(self, address: str, name: str, *values: Any) -> Any:
        """By the queue: what came of it, or the error's sentence."""
        answer = httpx.get(self.begin(address, name, *values), headers={"X-Forwarded-For": address}, timeout=60).text
        kind, data = answer.strip().split("\n")[-2:]
        said = json.loads(data.removeprefix("data: "))
        return said if kind == "event: complete" else said["error"]

    def state(self) -> dict[str, Any]:
        return dict(self.run("1.1.1.1", "state")[0])

    def until(self, true: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + 60
        while not true(self.state()):
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "tests.handlers_app", str(folder)]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(folder)}
    repository = Path(__file__).parents[2]
    with (folder / "log").open("w") as log:
        app = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    assert app.stdout is not None
    yield Served(app.stdout.readline().strip())
    app.kill()
    app.wait()
    app.stdout.close()


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    """With the gate closed; at the end nothing runs any more."""
    running.run("1.1.1.2", "set_gate", False)
    yield running
    running.run("1.1.1.2", "set_gate", True)
    running.until(lambda state: not state["jobs"])


def test_every_route_tells_the_handler_who_asks(served: Served) -> None:
    one = served.new_address()
    assert served.call(one, "quick", "hello") == [f"hello for {one}"]
    assert served.run(one, "quick", "hello") == [f"hello for {one}"]
    served.ask(one, "queue/join", {"data": ["hello"], "fn_index": 0, "session_hash": "page"})
    with httpx.stream(
        "GET", f"{served.url}/queue/data?session_hash=page", headers={"X-Forwarded-For": one}, timeout=60
    ) as page:
        assert any(f"hello for {one}" in line for line in page.iter_lines())


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("fail", ["run"], "\u2039b\u203awhy"),
        ("fail", ["os"], handlers.UNFORESEEN),
        ("fail", ["odd"], handlers.UNFORESEEN),
        ("quick", [], handlers.UNFIT),
        ("files", [[FILE | {"path": "/etc/passwd"}]], "This file has not been uploaded: upload it first."),
        ("files", [[{"meta": FILE["meta"]}]], handlers.UNFIT),
    ],
)
def test_whatever_goes_wrong_is_told_in_one_sentence_on_every_route(
    served: Served, name: str, values: list[Any], words: str
) -> None:
    assert served.run(served.new_address(), name, *values) == words
    assert served.call(served.new_address(), name, *values) == words


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("run/gone", {"data": []}),
        ("queue/join", {"data": [], "fn_index": 10_000, "session_hash": "x"}),
        ("queue/join", {"data": [], "fn_index": None, "session_hash": "x"}),
        ("run/quick", {"data": 5}),
        ("run/quick", 5),
        ("call/gone", {"data": []}),
        ("call/v2/gone", {}),
        ("cancel", {}),
    ],
)
def test_a_request_of_another_form_ends_in_a_sentence_too(served: Served, path: str, body: Any) -> None:
    answer = served.ask(served.new_address(), path, body)
    assert answer.status_code in (400, 404, 422)
    assert len(answer.json()["detail"]) > 20
    assert isinstance(answer.json()["detail"], str)


def test_an_address_that_asks_for_much_at_once_is_refused_before_it_waits_and_others_go_on(served: Served) -> None:
    attacker, other = served.new_address(), served.new_address()
    for _ in range(handlers.COSTLY_CALLS_OF_ONE + 20):
        served.begin(attacker, "slow", "x")
    served.until(lambda state: state["running"] == [attacker])  # one of a kind
    assert served.state()["jobs"] == handlers.COSTLY_CALLS_OF_ONE
    refused = (
        f"{handlers.COSTLY_CALLS_OF_ONE} requests from your address are "
        "already running or queued: wait until one "
        "is done."
    )
    assert served.call(attacker, "slow", "x") == refused
    assert served.run(attacker, "slow", "x") == refused
    served.begin(other, "slow", "x")
    served.until(lambda state: other in state["running"])  # although the attacker's were there first
    third = served.new_address()
    for name in ("slow", "slow_too", "slow_too"):
        served.begin(third, name, "x")
    served.until(lambda state: state["running"].count(third) == handlers.COSTLY_OF_ONE)
    assert served.call(attacker, "quick", "still") == [f"still for {attacker}"]


def test_what_is_quick_runs_however_many_wait_for_what_is_costly(served: Served) -> None:
    for _ in range(20):
        served.begin(served.new_address(), "slow", "x")
    served.until(lambda state: len(state["running"]) == handlers.COSTLY_AT_ONCE)
    one = served.new_address()
    assert served.call(one, "quick", "at once") == [f"at once for {one}"]
    assert len(served.state()["running"]) == handlers.COSTLY_AT_ONCE


def test_a_call_beside_the_queue_waits_for_the_same_places(served: Served) -> None:
    one = served.new_address()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(served.run, one, "slow", str(i)) for i in range(4)]
        served.until(lambda state: state["jobs"] == 4)
        assert served.state()["running"] == [one]
        served.run("1.1.1.2", "set_gate", True)
        assert sorted(answer.result()[0] for answer in answers) == ["0", "1", "2", "3"]


def test_what_takes_the_machines_time_is_limited_by_the_minute_on_every_route(served: Served) -> None:
    served.run("1.1.1.2", "set_gate", True)
    one, started = served.new_address(), time.monotonic()
    for _ in range(A_MINUTE // 2):
        assert served.call(one, "slow", "x") == ["x"]
        assert served.run(one, "slow", "x") == ["x"]
    often = f"Too many requests from your address (the limit is {A_MINUTE} per minute): try again in"
    for ask in (served.call, served.run):
        answers = [["x"]]
        while answers[-1] == ["x"]:  # on a slow machine, more than one is allowed again meanwhile
            answers.append(ask(one, "slow", "x"))
            assert len(answers) - 2 <= A_MINUTE / 60 * (time.monotonic() - started)
        assert str(answers[-1]).startswith(often)
    assert served.call(served.new_address(), "slow", "x") == ["x"]


def test_invented_sessions_take_the_place_of_the_inventors_own(served: Served) -> None:
    visitor, attacker = served.new_address(), served.new_address()
    page = {"session_hash": "somebody's page"}
    assert served.run(visitor, "count", None, **page)[-1] == "1"
    for i in range(SESSIONS_OF_ONE + 20):
        body = {"data": [], "fn_index": 10_000, "session_hash": f"invented {i}"}
        served.ask(attacker, "queue/join", body)
    invented = [name for name in served.state()["sessions"] if name.startswith("invented")]
    assert len(invented) == SESSIONS_OF_ONE
    assert served.run(visitor, "count", None, **page)[-1] == "2"


@pytest.mark.parametrize("data", [[[FILE] * 2_001], [dict.fromkeys(map(str, range(30_002)), 0)]], ids=["files", "keys"])
def test_many_values_and_many_files_are_refused_before_they_are_looked_at(served: Served, data: Any) -> None:
    answer = served.ask(served.new_address(), "run/files", {"data": data})
    assert answer.status_code == 413
    assert "at most 30,000 values and 2,000 files" in answer.json()["detail"]


def test_an_app_that_nobody_uses_looks_for_calls_less_often(served: Served) -> None:
    served.call(served.new_address(), "quick", "hello")
    assert served.state()["look"] == handlers.LOOK_SECONDS
    served.until(lambda state: state["look"] == handlers.IDLE_LOOK_SECONDS)


def test_a_refusal_of_a_handler_stays_as_it_is() -> None:
    error = gr.Error("as it is")
    assert visitors_error(error) is error


def test_what_takes_a_part_of_a_costly_call_may_be_called_more_often() -> None:
    look, predict = costs(0.25)(lambda: None), costly(lambda: None)

    async def refusals() -> list[bool]:  # within a loop, or Gradio makes one that nobody closes
        app = Guarded(Limits(requests=4))
        app.queue()
        calls = [*[look] * 12, predict, predict, look]
        return [app.reason_against(SimpleNamespace(fn=fn), "8.8.8.8") is not None for fn in calls]

    assert asyncio.run(refusals()) == [False] * 13 + [True, True]
