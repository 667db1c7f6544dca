"""What one stranger may try on a public app, each a function of its own; `strangers.py` starts them.

Only against an app of one's own on this machine: every address is a loopback one. Each attack is bounded in number and
in time, and tells what it was answered: how many requests by status, or by the error where there was none.
"""

import asyncio
import io
import json
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from struct import pack
from typing import Any

import httpx

ATTACKER = "127.0.66.6"
SHOWPIECE = "resnet20-cbam-cifar10"
API = "/gradio_api"
JSON = {"content-type": "application/json"}
BOUNDARY = "a-part-of-the-request"
OPEN = 300  # connections that are held open
UPLOAD_MB = 90
UPLOADS = 30  # broken off, at most


@dataclass
class Target:
    """The app, and what it has answered."""

    port: int
    seconds: float
    answers: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.seconds
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            transport=httpx.AsyncHTTPTransport(local_address=ATTACKER, limits=httpx.Limits(max_connections=None)),
            timeout=None,
        )

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    async def post(self, path: str, body: Any, *, event: str = "") -> Any:
        """The answer's JSON, None where it was refused. A body in bytes is sent as it is."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            answer = await self.client.post(f"{API}/{path}", content=content, headers=JSON)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code) if answer.status_code == 200 else reason(answer)] += 1
        return answer.json() if answer.status_code == 200 else None

    async def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """A file as a handler takes it."""
        answer = await self.client.post(f"{API}/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    async def functions(self) -> dict[str, dict[str, Any]]:
        """What the page may call, by name."""
        answer = await self.client.get("/config")
        return {made["api_name"]: made for made in answer.json()["dependencies"]}

    async def form(self, **values: Any) -> list[Any]:
        """The values of the fine-tune tab's form, some of them otherwise, by their labels."""
        config = (await self.client.get("/config")).json()
        fields = {made["id"]: made["props"] for made in config["components"]}
        inputs = next(made["inputs"] for made in config["dependencies"] if made["api_name"] == "look_at_data")
        return [values.get(fields[i].get("label"), fields[i].get("value")) for i in inputs]

    async def connect(self, head: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which a request was begun, where there is one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(ATTACKER, 0))
        if head:
            writer.write(f"{head}\r\nHost: 127.0.0.1\r\n".encode() + body)
        return reader, writer

    async def hold(self, head: str, body: bytes = b"\r\n", count: int = OPEN) -> None:
        """Hold so many requests open until the end, whatever comes back."""

        async def one(number: int) -> None:
            try:
                reader, writer = await self.connect(head.format(number), body)
            except OSError as error:
                self.answers[type(error).__name__] += 1
                return
            try:
                async with asyncio.timeout(max(self.left, 0)):
                    status = (await reader.readline()).decode(errors="replace").partition(" ")[2].strip()
                    self.answers[status or "closed"] += 1
                    while await reader.read(2**16):
                        pass
                    self.answers["ended early"] += 1
            except TimeoutError:
                self.answers["held to the end"] += 1
            except OSError as error:
                self.answers[type(error).__name__] += 1
            finally:
                writer.close()

        await asyncio.gather(*(one(number) for number in range(count)))


def reason(answer: httpx.Response) -> str:
    """A refusal's status and the beginning of its sentence."""
    try:
        said = answer.json()
        sentence = said.get("error") or said.get("detail")
    except (ValueError, AttributeError):
        sentence = None
    return f"{answer.status_code} {str(sentence)[:60] if sentence else ''}".strip()


async def at_once(calls: list[Coroutine[Any, Any, Any]], most: int) -> list[Any]:
    """The results of the calls, of which no more than `most` are under way."""
    room = asyncio.Semaphore(most)

    async def one(call: Coroutine[Any, Any, Any]) -> Any:
        async with room:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))


async def queue(target: Target) -> None:
    """Queue 66 measurements of 1,000 images and leave without waiting for one."""
    data = [SHOWPIECE, "test images of cifar10-mini", 1_000, None]
    await at_once([target.post("call/explore_residuals", {"data": data}) for _ in range(66)], 8)


async def one_list(target: Target) -> None:
    """A request that lists one upload 40,000 times, again and again."""
    file = await target.upload("a.zip", small_zip())
    index = (await target.functions())["on_upload"]["id"]
    body = json.dumps({"data": [[file] * 40_000, "a key"], "fn_index": index, "session_hash": "list"}).encode()
    for _ in range(5):
        if target.left > 0:
            await target.post("run/predict", body)


async def exports(target: Target) -> None:
    """Eight exports at once, past the queue."""
    select = {"index": [0, 0], "value": SHOWPIECE, "row_value": [SHOWPIECE], "selected": True}
    await target.post("run/on_select", {"data": [], "session_hash": "exports", "event_data": select})
    await at_once([target.post("run/on_export", {"data": [None], "session_hash": "exports"}) for _ in range(8)], 8)


async def previews(target: Target) -> None:
    """Forty previews of the data at 1,024 pixels at once, past the queue."""
    data = await target.form(**{"Image size": 1_024})
    await at_once([target.post("run/look_at_data", {"data": data}) for _ in range(40)], 40)


