import json
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from resnet_space.serve import guard
from resnet_space.serve.guard import Guard, address_of
from resnet_space.serve.limits import Limits

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

    def __init__(self, limits: Limits = LIMITS, *, auth: object = None, **options: Any) -> None:
        async def say(request: Request) -> PlainTextResponse:
            await request.body()
            assert request.client is not None
            answer = PlainTextResponse(request.client.host)
            answer.set_cookie("access-token-x", "secret", samesite="none", secure=True)
            return answer

        paths = ("/", "/gradio_api/{rest:path}", "/login", "/monitoring", "/live")
        app = Starlette(
            routes=[Route(path, say, methods=["GET", "POST"]) for path in paths],
            middleware=[Middleware(self._guard, limits=limits, proxied=True, **options)],
        )
        vars(app).update(auth=auth, cookie_id="x", tokens={"secret": "ann"})  # as gradio's have it
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
    assert "Too many requests from your address: try again in" in refused.json()["detail"]
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
        ("/gradio_api/queue/join", guard.STRANGERS_BODY, 200),
        ("/gradio_api/queue/join", guard.STRANGERS_BODY + 1, 413),
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
    assert ("The request is too large" in answer.text) is (code == 413)


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
        "/gradio_api/process_recording",
        "/gradio_api/component_server",
        "/gradio_api/deep_link",
        "/gradio_api/run-history/connect",
        "/monitoring",
    ],
)
def test_what_would_fetch_an_address_or_is_for_development_is_closed(path: str) -> None:
    assert Served().ask("GET", path).json() == {"detail": "This address is closed."}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/live"),
        ("GET", "/gradio_api/queue/data"),
        ("GET", "/gradio_api/heartbeat/x"),
        ("GET", "/gradio_api/call/predict/some-event"),
        ("GET", "/gradio_api/mcp/"),
        ("POST", "/gradio_api/mcp/"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/upload_progress"),
    ],
)
def test_only_so_many_streams_are_open_for_one_address(method: str, path: str) -> None:
    served = Served()
    served.guard.streams |= {"8.8.8.8": 2, "/gradio_api/mcp 8.8.8.8": 2}
    refused = served.ask(method, path)
    assert (refused.status_code, refused.json()["detail"][:8]) == (429, "Too many")
    assert served.ask(method, path, "1.1.1.1").status_code == 200
    assert served.guard.streams == {
        "8.8.8.8": 2,
        "/gradio_api/mcp 8.8.8.8": 2,
    }  # a stream that has ended is not counted any more


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


def test_of_mcp_clients_few_are_connected_from_one_address() -> None:
    served = Served(Limits(streams=100))
    served.guard.streams["/gradio_api/mcp 8.8.8.8"] = guard.MCP_STREAMS
    refused = served.ask("GET", "/gradio_api/mcp/")
    assert (refused.status_code, refused.json()["detail"][:29]) == (429, "Too many connections of MCP c")
    assert served.ask("GET", "/live").status_code == 200


# Who may ask at all

OWN_MACHINE: dict[str, Any] = {"limits": Limits(), "hosts": frozenset(("localhost", "127.0.0.1", "[::1]"))}


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "127.0.0.1", "LOCALHOST", "[::1]:7860"])
def test_ones_own_machine_is_asked_by_its_own_names(host: str) -> None:
    assert Served(**OWN_MACHINE).ask("GET", "/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""])
def test_a_name_that_somebody_made_to_lead_to_ones_own_machine_is_not_answered(host: str) -> None:
    answer = Served(**OWN_MACHINE).ask("GET", "/live", headers={"Host": host})
    assert answer.status_code == 403
    assert "is not allowed: open http://127.0.0.1" in answer.json()["detail"]


SIGNED_IN = {"Cookie": "access-token-x=secret"}
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "https://other.app.example"},  # a sibling
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    "options", [{"auth": {"ann": "password"}}, OWN_MACHINE], ids=["with a password", "on one's own machine"]
)
def test_a_page_of_another_server_may_not_ask(options: dict[str, Any], headers: dict[str, str]) -> None:
    served = Served(**options)
    host = {"Host": "localhost"}
    for method, path in (("GET", "/live"), ("POST", "/gradio_api/run/predict"), ("GET", "/logout")):
        answer = served.ask(method, path, headers=SIGNED_IN | host | headers)
        assert answer.status_code == 403
        assert "Requests from other sites are not allowed" in answer.json()["detail"]
    assert served.ask("GET", "/live", headers=SIGNED_IN | host).status_code == 200  # a program


