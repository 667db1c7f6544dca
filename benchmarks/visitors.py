"""Honest visitors of a public app, each with an address of its own, and how they are served; for `strangers.py`."""

import asyncio
import io
import itertools
import json
import secrets
import statistics
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

SHOWPIECE = "resnet20-cbam-cifar10"
API = "/gradio_api"
PATIENCE = 60.0  # seconds, after which a visitor gives up
STREAM = httpx.Timeout(PATIENCE, read=None)
# Seconds between two of a visitor's clicks
RELOAD, NEXT_PICTURE, NEXT_MEASUREMENT, NEXT_UPLOAD = 15.0, 5.0, 8.0, 8.0
KINDS = ("get", "predict", "measure", "upload", "watch")


@dataclass
class Served:
    """Seconds that each kind of request took, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    async def timed(self, kind: str, asked: Awaitable[None]) -> None:
        """Note how long it takes; what fails, or takes longer than a visitor waits, is an error."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                await asked
        except TimeoutError:
            self.errors[kind][f"no answer in {PATIENCE:.0f} s"] += 1
        except (httpx.HTTPError, RefusedError, ValueError, LookupError) as error:
            self.errors[kind][f"{type(error).__name__}: {error}"[:120]] += 1
        self.seconds[kind].append(time.monotonic() - started)

    def summary(self) -> dict[str, Any]:
        """By kind: how many, the median and the 95th percentile in seconds, and the errors."""
        return {
            kind: {
                "count": len(times),
                "p50": round(statistics.median(times), 3),
                "p95": round(percentile(times, 0.95), 3),
                "errors": dict(self.errors[kind]),
            }
            for kind in KINDS
            if (times := self.seconds[kind])
        }


