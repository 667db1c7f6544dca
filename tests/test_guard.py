from pathlib import Path
from typing import Any

import anyio
import gradio as gr
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from resnet_space.serve import guard
from resnet_space.serve.guard import Guard, address_of, admit
from resnet_space.serve.limits import Limits
from resnet_space.ui.workshop import Workshop

LIMITS = Limits(upload_mb=1, requests=1, streams=2)


def scope(client: str, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "client": (client, 1), "headers": headers}


@pytest.mark.parametrize(
    ("proxied", "client", "forwarded", "address"),
    [
        (False, "127.0.0.1", (), "127.0.0.1"),
        (False, "192.0.2.7", ("8.8.8.8",), "192.0.2.7"),  # anybody can send the header
        (True, "10.0.0.1", ("8.8.8.8",), "8.8.8.8"),
        (True, "10.0.0.1", ("1.1.1.1, 8.8.8.8, 10.1.2.3",), "8.8.8.8"),  # what was there before the proxy is a claim
        (True, "10.0.0.1", ("1.1.1.1", "8.8.8.8"), "8.8.8.8"),
        (True, "10.0.0.1", ("rubbish, 10.1.2.3",), "10.0.0.1"),
        (True, "10.0.0.1", (), "10.0.0.1"),
        (False, "2606:4700:1:2:3:4:5:6", (), "2606:4700:1:2::/64"),  # one visitor has them all
        (False, "testclient", (), "testclient"),
    ],
)
def test_a_request_is_counted_for_the_one_whom_nobody_can_invent(
    proxied: bool, client: str, forwarded: tuple[str, ...], address: str
) -> None:
    assert address_of(scope(client, *forwarded), proxied=proxied) == address


class Served:
    """An app behind the guard that tells whom it was asked by, and its client."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        async def say(request: Request) -> PlainTextResponse:
            await request.body()
            assert request.client is not None
            return PlainTextResponse(request.client.host)

        paths = ("/", "/gradio_api/{rest:path}", "/login", "/monitoring", "/live")
        app = Starlette(
            routes=[Route(path, say, methods=["GET", "POST"]) for path in paths],
            middleware=[Middleware(self._guard, limits=limits, proxied=True)],
        )
        vars(app)["auth"] = None  # as gradio's have it without a password
        self.transport = httpx.ASGITransport(app, client=("10.0.0.1", 1))
        self.ask("GET", "/")  # starlette makes its middleware at the first request

    def _guard(self, app: ASGIApp, **options: Any) -> Guard:
        self.guard = Guard(app, **options)
        return self.guard

    def ask(self, method: str, path: str, address: str = "8.8.8.8", **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://app") as client:
                headers = {"X-Forwarded-For": address, **options.pop("headers", {})}
                return await client.request(method, path, headers=headers, **options)

        return anyio.run(send)


def test_an_address_that_asks_too_often_is_told_when_to_come_again_and_others_are_not_held_up() -> None:
    served = Served()
    codes = [served.ask("POST", "/gradio_api/queue/join").status_code for _ in range(guard.CLICKS + 1)]
    assert codes == [200] * guard.CLICKS + [429]
    refused = served.ask("POST", "/gradio_api/queue/join")
    assert int(refused.headers["retry-after"]) >= 1
    assert "Too many requests came from your address: try again in" in refused.json()["detail"]
    assert served.ask("POST", "/gradio_api/queue/join", "1.1.1.1").status_code == 200
    assert served.ask("GET", "/").status_code == 200


def test_passwords_cannot_be_guessed_in_a_row_even_where_nothing_else_is_limited() -> None:
    served = Served(Limits())
    codes = [served.ask("POST", "/login").status_code for _ in range(guard.SIGN_INS + 1)]
    assert codes == [200] * guard.SIGN_INS + [429]


@pytest.mark.parametrize(
    ("path", "size", "code"),
    [
        (guard.UPLOAD, 2_000_000, 200),  # with the form around the file; gradio measures the file itself
        (guard.UPLOAD, 2_000_001, 413),
        ("/gradio_api/queue/join", guard.MAX_BODY, 200),
        ("/gradio_api/queue/join", guard.MAX_BODY + 1, 413),
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_body_that_is_too_large_is_refused_whether_it_says_its_length_or_not(
    path: str, size: int, code: int, in_pieces: bool
) -> None:
    async def pieces() -> Any:
        yield bytes(size // 2)
        yield bytes(size - size // 2)

    answer = Served().ask("POST", path, content=pieces() if in_pieces else bytes(size))
    assert answer.status_code == code
    assert ("here at most" in answer.text) is (code == 413)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://192.0.2.1/",
        "/gradio_api/file=%20HTTPS://192.0.2.1/",
        "/gradio_api/file/http://192.0.2.1/",
        "/gradio_api/file=ftp://192.0.2.1/",
        "/gradio_api/proxy=http://192.0.2.1/",
        "/gradio_api/vibe-edit",
        "/gradio_api/dev/reload",
        "/monitoring",
        "/gradio_api/process_recording",
        "/gradio_api/component_server/",
        "/gradio_api/deep_link",
    ],
)
def test_what_would_fetch_an_address_or_is_for_development_is_closed(path: str) -> None:
    assert Served().ask("GET", path).json() == {"detail": "This address is closed."}


def test_only_so_many_streams_are_open_for_one_address() -> None:
    served = Served()
    served.guard.streams["8.8.8.8"] = 2
    refused = served.ask("GET", "/live")
    assert (refused.status_code, refused.json()["detail"][:8]) == (429, "Too many")
    assert served.ask("GET", "/live", "1.1.1.1").status_code == 200
    assert served.guard.streams == {"8.8.8.8": 2}  # a stream that has ended is not counted any more


def test_a_tool_call_is_counted_for_its_caller_also_when_gradio_asks_itself() -> None:
    served = Served()
    seen: dict[str, str] = {}

    async def tool(scope: Any, receive: Any, send: Any) -> None:
        seen.update({name.decode(): value.decode() for name, value in scope["headers"]})
        await PlainTextResponse("")(scope, receive, send)

    inner, served.guard.app = served.guard.app, tool
    served.ask("POST", "/gradio_api/mcp/")
    name = guard.VISITOR.decode()
    served.guard.app = inner
    asked_itself = served.ask("POST", "/gradio_api/queue/join", "", headers={name: seen[name]})
    assert asked_itself.text == "8.8.8.8"
    assert served.ask("POST", "/gradio_api/queue/join", "1.1.1.1", headers={name: "guess 8.8.8.8"}).text == "1.1.1.1"


def test_every_answer_has_the_headers_that_keep_a_browser_from_doing_what_the_page_did_not_ask_for() -> None:
    headers = Served().ask("GET", "/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "frame-ancestors 'self' https://huggingface.co" in policy  # a Space is shown in a frame


def test_what_takes_the_machines_time_is_limited_for_each_address(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, limits=Limits(requests=2))

    def ask(address: str) -> None:
        admit(workshop, gr.Request(Request(scope(address) | {"method": "POST", "path": "/"})))

    ask("192.0.2.1")
    ask("192.0.2.1")
    with pytest.raises(gr.Error, match=r"here one may ask 2 times a minute; try again in 30 s\."):
        ask("192.0.2.1")
    ask("192.0.2.2")