async def sessions(target: Target) -> None:
    """420 requests with as many invented sessions."""
    body = {"data": [SHOWPIECE]}
    await at_once([target.post("run/training_status", body | {"session_hash": f"s{i}"}) for i in range(420)], 8)


async def places(target: Target) -> None:
    """Start twelve trainings of 50 epochs, where one trains and eight may wait."""
    data = ["random initialisation", "cifar10-mini", "resnet110", "", "scratch", 50, *(None,) * 3, 0, None, ""]
    await at_once([target.post("run/start_training", {"data": data}) for _ in range(12)], 4)


async def call_streams(target: Target) -> None:
    """Hold 300 streams of the answers of twenty queued measurements open."""
    data = [SHOWPIECE, "test images of cifar10-mini", 1_000, None]
    made = await at_once([target.post("call/explore_residuals", {"data": data}) for _ in range(20)], 4)
    events = [event["event_id"] for event in made if event] or ["none"]
    share = -(-OPEN // len(events))
    await asyncio.gather(
        *(target.hold(f"GET {API}/call/explore_residuals/{event} HTTP/1.1", count=share) for event in events)
    )


async def mcp_streams(target: Target) -> None:
    """Hold 300 streams of the MCP server open."""
    head = f"GET {API}/mcp/ HTTP/1.1\r\nAccept: application/json, text/event-stream"
    await target.hold(head)


async def unfinished_uploads(target: Target) -> None:
    """Hold 300 uploads open that never end."""
    await target.hold(f"POST {API}/upload HTTP/1.1", upload_head(50_000_000) + bytes(65_536))


async def broken_uploads(target: Target) -> None:
    """Uploads of 90 MB that break off before their end, up to thirty, two at a time."""
    piece = bytes(1_000_000)

    async def one() -> None:
        try:
            _, writer = await target.connect(f"POST {API}/upload HTTP/1.1", upload_head((UPLOAD_MB + 1) * len(piece)))
            try:
                for _ in range(UPLOAD_MB):
                    writer.write(piece)
                    await asyncio.wait_for(writer.drain(), max(target.left, 0.1))
                target.answers["broken off"] += 1
            finally:
                writer.close()
        except OSError as error:
            target.answers[type(error).__name__] += 1

    await repeatedly(target, one, UPLOADS)


async def strings(target: Target) -> None:
    """Requests with a string of 19.5 MB each, up to forty, two at a time."""
    body = json.dumps({"data": ["a" * 19_500_000]}).encode()
    await repeatedly(target, lambda: target.post("run/training_status", body), 40)


async def keys(target: Target) -> None:
    """Requests with 1.2 million keys each, up to forty, two at a time."""
    body = b'{"data": [{' + b",".join(b'"%d":0' % i for i in range(1_200_000)) + b"}]}"
    await repeatedly(target, lambda: target.post("run/training_status", body), 40)


async def live(target: Target) -> None:
    """Hold 100 live streams open, each of another set of runs."""
    await target.hold(f"GET /live?runs={SHOWPIECE},run-{{}} HTTP/1.1", count=100)


async def idle(target: Target) -> None:
    """Hold 300 connections open on which nothing is said; the app may have 256 files open."""
    await target.hold("", count=OPEN)


async def pictures(target: Target) -> None:
    """Predictions for a 16-bit PNG of 50 megapixels in 97 KB, six at once, past the queue."""
    file = await target.upload("large.png", large_png())
    body = {"data": [file, SHOWPIECE]}
    await repeatedly(target, lambda: target.post("run/predict", body), 24, most=6)


async def repeatedly(target: Target, call: Callable[[], Awaitable[Any]], count: int, most: int = 2) -> None:
    """So many calls, or as many as there is time for."""

    async def one() -> None:
        if target.left > 0:
            await call()

    await at_once([one() for _ in range(count)], most)


def upload_head(length: int) -> bytes:
    """The rest of the head of an upload of so many bytes, and the beginning of its form."""
    form = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return f"{kind}Content-Length: {length}\r\n\r\n{form}".encode()


def small_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/readme.txt", "no picture")
    return file.getvalue()


def large_png(side: int = 7_071) -> bytes:
    """A grey picture with 16 bits a pixel, of which all are 0."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + name + content + pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 + 2 * side)) for _ in range(side)) + packer.flush()
    header = pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


ATTACKS: dict[str, Callable[[Target], Coroutine[Any, Any, None]]] = {
    attack.__name__: attack
    for attack in (
        queue,
        one_list,
        exports,
        previews,
        sessions,
        places,
        call_streams,
        mcp_streams,
        unfinished_uploads,
        broken_uploads,
        strings,
        keys,
        live,
        idle,
        pictures,
    )
}


async def attack(name: str, port: int, seconds: float) -> Counter[str]:
    """One attack against an app at 127.0.0.1; what it was answered."""
    target = Target(port, seconds)
    async with target.client:
        await ATTACKS[name](target)
    return target.answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(attack(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
