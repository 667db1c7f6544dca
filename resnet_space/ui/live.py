"""What all viewers' pages show of the runs, as they train: one stream of server-sent events a page.

A page that asked again and again would cost the server as much as the training; here a message is made once, however
many pages show the same runs, and sent only when something changed.
"""

import asyncio
import gzip
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from resnet_space import charts
from resnet_space.runs import Metric, Run
from resnet_space.runs.queue import Status, last_log_lines
from resnet_space.ui.finetune.status import EMPTY, runs_html, status_html
from resnet_space.ui.workshop import Workshop

LOOK_SECONDS = 0.5  # how often a page's runs are looked at
HEARTBEAT_SECONDS = 15.0  # of silence, after which a dead connection is noticed
MAX_SHOWN = 6  # runs in one page's plots: as many as there are colours
MAX_MESSAGES = 64  # different sets of shown runs that are kept
OWN_SCRIPTS = ("page.js", "predict.js")
SCRIPTS = "".join(f'<script src="{name}"></script>' for name in ("plotly.min.js", *OWN_SCRIPTS))

Row = tuple[Run, Status, list[Metric]]


def rows_of(workshop: Workshop, names: Sequence[str]) -> list[Row]:
    """The shown runs that there still are, with how they stand and what they wrote."""
    runs = {run.name: run for run in workshop.library.runs()}
    shown = [runs[name] for name in workshop.library.names_now(names) if name in runs][-MAX_SHOWN:]
    return [(run, workshop.trainer.status(run), workshop.library.metrics(run)) for run in shown]


def followed_row(rows: Sequence[Row]) -> Row | None:
    """The one that the status line speaks of: what trains, else what waits, else the last."""
    active = [row for row in rows if row[1].is_active]
    queued = [row for row in rows if row[1].state == "queued"]
    return next(iter([*active, *queued, *rows[-1:]]), None)


def structure(workshop: Workshop, rows: Sequence[Row]) -> str:
    """What the buttons and choices of a page depend on: it changes when a run starts, ends, or comes and goes."""
    runs = [(run.name, run.has_weights) for run in workshop.library.runs()]
    waiting = [run.name for run in workshop.trainer.queue()]
    states = [(run.name, status.state) for run, status, _ in rows]
    return hashlib.sha1(repr((runs, workshop.trainer.active(), waiting, states)).encode()).hexdigest()


class LiveFeed:
    """The messages to the pages. `routes` are for the server that the app runs in."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self._messages: OrderedDict[tuple[str, ...], _Message] = OrderedDict()
        self.routes = [Route("/live", self._stream), Route("/plotly.min.js", _plotly)]
        self.routes += [Route(f"/{name}", _script) for name in OWN_SCRIPTS]

    async def latest(self, names: tuple[str, ...]) -> str:
        """The message for pages that show these runs: the same object while nothing changes."""
        message = self._messages.setdefault(names, _Message())
        self._messages.move_to_end(names)
        while len(self._messages) > MAX_MESSAGES:
            self._messages.popitem(last=False)
        async with message.lock:  # of many pages one makes it, the others wait
            if time.monotonic() - message.looked > LOOK_SECONDS / 2:
                await asyncio.to_thread(self._renew, message, names)
            return message.text

    def _renew(self, message: "_Message", names: tuple[str, ...]) -> None:
        rows = rows_of(self.workshop, names)
        key = structure(self.workshop, rows)
        version = (key, tuple(len(metrics) for _, _, metrics in rows), rows and rows[-1][2][-1:])
        if version != message.version:
            message.version = version
            message.text = json.dumps(self._content(rows, key))
        message.looked = time.monotonic()

    def _content(self, rows: Sequence[Row], key: str) -> dict[str, Any]:
        histories = {run.name: metrics for run, _, metrics in rows}
        row = followed_row(rows)
        waiting = len(self.workshop.trainer.queue())
        log = last_log_lines(row[0]) if row and row[1].state == "failed" else []
        return {
            "key": key,
            "status": status_html(*row, waiting=waiting, log=log) if row else EMPTY,
            "table": runs_html(rows),
            "figures": {
                "loss": charts.loss_chart(histories),
                "accuracy": charts.accuracy_chart(histories),
                "rates": charts.rates_chart(row[2] if row else []),
                "speed": charts.speed_chart(histories),
                "memory": charts.memory_chart(histories),
            },
        }

    async def _stream(self, request: Request) -> StreamingResponse:
        names = tuple(filter(None, request.query_params.get("runs", "").split(",")))[-MAX_SHOWN:]
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(names), media_type="text/event-stream", headers=headers)

    async def _events(self, names: tuple[str, ...]) -> AsyncIterator[str]:
        """Without end: the server cancels it when the page is closed."""
        yield "retry: 1000\n\n"
        sent, sent_at = "", time.monotonic()
        while True:
            text = await self.latest(names)
            if text is not sent:
                sent, sent_at = text, time.monotonic()
                yield f"data: {text}\n\n"
            elif time.monotonic() - sent_at > HEARTBEAT_SECONDS:
                sent_at = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(LOOK_SECONDS)


class _Message:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.looked = -1.0  # when, by the monotonic clock
        self.version: object = None
        self.text = ""


async def _script(request: Request) -> Response:
    name = next(name for name in OWN_SCRIPTS if request.url.path.endswith(name))
    return Response((Path(__file__).parent / name).read_bytes(), media_type="text/javascript")


async def _plotly(_: Request) -> Response:
    """Plotly's library as its Python package brings it, so that the page needs no other server."""
    headers = {"Content-Encoding": "gzip", "Cache-Control": "public, max-age=86400"}
    return Response(await asyncio.to_thread(_plotly_gzip), media_type="text/javascript", headers=headers)


@lru_cache(maxsize=1)
def _plotly_gzip() -> bytes:
    library = resources.files("plotly") / "package_data" / "plotly.min.js"
    return gzip.compress(library.read_bytes(), 6)