class RefusedError(Exception):
    """The app answered with a refusal."""


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    return sorted(values)[max(0, -(-len(values) * round(share * 100) // 100) - 1)]


@dataclass
class Visitor:
    """A browser: an address, a connection, and what it knows of the page."""

    client: httpx.AsyncClient
    functions: dict[str, dict[str, Any]]
    first: dict[int, Any]  # the components' values at first
    key: str = field(default_factory=secrets.token_hex)
    session: str = field(default_factory=lambda: secrets.token_hex(6))

    async def get(self) -> None:
        """The page, as after a reload."""
        answer = await self.client.get("/")
        answer.raise_for_status()

    async def upload(self, name: str, content: bytes) -> dict[str, Any]:
        answer = await self.client.post(f"{API}/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    async def predict(self, picture: bytes) -> None:
        """Upload a picture and wait for its prediction, as a program would."""
        await self.call("predict", [await self.upload("picture.jpg", picture), SHOWPIECE])

    async def measure(self) -> None:
        await self.call("explore_residuals", [SHOWPIECE, "test images of cifar10-mini", 16, None])

    async def bring(self, archive: bytes) -> None:
        """Upload a dataset, as the page does."""
        await self.press("on_upload", [await self.upload("mine.zip", archive), self.key])

    async def call(self, name: str, data: list[Any]) -> Any:
        """An endpoint's answer, by its name. Raises RefusedError, httpx.HTTPError."""
        taken = await self.client.post(f"{API}/call/{name}", json={"data": data})
        if taken.status_code != 200:
            raise RefusedError(f"{taken.status_code} {taken.text[:80]}")
        event = ""
        async with self.client.stream("GET", f"{API}/call/{name}/{taken.json()['event_id']}", timeout=STREAM) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    event = line[7:]
                elif event == "complete" and line.startswith("data: "):
                    return json.loads(line[6:])
                elif event == "error" and line.startswith("data: "):
                    raise RefusedError(line[6:])
        raise RefusedError("the stream ended without an answer")

    async def press(self, name: str, data: list[Any]) -> Any:
        """What the page gets for a click, by the handler's name. Raises RefusedError, httpx.HTTPError."""
        body = {"data": data, "fn_index": self.functions[name]["id"], "session_hash": self.session}
        taken = await self.client.post(f"{API}/queue/join", json=body)
        if taken.status_code != 200:
            raise RefusedError(f"{taken.status_code} {taken.text[:80]}")
        event = taken.json()["event_id"]
        path = f"{API}/queue/data?session_hash={self.session}"
        async with self.client.stream("GET", path, timeout=STREAM) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed" and message["event_id"] == event:
                    if not message["success"]:
                        raise RefusedError(json.dumps(message["output"]))
                    return message["output"]["data"]
        raise RefusedError("the stream ended without an answer")

    async def measure_on_page(self) -> None:
        """Press Measure: what was found is kept in the visitor's session."""
        inputs = self.functions["on_measure"]["inputs"]
        await self.press("on_measure", [self.first[i] for i in inputs])

    async def still_measured(self) -> bool:
        """Whether the session still has what was found: a file is made of it."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.press("values", [None])
        except (httpx.HTTPError, RefusedError, TimeoutError):
            return False
        return True

    async def trains(self) -> str:
        """What somebody who wants to train is told: nothing where the training starts or waits for its turn."""
        data = ["random initialisation", "cifar10-mini", "resnet20", "", "scratch", 1, *(None,) * 3, 0, None, ""]
        try:
            async with asyncio.timeout(PATIENCE):
                await self.call("start_training", data)
        except (httpx.HTTPError, RefusedError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"[:200]
        return ""

    async def watch(self, served: Served, end: float) -> None:
        """Follow the live stream, and open it again after a second where it ends, as a browser does."""
        while (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left), self.client.stream("GET", f"/live?runs={SHOWPIECE}") as stream:
                    if stream.status_code != 200:
                        raise RefusedError(str(stream.status_code))
                    async for _ in stream.aiter_raw():
                        pass
                    raise RefusedError("the stream ended")
            except TimeoutError:
                return
            except (httpx.HTTPError, RefusedError) as error:
                served.errors["watch"][f"{type(error).__name__}: {error}"[:120]] += 1
                served.seconds["watch"].append(0.0)
                await asyncio.sleep(1)

    async def again_and_again(
        self, served: Served, kind: str, act: Callable[[], Awaitable[None]], pause: float, end: float, first: float
    ) -> None:
        """Do it every so many seconds, beginning after `first`."""
        await asyncio.sleep(first)
        while time.monotonic() < end:
            started = time.monotonic()
            await served.timed(kind, act())
            await asyncio.sleep(max(0.0, min(started + pause, end) - time.monotonic()))


@dataclass(frozen=True)
class Crowd:
    """How many honest visitors do what."""

    watching: int = 50
    predicting: int = 10
    measuring: int = 5
    uploading: int = 3


async def visit(
    port: int,
    crowd: Crowd,
    seconds: float,
    picture: bytes,
    archive: bytes,
    attack: Callable[[], Coroutine[Any, Any, Any]],
) -> dict[str, Any]:
    """All of them for so long, while the attack goes on.

    Returns:
        The attack's result, how all were served, whether a visitor's session was kept, and what somebody is told who
        wants to train afterwards ("" where they may).
    """
    served = Served()
    async with AsyncExitStack() as stack:
        config: dict[str, Any] = {}

        async def visitor(number: int) -> Visitor:
            address = f"127.0.{1 + number // 200}.{1 + number % 200}"
            # No certificates to read, which takes long: it is plain HTTP.
            transport = httpx.AsyncHTTPTransport(local_address=address, verify=False)
            base = f"http://127.0.0.1:{port}"
            client = httpx.AsyncClient(base_url=base, transport=transport, timeout=PATIENCE)
            await stack.enter_async_context(client)
            if not config:
                config.update((await client.get("/config")).json())
            functions = {made["api_name"]: made for made in config["dependencies"]}
            return Visitor(client, functions, {c["id"]: c["props"].get("value") for c in config["components"]})

        numbers = itertools.count()

        async def some(count: int) -> list[Visitor]:
            return [await visitor(next(numbers)) for _ in range(count)]

        measured, newcomer = await some(2)
        await measured.predict(picture)  # all models and libraries are loaded
        await measured.measure_on_page()
        assert await measured.still_measured(), "what was measured on the page is not kept"
        watching, predicting = await some(crowd.watching), await some(crowd.predicting)
        measuring, uploading = await some(crowd.measuring), await some(crowd.uploading)
        end = time.monotonic() + seconds
        tasks: list[Coroutine[Any, Any, Any]] = [one.watch(served, end) for one in watching]

        def every(them: list[Visitor], kind: str, pause: float, act: Callable[[Visitor], Awaitable[None]]) -> None:
            for i, one in enumerate(them):
                tasks.append(one.again_and_again(served, kind, partial(act, one), pause, end, pause * i / len(them)))

        every(watching, "get", RELOAD, Visitor.get)
        every(predicting, "predict", NEXT_PICTURE, lambda one: one.predict(picture))
        every(measuring, "measure", NEXT_MEASUREMENT, Visitor.measure)
        every(uploading, "upload", NEXT_UPLOAD, lambda one: one.bring(archive))
        told, *_ = await asyncio.gather(attack(), *tasks)
        return {
            "attack": told,
            "served": served.summary(),
            "session_kept": await measured.still_measured(),
            "training_refused": await newcomer.trains(),
        }


def an_archive(folder: Path) -> bytes:
    """A small dataset: example pictures, in two classes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i, path in enumerate(sorted(folder.glob("*.jpg"))):
            for copy in range(4):  # each another file, as a trailing byte does no harm to a JPEG
                archive.writestr(f"{'ab'[i % 2]}/{copy}-{path.name}", path.read_bytes() + bytes([copy]))
    return file.getvalue()
