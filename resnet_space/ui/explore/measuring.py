"""What was measured for a visitor, and how it comes about: batch by batch, with progress, until it is stopped."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.data.summary import SMALL_IMAGE
from resnet_space.serve.context import AppContext
from resnet_space.training.footprint import multiply_adds
from resnet_space.ui.explore.images import Images, image_names, image_set
from resnet_space.ui.explore.memory import Handle, value_of
from resnet_space.ui.explore.networks import LoadedNetwork, Network, config_of, load_network
from resnet_space.ui.finetune.status import duration
from resnet_space.ui.html import progress_html

if TYPE_CHECKING:
    from torch import Tensor, nn

    from resnet_space.data.splits import ImageSet
    from resnet_space.residuals import Measured

REPORT_SECONDS = 0.4  # between two reports of the progress
DRAW_SECONDS = 4.0  # until what there is so far is drawn, and three times as long until it is drawn again
BATCH = 64
SMALL_BATCH = 16  # of photographs: so that a Stop is heard soon
AUTOMATIC = 150e9  # multiply-adds that are spent without asking: some seconds of two cores
MOST_KEPT = 4  # sets of images whose findings stay with a network
MOST_IMAGES_KEPT = 1_000  # of such a set
UNLABELLED = "This measurement needs labels: choose images from a dataset with the classes of the network."


class OfImages(Protocol):
    """The result of a measurement."""

    @property
    def images(self) -> int: ...


R = TypeVar("R", bound=OfImages)


@dataclass(frozen=True, eq=False)
class Findings:
    """All that was measured of one network on one set of images.

    Attributes:
        network: which was measured.
        images: which were asked for.
        names: of the images that were measured, safe for Plotly.
        measured: norms, cosines and responses, from one pass.
        labelled: whether the images' classes are the network's.
        stopped: whether only some of the images were measured.
        on_demand: results of further measurements on the same images, by the ids of `OnDemand`.
    """

    network: Network
    images: Images
    names: list[str]
    measured: "Measured"
    labelled: bool
    stopped: bool = False
    on_demand: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """ "resnet20-cbam-cifar10 on 64 test images of cifar10-mini"."""
        return f"{self.network.label} on {self.images.words(self.measured.images)}"

    def are_of(self, network: Network, images: Images) -> bool:
        """Whether they answer a wish, as far as it was not stopped."""
        return (self.network, self.images) == (network, images)


def findings_of(handle: Handle[Findings] | None) -> Findings:
    """Those of a page. Raises UserError before the first measurement, and on a page that was idle for long."""
    return value_of(handle, "Nothing has been measured yet: press Measure first.")


@dataclass(frozen=True)
class OnDemand(Generic[R]):
    """What costs more than one pass: gradients, removed blocks, early answers.

    It is measured when its view is opened, or, where that would take long, when its button is pressed.

    Attributes:
        id: views that name the same one share its result.
        label: of the button.
        what: beside the network's name, while it is measured.
        start: (`resnet_space.residuals`, model, batches of images and labels) -> results, each of all images so far; it
            is given the module, whose import takes seconds. Raises UserError.
        passes: about how many forward passes it costs, by the number of blocks.
        beside: gives another network, which `start` is given last. Raises UserError.
    """

    id: str
    label: str
    what: str
    start: Callable[..., Iterator[R]]
    passes: Callable[[int], float] = field(default=lambda _blocks: 1.0)
    beside: "Callable[[AppContext, Network], nn.Module] | None" = None

    def of(self, findings: Findings) -> R | None:
        """What was measured of it so far."""
        return findings.on_demand.get(self.id)


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
        words, numbers = f"{escape(self.what)}: {done}", ""
        if self.stopped:
            words = f"<b>Stopped</b> after {done}. The results so far are shown."
            numbers = duration(self.seconds)
        elif self.done >= self.total:
            numbers = f"{self.seconds:.1f} s"
        elif self.done:
            left = self.seconds / self.done * (self.total - self.done)
            numbers = f"{self.done / self.seconds:,.0f} images/s · about {duration(left)} left"
        share = self.done / max(self.total, 1)
        return progress_html(words, numbers, share=share, label="measured", state="measuring")


def batches_for(data: "ImageSet", config: ModelConfig) -> "Iterator[tuple[Tensor, Tensor]]":
    """Images as the network expects them, and their labels as it numbers them (-1 where it does not know them)."""
    from resnet_space.residuals import probe_batches

    return probe_batches(data, config, BATCH if config.image_size <= SMALL_IMAGE else SMALL_BATCH)


def _run(
    loaded: LoadedNetwork, results: Iterator[R], what: str, total: int, stop: threading.Event
) -> Generator[tuple[Progress, R, bool], None, None]:
    """Run a measurement; now and then (progress, what there is so far, whether to draw it).

    The last one is to be drawn. The network's lock is held for a batch at a time, so that others' predictions with it
    go on.
    """
    began = reported = time.monotonic()
    next_drawing = began + DRAW_SECONDS
    latest: R | None = None
    while True:
        with loaded.lock:
            result = next(results, None)
        now = time.monotonic()
        if result is None:
            break
        latest = result
        if stop.is_set():
            break
        if now - reported > REPORT_SECONDS and result.images < total:
            draws = now > next_drawing
            yield Progress(what, result.images, total, now - began), result, draws
            reported = time.monotonic()
            next_drawing = began + 3 * (reported - began) if draws else next_drawing
    if latest is not None:
        count = latest.images
        yield Progress(what, count, total, time.monotonic() - began, stopped=count < total), latest, True


def is_quick(context: AppContext, network: Network, images: int, passes: float = 1.0) -> bool:
    """Whether so many passes over so many images cost so little that nobody has to be asked. Raises UserError."""
    return multiply_adds(config_of(context, network)) * images * passes <= AUTOMATIC


# Complete findings by network, as long as it is loaded: to come back to a view, or to compare, costs nothing.
_KEPT: "WeakKeyDictionary[nn.Module, OrderedDict[Images, Findings]]" = WeakKeyDictionary()
_KEPT_LOCK = threading.Lock()


def _kept(model: "nn.Module", images: Images) -> Findings | None:
    with _KEPT_LOCK:
        return _KEPT.get(model, OrderedDict()).get(images)


def _keep(model: "nn.Module", findings: Findings) -> None:
    if findings.stopped or findings.images.files or findings.measured.images > MOST_IMAGES_KEPT:
        return
    with _KEPT_LOCK:
        of_model = _KEPT.setdefault(model, OrderedDict())
        of_model[findings.images] = findings
        while len(of_model) > MOST_KEPT:
            of_model.popitem(last=False)


def measure_network(
    context: AppContext, network: Network, images: Images, stop: threading.Event
) -> Generator[tuple[Progress, Findings, bool], None, None]:
    """The one pass that gives norms, cosines and responses; yields as `_run` does. Raises UserError."""
    from resnet_space.residuals import labels_for, measure

    with context.slots.taken("measurements"):
        loaded = load_network(context, network)
        kept = _kept(loaded.model, images)
        if kept is not None:
            count = kept.measured.images
            yield Progress(network.label, count, count, 0), replace(kept, on_demand=dict(kept.on_demand)), True
            return
        data = image_set(images, loaded.config, public=context.public)
        names = image_names(images, data)
        labelled = labels_for(data, loaded.config.classes) is not None
        results = measure(loaded.model, (batch for batch, _ in batches_for(data, loaded.config)))
        found = None
        for progress, measured, draws in _run(loaded, results, network.label, len(data), stop):
            found = Findings(network, images, names[: measured.images], measured, labelled, progress.stopped)
            yield progress, found, draws
        if found is not None and found.measured.images == len(data):
            _keep(loaded.model, replace(found, on_demand={}))


def measure_on_demand(
    context: AppContext, findings: Findings, wanted: OnDemand[Any], stop: threading.Event
) -> Generator[tuple[Progress, Any, bool], None, None]:
    """More, on the same images; yields as `_run` does. Raises UserError."""
    import torch

    from resnet_space import residuals

    if not findings.labelled:
        raise UserError(UNLABELLED)
    with context.slots.taken("measurements"):
        loaded = load_network(context, findings.network)
        kept = _kept(loaded.model, findings.images)
        if kept is not None and (result := kept.on_demand.get(wanted.id)) is not None:
            yield Progress(f"{findings.network.label}, {wanted.what}", result.images, result.images, 0), result, True
            return
        data = image_set(findings.images, loaded.config, public=context.public)
        total = min(findings.measured.images, len(data))
        if total < len(data):  # it was stopped
            data = data.subset(torch.arange(total))
        other = [] if wanted.beside is None else [wanted.beside(context, findings.network)]
        results = wanted.start(residuals, loaded.model, batches_for(data, loaded.config), *other)
        for progress, result, draws in _run(loaded, results, f"{findings.network.label}, {wanted.what}", total, stop):
            if kept is not None and result.images == kept.measured.images:
                kept.on_demand[wanted.id] = result
            yield progress, result, draws
