"""What goes wrong on purpose: errors, waits, and connections that break half-way."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.hub_stub.store import sent_token


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Fault:
    """What happens to the next `times` requests that match: an error, a wait, or a connection that ends half-way."""

    method: str
    path: re.Pattern[str]
    times: int
    status: int | None = None
    drop_after: int | None = None  # bytes of the body: a GET's answer's, else the request's
    delay: float = 0.0
    first: Callable[[], object] | None = None  # what happens elsewhere before the request is answered


@dataclass
class Faulty:
    """Notes each request, and spoils those that a fault is meant for."""

    routes: Callable[[], ASGIApp]  # made for the first request: that takes longer than a test of something else
    requests: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        method, path = request.method, request.url.path
        self.requests.append(Asked(method, path, request.headers.get("range"), sent_token(request)))
        for fault in self.faults:
            if fault.times and fault.method in ("", method) and fault.path.search(path):
                fault.times -= 1
                await asyncio.sleep(fault.delay)
                if fault.first is not None:
                    fault.first()
                if fault.status is not None:
                    await Response("{}", fault.status)(scope, receive, send)
                    return
                if fault.drop_after is not None and method != "GET":
                    await _break_upload(receive, send, fault.drop_after)
                if fault.drop_after is not None:
                    send = _dropping(send, fault.drop_after)
        await self.routes()(scope, receive, send)


async def _break_upload(receive: Receive, send: Send, after: int) -> None:
    got = 0
    while got < after:
        message = await receive()
        got += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    # The server closes a connection whose answer was not finished.
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
    raise ConnectionAbortedError


def _dropping(send: Send, after: int) -> Send:
    async def cut(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({"type": "http.response.body", "body": message["body"][:after], "more_body": True})
            raise ConnectionAbortedError  # the server closes a connection whose answer was not finished
        await send(message)

    return cut
