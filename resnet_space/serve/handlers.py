"""Wraps every handler, whatever the route: the queue, `/run`, `/call`, MCP.

It determines the address and the cost of a call, limits concurrency, and turns errors into messages. A handler is
marked with `costly` if it uses much compute. Without limits, on one's own machine, no call is held up.
"""

import asyncio
import random
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, EventQueue, Queue
from gradio.route_utils import get_fn
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from resnet_space.common.errors import UserError
from resnet_space.common.faults import system_words
from resnet_space.serve.limits import Limits
from resnet_space.serve.rates import RateLimit
from resnet_space.serve.refusals import refusal
from resnet_space.serve.visitors import asked_by

F = TypeVar("F", bound=Callable[..., Any])

COSTLY_AT_ONCE = 6  # running at once; the rest of Gradio's 40 threads stay free for quick calls
COSTLY_OF_ONE = 2  # of these per address, no two of a kind: it can predict while it downloads
COSTLY_CALLS_OF_ONE = 6  # waiting or running per address
CALLS_OF_ONE = 60  # of any kind per address: opening the page makes some twenty
CALLS = 1_000  # of all addresses
LOOK_SECONDS = 0.01  # between two looks for calls that wait (Gradio's are 0.001), and for progress to be told
IDLE_LOOK_SECONDS, IDLE_PROGRESS_SECONDS = 0.05, 0.2  # the same of an app that nobody uses
CALM_SECONDS = 5.0  # after a call, until an app is one

UNFIT = "The values of this request do not match the endpoint: see the app's API page."
UNFORESEEN = "Something went wrong in the app (see its log): try again, or tell whoever runs it."


def costly(handler: F) -> F:
    """Mark a handler as costly: predictions, measurements, trainings, imports, exports, the Hub."""
    vars(handler)["costly"] = True
    return handler


def costs(share: float) -> Callable[[F], F]:
    """Mark a cheaper costly handler, which may be called more often: a share of 0.1 counts as a tenth of a call."""

    def mark(handler: F) -> F:
        vars(handler)["cost"] = share
        return costly(handler)

    return mark


def cost_of(block_fn: Any) -> float:
    """The number of calls that one call of a costly handler counts as."""
    return float(getattr(block_fn.fn, "cost", 1.0))


def is_costly(block_fn: Any) -> bool:
    return bool(getattr(block_fn.fn, "costly", False))


