"""Every endpoint of a public app, of the page and of programs, called with what no page would send.

Each call ends with an answer or with one sentence, whatever the route: none with `null`, a traceback or the name of an
exception. The app then serves as before, and nothing was made that is nobody's.
"""

import io
import itertools
import json
import math
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from resnet_space.data.sources import DATASET_OWNER
from resnet_space.runs import OWNER, SHOWPIECE
from resnet_space.serve.visitors import claim
from resnet_space.ui.finetune.more_data import DATASET
from tests.hub_stub import HubStub
from tests.trainings import png
from tests.ui.conftest import SHIPPED, TINY, App

pytestmark = pytest.mark.ui

SECONDS = 120  # for an answer, on a busy machine; a call that takes longer is one that does not end
BEATS = 8  # of a stream's heart, one every 15 s
SESSION = "raw"  # of all calls, so that what some of them measure is there for others
FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
SELECTED = {"index": [0, 0], "value": "x", "row_value": [SHOWPIECE], "selected": True}
ODD: dict[str, Any] = {
    "null": None,
    "5": 5,
    "-1": -1,
    "1e308": 1e308,
    "NaN": math.nan,
    "'NaN'": "NaN",
    "empty": "",
    "surrogate": "\ud800",
    "long": "a" * 10_000,
    "[]": [],
    "nested": [[1, ["\ud800"]], {"a": []}],
    "{}": {},
    "path": {"path": "/etc/passwd"},
    "file": FILE,
    "true": True,
}
MANY = 8  # arguments, as a form has
KEY = "a key"
BUSY = "busy"
LONG = ("on_suggest", "on_export")  # which work for a minute if what is odd is a value that they do not look at
ROUTES = ("index", "run", "call", "queue")


@dataclass(frozen=True)
class Call:
    """One request for a handler: by its number or its name, at once or through the queue."""

    what: str
    route: str
    index: int
    name: str
    data: Any
    more: dict[str, Any] = field(default_factory=dict)  # of the body


def endpoints(config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each handler once, and each event of the page that has none; with the kinds of its arguments."""
    kinds = {component["id"]: component["type"] for component in config["components"]}
    seen = set()
    for dependency in config["dependencies"]:
        name = re.sub(r"_\d+$", "", dependency["api_name"])  # of the second event of a handler
        what = name, *dependency["inputs"], *([] if dependency["backend_fn"] else [dependency["id"]])
        if name.startswith(("lambda", "partial")) or what not in seen:
            seen.add(what)
            yield dependency, [kinds[i] for i in dependency["inputs"]]


def sensible(config: dict[str, Any], inputs: list[int], files: dict[str, Any]) -> list[Any]:
    """What the page sends at first, or what lets a call get as far as it can at little cost; `files` by kind."""
    few = {"Dataset": TINY, "2nd": TINY, "Epochs": 1, "6th": 1, "How many": 4, "Count": 4}
    given = files | {"browserstate": KEY}
    known = {component["id"]: component for component in config["components"]}
    data = [
        given.get(known[i]["type"], few.get(known[i]["props"].get("label"), known[i]["props"].get("value")))
        for i in inputs
    ]
    return [TINY if value == DATASET else value for value in data]


def calls(config: dict[str, Any], files: dict[str, Any], *, whole: bool) -> Iterator[Call]:
    """In the whole form each argument of each handler is a third of the odd values, others than the argument before,
    two where there are many arguments, and all where it is a visitor's key; the short form calls each handler once.
    """
    odd = list(ODD.items())
    turn = itertools.count()
    for dependency, kinds in endpoints(config):
        values = sensible(config, dependency["inputs"], files)
        index, name, count = dependency["id"], dependency["api_name"], len(values)

        def call(what: str, data: Any, index: int = index, name: str = name, **more: Any) -> Call:
            routes = [route for route in ROUTES if not more or route != "call"]  # which takes nothing but the data
            route = routes[next(turn) % len(routes)]
            return Call(f"{name} ({index}) {what}", route, index, name, data, more)

        if not dependency["backend_fn"]:  # all of these have one fault, if any
            if whole or index % 4 == 0:
                label, value = odd[index % len(odd)]
                yield call(f"all {label}", [value] * count)
            continue
        made = [call("none", []), *([call("too few", values[:-1])] if count else [])]
        if name not in LONG:
            made.append(call("too many", [*values, *ODD.values()]))
            label, value = odd[index % len(odd)]
            made.append(call(f"all {label}", [value] * count))
            for place, kind in enumerate(kinds):
                # What is sent for a State is not looked at.
                most = 1 if kind == "state" else len(odd) if kind == "browserstate" else 5 if count < MANY else 2
                for label, value in (odd[(5 * place + i) % len(odd)] for i in range(most)):
                    made.append(call(f"[{place}] = {label}", [*values[:place], value, *values[place + 1 :]]))
        if dependency["collects_event_data"]:
            for i, (label, value) in enumerate([("as it is", SELECTED), *odd]):
                clicked = SELECTED | {"index": value, "value": value} if i % 2 else value
                made.append(call(f"clicked {label}", values, event_data=clicked))
        yield from made if whole else [made[(7 * index) % len(made)]]


def asked(client: httpx.Client, call: Call) -> tuple[int, str]:
    """The status and the text of a call's answer; through the queue, 200 is an answer of the handler."""
    body = {"data": call.data, **call.more}
    if call.route != "call":
        body["session_hash"] = SESSION
    if call.route in ("index", "queue"):
        body["fn_index"] = call.index
    path = {"queue": "queue/join", "index": "run/predict"}.get(call.route, f"{call.route}/{call.name}")
    answer = post(client, f"/gradio_api/{path}", body)
    if call.route in ("index", "run") or answer.status_code != 200:
        return answer.status_code, answer.text
    event = answer.json()["event_id"]
    if call.route == "call":
        return told(client, f"/gradio_api/call/{call.name}/{event}", event)
    return told(client, f"/gradio_api/queue/data?session_hash={SESSION}", event)


def told(client: httpx.Client, path: str, event: str) -> tuple[int, str]:
    """How a stream says that an event ended. It may go on after that, and its heartbeats for ever."""
    beats = 0
    with client.stream("GET", path) as stream:
        kind = ""
        for line in stream.iter_lines():
            beats += "heartbeat" in line
            if beats == BEATS:
                break
            if line.startswith("event: "):
                kind = line[7:]
            elif kind in ("complete", "error") and line.startswith("data: "):
                return (200 if kind == "complete" else 500), line[6:]
            elif not kind and line.startswith("data: "):
                message = json.loads(line[6:])
                if message["msg"] == "process_completed" and message["event_id"] == event:
                    return (200 if message["success"] else 500), json.dumps(message["output"])
    return 500, "the stream told no end"


def post(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    return client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})


