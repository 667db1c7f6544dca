import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from resnet_space.serve.kept_pages import MOST_BYTES, OTHERWISE, TAKEN, KeptPages


class Pages:
    """Answers with how often it was asked, after so many blanks."""

    def __init__(self, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = (), blanks: int = 1) -> None:
        self.asked = 0
        self.status, self.headers, self.blanks = status, headers, blanks

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers]})
        await send({"type": "http.response.body", "body": b"page" + b" " * self.blanks, "more_body": True})
        await send({"type": "http.response.body", "body": str(self.asked).encode()})


def asked(
    kept: KeptPages, path: str = "/", query: bytes = b"", *, auth: Any = None, method: str = "GET", **headers: str
) -> tuple[Any, bytes]:
    """The answer's headers and body."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": raw, "scheme": "http"}
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message.copy())
        # As middleware does that adds headers, or compresses.
        if "headers" in message:
            message["headers"].append((b"by", b"whoever sends it on"))
        message["body"] = b"something else"

    async def ask() -> None:
        await kept({**scope, "app": SimpleNamespace(auth=auth)}, None, send)  # pyrefly: ignore[bad-argument-type]

    asyncio.run(ask())
    return messages[0]["headers"], b"".join(message.get("body", b"") for message in messages)


def test_the_page_is_made_once_for_all_who_ask_alike_whatever_they_want_to_see() -> None:
    pages = Pages(headers=((b"content-type", b"text/html"),))
    kept = KeptPages(pages)
    first = asked(kept, host="here")
    assert first == ([(b"content-type", b"text/html"), (b"by", b"whoever sends it on")], b"page 1")
    assert asked(kept, query=b"tab=predict&run=a", host="here", cookie="session=another") == first
    assert pages.asked == 1
    assert asked(kept, "/config", host="here")[1] == b"page 2"
    assert asked(kept, "/config", host="here")[1] == b"page 2"


@pytest.mark.parametrize("name", TAKEN)
def test_what_changes_the_page_has_a_page_of_its_own(name: str) -> None:
    kept = KeptPages(Pages())
    found = [asked(kept, **{name.replace("-", "_"): value})[1] for value in ("a", "b", "a")]
    assert found == [b"page 1", b"page 2", b"page 1"]


@pytest.mark.parametrize(
    ("pages", "options"),
    [
        (Pages(503), {}),
        (Pages(headers=((b"set-cookie", b"session=anns"),)), {}),
        (Pages(), {"auth": {"ann": "secret"}}),
        (Pages(), {"query": b"deep_link=x"}),
        (Pages(), {"query": b"page=another"}),
        (Pages(), {"method": "HEAD"}),
        *((Pages(), {name.replace("-", "_"): "x"}) for name in OTHERWISE),
    ],
    ids=["an error", "a cookie", "a password", "a deep link", "a page of several", "no page", *OTHERWISE],
)
def test_what_may_not_be_the_same_for_all_is_made_anew(pages: Pages, options: dict[str, Any]) -> None:
    kept = KeptPages(pages)
    assert [asked(kept, **options)[1] for _ in range(2)] == [b"page 1", b"page 2"]


def test_so_many_bytes_are_kept_and_what_was_not_asked_for_longest_goes_first() -> None:
    pages = Pages(blanks=MOST_BYTES // 4)
    kept = KeptPages(pages)
    for host in ("a", "b", "c", "a", "d"):
        asked(kept, host=host)
    assert pages.asked == 4
    assert [asked(kept, host=host)[1][-1:] for host in ("a", "c", "d")] == [b"1", b"3", b"4"]
    assert asked(kept, host="b")[1][-1:] == b"5"
