"""On a ZeroGPU Space: an event of the page or of a program hosts the training that it has started.

ZeroGPU gives a GPU to an event of a visitor, by whose quota it is paid. So no process trains, and a training ends when
its page is closed; it can be resumed. Anywhere else this module does nothing.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from contextvars import copy_context
from functools import wraps
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec

from gradio.components import Component
from gradio.events import Dependency

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import is_zero_gpu
from resnet_space.config import RunConfig
from resnet_space.runs import Run, last_metric
from resnet_space.serve.context import AppContext
from resnet_space.serve.zero.host import SliceProgress, train_in_slices
from resnet_space.serve.zero.quota import expected_steps_per_second, needed_seconds, quota_words, steps_per_second
from resnet_space.ui.events import EACH, QUIET
from resnet_space.ui.html import note_html

P = ParamSpec("P")

RESPONSE_SECONDS = 0.5  # until it is noticed that somebody has left

# So many train at once, each with a GPU of its own; the others wait in Gradio's queue.
LIMITS: Any = {"concurrency_limit": 2, "concurrency_id": "zero_gpu"}


def host_in_slices(context: AppContext, started: Dependency, inputs: Sequence[Component]) -> None:
    """After an event that started a run, train it. `inputs`: the subject, the runs beside it, and the visitor's key."""
    if not is_zero_gpu():
        return

    def host(about: str | None, beside: list[str], key: str | None) -> Iterator[None]:
        for name in [about, *beside]:
            try:
                run = context.own_run(name or "", key)
            except UserError:  # another's, or deleted meanwhile
                continue
            for _ in _hosted(context, run.name):
                yield

    started.success(host, inputs, None, **QUIET | EACH | LIMITS)


def also_hosting(
    context: AppContext, endpoint: Callable[P, dict[str, Any]], status: Callable[[AppContext, str], dict[str, Any]]
) -> Callable[P, Generator[dict[str, Any], None, None]]:
    """An endpoint that trains what `endpoint` starts, too: it gives the status again and again until the end."""

    @wraps(endpoint)
    def hosted(*args: P.args, **kwargs: P.kwargs) -> Generator[dict[str, Any], None, None]:
        started = endpoint(*args, **kwargs)
        yield started
        for _ in _hosted(context, started["run"]):
            yield started | status(context, started["run"])
        yield started | status(context, started["run"])

    return hosted


def quota_html(context: AppContext, config: RunConfig, images: int, token: str | None) -> str:
    """How much GPU time a training with so many images will ask for, from the pace of one like it if there is, and how
    much the token's account has left.
    """
    if not is_zero_gpu():
        return ""
    steps = config.training.total_epochs * images / config.training.batch_size
    pace = next(filter(None, map(_gpu_pace(context, config), context.library.runs())), None)
    seconds = needed_seconds(steps, pace or expected_steps_per_second(config))
    return note_html(quota_words(seconds, context.free_gpu_seconds(token)))


def _gpu_pace(context: AppContext, config: RunConfig) -> Callable[[Run], float | None]:
    def alike(other: RunConfig) -> tuple[object, ...]:
        return other.model.architecture, other.model.options, other.model.image_size, other.training.batch_size

    def pace(run: Run) -> float | None:
        metrics = context.library.metrics(run)
        start = last_metric(metrics, "start")
        on_gpu = start is not None and start["device"] == "cuda"
        return steps_per_second(metrics) if on_gpu and alike(run.config) == alike(config) else None

    return pace


def _hosted(context: AppContext, name: str) -> Iterator[None]:
    """Train a run that waits for a host; nothing for one that does not. Closed in the middle, it stops the run.

    The slices are asked for from a thread with the event's context, which says whose quota it is. For Gradio closes the
    generators of those who leave on its event loop, where all other visitors would wait until the state is saved.
    """
    run = context.library.open(name)
    resume = context.trainer.take(run)
    if resume is None:
        return
    reports: SimpleQueue[SliceProgress | Exception | None] = SimpleQueue()
    left = threading.Event()

    def train() -> None:
        try:
            with closing(train_in_slices(run, resume=resume)) as progress:
                for made in progress:
                    reports.put(made)
                    if left.is_set():
                        break
            reports.put(None)
        except Exception as error:
            reports.put(error)

    threading.Thread(target=copy_context().run, args=(train,)).start()
    try:
        while True:
            try:
                made = reports.get(timeout=RESPONSE_SECONDS)
            except Empty:  # nothing new, but only while it yields can a generator be closed
                yield
                continue
            if made is None:
                return
            if isinstance(made, Exception):
                raise made
            yield
    finally:
        left.set()
