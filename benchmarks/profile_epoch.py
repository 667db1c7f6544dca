"""Where the time of a training goes: `python benchmarks/profile_epoch.py [--rounds N] [--save NAME]`.

Runs the real trainer on cifar10-mini with a stopwatch around its functions, which counts every moment to the innermost
one (a validation's moments to the validation), and waits for a GPU at each. Prints the seconds of one epoch by part;
with --save it writes a table and a picture.

Then the three largest costs that could be avoided, each before and after: a process for each way, whose epochs take
turns.

- decoded once: the images are decoded before the first epoch, instead of in every one.
- augmented as a batch: on tensors, instead of PIL images one at a time.
- measured precision: bfloat16 only where this machine computes faster in it. (No change where it does.)
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))

from matplotlib.figure import Figure

from benchmarks.machine import RESULTS, save
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data import batches
from resnet_space.data.batches import training_batches
from resnet_space.data.sources import dataset_classes
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.models import list_models
from resnet_space.plots import palette
from resnet_space.plots.figures import save_png
from resnet_space.runs import Run
from resnet_space.training import loop as train
from resnet_space.training.device import autocast_dtype, choose_device
from resnet_space.training.progress import Window
from resnet_space.training.state import Training

import torch  # isort: skip  # after the trainer, whose allocator setting has to come first
from PIL import Image  # isort: skip
from torch import Tensor  # isort: skip
from torchvision import transforms  # isort: skip

DATASET = "cifar10-mini"
VALIDATION = "validation"
# Which function is which part. What is around them, such as the generators and the loop itself, is "other".
FUNCTIONS: list[tuple[Any, str, str]] = [
    (train, "splits_of", "decode"),
    (ImageSet, "pixels", "transfer"),
    (ImageSet, "to", "transfer"),
    (batches, "augmented", "augmentation"),
    (batches, "normalise", "augmentation"),
    (batches, "mixed", "augmentation"),
    (Training, "features", "forward"),
    (Training, "step", "forward"),  # but for what follows
    (torch.Tensor, "backward", "backward"),
    (torch.optim.SGD, "step", "optimizer"),
    (Window, "add", "metrics"),
    (Window, "flush_into", "metrics"),
    (Training, "write", "metrics"),
    (Training, "save", "checkpoint"),
    (Run, "save_weights", "checkpoint"),
    (Training, "validate", VALIDATION),
]
PARTS = [*dict.fromkeys(part for *_, part in FUNCTIONS), "other"]
ONCE = "decode"  # a training, not an epoch
CHANGES = ("decoded once", "augmented as a batch", "measured precision")


class Stopwatch:
    """Seconds by part. Within a part another may begin; the outer one's time then stands still."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._parts = ["other"]
        self._since = self._now()

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def lap(self) -> None:
        """Count the time since the last lap to what is going on."""
        now = self._now()
        self.seconds[self._parts[-1]] += now - self._since
        self._since = now

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.lap()
            self._parts.append(VALIDATION if VALIDATION in self._parts else part)
            try:
                return function(*arguments, **named)
            finally:
                self.lap()
                self._parts.pop()

        return call


@contextmanager
def watching(stopwatch: Stopwatch) -> Generator[None]:
    with ExitStack() as stack:
        for owner, name, part in FUNCTIONS:
            stack.enter_context(patch.object(owner, name, stopwatch.timed(getattr(owner, name), part)))
        yield


def epoch_seconds(config: RunConfig, stopwatch: Stopwatch | None = None) -> float:
    """Train a temporary run of two epochs: the seconds of the second, which alone is counted.

    Decoding and the test before and after it are not part of an epoch; the decoding is counted nevertheless.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if stopwatch is not None:
            stack.enter_context(watching(stopwatch))
        run = Run.create(Path(folder) / "run", config)
        ends: list[float] = []
        metrics = train.train(run)
        for metric in metrics:
            if metric["event"] != "epoch":
                continue
            ends.append(time.perf_counter())
            if stopwatch is not None:
                stopwatch.lap()
                if len(ends) == 1:
                    stopwatch.seconds = defaultdict(float, {ONCE: stopwatch.seconds[ONCE]})
            if len(ends) == 2:
                break
        counted = None if stopwatch is None else stopwatch.seconds.copy()
        metrics.close()  # saves once more, which nobody asked for
        if stopwatch is not None and counted is not None:
            stopwatch.seconds = counted
    return ends[1] - ends[0]


def profile(config: RunConfig, rounds: int) -> dict[str, float]:
    """The median seconds of every part."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        stopwatch = Stopwatch()
        epoch_seconds(config, stopwatch)
        found.append(stopwatch.seconds)
    return {part: statistics.median(seconds[part] for seconds in found) for part in PARTS}


