"""Which networks a comparison judges: those that a visitor names, or those at hand that fit the time."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import memory_bytes
from resnet_space.data.summary import SMALL_IMAGE, DatasetSummary, image_settings
from resnet_space.hub.licence import licence_of
from resnet_space.hub.pretrained import PRETRAINED, is_pretrained
from resnet_space.serve.context import AppContext
from resnet_space.serve.proposals import speeds_of
from resnet_space.training.comparison import MOST_IMAGES, Candidate, Comparison, expected_seconds, has_seen
from resnet_space.training.speeds import Speeds, machine_words
from resnet_space.training.work import LeftOut

MINUTES = 5.0  # that a comparison may be expected to take where nobody says otherwise
LEAST_MINUTES, MOST_MINUTES = 0.5, 600.0
MOST_NETWORKS = 40
LEAST_IMAGES, MOST_IMAGES_ASKED = 10, 100_000
NEWEST = 5  # comparisons that tell how fast this machine is
PROCESS_BYTES, PARAMETER_BYTES = 1_500_000_000, 12  # of memory: PyTorch; weights as read, as used and as exported
SEEN = "it has learned these classes before, perhaps from these images"


@dataclass(frozen=True)
class Fit:
    """The networks that a comparison would judge, in their order, and those that it would not, with reasons."""

    networks: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]


def fit(
    context: AppContext, data: DatasetSummary, key: str | None, *, names: object = (), minutes: object = MINUTES
) -> Fit:
    """The named networks; or without names those at hand that are expected to take no longer than these minutes in
    all: first those made for images of this size, each time the quickest first.

    Raises:
        UserError: for a network that there is not or that has no weights, or for too many or too few minutes.
    """
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError("The networks must be a list of names.")
    if len(names) > MOST_NETWORKS:
        raise UserError(f"A comparison has at most {MOST_NETWORKS} networks, not {len(names)}: choose fewer.")
    if not isinstance(minutes, int | float) or not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise UserError(f"The minutes must be from {LEAST_MINUTES:g} to {MOST_MINUTES:g}, not {minutes!r}.")
    speeds = known_speeds(context)
    at_hand = context.trained_names(key)
    if names:
        chosen = list(dict.fromkeys(names))
        for name in chosen:
            if name not in at_hand and not is_pretrained(name):
                context.library.open(name)  # says that there is none
                raise UserError(f"{name} has no weights yet: train it for at least one epoch first.")
        return Fit(tuple(_candidate(context, name, data, speeds) for name in chosen), ())
    return _fitting(context, data, at_hand, speeds, 60 * minutes)


def _fitting(context: AppContext, data: DatasetSummary, at_hand: Sequence[str], speeds: Speeds, seconds: float) -> Fit:
    def suits(name: str) -> bool:
        return (context.start_model(name).input_size <= SMALL_IMAGE) == (data.side <= SMALL_IMAGE)

    found = [_candidate(context, name, data, speeds) for name in at_hand]
    found.sort(key=lambda candidate: (not suits(candidate.name), candidate.seconds or 0.0))
    networks: list[Candidate] = []
    left_out: list[LeftOut] = []
    spent = 0.0
    for candidate in found:
        needed = PROCESS_BYTES + PARAMETER_BYTES * context.start_model(candidate.name).entry.parameters
        takes = candidate.seconds or 0.0
        if candidate.seen:
            left_out.append(LeftOut(candidate.name, SEEN))
        elif needed > memory_bytes():
            left_out.append(LeftOut(candidate.name, f"it needs about {needed / 1e9:.1f} GB of memory"))
        elif len(networks) == MOST_NETWORKS:
            left_out.append(LeftOut(candidate.name, f"a comparison has at most {MOST_NETWORKS} networks"))
        elif spent + takes > seconds:
            left_out.append(LeftOut(candidate.name, f"it would take about {takes / 60:.1g} more minutes"))
        else:
            networks.append(candidate)
            spent += takes
    missing = (known.name for known in PRETRAINED if known.name not in at_hand)
    downloads = (_candidate(context, name, data, speeds) for name in missing)
    left_out += [LeftOut(c.name, f"its weights are not downloaded ({c.download / 1e6:,.0f} MB)") for c in downloads]
    return Fit(tuple(networks), tuple(left_out))


def _candidate(context: AppContext, name: str, data: DatasetSummary, speeds: Speeds) -> Candidate:
    model = context.start_model(name)
    seconds = expected_seconds(image_settings(data.side, model)[0], data, speeds)
    seen = has_seen(model, data.classes)
    if (context.library.root / name).is_dir():
        return Candidate(name, licence_of(context.library.open(name)), seconds, seen)
    licence = next(known.licence for known in PRETRAINED if known.name == name)
    return Candidate(name, licence, seconds, seen, 4 * model.entry.parameters)


def known_speeds(context: AppContext) -> Speeds:
    """Of this machine: those that proposals rest on, and what earlier comparisons here have measured."""
    measured: dict[tuple[str, int], float] = {}
    for name in context.comparisons.names()[:NEWEST][::-1]:  # the newest last
        with suppress(UserError):
            comparison = context.comparisons.open(name)
            if comparison.machine == machine_words() and not comparison.busy:
                measured |= {(r.architecture, r.image_size): r.images_per_second for r in comparison.judged}
    speeds = speeds_of(context)
    return replace(speeds, features={**speeds.features, **measured})


def start_comparison(
    context: AppContext,
    dataset: str,
    key: str | None,
    *,
    names: object = (),
    minutes: object = MINUTES,
    most: object = MOST_IMAGES,
) -> str:
    """Start a comparison for a visitor; `fit` says of which networks. Returns its name.

    Raises:
        UserError: with one sentence; then nothing was started.
    """
    key = context.writer(key)
    if isinstance(most, bool) or not isinstance(most, int) or not LEAST_IMAGES <= most <= MOST_IMAGES_ASKED:
        raise UserError(
            f"The number of images must be a whole number from {LEAST_IMAGES} to {MOST_IMAGES_ASKED:,}, not {most!r}."
        )
    ref, data = context.dataset_to_judge(dataset, key, "train")
    found = fit(context, data, key, names=names, minutes=minutes)
    if not found.networks:
        raise UserError(f"No network at hand fits {minutes:g} minutes: allow more, or choose networks.")
    asked = Comparison(str(ref), found.networks, found.left_out, most=most, classes=len(data.classes))
    size = sum(candidate.download for candidate in found.networks)
    return context.start_work(context.comparisons, asked, key, size=size)