def complaint(status: int, text: str) -> str | None:
    """What is wrong with an answer; None where it is one, or one sentence."""
    try:
        said = json.loads(text)
    except ValueError:
        return f"{status}, no JSON: {text[:200]!r}"
    if status == 200:
        return None
    reason = said.get("error", said.get("detail")) if isinstance(said, dict) else said
    if not isinstance(reason, str):
        return f"{status}: {text[:300]}"
    if not re.fullmatch(r"\S.* .*\S", reason):  # one line of some words
        return f"{status}, no sentence: {reason[:300]!r}"
    if re.search(r"Traceback|File \"|\b[A-Z]\w+(Error|Exception)\b|\bNoneType\b|object at 0x", reason):
        return f"{status}, not for people: {reason[:300]!r}"
    return None


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory, hub: HubStub) -> Iterator[App]:
    """With room for the requests. What is started waits behind a run that seems to train, and costs nothing."""
    environment = {"RESNET_SPACE_MAX_REQUESTS": "100000", "RESNET_SPACE_MAX_QUEUE": "10000"}
    running = App(tmp_path_factory.mktemp("public"), hub, ["--host=0.0.0.0"], **environment)
    shutil.copytree(running.checkpoints / SHOWPIECE, running.checkpoints / BUSY)
    claim(running.checkpoints.parent / "data" / TINY / DATASET_OWNER, KEY)
    with running.run(BUSY).training_lock():
        running.start()
        yield running
        running.close(after_nonsense=True)


@pytest.fixture(scope="module")
def client(public: App) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=public.url, timeout=SECONDS) as connected:
        yield connected