def serve(change: str, config: RunConfig) -> None:
    """Train as before a change ("" is before none), an epoch for every line that comes; print its seconds."""

    def decoding(*arguments: Any, **named: Any) -> Iterator[tuple[Tensor, Tensor]]:
        load_splits(config.training, config.model.stored_size)
        yield from training_batches(*arguments, **named)

    def one_at_a_time(images: Tensor, model: ModelConfig, training: TrainConfig, *_: Any) -> Tensor:
        padded = transforms.RandomCrop(model.image_size, padding=training.crop_padding)
        augment = transforms.Compose([padded, transforms.RandomHorizontalFlip(), transforms.PILToTensor()])
        return torch.stack([augment(Image.fromarray(image.numpy())) for image in images]).permute(0, 2, 3, 1)

    if change == "measured precision":
        config = replace(config, training=replace(config.training, precision="bfloat16"))
    with ExitStack() as stack:
        if change == "decoded once":
            stack.enter_context(patch.object(train, "training_batches", decoding))
        if change == "augmented as a batch":
            stack.enter_context(patch.object(batches, "augmented", one_at_a_time))
        for _ in sys.stdin:
            print(epoch_seconds(config), flush=True)


def before_and_after(architecture: str, batch_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """The median seconds of an epoch without each change, with all, and the median of the rounds' ratios."""
    command = [sys.executable, __file__, "--architectures", architecture, "--batch-size", str(batch_size), "--before"]
    processes = {
        change: subprocess.Popen([*command, change], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for change in ("", *CHANGES)
    }
    found: dict[str, list[float]] = {change: [] for change in processes}
    for number in range(rounds + 1):
        for change, process in processes.items():
            assert process.stdin
            assert process.stdout
            print(file=process.stdin, flush=True)
            spent = float(process.stdout.readline())
            if number:  # the first round warms up
                found[change].append(spent)
    for process in processes.values():
        process.communicate()
    return {
        change: {
            "before": round(statistics.median(found[change]), 3),
            "after": round(statistics.median(found[""]), 3),
            "ratio": round(statistics.median(b / a for b, a in zip(found[change], found[""], strict=True)), 3),
        }
        for change in CHANGES
    }


def picture(models: dict[str, dict[str, float]], title: str) -> Figure:
    """A bar for every model: the share of an epoch that each part takes."""
    parts = [part for part in PARTS if part != ONCE]
    figure = Figure(figsize=(9, 1.2 + 0.7 * len(models)), layout="constrained")
    axes = figure.add_subplot()
    for row, seconds in enumerate(models.values()):
        left, whole = 0.0, sum(seconds[part] for part in parts)
        for i, part in enumerate(parts):
            share = 100 * seconds[part] / whole
            hatch = "//" if i >= len(palette.CATEGORIES) else None  # the colours repeat then
            label = part if row == 0 else None
            axes.barh(row, share, left=left, color=palette.category(i), hatch=hatch, edgecolor="white", label=label)
            if share > 4:
                axes.text(left + share / 2, row, f"{share:.0f}", ha="center", va="center", color="black", fontsize=9)
            left += share
    axes.set_yticks(range(len(models)), list(models))
    axes.invert_yaxis()
    axes.set(xlabel=f"share of an epoch's seconds (%), {title}", xlim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, ncols=len(parts), loc="outside upper center", fontsize=8, columnspacing=1)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", choices=list_models(), nargs="+", default=["resnet20", "resnet18"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and NAME.png")
    parser.add_argument("--before", choices=("", *CHANGES), help="serve the rounds of one way; for this program itself")
    arguments = parser.parse_args()
    settings = TrainConfig(dataset=DATASET, batch_size=arguments.batch_size, epochs=3)
    models = {
        architecture: RunConfig(ModelConfig(architecture, dataset_classes(DATASET)), settings)
        for architecture in arguments.architectures
    }
    if arguments.before is not None:
        serve(arguments.before, models[arguments.architectures[0]])
        return

    device = choose_device().type
    precision = "float32" if autocast_dtype(settings, choose_device()) is None else "bfloat16"
    title = f"{device}, {precision}, batch size {arguments.batch_size}"
    parts: dict[str, dict[str, float]] = {}
    changes: dict[str, dict[str, dict[str, float]]] = {}
    for architecture, config in models.items():
        changes[architecture] = before_and_after(architecture, arguments.batch_size, arguments.rounds)
        parts[architecture] = profile(config, arguments.rounds)
        whole = sum(seconds for part, seconds in parts[architecture].items() if part != ONCE)
        print(f"\n{architecture}, {title}: {whole:.2f} s an epoch (median of {arguments.rounds} rounds)")
        for part, seconds in parts[architecture].items():
            note = "once a training" if part == ONCE else f"{seconds / whole:6.1%}"
            print(f"  {part:<14} {seconds:8.3f} s  {note}")
        for change, times in changes[architecture].items():
            print(
                f"  {change:<20} {times['before']:.2f} s without, {times['after']:.2f} s with it: {times['ratio']:.2f}"
            )
    if arguments.save:
        conditions = {"dataset": DATASET, "device": device, "precision": precision, "batch_size": arguments.batch_size}
        rounded = {name: {part: round(s, 4) for part, s in seconds.items()} for name, seconds in parts.items()}
        save(arguments.save, {**conditions, "seconds_by_part": rounded, "changes": changes})
        save_png(picture(parts, title), RESULTS / f"{arguments.save}.png")


if __name__ == "__main__":
    main()
