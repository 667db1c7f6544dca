"""Middleware that protects a public app: the password, request limits per address, headers.

Gradio protects most of its own routes with the password, but neither those that an app adds nor the description of its
endpoints in the page; and it limits only the size of a file.
"""

import asyncio
import ipaddress
import json
import re
import secrets
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_space.serve.answers import with_headers, without_api_info
from resnet_space.serve.handlers import UNFIT
from resnet_space.serve.kept_pages import KEPT, KeptPages
from resnet_space.serve.launch import HOSTS
from resnet_space.serve.limits import Limits
from resnet_space.serve.rates import RateLimit, held
from resnet_space.serve.sessions import SESSIONS, keep_little_of_sessions
from resnet_space.serve.uploads import UPLOAD, close_other_ways
from resnet_space.serve.visitors import asked_by

if TYPE_CHECKING:
    from resnet_space.serve.launch import Options

MAX_BODY = 20_000_000  # bytes of a request that is not an upload; a picture in a tool call is the largest
STRANGERS_BODY = 8_000_000  # on a public app: larger pictures are uploaded
MEGABYTES = 60.0  # per minute and address on a public app: Gradio copies text several times
MCP_STREAMS = 8  # open at once per address; a client has one or two
MAX_VALUES = 30_000  # in one request on a public app, estimated by its commas
MAX_FILES = 2_000  # likewise: Gradio checks each file on its event loop
SILENCE_SECONDS = 30.0  # without data in the middle of a request
CLICKS = 20  # requests of any kind per costly one; a page makes about one per click
SIGN_INS = 10  # password attempts per minute
VISITOR = b"x-resnet-space-visitor"

# Needed to show the login page, and for gradio's own start-up check.
WITHOUT_PASSWORD = re.compile(
    r"/|/login/?|/(gradio_api/)?theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static|svelte)/.*"
    r"|/gradio_api/(startup-events|app_id|user|login_check)/?"
)
# Gradio's development tools, its two proxies for arbitrary URLs, and routes that this app does not use.
CLOSED = re.compile(
    r"/gradio_api/(file[=/]\s*[a-z][a-z0-9+.-]*:|proxy=|vibe-|dev/|profiling/|deep_link|process_recording"
    r"|component_server|stream/|run-history).*|/monitoring.*",
    re.I,
)
# Raised by Gradio's routes for malformed requests.
UNFIT_ERRORS = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    FnIndexInferError,
    RequestValidationError,
)
# Routes with long-lived connections.
STREAMS = re.compile(r"/live|/gradio_api/((heartbeat|mcp)/.*|queue/data|call/(v2/)?[^/]+/[^/]+|upload(_progress)?)/?")
# In JSON: an escaped backslash, a surrogate pair, or, as group 1, a lone surrogate.
ESCAPES = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)")
MCP = "/gradio_api/mcp"


def protection(options: "Options", *, routes: Sequence[Route]) -> dict[str, Any]:
    """The arguments of `launch` that protect the app; `routes` are served behind the same password."""
    close_other_ways()
    keep_little_of_sessions()
    guard = Middleware(
        Guard, limits=options.limits, proxied=options.proxied, hosts=options.hosts, framed=options.on_space
    )
    megabytes = options.limits.upload_mb
    return {
        "app_kwargs": {
            "routes": list(routes),
            "middleware": [guard],
            "exception_handlers": dict.fromkeys(UNFIT_ERRORS, _unfit),
        },
        "state_session_capacity": SESSIONS,
        "allowed_paths": [],  # what pages show are copies in gradio's cache
        "blocked_paths": blocked_paths(options.checkpoints, options.data),
        "max_file_size": None if megabytes is None else megabytes * 1_000_000,
        "enable_monitoring": False,
        "strict_cors": True,
    }


def blocked_paths(checkpoints: Path, data: Path) -> list[str]:
    """Paths that must never be copied into gradio's cache, even if a handler returns them: runs, data, hidden files."""
    shown = (".gradio", ".venv")  # gradio's cache, and its own icons where it is installed
    hidden = [path for path in Path.cwd().glob(".*") if path.name not in shown]
    return [str(path.absolute()) for path in (checkpoints, data, *hidden)]


def address_of(scope: Scope, *, proxied: bool) -> str:
    """The address to count a request for: the client's, or the one reported by the proxy in front of the app.

    Anybody can send the header with made-up addresses, to which proxies append: the last public one is what the
    outermost proxy saw. For IPv6 it is the network, because one visitor has 2^64 addresses.
    """
    address = str((scope.get("client") or ("",))[0])
    if proxied:
        forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        address = next((text.strip() for text in reversed(forwarded) if _is_global(text.strip())), address)
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False)) if parsed.version == 6 else address


