"""What stands between a public page and the app: the password, limits of what an address may ask for, headers.

Gradio protects most of its own addresses with the password, but neither those that an app adds nor the description of
its endpoints in the page; and it has no limits but that of a file's size.
"""

import ipaddress
import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_space.serve.limits import Limits
from resnet_space.serve.rates import RateLimit
from resnet_space.serve.refusals import refusal
from resnet_space.serve.uploads import close_other_ways

if TYPE_CHECKING:
    from resnet_space.serve.launch import Options
    from resnet_space.ui.workshop import Workshop

MAX_BODY = 20_000_000  # bytes of a request that is not an upload; a picture in a tool call is the largest
UPLOAD = "/gradio_api/upload"
CLICKS = 20  # requests of any kind for one that takes the machine's time; a page makes about one a click
SIGN_INS = 10  # tries of a password a minute
VISITOR = b"x-resnet-space-visitor"

# What a browser needs to show the page that asks for the password, and gradio to see that the app is up.
WITHOUT_PASSWORD = re.compile(
    r"/|/login/?|/(gradio_api/)?theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static|svelte)/.*"
    r"|/gradio_api/(startup-events|app_id|user|login_check)/?"
)
# Gradio's tools of development, its two ways to fetch an address for whoever asks, and what the page has no use for but
# would fill the disk.
CLOSED = re.compile(
    r"/gradio_api/(file[=/]\s*[a-z][a-z0-9+.-]*:|proxy=|vibe-|dev/|profiling/|process_recording|component_server|deep_link).*"
    r"|/monitoring.*",
    re.I,
)
STREAMS = re.compile(r"/live|/gradio_api/(heartbeat/.*|queue/data|mcp/sse/?)")
MCP = "/gradio_api/mcp"
API_INFO = re.compile(rb"window\.gradio_api_info = .*?;</script>", re.S)

# Gradio's page is made of inline scripts, and compiles gr.HTML's templates. A Space is shown in a frame of the Hub.
HUB = "https://huggingface.co https://*.huggingface.co https://*.hf.space"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # an address may have the owner's key
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "style-src 'self' 'unsafe-inline' https://fonts.googleapis.com",
            "font-src 'self' data: https://fonts.gstatic.com",
            "img-src 'self' data: blob: https://huggingface.co",
            "media-src 'self' data: blob:",
            "worker-src 'self' blob:",
            f"connect-src 'self' data: blob: {HUB}",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self' https://huggingface.co",
            f"frame-ancestors 'self' {HUB}",
        )
    ),
}


def protection(options: "Options", *, routes: Sequence[Route]) -> dict[str, Any]:
    """The arguments of `launch` that protect the app; `routes` are served with it, behind the same password."""
    close_other_ways()
    guard = Middleware(Guard, limits=options.limits, proxied=options.share or options.on_space)
    megabytes = options.limits.upload_mb
    return {
        "app_kwargs": {"routes": list(routes), "middleware": [guard]},
        "allowed_paths": [],  # what pages show are copies in gradio's cache
        "blocked_paths": blocked_paths(options.checkpoints, options.data),
        "max_file_size": None if megabytes is None else megabytes * 1_000_000,
        "enable_monitoring": False,
        "strict_cors": True,
    }


def blocked_paths(checkpoints: Path, data: Path) -> list[str]:
    """What is never to be copied into gradio's cache, even if a handler gave it out: runs, data, hidden files."""
    shown = (".gradio", ".venv")  # gradio's cache, and its own icons where it is installed
    hidden = [path for path in Path.cwd().glob(".*") if path.name not in shown]
    return [str(path.absolute()) for path in (checkpoints, data, *hidden)]


def admit(workshop: "Workshop", request: gr.Request | None) -> None:
    """Count a request that takes the machine's time. Raises gr.Error where an address has had too many."""
    client = request.client if request is not None else None
    wait = workshop.heavy_requests.seconds_to_wait(client.host if client is not None else "")
    if wait:
        raise refusal(
            f"That was often in a short time: here one may ask {workshop.limits.requests} times a minute; try again in "
            f"{wait} s."
        )


