"""What was measured for a visitor, and how it comes about: batch by batch, with progress, until it is stopped."""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from resnet_space.common.errors import UserError
from resnet_space.data.summary import SMALL_IMAGE
from resnet_space.serve.refusals import refusal
from resnet_space.serve.workshop import Workshop
from resnet_space.ui.explore.images import Images, image_names, image_set
from resnet_space.ui.explore.subjects import Subject, open_subject
from resnet_space.ui.finetune.status import duration

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.data.splits import ImageSet
    from resnet_space.residuals import Gradients, Lesion, Lesioned, Measured, Readings

Kind = Literal["gradients", "lesions", "several", "swapped", "readings"]
Result = TypeVar("Result")

TOLD_SECONDS = 0.4  # between two words on the progress
DRAWN_SECONDS = 4.0  # until what there is so far is drawn, and three times as long until it is drawn again
BATCH = 64
SMALL_BATCH = 16  # of photographs: so that a Stop is heard soon
COUNTS = 6  # of how many blocks are dropped together, spread over the depth
DRAWS = 5
MOST_PAIRS = 48  # of blocks that are exchanged; a resnet110 has hundreds


@dataclass(frozen=True, eq=False)
class Findings:
    """All that one press of Measure began.

    Attributes:
        subject: the network's name on the page.
        images: which were asked for.
        names: of the images that were measured, safe for Plotly.
        measured: norms, cosines and responses, from one pass.
        labelled: whether the images' classes are the network's.
        asked: what was asked for afterwards, of the same images; it is filled meanwhile.
    """

    subject: str
    images: Images
    names: list[str]
    measured: "Measured"
    labelled: bool
    asked: dict[Kind, Any] = field(default_factory=dict)

    @property
    def gradients(self) -> "Gradients | None":
        return self.asked.get("gradients")

    @property
    def readings(self) -> "Readings | None":
        return self.asked.get("readings")

    def lesioned(self, kind: Kind) -> "Lesioned | None":
        """Of the kinds "lesions", "several", "swapped"."""
        return self.asked.get(kind)

    @property
    def words(self) -> str:
        """ "resnet20-cbam-cifar10 on 64 test images of cifar10-mini"."""
        return f"{self.subject} on {self.images.words(self.measured.images)}"


@dataclass(frozen=True)
class Progress:
    """How far a measurement is; `stopped` where it was left before its end."""

    what: str
    done: int
    total: int
    seconds: float
    stopped: bool = False

    @property
    def html(self) -> str:
        done = f"{self.done:,} of {self.total:,} images"
        if self.stopped:
            line = f"<b>Stopped.</b> {done} were measured, and what they tell is kept."
            numbers = duration(self.seconds)
        elif self.done >= self.total:
            line, numbers = f"{escape(self.what)}: {done}", f"{self.seconds:.1f} s"
        else:
            line = f"{escape(self.what)}: {done}"
            left = self.seconds / self.done * (self.total - self.done) if self.done else None
            numbers = "" if left is None else f"{self.done / self.seconds:,.0f} images/s · about {duration(left)} left"
        share = 100 * self.done / max(self.total, 1)
        return (
            f'<div class="status measuring"><div class="line"><span>{line}</span><span class="subdued">{numbers}</span>'
            f'</div><div class="bar" role="progressbar" aria-label="measured" aria-valuenow="{share:.0f}">'
            f'<div style="width: {share:.1f}%"></div></div></div>'
        )


UNLABELLED = "This needs to know what is right: choose images whose classes are those that the network was trained on."


class Stop(threading.Event):
    """It is set when a measurement is to end; `replaced`: what it has found is not wanted any more."""

    replaced = False