def _is_global(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


class Guard:
    """ASGI middleware around the whole app, gradio's addresses and ours.

    Args:
        app: what it guards.
        limits: of an address.
        proxied: whether requests come through a proxy that says whom they are from.
        hosts: the names by which the app is asked, in lower case; empty: any. On one's own machine it keeps pages of
            other servers out whose name was made to lead here.
        framed: whether pages of other servers may show it, and their visitors sign in: on a Space.
    """

    def __init__(
        self, app: ASGIApp, *, limits: Limits, proxied: bool, hosts: frozenset[str] = frozenset(), framed: bool = False
    ) -> None:
        self.app = app
        self.limits = limits
        self.proxied = proxied
        self.hosts = hosts
        self.framed = framed
        self.posts = RateLimit(None if limits.requests is None else CLICKS * limits.requests)
        self.sign_ins = RateLimit(SIGN_INS)
        self.max_body = MAX_BODY if limits.requests is None else STRANGERS_BODY
        self.megabytes = RateLimit(None if limits.requests is None else MEGABYTES)
        self.streams: Counter[str] = Counter()  # that are open, by address
        self.bodies: Counter[str] = Counter()  # bytes of what is being read, by address
        self._secret = secrets.token_hex(16).encode()
        # Gradio sends half a megabyte of it as it is. Streams and downloads are better left alone.
        self._page = KeptPages(GZipMiddleware(app, compresslevel=6))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # gradio has none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, with_headers(send, framed=self.framed))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = self._visitor(scope)
        with asked_by(address):
            try:
                self._check(scope, address)
                await self._pass_on(scope, receive, send, address)
            except HTTPException as error:
                body = json.dumps({"detail": error.detail})
                answer = PlainTextResponse(body, error.status_code, error.headers, media_type="application/json")
                await answer(scope, receive, send)

    def _check(self, scope: Scope, address: str) -> None:
        """Raises HTTPException for requests that are refused whatever their body."""
        path, limit = scope["path"], self._body_limit(scope["path"])
        if refused := self._stranger(scope):
            raise HTTPException(403, refused)
        if not is_signed_in(scope) and not WITHOUT_PASSWORD.fullmatch(path):
            raise HTTPException(401, "Not authenticated: sign in on the app's page first.")
        if CLOSED.fullmatch(path):
            raise HTTPException(403, "This address is closed.")
        if scope["method"] == "POST":
            rate = self.sign_ins if path.startswith("/login") else self.posts
            _count(rate, address, "Too many requests from your address")
        if limit is not None and int(Headers(scope=scope).get("content-length") or 0) > limit:
            raise HTTPException(413, _too_large_words(limit))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        path, limit = scope["path"], self._body_limit(scope["path"])
        if STREAMS.fullmatch(path):
            await self._stream(scope, receive if limit is None else _limited(receive, limit), send, address)
        elif KEPT.fullmatch(path) and is_signed_in(scope):
            await self._page(scope, receive, send)
        elif path == "/":
            await self.app(scope, receive, without_api_info(send))
        elif scope["method"] == "POST":
            await self._with_body(scope, receive, send, address)
        else:
            await self.app(scope, receive, send)

    def _visitor(self, scope: Scope) -> str:
        """The address of the request; handlers then see it as the client's address.

        Gradio answers a tool call of MCP by a request to itself, with the headers of the first: so these say whose.
        """
        headers = MutableHeaders(raw=list(scope["headers"]))
        known = headers.get(VISITOR.decode(), "").encode().partition(b" ")
        if secrets.compare_digest(known[0], self._secret):
            address = known[2].decode()
        else:
            address = address_of(scope, proxied=self.proxied)
        if scope["path"].startswith(MCP):
            headers[VISITOR.decode()] = f"{self._secret.decode()} {address}"
            scope["headers"] = headers.raw
        scope["client"] = (address, 0)
        return address

    def _stranger(self, scope: Scope) -> str | None:
        """Why a request from another site's page is refused, in one sentence."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self.hosts and _without_port(host) not in self.hosts:
            return f"The host name {host[:100]!r} is not allowed: open http://127.0.0.1 and the port, or set {HOSTS}."
        if not self.hosts and cast(Any, scope["app"]).auth is None:
            return None  # a page for everybody, on which a visitor's key is kept from other pages by the browser
        origin = headers.get("origin")
        own = origin is None or _without_port(urlsplit(origin).netloc.lower()) in (self.hosts or {_without_port(host)})
        # Following a link, or returning from the Hub's sign-in, is allowed; signing out by a link is not.
        opens_page = headers.get("sec-fetch-mode") == "navigate" and scope["path"].rstrip("/") != "/logout"
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and not opens_page
        if own and not foreign:
            return None
        return "Requests from other sites are not allowed: open the app's own page."

    def _body_limit(self, path: str) -> int | None:
        if path.rstrip("/") != UPLOAD:
            return self.max_body
        # Beside the file there are the form's own lines; gradio measures the file itself.
        return None if self.limits.upload_mb is None else (self.limits.upload_mb + 1) * 1_000_000

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        """Read the body whole and look at it before gradio spends time on it: many values cost far more than bytes."""
        limited = self.limits.requests is not None
        length = int(Headers(scope=scope).get("content-length") or self.max_body)
        _count(self.megabytes, address, "Your address has sent more data than is allowed per minute", length / 1e6)
        if limited and self.bodies[address] and self.bodies[address] + length > self.max_body:
            raise HTTPException(429, "Another large request from your address is in progress: wait until it is done.")
        with held(self.bodies, address, length):
            try:
                body = await _whole(receive, self.max_body)
            except TimeoutError:
                raise HTTPException(
                    408, f"The request timed out: no data arrived for {SILENCE_SECONDS:.0f} s."
                ) from None
            if body is None:  # the client has disconnected
                return
            if limited and (body.count(b",") > MAX_VALUES or body.count(b'"path"') > MAX_FILES):
                words = f"The request is too large: at most {MAX_VALUES:,} values and {MAX_FILES:,} files are allowed."
                raise HTTPException(413, words)
            await self.app(scope, _replayed(_whole_letters(body), receive), send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        is_mcp = scope["path"].startswith(MCP)
        most = self.limits.streams
        if most is not None and is_mcp:  # each costs much more than a page's
            most = min(most, MCP_STREAMS)
        whose = f"{MCP} {address}" if is_mcp else address
        if most is not None and self.streams[whose] >= most:
            what = "connections of MCP clients" if is_mcp else "pages of this app"
            raise HTTPException(429, f"Too many {what} are open from your address: close some.")
        with held(self.streams, whose):
            try:
                await self.app(scope, receive, send)
            except RuntimeError as error:
                # Gradio ends the stream of a page that was just closed this way, which is not an error.
                if not isinstance(error.__cause__, HTTPException):
                    raise


def _count(rate: RateLimit, address: str, words: str, cost: float = 1.0) -> None:
    """Raises HTTPException if the rate limit is exceeded."""
    if wait := rate.seconds_to_wait(address, cost):
        raise HTTPException(429, f"{words}: try again in {wait} s.", {"Retry-After": str(wait)})


def is_signed_in(scope: Scope) -> bool:
    """Whether the app has no password, or the request has the cookie that gradio gave for one."""
    app: Any = scope["app"]
    if app.auth is None:
        return True
    cookies = Request(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(app.tokens.get(cookies[name]) is not None for name in names if name in cookies)


def _too_large_words(limit: int) -> str:
    return f"The request is too large: at most {limit // 1_000_000} MB are allowed."


async def _whole(receive: Receive, limit: int) -> bytes | None:
    """The body; None if the client disconnected. Raises HTTPException if it is too large, TimeoutError."""
    parts = []
    receive = _limited(receive, limit)
    while True:
        message = await asyncio.wait_for(receive(), SILENCE_SECONDS)
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _whole_letters(body: bytes) -> bytes:
    """Replace escaped lone surrogates in JSON, which can be neither written nor sent."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return ESCAPES.sub(lambda found: b"\\ufffd" if found[1] else found[0], body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """As the server gives it, in one piece; then what comes after it."""
    given = False

    async def replaying() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying


def _unfit(request: Request, error: Exception) -> Response:
    """What Gradio answers with a bare 500, or a list: a request whose form it does not know."""
    if not isinstance(error, RequestValidationError | FnIndexInferError):
        traceback.print_exception(error)
    return PlainTextResponse(json.dumps({"detail": UNFIT}), 422, media_type="application/json")


def _without_port(host: str) -> str:
    return re.sub(r":\d+$", "", host)


def _limited(receive: Receive, limit: int) -> Receive:
    """Limit a body of unknown length."""
    taken = 0

    async def counting() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, _too_large_words(limit))
        return message

    return counting
