"""Gradio's page, the description of its parts and its scripts, kept as they are sent.

To compute the page anew for each visitor takes 0.1 to 0.2 s, and to read and compress its hundred files 0.3 to 0.6 s.
"""

import re
from collections import OrderedDict
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT = re.compile(r"/|/config|/(assets|static)/.*")
MOST_BYTES = 16_000_000  # of all that is kept; a page as it is has one million
# What Gradio takes the app's own address from, which is in the page, and whether the answer is compressed.
TAKEN = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server", "accept-encoding")
# Of a part of a file, or of one that the browser has already.
OTHERWISE = ("range", "if-none-match", "if-modified-since")


class KeptPages:
    """ASGI middleware around what answers `KEPT` of an app without passwords, where all visitors get the same."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept: OrderedDict[Any, list[Message]] = OrderedDict()  # what was asked for last is at the end
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        # Gradio's own arguments in the address choose other parts of the page.
        own = any(name in scope["query_string"] for name in (b"deep_link", b"page"))
        own = own or any(name in headers for name in OTHERWISE)
        if scope["method"] != "GET" or own or cast(Any, scope["app"]).auth is not None:
            await self.app(scope, receive, send)
            return
        key = scope["path"], scope["scheme"], scope.get("root_path", ""), *map(headers.get, TAKEN)
        answer = self._kept.get(key)
        if answer is None:
            answer = await _answer(self.app, scope, receive)
            if _is_for_all(answer):
                self._keep(key, answer)
        else:
            self._kept.move_to_end(key)
        for message in answer:  # which other middleware changes in its place
            headers_too = {"headers": [*message["headers"]]} if "headers" in message else {}
            await send({**message, **headers_too})

    def _keep(self, key: Any, answer: list[Message]) -> None:
        self._bytes += _size(answer) - _size(self._kept.pop(key, []))  # somebody may have asked at the same time
        self._kept[key] = answer
        while self._bytes > MOST_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _size(gone)


def _is_for_all(answer: list[Message]) -> bool:
    """Whether it is whole, and no visitor's own."""
    if not answer or answer[0]["status"] != 200:
        return False
    return all(name != b"set-cookie" for name, _ in answer[0]["headers"])


async def _answer(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
    messages: list[Message] = []

    async def take(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, take)
    return messages


def _size(answer: list[Message]) -> int:
    return sum(len(message.get("body", b"")) for message in answer)