class Stops:
    """Who measures, and who asked to stop: a visitor's page is known by its session."""

    def __init__(self) -> None:
        self._running: dict[str, list[Stop]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def asked(self, session: str, *, instead: bool = False) -> Iterator[Stop]:
        """An event that is set when the page's Stop is pressed meanwhile, or something is measured `instead`."""
        event = Stop()
        with self._lock:
            running = self._running.setdefault(session, [])
            for other in running if instead else ():
                other.replaced = True
                other.set()
            running.append(event)
        try:
            yield event
        finally:
            with self._lock:
                self._running[session].remove(event)
                if not self._running[session]:
                    del self._running[session]

    def stop(self, session: str) -> None:
        with self._lock:
            for event in self._running.get(session, []):
                event.set()


def opened(workshop: Workshop, name: str | None) -> Subject:
    """Raises gr.Error for what cannot be opened."""
    try:
        return open_subject(workshop, name)
    except UserError as error:
        raise refusal(error) from None


def batches(data: "ImageSet", subject: Subject) -> "Iterator[tuple[Tensor, Tensor]]":
    """Images as the network expects them, and their labels as it numbers them (-1 where it does not know them)."""
    from resnet_space.residuals import probe_batches

    return probe_batches(data, subject.config, BATCH if subject.config.image_size <= SMALL_IMAGE else SMALL_BATCH)


def followed(
    subject: Subject,
    results: Iterator[Result],
    what: str,
    total: int,
    done: Callable[[Result], int],
    stop: threading.Event,
) -> Generator[tuple[Progress, Result, bool], None, None]:
    """Run a measurement; now and then (progress, what there is so far, whether to draw it).

    The last one is to be drawn. The network's lock is held for a batch at a time, so that others' predictions with it
    go on. Raises gr.Error where the network has nothing to measure.
    """
    began = told = time.monotonic()
    next_drawing = began + DRAWN_SECONDS
    latest: Result | None = None
    while True:
        try:
            with subject.lock:
                found = next(results, None)
        except ValueError as error:  # a network without residual blocks, for one
            raise refusal(error) from None
        now = time.monotonic()
        if found is None:
            break
        latest = found
        progress = Progress(what, done(found), total, now - began)
        if stop.is_set():
            break
        if now - told > TOLD_SECONDS and progress.done < total:
            draws = now > next_drawing
            yield progress, found, draws
            told = time.monotonic()
            next_drawing = began + 3 * (told - began) if draws else next_drawing
    if latest is not None:
        count = done(latest)
        yield Progress(what, count, total, time.monotonic() - began, stopped=count < total), latest, True


def measured(
    workshop: Workshop, name: str | None, images: Images, stop: threading.Event
) -> Generator[tuple[Progress, Findings, bool], None, None]:
    """The one pass that gives norms, cosines and responses."""
    from resnet_space.residuals import labels_for, measure

    with workshop.slots.taken("measurements"):
        subject = opened(workshop, name)
        data = image_set(images, subject.config, public=workshop.public)
        names = image_names(images, data)
        labelled = labels_for(data, subject.config.classes) is not None
        pixels = (batch for batch, _ in batches(data, subject))
        results = measure(subject.model, pixels)
        for progress, found, draws in followed(subject, results, name or "", len(data), lambda r: r.images, stop):
            yield progress, Findings(subject.name, images, names[: found.images], found, labelled), draws


def asked_for(
    workshop: Workshop, findings: Findings, kind: Kind, stop: threading.Event
) -> Generator[tuple[Progress, object, bool], None, None]:
    """What costs more than a pass, on the images that were measured: gradients, lesions, early readings."""
    from resnet_space import residuals

    if not findings.labelled:
        raise refusal(UNLABELLED)
    with workshop.slots.taken("measurements"):
        subject = opened(workshop, findings.subject)
        data = image_set(findings.images, subject.config, public=workshop.public)
        total = min(findings.measured.images, len(data))
        chosen = data if total == len(data) else _first(data, total)
        labelled = batches(chosen, subject)
        model = subject.model
        try:
            if kind == "gradients":
                results: Iterator[object] = residuals.gradients(model, labelled)
            elif kind == "readings":
                results = residuals.early_readings(model, labelled)
            else:
                results = residuals.lesioned(model, labelled, _lesions(subject, kind))
        except ValueError as error:
            raise refusal(error) from None
        what = {"gradients": "gradients", "readings": "early readings"}.get(kind, "lesions")
        yield from followed(subject, results, f"{subject.name}, {what}", total, _images_of, stop)


def _lesions(subject: Subject, kind: Kind) -> "list[Lesion]":
    from resnet_space import residuals

    if kind == "lesions":
        return residuals.single_drops(subject.model)
    if kind == "swapped":
        pairs = residuals.swaps(subject.model)
        if not pairs:
            raise refusal("No two blocks of this network have the same shape, so none can be exchanged.")
        return pairs[:: math.ceil(len(pairs) / MOST_PAIRS)]
    blocks = len(residuals.single_drops(subject.model))
    return residuals.random_drops(subject.model, drop_counts(blocks), draws=DRAWS)


def drop_counts(blocks: int) -> list[int]:
    """How many blocks to drop together, of so many: at most `COUNTS` numbers, evenly spread."""
    return sorted({max(round(blocks * i / COUNTS), 1) for i in range(1, COUNTS)}) if blocks > 1 else [1]


def _first(data: "ImageSet", count: int) -> "ImageSet":
    import torch

    return data.subset(torch.arange(count))


def _images_of(result: object) -> int:
    """How many images a result is of."""
    found = getattr(result, "images", None)
    return int(found if found is not None else len(result.labels))  # type: ignore[attr-defined]
