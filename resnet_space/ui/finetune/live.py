"""What all viewers' pages show of the runs, as they train: one stream of server-sent events a page.

A page that asked again and again would cost the server as much as the training; here a message is made once, however
many pages show the same runs, and sent only when something changed.
"""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import escape
from typing import Any
from weakref import WeakValueDictionary

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from resnet_space import plots
from resnet_space.common.background import tell_once
from resnet_space.common.errors import UserError
from resnet_space.runs import NAME_PATTERN, Metric, Run, is_tested
from resnet_space.runs.process import last_log_lines
from resnet_space.runs.queue import Status
from resnet_space.serve.context import NOT_MADE_HERE, AppContext
from resnet_space.ui.finetune.comparison import mixed_data, result_html, runs_html
from resnet_space.ui.finetune.status import EMPTY, is_underway, status_html

REFRESH_SECONDS = 0.5  # how often a page's runs are looked at
HEARTBEAT_SECONDS = 15.0  # of silence, after which a dead connection is noticed
MAX_SHOWN = 6  # runs in one page's plots: as many as there are colours
MAX_MESSAGES = 64  # different sets of shown runs that are kept where no page shows them

Row = tuple[Run, Status, list[Metric]]
Histories = dict[str, list[Metric]]

# By their ids: the label, the event that has the numbers, and their names there.
CURVES: dict[str, tuple[str, str, tuple[str, ...], Callable[[Histories], plots.Chart]]] = {
    "loss": ("Loss", "step", ("step", "loss"), plots.loss_chart),
    "accuracy": ("Accuracy", "epoch", ("epoch", "train_accuracy", "validation_accuracy"), plots.accuracy_chart),
    "rates": ("Learning rates", "step", ("step", "rates"), lambda of: plots.rates_chart(next(iter(of.values()), []))),
    "speed": ("Speed", "step", ("step", "images_per_second"), plots.speed_chart),
    "memory": ("Memory", "step", ("step", "memory"), plots.memory_chart),
}


class Snapshot:
    """What all messages share, read once: the runs, who waits, who trains. How a run stands is read when it is shown.

    Raises:
        UserError: where the machine cannot read it now.
    """

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.made = time.monotonic()
        self.runs = context.library.runs()
        self.queue = context.trainer.queue(self.runs)
        self._shared = repr(
            (
                [(run.name, run.has_weights) for run in self.runs],
                context.trainer.active(self.runs),
                [run.name for run in self.queue],
            )
        )
        self._by_name = {run.name: run for run in self.runs}
        self._rows: dict[str, Row] = {}

    def rows(self, names: Sequence[str]) -> list[Row]:
        """The shown runs that there still are, with how they stand and what they wrote; the first is the subject."""
        found = self.context.library.names_now(names, self.runs)
        return [self._row(name) for name in found[:MAX_SHOWN]]

    def _row(self, name: str) -> Row:
        if name not in self._rows:
            run = self._by_name[name]
            status = self.context.trainer.status_in(self.queue, run)
            metrics = self.context.library.metrics(run)  # first, as more may come in between
            shown = self.context.library.shown_metrics(run)
            if len(metrics) > len(shown) and not status.note:
                lacking = len(metrics) - len(shown)
                status = replace(status, note=f"{lacking} of its metrics are incomplete and not shown.")
            self._rows[name] = (run, status, shown)
        return self._rows[name]

    def structure(self, rows: Sequence[Row]) -> str:
        """What the buttons and choices of a page depend on: it changes when a run starts, ends, or comes and goes."""
        states = [(run.name, status.state, is_tested(metrics)) for run, status, metrics in rows]
        return hashlib.sha1(repr((self._shared, states)).encode()).hexdigest()


def rows_of(context: AppContext, names: Sequence[str]) -> list[Row]:
    """As `Snapshot.rows`, of a snapshot of its own."""
    return Snapshot(context).rows(names)


def followed_row(rows: Sequence[Row]) -> Row | None:
    """The one that the status line speaks of: what trains, else what waits, else the first."""
    active = [row for row in rows if row[1].is_active]
    queued = [row for row in rows if row[1].state == "queued"]
    return next(iter([*active, *queued, *rows[:1]]), None)


