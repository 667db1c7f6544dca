"""Gradio's own scripts, with one function replaced: the search for a component (`static/find.js`)."""

import gzip
import re
from functools import lru_cache
from pathlib import Path

import gradio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
FIND = Path(__file__).parent / "static" / "find.js"
# As Gradio's build has them, whatever it names them: the search, and what puts other components in the tree.
SEARCH = re.compile(
    r"function (?P<name>[\w$]+)\((\w+),(\w+)\)\{if\(\2\.id===\3\)return \2;"
    r"if\(\2\.children\)for\(let (\w+) of \2\.children\)\{let \2=(?P=name)\(\4,\3\);if\(\2\)return \2\}return null\}"
)
CHANGE = re.compile(r"\w+\.children=\w+\.children(?=,this\.#)")


def with_quick_search(script: str) -> str | None:
    """The script with our search, or None if it is not the one that has these functions."""
    search = SEARCH.search(script)
    if search is None or not CHANGE.search(script):
        return None
    ours = FIND.read_text(encoding="utf-8").replace("findComponent", search["name"])
    script = CHANGE.sub(lambda change: f"{change[0]},forgetComponents()", script)
    return script.replace(search[0], f"\n{ours}")


@lru_cache(maxsize=1)
def _scripts() -> dict[str, bytes]:
    """The replaced ones by name, compressed; empty where Gradio is built differently: then its own serve."""
    found = {path.name: with_quick_search(path.read_text(encoding="utf-8")) for path in ASSETS.glob("core-*.js")}
    return {name: gzip.compress(script.encode(), 6) for name, script in found.items() if script}


async def _script(request: Request) -> Response:
    headers = {"Content-Encoding": "gzip", "Cache-Control": "public, max-age=86400"}
    script = _scripts()[request.url.path.rpartition("/")[2]]
    return Response(script, media_type="text/javascript", headers=headers)


def routes() -> list[Route]:
    """They come before Gradio's own."""
    return [Route(f"/assets/{name}", _script) for name in _scripts()]