def address_of(scope: Scope, *, proxied: bool) -> str:
    """Whom to count a request for: the client's address, or what the proxy before the app says that it is.

    Anybody may send the header with addresses of their invention, to which proxies append: the last public one is what
    the outermost proxy saw. Of IPv6 it is the network, of which one visitor has 2^64 addresses.
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
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, proxied: bool) -> None:
        self.app = app
        self.limits = limits
        self.proxied = proxied
        self.posts = RateLimit(None if limits.requests is None else limits.requests * CLICKS)
        self.sign_ins = RateLimit(SIGN_INS)
        self.streams: Counter[str] = Counter()
        self._secret = secrets.token_hex(16).encode()
        # Gradio sends half a megabyte of it as it is. Streams and downloads are better left alone.
        self._page = GZipMiddleware(app, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # gradio has none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = self._visitor(scope)
        path, method = scope["path"], scope["method"]
        signed_in = is_signed_in(scope)
        limit = self._body_limit(path)
        if not signed_in and not WITHOUT_PASSWORD.fullmatch(path):
            await _refuse(401, "Not authenticated: sign in on the app's page first.")(scope, receive, send)
        elif CLOSED.fullmatch(path):
            await _refuse(403, "This address is closed.")(scope, receive, send)
        elif method == "POST" and (wait := self._wait(path, address)):
            words = f"Too many requests came from your address: try again in {wait} s."
            await _refuse(429, words, {"Retry-After": str(wait)})(scope, receive, send)
        elif limit is not None and int(Headers(scope=scope).get("content-length") or 0) > limit:
            await _refuse(413, _too_large_words(limit))(scope, receive, send)
        elif STREAMS.fullmatch(path):
            await self._stream(scope, receive, send, address)
        elif path == "/":
            await (self._page(scope, receive, send) if signed_in else self.app(scope, receive, _without_api_info(send)))
        else:
            await self.app(scope, receive if limit is None else _limited(receive, limit), send)

    def _visitor(self, scope: Scope) -> str:
        """Whom the request is from; from here on it is what handlers find as the client's address.

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

    def _wait(self, path: str, address: str) -> int:
        if path.startswith("/login"):
            return self.sign_ins.seconds_to_wait(address)
        return self.posts.seconds_to_wait(address)

    def _body_limit(self, path: str) -> int | None:
        if path.rstrip("/") != UPLOAD:
            return MAX_BODY
        # Beside the file there are the form's own lines; gradio measures the file itself.
        return None if self.limits.upload_mb is None else (self.limits.upload_mb + 1) * 1_000_000

    async def _stream(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        if self.limits.streams is not None and self.streams[address] >= self.limits.streams:
            words = "Too many pages of this app are open from your address: close some."
            await _refuse(429, words)(scope, receive, send)
            return
        self.streams[address] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.streams[address] -= 1
            if not self.streams[address]:
                del self.streams[address]


def is_signed_in(scope: Scope) -> bool:
    """Whether the app has no password, or the request has the cookie that gradio gave for one."""
    app: Any = scope["app"]
    if app.auth is None:
        return True
    cookies = Request(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(app.tokens.get(cookies[name]) is not None for name in names if name in cookies)


def _refuse(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> ASGIApp:
    body = json.dumps({"detail": sentence})
    return PlainTextResponse(body, status, dict(headers or {}), media_type="application/json")


def _too_large_words(limit: int) -> str:
    return f"That is too large: here at most {limit // 1_000_000} MB can be sent."


def _limited(receive: Receive, limit: int) -> Receive:
    """For a body that did not say how long it is."""
    taken = 0

    async def counting() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, _too_large_words(limit))
        return message

    return counting


def _with_headers(send: Send) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            message["headers"] = headers.raw
        await send(message)

    return adding


def _without_api_info(send: Send) -> Send:
    """For the page that asks for the password: gradio writes the names of runs into it, as choices of endpoints."""
    start: Message = {}
    parts: list[bytes] = []

    async def cutting(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        body = API_INFO.sub(b"window.gradio_api_info = {};</script>", b"".join(parts))
        headers = MutableHeaders(raw=list(start["headers"]))
        if b"".join(parts):  # none in the answer to HEAD
            headers["content-length"] = str(len(body))
        await send({**start, "headers": headers.raw})
        await send({"type": "http.response.body", "body": body})

    return cutting
