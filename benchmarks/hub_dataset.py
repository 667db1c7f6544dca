"""From the Hub to a trained network: `python benchmarks/hub_dataset.py --data FOLDER [--save NAME]`.

Serves CIFAR-10's parquet files as `uoft-cs/cifar10` from the tests' stand-in for the Hub, on this machine: FOLDER has
them in the Hub's layout (`plain_text/train-00000-of-00001.parquet`). The real client downloads them into an empty
cache, which says what the client costs and nothing about a network; all images are decoded; then a shipped run learns
from them for one epoch, in a process of its own as in the app.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import RunConfig
from resnet_space.data.hub import describe_dataset, fetch_dataset
from resnet_space.data.splits import load_splits
from resnet_space.runs import Run
from resnet_space.training.strategies import recipe
from tests.hub_stub import HubStub

DATASET = "uoft-cs/cifar10"
START = ROOT / "checkpoints" / "resnet20-cbam-imagenet32"
STRATEGY = "full"


@dataclass(frozen=True)
class Download:
    """How the files came."""

    bytes: int
    seconds: float
    megabytes_per_second: float
    reports: int  # calls of `progress`


@dataclass(frozen=True)
class Decoding:
    """How all images of all splits were decoded, at the size that the start's model sees."""

    images: int
    seconds: float
    images_per_second: float
    reports: int


@dataclass(frozen=True)
class Training:
    """How one epoch went."""

    train_images: int
    images_per_second: float  # from the start to the last step, without validation
    test_images: int
    test_accuracy: float  # 0..1
    process_seconds: float  # from the start of the process to its end: imports, decoding, validation and test included
    requests: int  # to the Hub: none are needed


def download(revision: str) -> Download:
    """Download what is described, to a cache that has nothing of it."""
    dataset = describe_dataset(DATASET, revision=revision)
    reports: list[tuple[int, int]] = []
    started = time.perf_counter()
    fetch_dataset(dataset, progress=lambda done, total: reports.append((done, total)))
    seconds = time.perf_counter() - started
    return Download(dataset.bytes, round(seconds, 2), round(dataset.bytes / 1e6 / seconds, 1), len(reports))


def decode(revision: str, size: int) -> Decoding:
    """Decode what is in the cache to squares of `size` pixels, as the trainer does."""
    reports: list[tuple[int, int]] = []
    training = recipe(STRATEGY, DATASET, dataset_revision=revision)
    started = time.perf_counter()
    splits = load_splits(training, size, progress=lambda done, total: reports.append((done, total)))
    seconds = time.perf_counter() - started
    images = sum(len(split) for split in (splits.train, splits.validation, splits.test))
    return Decoding(images, round(seconds, 2), round(images / seconds), len(reports))


def train(path: Path, revision: str, classes: tuple[str, ...], hub: HubStub) -> Training:
    """Fine-tune the shipped run for one epoch."""
    start = Run.open(START)
    model = replace(start.config.model, classes=classes)
    training = recipe(STRATEGY, DATASET, dataset_revision=revision, start=start.name, epochs=1)
    run = Run.create(path, RunConfig(model, training), start=start)
    hub.requests.clear()
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "resnet_space.train", str(path)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - started
    last = {metric["event"]: metric for metric in run.metrics()}
    images = last["start"]["train_images"]
    return Training(
        train_images=images,
        images_per_second=round(images / (last["step"]["seconds"] - last["start"]["seconds"]), 1),
        test_images=last["test"]["images"],
        test_accuracy=last["test"]["accuracy"],
        process_seconds=round(seconds, 1),
        requests=len(hub.requests),
    )


def use_only(hub: HubStub, cache: Path) -> None:
    """Send the client of the processes that start from now on to this Hub, with a cache of its own and no token."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE_"))]:
        del os.environ[name]
    os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="has CIFAR-10's parquet files")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    files = {file.relative_to(arguments.data).as_posix(): file for file in arguments.data.rglob("*.parquet")}
    if not files:
        parser.error(f"{arguments.data} has no parquet files")

    with tempfile.TemporaryDirectory() as folder, HubStub() as hub:
        revision = hub.add_dataset(DATASET, files)
        use_only(hub, Path(folder) / "huggingface")
        # The client reads its environment when it is imported, which it already is in this process; a fresh one also
        # leaves the server a processor of its own.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
            classes = client.submit(describe_dataset, DATASET).result().classes
            downloaded = client.submit(download, revision).result()
            print(
                f"download  {downloaded.bytes / 1e6:.1f} MB in {downloaded.seconds:.2f} s: "
                f"{downloaded.megabytes_per_second:.0f} MB/s, {downloaded.reports} progress reports",
                flush=True,
            )
            decoded = client.submit(decode, revision, Run.open(START).config.model.stored_size).result()
            print(
                f"decoding  {decoded.images:,} images in {decoded.seconds:.2f} s: "
                f"{decoded.images_per_second:,.0f} images/s on {os.cpu_count()} cores, {decoded.reports} reports",
                flush=True,
            )
        trained = train(Path(folder) / "run", revision, classes, hub)
    print(
        f"training  {trained.train_images:,} images at {trained.images_per_second:.0f} images/s, "
        f"{trained.test_accuracy:.1%} of {trained.test_images:,} test images after one epoch; "
        f"{trained.process_seconds:.0f} s in all, {trained.requests} requests to the Hub"
    )
    if arguments.save:
        conditions = {"dataset": DATASET, "start": START.name, "strategy": STRATEGY, "epochs": 1}
        parts = {"download": asdict(downloaded), "decoding": asdict(decoded), "training": asdict(trained)}
        save(arguments.save, {**conditions, **parts})


if __name__ == "__main__":
    main()
