"""This machine's speed: measured, never guessed, and stored in a small file beside the runs.

The first measurement is a process that starts like a trainer, see `python -m resnet_space.training.timing`. The speeds
of later trainings on this machine replace it.
"""

import json
import math
import os
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Self

from resnet_space.common.background import tell_once
from resnet_space.common.files import replaced_atomically
from resnet_space.config import OBJECTIVES, ModelConfig, RunConfig
from resnet_space.models.registry import HEAD, entries
from resnet_space.runs import Metric, last_metric
from resnet_space.training.footprint import multiply_adds
from resnet_space.training.strategies import backbone_parts

SPEEDS = ".speeds.json"  # in the folder of the runs
FRESH_SECONDS = 24 * 3600.0
CPU = "cpu"
GPU = "cuda"

Network = tuple[str, int]  # architecture, image size in pixels

_RATES = ("features", "steps", "solving")


@dataclass(frozen=True)
class Speeds:
    """Speeds measured on a device of this machine; missing ones have not been measured yet.

    Attributes:
        device: PyTorch's name of what trainings compute on.
        launch: seconds from the start of a trainer process until it begins to decode.
        features: images a second through a network without gradients, by architecture and image size.
        steps: images a second of training steps in which everything trains, likewise.
        solving: images x classes a second while a head is solved on such features, likewise.
    """

    device: str = CPU
    launch: float | None = None
    features: Mapping[Network, float] = field(default_factory=dict)
    steps: Mapping[Network, float] = field(default_factory=dict)
    solving: Mapping[Network, float] = field(default_factory=dict)

    def features_of(self, model: ModelConfig) -> float | None:
        """Images per second through a model without gradients: measured, or else as its multiply-adds stand to those of
        the most similar network that was measured. None if none was.
        """
        network = model.architecture, model.image_size
        there = {name: rate for name, rate in self.features.items() if name[0] in entries()}
        if network in there or not there:
            return there.get(network)
        own = multiply_adds(model)

        def cost(known: Network) -> float:
            return multiply_adds(replace(ModelConfig(known[0], ("a", "b")), image_size=known[1]))

        nearest = min(there, key=lambda known: abs(math.log(cost(known) / own)))
        return there[nearest] * cost(nearest) / own

    def with_run(self, config: RunConfig, metrics: Sequence[Metric]) -> Self:
        """Updated with a finished run of this machine: its pace in steps that train everything."""
        start, end = last_metric(metrics, "start"), last_metric(metrics, "end")
        pace = steps_of(config, metrics)
        if start is None or end is None or start["device"] != self.device or pace is None:
            return self
        return replace(self, steps={**self.steps, (config.model.architecture, config.model.image_size): pace})

    def to_json(self) -> dict[str, Any]:
        def rows(rates: Mapping[Network, float]) -> list[list[Any]]:
            return [[architecture, size, round(rate, 2)] for (architecture, size), rate in sorted(rates.items())]

        rates = {kind: rows(getattr(self, kind)) for kind in _RATES}
        return {"device": self.device, "launch": self.launch, **rates}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            launch = content["launch"]
            rates = ({(str(name), int(size)): _positive(rate) for name, size, rate in content[kind]} for kind in _RATES)
            return cls(str(content["device"]), None if launch is None else _positive(launch), *rates)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("these are not speeds") from error


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < 1e15:
        raise ValueError(f"{value!r} is not a speed")
    return number


def steps_of(config: RunConfig, metrics: Sequence[Metric]) -> float | None:
    """Images per second in the steps of a run that train everything; None if there were none."""
    start = last_metric(metrics, "start")
    if start is None or OBJECTIVES[config.training.objective].has_second_stream:  # a step is of twice as many images
        return None
    everything = {*backbone_parts(config.model), HEAD}
    rates, last = list[float](), 0
    for phase in start.get("phases", ()):
        first, last = last, last + phase["epochs"] * start["steps_per_epoch"]
        trained = {part.partition(".")[0] for part in phase["rates"]}
        if everything <= trained:
            rates += [
                metric["images_per_second"]
                for metric in metrics
                if metric["event"] == "step" and first < metric["step"] <= last and metric["images_per_second"] > 0
            ]
    return median(rates) if rates else None


def this_machine() -> dict[str, Any]:
    """Identifies the machine that a measurement is valid for: Spaces start on a different machine each time."""
    processor = platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": processor, "cores": cores}


def machine_words() -> str:
    """This machine in words, such as "AMD EPYC, 2 cores"."""
    machine = this_machine()
    return f"{machine['processor'] or 'unknown processor'}, {machine['cores']} cores"


class SpeedFile:
    """The speeds in a folder of runs. Its methods may be called from any thread.

    Args:
        root: the folder of the runs.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / SPEEDS
        self._lock = threading.Lock()
        self._known: Speeds | None = None
        self._is_read = False

    def known(self) -> Speeds | None:
        """The speeds measured on this machine; None if there are none."""
        with self._lock:
            if not self._is_read:
                self._known, self._is_read = self._read(), True
            return self._known

    def are_fresh(self) -> bool:
        """Whether they were measured within the last day: machines of one kind differ threefold from day to day."""
        with suppress(OSError):
            return self.known() is not None and time.time() - self._path.stat().st_mtime < FRESH_SECONDS
        return False

    def remember(self, speeds: Speeds) -> None:
        """Store the speeds, also in the file if possible."""
        with self._lock:
            self._known, self._is_read = speeds, True
            try:
                with replaced_atomically(self._path) as file:
                    file.write_text(json.dumps({"machine": this_machine(), **speeds.to_json()}), encoding="utf-8")
            except OSError as error:
                tell_once(f"This machine's speeds cannot be saved: {error}")

    def _read(self) -> Speeds | None:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return Speeds.from_json(content) if content["machine"] == this_machine() else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none yet, or damaged: it is measured again
            return None