@pytest.fixture(scope="module")
def config(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/config").json()
    return answer


@pytest.fixture(scope="module")
def files(client: httpx.Client) -> dict[str, Any]:
    """A picture and an archive that were uploaded, by the kind of component that takes them."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for i in range(8):
            packed.writestr(f"{'ab'[i % 2]}/{i}.png", png(i))
    taken = {}
    for kind, name, content in (("image", "picture.png", png(0)), ("file", "mine.zip", archive.getvalue())):
        (path,) = client.post("/gradio_api/upload", files={"files": (name, content)}).json()
        taken[kind] = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return taken


def complaints(client: httpx.Client, made: Iterator[Call]) -> list[str]:
    found = []
    for call in made:
        try:
            said = complaint(*asked(client, call))
        except httpx.HTTPError as error:
            said = f"no answer: {error!r}"
        found += [f"{call.what} by {call.route}: {said}"] if said is not None else []
    return found


def assert_unharmed(app: App, client: httpx.Client) -> None:
    """It answers, and each run and dataset that was made is somebody's."""
    assert client.get("/").status_code == 200
    status, said = asked(client, Call("status", "call", -1, "training_status", [SHOWPIECE]))
    assert (status, json.loads(said)[0]["state"]) == (200, "finished")
    made = [path / OWNER for path in app.checkpoints.iterdir() if path.name not in (*SHIPPED, BUSY)]
    made += [path / DATASET_OWNER for path in (app.checkpoints.parent / "data").iterdir() if path.name != TINY]
    owners = {str(path): path.read_text() if path.exists() else "" for path in made if path.parent.is_dir()}
    assert not [path for path, owner in owners.items() if not re.fullmatch(r"([0-9a-f]{64}\n)+", owner)]


def test_every_endpoint_answers_an_odd_call_with_a_sentence(public: App, client, config, files) -> None:
    assert complaints(client, calls(config, files, whole=False)) == []
    assert_unharmed(public, client)


@pytest.mark.long
def test_every_endpoint_answers_odd_values_in_the_place_of_each_argument_with_a_sentence(
    public: App, client, config, files
) -> None:
    assert complaints(client, calls(config, files, whole=True)) == []
    assert_unharmed(public, client)


NAMES = ("nobody", "%00", "\u00e9", "training_status%2f..")
BODIES: tuple[bytes, ...] = (
    b"{",
    b"",
    b"[]",
    b"5",
    b"null",
    b"\xff\xfe",
    b"{}",
    b'{"data": null}',
    b'{"data": {}}',
    b'{"data": "\\ud800"}',
)
BODIES += (b"[" * 100_000, b'{"data": ' + b"[" * 5_000 + b"]" * 5_000 + b"}")
KEYS: dict[str, tuple[Any, ...]] = {
    "session_hash": (5, "", "\ud800", "a" * 10_000, [], {}, True),
    "fn_index": (-1, 10**9, 10**30, 1.5, "x", "\ud800", [], {}, True),
    "trigger_id": (-1, 10**9, "x", "\ud800", []),
    "event_id": (5, "", "\ud800", "a" * 10_000, []),
    "event_data": (5, "", "\ud800", [], {}),
    "batched": (5, "x", "\ud800", [], True),
    "oauth_token": (5, "", "\ud800", []),
    "simple_format": (5, "x", "\ud800", [], True),
}


def requests() -> Iterator[tuple[str, bytes]]:
    """(address, body) of calls that are odd otherwise than in what a handler is given."""
    plain = json.dumps({"data": [SHOWPIECE]}).encode()
    for name in NAMES:
        for route in ("run", "call", "call/v2"):
            yield f"{route}/{name}", plain
    for content in BODIES:
        for path in ("run/training_status", "call/training_status", "call/v2/training_status", "queue/join"):
            yield path, content
    for key, values in KEYS.items():
        for value in values:
            body = {"data": [SHOWPIECE], "session_hash": "odd"}
            yield "run/training_status", json.dumps({**body, key: value}).encode()
            yield "queue/join", json.dumps({**body, "fn_index": 0, key: value}).encode()
    for arguments in ({"run": 5}, {"run": "\ud800"}, {"nobody": 5}, {}):
        yield "call/v2/training_status", json.dumps(arguments).encode()
    named: dict[str, Any] = {"session_hash": "odd", "component_id": 10**9, "fn_name": "x", "data": 1}
    named |= {"event_id": "x", "fn_index": 0}
    bodies: tuple[Any, ...] = ({}, named, dict.fromkeys(named, 5), dict.fromkeys(named, "\ud800"), [])
    for path in ("component_server", "cancel", "reset"):
        for odd in bodies:
            yield path, json.dumps(odd).encode()


def test_a_request_that_is_no_call_of_an_endpoint_is_answered_with_a_sentence(public: App, client) -> None:
    found = []
    for path, body in requests():
        try:
            answer = client.post(f"/gradio_api/{path}", content=body, headers={"content-type": "application/json"})
            said = complaint(answer.status_code, answer.text)
        except httpx.HTTPError as error:
            said = f"no answer: {error!r}"
        found += [f"{path} {body[:80]!r}: {said}"] if said is not None else []
    answer = client.get("/gradio_api/queue/data")  # of no session
    assert complaint(answer.status_code, answer.text) is None
    assert found == []
    assert_unharmed(public, client)