class LiveFeed:
    """The messages to the pages. `routes` are for the server that the app runs in."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self._snapshot: Snapshot | None = None
        # One thread, as several would only take each other's time; and however many streams there are, the rest of the
        # app has its own.
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._messages: OrderedDict[tuple[str, ...], _Message] = OrderedDict()
        self._shown: WeakValueDictionary[tuple[str, ...], _Message] = WeakValueDictionary()
        self.routes = [Route("/live", self._stream)]

    async def latest(self, names: tuple[str, ...]) -> str:
        """The message for pages that show these runs: the same object while nothing changes."""
        return await self._newest(self._message(names), names)

    def _message(self, names: tuple[str, ...]) -> "_Message":
        """The one message for these runs: kept while a stream shows it, and of the others the last ones."""
        message = self._shown.get(names) or _Message()
        self._shown[names] = self._messages[names] = message
        self._messages.move_to_end(names)
        while len(self._messages) > MAX_MESSAGES:
            self._messages.popitem(last=False)
        return message

    async def _newest(self, message: "_Message", names: tuple[str, ...]) -> str:
        asked = time.monotonic()
        async with message.lock:  # of many pages one makes it, and the others wait, however long that takes
            if asked - message.looked > REFRESH_SECONDS / 2:
                await asyncio.get_running_loop().run_in_executor(self._maker, self._renew, message, names)
            return message.text

    def _renew(self, message: "_Message", names: tuple[str, ...]) -> None:
        """Make the message anew where something changed. It always has one afterwards: what goes wrong is in it, and
        the next snapshot may go well.
        """
        try:
            if self._snapshot is None or time.monotonic() - self._snapshot.made > REFRESH_SECONDS / 2:
                self._snapshot = Snapshot(self.context)
            snapshot = self._snapshot
            rows = snapshot.rows(names)
            key = snapshot.structure(rows)
            version = (key, [(len(metrics), metrics[-1:], status.note, status.doing) for _, status, metrics in rows])
            if version != message.version:
                message.content = self._sound_content(rows, key)
                message.text = json.dumps(message.content)
                message.version = version
            message.looked = snapshot.made
        except Exception as error:
            self._snapshot = None
            tell_once(f"A page's runs could not be read: {type(error).__name__}: {error}")
            cause = f"The runs cannot be read now ({type(error).__name__})."
            sentence = str(error) if isinstance(error, UserError) else cause
            refused: dict[str, Any] = {"status": _subdued_html(sentence), "figures": {}}  # the charts stay
            message.text = json.dumps(message.content | refused)
            message.version, message.looked = None, time.monotonic()

    def _sound_content(self, rows: Sequence[Row], key: str) -> dict[str, Any]:
        """The message's content; a run of which it cannot be made is only named in it."""
        try:
            return self._content(rows, key)
        except Exception as error:
            sound = [row for row in rows if self._can_be_shown(row)]
            if len(sound) == len(rows):
                raise
            names = ", ".join(row[0].name for row in rows if row not in sound)
            tell_once(f"Cannot be shown: {names} ({type(error).__name__}: {error})")
            content = self._content(sound, key)
            reason = f"{names} cannot be shown: its metrics are not in the expected format."
            return content | {"status": f"{content['status']}{_subdued_html(reason)}"}

    def _can_be_shown(self, row: Row) -> bool:
        try:
            self._content([row], "")
        except Exception:
            return False
        return True

    def _content(self, rows: Sequence[Row], key: str) -> dict[str, Any]:
        mixed = mixed_data([run for run, *_ in rows])
        named = {run.name: f"{run.name} ({run.config.training.dataset})" if mixed else run.name for run, *_ in rows}
        histories = {named[run.name]: metrics for run, _, metrics in rows}
        row = followed_row(rows)
        waiting = len(self.context.trainer.queue() if self._snapshot is None else self._snapshot.queue)
        log = last_log_lines(row[0]) if row and row[1].state == "failed" else []
        # What came with the app was not trained here.
        told = row and (row[0].name not in NOT_MADE_HERE or is_underway(row[1]))
        return {
            "key": key,
            "status": status_html(*row, waiting=waiting, log=log) if row and told else EMPTY,
            "result": result_html(rows),
            "table": runs_html(rows),
            "figures": {name: draw(histories) for name, (*_, draw) in CURVES.items()},
        }

    async def _stream(self, request: Request) -> StreamingResponse:
        asked = request.query_params.get("runs", "").split(",")
        names = tuple(dict.fromkeys(filter(NAME_PATTERN.fullmatch, asked)))[:MAX_SHOWN]
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(names), media_type="text/event-stream", headers=headers)

    async def _events(self, names: tuple[str, ...]) -> AsyncIterator[str]:
        """Without end: the server cancels it when the page is closed."""
        yield "retry: 1000\n\n"
        sent, sent_at = "", time.monotonic()
        message = self._message(names)  # with more streams than are remembered, each still makes its own but once
        while True:
            text = await self._newest(message, names)
            if text is not sent:
                sent, sent_at = text, time.monotonic()
                yield f"data: {text}\n\n"
            elif time.monotonic() - sent_at > HEARTBEAT_SECONDS:
                sent_at = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(REFRESH_SECONDS)


def _subdued_html(words: str) -> str:
    return f'<div class="status"><div class="subdued">{escape(words)}</div></div>'


class _Message:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.looked = -1.0  # when, by the monotonic clock
        self.version: object = None
        self.content: dict[str, Any] = {"key": "", "result": "", "table": ""}
        self.text = ""