def test_the_apps_own_page_and_a_link_to_it_are_answered_with_a_password() -> None:
    served = Served(auth={"ann": "password"})
    own = {"Host": "app.example", "Origin": "https://app.example", "Sec-Fetch-Site": "same-origin"}
    assert served.ask("POST", "/gradio_api/run/predict", headers=SIGNED_IN | own).status_code == 200
    link = {"Host": "app.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.ask("GET", "/", headers=SIGNED_IN | link).status_code == 200
    assert served.ask("GET", "/gradio_api/login/callback", headers=SIGNED_IN | link).status_code == 200
    assert served.ask("GET", "/logout", headers=SIGNED_IN | link).status_code == 403


@pytest.mark.parametrize(("framed", "kept"), [(False, "SameSite=Lax"), (True, "SameSite=none")])
def test_no_other_site_sends_the_password_s_cookie_but_where_the_hub_frames_the_page(framed: bool, kept: str) -> None:
    assert kept in Served(framed=framed).ask("GET", "/").headers["set-cookie"]


# What a request may be made of


def test_large_requests_of_one_address_are_read_one_after_the_other() -> None:
    served = Served(Limits(requests=10))
    served.guard.bodies["8.8.8.8"] = 1
    large = bytes(guard.STRANGERS_BODY)
    assert served.ask("POST", "/gradio_api/run/predict", content=large).status_code == 429
    assert served.ask("POST", "/gradio_api/run/predict", "1.1.1.1", content=large).status_code == 200
    assert served.guard.bodies == {"8.8.8.8": 1}


def test_so_many_megabytes_of_one_address_are_read_a_minute() -> None:
    served = Served(Limits(requests=1_000))
    large = bytes(guard.STRANGERS_BODY)
    most = int(guard.MEGABYTES * 1e6 // guard.STRANGERS_BODY)
    codes = [served.ask("POST", "/gradio_api/run/predict", content=large).status_code for _ in range(most + 1)]
    assert codes == [200] * most + [429]
    assert served.ask("POST", "/gradio_api/run/predict", "1.1.1.1", content=large).status_code == 200
    assert served.ask("POST", "/gradio_api/run/predict", content=b"{}").status_code == 200


def test_on_ones_own_machine_a_large_picture_may_come_as_text() -> None:
    served = Served(Limits())
    assert served.ask("POST", "/gradio_api/run/predict", content=bytes(guard.MAX_BODY)).status_code == 200
    assert served.ask("POST", "/gradio_api/run/predict", content=bytes(guard.MAX_BODY + 1)).status_code == 413


def test_a_request_in_which_nothing_comes_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SILENCE_SECONDS", 0.05)

    async def pieces() -> Any:
        yield b"{"
        await anyio.sleep(5)

    answer = Served(Limits(requests=10)).ask("POST", "/gradio_api/run/predict", content=pieces())
    assert (answer.status_code, answer.json()["detail"]) == (408, "The request timed out: no data arrived for 0 s.")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r'"\ud800"', "\ufffd"),
        (r'"a\uDFFFb"', "a\ufffdb"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (r'"\\ud800"', r"\ud800"),  # a backslash and letters
        (r'"\u00e9"', "\u00e9"),
    ],
)
def test_half_letters_come_no_further_than_the_guard(sent: str, read: str) -> None:
    assert json.loads(guard._whole_letters(sent.encode())) == read
