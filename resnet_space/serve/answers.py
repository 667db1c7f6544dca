"""Changes to the app's responses: security headers, and removal of private data from the login page."""

import re

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

NO_SAME_SITE = re.compile(rb"SameSite=none", re.I)
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


def with_headers(send: Send, *, framed: bool) -> Send:
    """Add security headers. Cookies are restricted to the app's own pages, unless it is shown in a frame elsewhere."""

    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            message["headers"] = [
                (name, value if framed or name != b"set-cookie" else NO_SAME_SITE.sub(b"SameSite=Lax", value))
                for name, value in headers.raw
            ]
        await send(message)

    return adding


def without_api_info(send: Send) -> Send:
    """Remove the API description from the login page: gradio writes run names into it, as choices of endpoints."""
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