def visitors_error(error: Exception) -> gr.Error:
    """The message for a visitor about any error; unexpected errors are printed in full."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, UserError):
        return refusal(error)
    words = system_words(error)
    if words is None:
        traceback.print_exception(error)
    return refusal(words or UNFORESEEN)


@dataclass(frozen=True)
class Job:
    """A waiting or running call of a handler, with its address."""

    address: str
    costly: bool
    kind: str  # those of one share a limit of how many run at once

    @classmethod
    def of(cls, block_fn: BlockFunction, request: object) -> "Job":
        return cls(address_of_request(request), is_costly(block_fn), str(block_fn.concurrency_id))


def _job(event: Event) -> Job:
    return Job.of(event.fn, event.request)


def _seconds_to_look(idle: float) -> Any:
    """An attribute of the queue that Gradio sets once: if an app that nobody uses looked as often as others, it would
    take some percent of a core.
    """

    def seconds(queue: "FairQueue") -> float:
        is_used = time.monotonic() < queue._calm_at or any(queue.active_jobs)
        return LOOK_SECONDS if is_used else idle

    return property(seconds, lambda _queue, _gradios: None)


class FairQueue(Queue):
    """Gradio's queue, made fair between addresses.

    Calls beyond an address's limits are refused before they wait. Quick calls never wait for costly ones, and the next
    call belongs to the address with the fewest running calls.
    """

    blocks: "Guarded"

    def __init__(self, *args: Any, **options: Any) -> None:
        self._calm_at = 0.0  # by the monotonic clock
        super().__init__(*args, **options)
        self._beside: list[Job] = []  # calls by `/run`, which pass the queue by
        self._running_beside: list[Job] = []

    sleep_when_free = _seconds_to_look(IDLE_LOOK_SECONDS)  # for calls that wait
    progress_update_sleep_when_free = _seconds_to_look(IDLE_PROGRESS_SECONDS)  # for progress to be told

    def jobs(self) -> Iterator[Job]:
        """All waiting and running calls."""
        yield from self._beside
        for queue in self.event_queue_per_concurrency_id.values():
            yield from map(_job, queue.queue)
        yield from (_job(event) for events in self.active_jobs for event in events or ())

    async def push(
        self, body: PredictBodyInternal, request: Any, username: str | None
    ) -> tuple[bool, Any, Literal["success", "error", "queue_full", "validator_error"]]:
        self._calm_at = time.monotonic() + CALM_SECONDS
        block_fn = get_fn(self.blocks, None, body)
        reason = self.blocks.reason_against(block_fn, address_of_request(request))
        if reason is None:
            return await super().push(body, request, username)
        # Told as the handler itself would, so that every page and program shows it as it shows any refusal.
        event = Event(body.session_hash, block_fn, request, username)
        async with self.pending_message_lock:
            unread = self.pending_event_ids_session.setdefault(event.session_hash, set())
            if len(unread) >= CALLS_OF_ONE:  # they are never read
                return False, reason, "error"
            unread.add(event._id)
            if event.session_hash not in self.pending_messages_per_session:
                self.pending_messages_per_session[event.session_hash] = asyncio.Queue()
        self.send_message(event, ProcessCompletedMessage(output=error_payload(refusal(reason), True), success=False))
        return True, event._id, "success"

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        running = list(self._running())
        calls = Counter(job.address for job in running)
        names = list(self.event_queue_per_concurrency_id)
        random.shuffle(names)
        for name in names:
            queue = self.event_queue_per_concurrency_id[name]
            may_run = [event for event in queue.queue if self._has_room(queue, _job(event), running)]
            if may_run:
                event = min(may_run, key=lambda event: calls[_job(event).address])
                queue.queue.remove(event)
                return [event], False, name
        return None

    @asynccontextmanager
    async def place(self, block_fn: BlockFunction, address: str) -> AsyncGenerator[None]:
        """A slot for a call that bypasses the queue: wait as if it were queued. Raises gr.Error."""
        reason = self.blocks.reason_against(block_fn, address)
        if reason is not None:
            raise refusal(reason)
        self.create_event_queue_for_fn(block_fn)
        queue = self.event_queue_per_concurrency_id[block_fn.concurrency_id]
        job = Job(address, is_costly(block_fn), str(block_fn.concurrency_id))
        self._beside.append(job)
        try:
            while not self._has_room(queue, job, list(self._running())):
                await asyncio.sleep(LOOK_SECONDS)
            self._running_beside.append(job)
            queue.current_concurrency += 1
            try:
                yield
            finally:
                queue.current_concurrency -= 1
                self._running_beside.remove(job)
        finally:
            self._beside.remove(job)

    def _running(self) -> Iterator[Job]:
        yield from self._running_beside
        yield from (_job(event) for events in self.active_jobs for event in events or ())

    def _has_room(self, queue: EventQueue, job: Job, running: Sequence[Job]) -> bool:
        """Whether it may start beside the running calls."""
        if queue.concurrency_limit is not None and queue.current_concurrency >= queue.concurrency_limit:
            return False
        if not job.costly or not self.blocks.is_limited:
            return True
        costly = [other for other in running if other.costly]
        own = [other for other in costly if other.address == job.address]
        alike = any(other.kind == job.kind for other in own)
        return len(costly) < COSTLY_AT_ONCE and len(own) < COSTLY_OF_ONE and not alike


class Guarded(gr.Blocks):
    """The app: a `gr.Blocks` whose handlers all run through `process_api` below.

    Args:
        limits: of what visitors may ask for.
        options: as of `gr.Blocks`.
    """

    _queue: FairQueue

    def __init__(self, limits: Limits, **options: Any) -> None:
        self._often = RateLimit(limits.requests)
        super().__init__(**options)

    def queue(self, *, default_concurrency_limit: int = 1) -> "Guarded":
        """Of the options of `gr.Blocks` the one that is used here: `reason_against` has the limits of its own. And no
        server is built, which Gradio does each time and uses the one that `launch` builds.
        """
        self._queue = FairQueue(True, self.max_threads, 1, None, self, default_concurrency_limit)
        return self

    @property
    def is_limited(self) -> bool:
        """Whether limits apply, because the app is public."""
        return self._often.per_minute is not None

    def reason_against(self, block_fn: BlockFunction, address: str) -> str | None:
        """Why an address may not call this handler now, in one sentence; None if it may, and the call is counted."""
        if not self.is_limited:
            return None
        jobs = list(self._queue.jobs())
        own = [job for job in jobs if job.address == address]
        if len(own) >= CALLS_OF_ONE or len(jobs) >= CALLS:
            return "Too many requests at once: wait until some are done."
        if not is_costly(block_fn):
            return None
        if sum(job.costly for job in own) >= COSTLY_CALLS_OF_ONE:
            own_calls = f"{COSTLY_CALLS_OF_ONE} requests from your address"
            return f"{own_calls} are already running or queued: wait until one is done."
        wait = self._often.seconds_to_wait(address, cost_of(block_fn))
        if not wait:
            return None
        limit = f"the limit is {self._often.per_minute} per minute"
        return f"Too many requests from your address ({limit}): try again in {wait} s."

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], *args: Any, **options: Any
    ) -> list[Any]:
        try:
            values: list[Any] = await super().preprocess_data(block_fn, inputs, *args, **options)
        except gr.Error:
            raise
        except Exception:  # whatever does not fit the components
            raise refusal(UNFIT) from None
        return values

    async def process_api(self, block_fn: Any, inputs: Any, *args: Any, **options: Any) -> dict[str, Any]:
        asked = options.get("request")
        address = address_of_request(asked)
        block_fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if block_fn.fn is None:  # what the browser does by itself
            raise refusal(UNFIT)
        beside_the_queue = block_fn.queue and options.get("event_id") is None
        try:
            with asked_by(address):
                async with self._queue.place(block_fn, address) if beside_the_queue else nullcontext():
                    return await super().process_api(block_fn, inputs, *args, **options)
        except Exception as error:
            raise visitors_error(error) from None


def address_of_request(request: Any) -> str:
    """The address to count a call for, as the guard determined it."""
    client = getattr(request, "client", None)
    return str(client.host) if client is not None else ""
