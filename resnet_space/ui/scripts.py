"""The page's scripts: where each comes from, and the addresses that they are served at."""

import asyncio
import gzip
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
# Its build with the charts that the page has (npm's plotly.js-cartesian-dist-min, in the version of the Python package,
# which brings all charts): a third of the size, which the browser has to fetch and to compile before the first chart.
PLOTLY = STATIC / "plotly-cartesian.min.js"
SERVED = ("page.js", "predict.js", "teach.js")
CONTINUED = {"teach.js": "teach_live.js"}  # one script: Gradio's page runs several in the order in which they arrive
LATER = ("map.js", "review.js")  # fetched when the fold is opened in which a component needs them
# Of components that need them: Gradio waits for these before it runs what a component has to run. Plotly's library is
# not among them: page.js fetches it with the first chart.
SCRIPTS = "".join(f'<script src="{name}"></script>' for name in SERVED)
MAP, REVIEW = (f'{SCRIPTS}<script src="{name}"></script>' for name in LATER)
# Of the page: it is there before any component.
HEAD = "".join(f"<script>{(STATIC / name).read_text(encoding='utf-8')}</script>" for name in ("state.js", "explore.js"))


async def _script(request: Request) -> Response:
    name = next(name for name in (*SERVED, *LATER) if request.url.path.endswith(f"/{name}"))
    files = [STATIC / part for part in (name, CONTINUED.get(name)) if part]
    return Response(b"\n".join(file.read_bytes() for file in files), media_type="text/javascript")


async def _plotly(_: Request) -> Response:
    """Plotly's library from here, so that the page needs no other server."""
    headers = {"Content-Encoding": "gzip", "Cache-Control": "public, max-age=86400"}
    return Response(await asyncio.to_thread(_plotly_gzip), media_type="text/javascript", headers=headers)


@lru_cache(maxsize=1)
def _plotly_gzip() -> bytes:
    return gzip.compress(PLOTLY.read_bytes(), 6)


ROUTES = [Route("/plotly.min.js", _plotly), *(Route(f"/{name}", _script) for name in (*SERVED, *LATER))]
