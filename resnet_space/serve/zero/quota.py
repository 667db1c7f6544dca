"""How many seconds of GPU time to request, and the meaning of refusals."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_space.config import RunConfig
from resnet_space.runs import Metric, last_metric

MOST_SECONDS = 60  # of a slice: what ZeroGPU gives by default
FIRST_SECONDS = 30  # of the first slice, before the speed is known
LEAST_SECONDS = 15  # below them the start takes most of it
SETUP_SECONDS = 8.0  # until the first step: CUDA's start, the model, the images' way to the GPU; later it is measured
LEAVING_SECONDS = 2.0  # kept back to save the state
RESERVE = 1.2  # times the time that is expected

# A guess until the first slice has measured it: eager PyTorch waits for its kernels' launches, so many for each layer.
LAYERS_PER_SECOND = 600

DAILY_MINUTES = {"without an account": 2, "with a free account": 5, "with PRO": 40}  # documented


@dataclass(frozen=True)
class Refusal:
    """Why no GPU was granted, in one or two sentences, and the remaining seconds if reported."""

    reason: str
    left: int | None = None


def expected_steps_per_second(config: RunConfig) -> float:
    """A rough guess for a run that has not been measured yet."""
    return LAYERS_PER_SECOND / config.model.entry.depth


def steps_per_second(metrics: Sequence[Metric]) -> float | None:
    """The pace of a run so far, including validation; None before the first reported step."""
    last = last_metric(metrics, "step")
    return last["step"] / last["seconds"] if last and last["seconds"] > 0 else None


def needed_seconds(steps: float, pace: float, setup: float = SETUP_SECONDS) -> float:
    """Seconds needed for `steps` more steps at this pace, in one slice."""
    return setup + RESERVE * steps / pace + LEAVING_SECONDS


def seconds_to_ask(needed: float, *, measured: bool, most: int = MOST_SECONDS) -> int:
    """Seconds to request for the next slice: limited by the need and the maximum, and few before the pace is known."""
    return math.ceil(min(needed, most if measured else min(most, FIRST_SECONDS)))


def refusal(error: Exception) -> Refusal | None:
    """The meaning of an error of the package `spaces`; None for other errors, and for errors from within a slice."""
    title, message = str(getattr(error, "title", "")), str(error)
    if title == "ZeroGPU quota exceeded":
        left = re.search(r"requested vs\. (-?\d+)s left", message)
        wait = re.search(r"Try again in (?:(\d+) days?, )?(\d+):(\d\d):\d\d", message)
        when = "resume later"
        if wait:
            days, hours, minutes = (int(part or 0) for part in wait.groups())
            hours += 24 * days
            when = f"resume in {f'{hours} h ' * (hours > 0)}{minutes} min, when it is renewed"
        seconds = int(left[1]) if left else None
        if seconds is not None and seconds > 0:
            return Refusal(f"Only {seconds} s of your ZeroGPU quota are left, too few to continue: {when}.", seconds)
        return Refusal(f"Your ZeroGPU quota is used up: {when}.", seconds)
    if title == "ZeroGPU illegal duration":
        asked = re.search(r"\((\d+)s\)", message)
        return Refusal("ZeroGPU does not lend a GPU for that long at a time.", int(asked[1]) // 2 if asked else None)
    if title == "ZeroGPU pending credits exceeded":
        return Refusal("Your other ZeroGPU tasks are using all of your quota: resume when they are done.")
    if title in ("ZeroGPU queue timeout", "ZeroGPU client error") or message.startswith("Connection closed by visitor"):
        return Refusal("No GPU was available: resume later.")
    return None


def quota_words(seconds: float, left: float | None = None) -> str:
    """The GPU time a training needs, and the seconds `left` of the visitor's quota, or the daily quotas if unknown."""
    words = f"It will need about {_rounded(seconds)} of GPU time. "
    if left is None:
        minutes = [f"{minutes} {who}" for who, minutes in DAILY_MINUTES.items()]
        words += f"ZeroGPU gives each visitor a few minutes per day: {', '.join(minutes)}."
        left = 60 * min(DAILY_MINUTES.values())
    else:
        words += f"{max(math.floor(left), 0)} s of your free ZeroGPU quota are left."
    if seconds > left:
        words += " When yours are used up, the training stops; you can resume it later."
    return words


def _rounded(seconds: float) -> str:
    if seconds < 100:
        return f"{max(math.ceil(seconds / 10), 1) * 10} s"
    return f"{math.ceil(seconds / 60)} min"
