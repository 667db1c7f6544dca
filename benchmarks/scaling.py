"""How time and memory grow: `python benchmarks/scaling.py [--sweeps NAME ...] [--save NAME]`.

Four sweeps, each with the slope of a straight line through the logarithms (1 is linear, 0 is constant):

- images: decoding a dataset of 1,000 to 100,000 images of 32 px, and a training step on it (resnet20).
- size: a step at 32 to 224 px, by the number of pixels (resnet20).
- depth: a step of resnet20 to 110 by their blocks, and of resnet50 to 152, at 32 px.
- viewers: the app's processor time, and how long a point is under way, with 1 to 200 open pages (see viewers.py).

Few steps a point, in interleaved rounds, of which the fastest counts. A step's memory is what its backward pass needs:
the tensors that autograd keeps, each once.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.machine import RESULTS, save
from benchmarks.synthetic import CLASSES, write_dataset
from benchmarks.viewers import an_app, delays
from resnet_space.common.hardware import keep_freed_memory
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import training_batches
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.plots import palette
from resnet_space.plots.figures import save_png
from resnet_space.runs import Run
from resnet_space.training.device import autocast_dtype, choose_device
from resnet_space.training.objectives import Batch
from resnet_space.training.state import Training

import resnet_space.training.loop  # isort: skip  # noqa: F401  # its allocator setting has to come before torch's first tensor
import torch  # isort: skip
from matplotlib.figure import Figure  # isort: skip

Curve = dict[str, object]  # "x", "y", "slope", "steepest"

IMAGES = (1_000, 3_000, 10_000, 30_000, 100_000)
SIZES = (32, 64, 128, 224)
FAMILIES = {"basic blocks": (20, 32, 44, 56, 110), "bottlenecks": (50, 101, 152)}
VIEWERS = (1, 10, 50, 200)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line through (log x, log y) with the least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def curve(x: Sequence[float], y: Sequence[float]) -> Curve:
    """The points with their slope, and the steepest slope between two neighbours."""
    steepest = max(slope(x[i : i + 2], y[i : i + 2]) for i in range(len(x) - 1))
    rounded = [float(f"{value:.4g}") for value in y]
    return {"x": list(x), "y": rounded, "slope": round(slope(x, y), 3), "steepest": round(steepest, 3)}


def noise(images: int, size: int) -> ImageSet:
    pixels = torch.randint(256, (images, size, size, 3), dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(images) % len(CLASSES), CLASSES)


def stepper(architecture: str, data: ImageSet, size: int, batch_size: int) -> tuple[Callable[[], float], int]:
    """A function that makes one training step, batch and all, and returns its seconds; the bytes that a step keeps."""
    model, config = ModelConfig(architecture, CLASSES, image_size=size), TrainConfig("-", batch_size=batch_size)
    device = choose_device()
    dtype = autocast_dtype(config, device)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Run.create(Path(folder) / "run", RunConfig(model, config)), device, len(data))
    data = data.to(device)
    epoch = 0

    def step() -> float:
        nonlocal epoch
        epoch += 1  # so that its shuffling counts too
        started = time.perf_counter()
        images, labels = next(training_batches(data, model, config, epoch, device=device))
        training.step(Batch(images, labels), dtype)
        training.window.flush_into(training.progress)  # waits for a GPU
        return time.perf_counter() - started

    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return step, sum(kept.values())


def fastest(steps: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """The fewest seconds of each, in interleaved rounds."""
    found = [[step() for step in steps] for _ in range(rounds)]
    return [min(seconds) for seconds in zip(*found, strict=True)]


def peak() -> int:
    """The most memory that this process has had, in bytes, since `restarted_peak`. Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def restarted_peak() -> int:
    """Forget the peak; the memory now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(psutil.Process().memory_info().rss)


def decoding(folder: Path) -> tuple[float, float]:
    """What it takes to decode the dataset in a folder: seconds, and the most megabytes on the way."""
    os.environ[DATA_FOLDER_VARIABLE] = str(folder)
    before, started = restarted_peak(), time.perf_counter()
    load_splits(TrainConfig("synthetic"), 32)
    return time.perf_counter() - started, (peak() - before) / 1e6


def by_images(counts: Sequence[int], rounds: int) -> dict[str, Curve]:
    seconds, megabytes, steps = list[float](), list[float](), list[Callable[[], float]]()
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            os.environ[DATA_FOLDER_VARIABLE] = folder
            write_dataset(Path(folder) / "synthetic", count, 32)
            # In a process of its own: in this one there is memory from before that is free.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                took = pool.submit(decoding, Path(folder)).result()
            seconds.append(took[0])
            megabytes.append(took[1])
            print(f"  {count:,} images: {seconds[-1]:.2f} s and {megabytes[-1]:.0f} MB to decode", flush=True)
            data = load_splits(TrainConfig("synthetic"), 32).train
        steps.append(stepper("resnet20", data, 32, batch_size=64)[0])
    keep_freed_memory()  # as the trainer does, once it has its data
    return {
        "decoding: seconds by images": curve(counts, seconds),
        "decoding: peak megabytes by images": curve(counts, megabytes),
        "a step: seconds by images": curve(counts, fastest(steps, rounds)),
    }


def by_size(sizes: Sequence[int], rounds: int) -> dict[str, Curve]:
    keep_freed_memory()
    made = [stepper("resnet20", noise(64, size), size, batch_size=8) for size in sizes]
    pixels = [size**2 for size in sizes]
    return {
        "a step: seconds by pixels": curve(pixels, fastest([step for step, _ in made], rounds)),
        "a step: megabytes by pixels": curve(pixels, [kept / 1e6 for _, kept in made]),
    }


def by_depth(families: dict[str, Sequence[int]], rounds: int) -> dict[str, Curve]:
    keep_freed_memory()
    curves = {}
    for family, depths in families.items():
        made = [stepper(f"resnet{depth}", noise(64, 32), 32, batch_size=8) for depth in depths]
        curves[f"a step: seconds by layers, {family}"] = curve(depths, fastest([step for step, _ in made], rounds))
        curves[f"a step: megabytes by layers, {family}"] = curve(depths, [kept / 1e6 for _, kept in made])
    return curves


def by_viewers(counts: Sequence[int], seconds: float) -> dict[str, Curve]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            with an_app(Path(folder) / str(count)) as app:
                found.append(asyncio.run(delays(Path(folder) / str(count), app, count, seconds)))
                print(f"  {count} viewers: {found[-1]}", flush=True)
    return {
        "the app: cores by viewers": curve(counts, [max(each["app_cores"], 1e-3) for each in found]),
        "a point: seconds by viewers": curve(counts, [each["median_seconds"] for each in found]),
    }


def picture(curves: dict[str, Curve]) -> Figure:
    """Every curve by its first point, on logarithmic axes, with the straight line of what is linear."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.add_subplot()
    markers = "osD^vP*X<>"
    longest = 2.0
    for i, (name, found) in enumerate(curves.items()):
        x, y = np.array(found["x"], float), np.array(found["y"], float)
        longest = max(longest, float(x[-1] / x[0]))
        label = f"{name} ({found['slope']:.2f})"
        line = "-" if i < len(palette.CATEGORIES) else "--"  # the colours repeat then
        axes.plot(x / x[0], y / y[0], line, marker=markers[i % 10], color=palette.category(i), label=label, ms=5)
    axes.plot([1, longest], [1, longest], ":", color="#888888", label="linear (1)")
    axes.set(xscale="log", yscale="log", xlabel="times as many", ylabel="times as much")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right upper", fontsize=8, title="(slope)", title_fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", default=["images", "size", "depth", "viewers"])
    parser.add_argument("--most-images", type=int, default=IMAGES[-1])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10, help="that the viewers look on")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json and NAME.png")
    arguments = parser.parse_args()
    sweeps: dict[str, Callable[[], dict[str, Curve]]] = {
        "images": lambda: by_images([n for n in IMAGES if n <= arguments.most_images], arguments.rounds),
        "size": lambda: by_size(SIZES, arguments.rounds),
        "depth": lambda: by_depth(dict(FAMILIES), arguments.rounds),
        "viewers": lambda: by_viewers(VIEWERS, arguments.seconds),
    }
    curves: dict[str, Curve] = {}
    for sweep in arguments.sweeps:
        started = time.perf_counter()
        found = sweeps[sweep]()
        print(f"{sweep} ({time.perf_counter() - started:.0f} s)")
        for name, each in found.items():
            print(
                f"  {name}: slope {each['slope']}, at most {each['steepest']}; {each['x']} -> {each['y']}", flush=True
            )
        curves |= found
    if arguments.save:
        save(arguments.save, {"device": choose_device().type, "curves": curves})
        save_png(picture(curves), RESULTS / f"{arguments.save}.png")


if __name__ == "__main__":
    main()
