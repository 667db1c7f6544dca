"""Own photographs, ours beside others: `python benchmarks/photos.py HYMENOPTERA_ZIP [--cap S] [--rounds N] [--save]`.

The same weights (the shipped EfficientNet-Lite0) and pictures, each in processes of its own, in turns: what this app
does with the archive and nothing changed (import, proposal, a trainer process); the tutorials' loop (freeze, then
unfreeze); fastai's `fine_tune`. The clock runs from the start of the first process, imports included. Told of each:
seconds to 92 % of the validation photographs, the accuracy known after 60 s, and the last. Nothing is computed before:
ours begins with an empty store of features. Then features a second, of ours and of a bare loop over timm's network.

fastai is no dependency: a pinned one is installed into a temporary folder, beside the torch and timm that are here. It
is tried with its own requirements' newest versions that go with these; pip is told not to replace torch (`--no-deps`).
Two cores need some eleven minutes with the default cap of 280 s.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import RunConfig, TrainConfig
from resnet_space.data.archives import import_archive
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.summary import sized, summarise
from resnet_space.runs import PHOTO_BACKBONE, WEIGHTS, Run
from resnet_space.training.proposal import propose
from resnet_space.training.speeds import Speeds

GOAL, SOON = 0.92, 60.0
FASTAI = (
    "fastai==2.8.12",
    "fastcore==2.2.41",
    "fasttransform==0.0.5",
    "fastprogress==1.0.3",  # later ones bring a web server
    "fastdownload==0.0.8",
    "plum-dispatch==2.9.0",
    "beartype==0.23.1",
    "cloudpickle==3.1.3",
    "rich==15.0.0",
)
FEATURES = """
import json, sys, time
from pathlib import Path
import timm, torch
from safetensors.torch import load_file
from resnet_space.runs import Run
from resnet_space.training.extraction import Extractor
from resnet_space.training.feature_store import FeatureStore

run, batch = Run.open(sys.argv[1]), 16
size = run.config.model.stored_size
pixels = torch.randint(0, 256, (64, size, size, 3), dtype=torch.uint8)
extractor = Extractor(run.load_model(), run.config.model, FeatureStore.beside(Path(sys.argv[2])))
ours = [extractor.images_per_second(pixels) for _ in range(5)]
model = timm.create_model("tf_efficientnet_lite0").eval()
model.load_state_dict({name: value.float() for name, value in load_file(run.path / "model.safetensors").items()})
images, bare = torch.randn(batch, 3, 224, 224), []
with torch.inference_mode():
    for _ in range(10):
        began = time.perf_counter()
        model.forward_head(model.forward_features(images), pre_logits=True)
        bare.append(batch / (time.perf_counter() - began))
print(json.dumps({"ours": max(ours), "bare": max(bare)}))
"""

Course = list[tuple[float, float]]  # (seconds, accuracy)


def ours(archive: Path, folder: Path) -> Course:
    """Import the archive, take the proposal, train as the app does: when the test accuracy was written, and it."""
    began = time.monotonic()
    data, runs = folder / "data", folder / "runs"
    os.environ[DATA_FOLDER_VARIABLE] = str(data)
    import_archive(archive, data / "photos")
    backbone = Run.open(ROOT / "checkpoints" / PHOTO_BACKBONE)
    summary = summarise(DatasetRef("photos"))
    proposal = propose(summary, {PHOTO_BACKBONE: backbone.config.model}, Speeds())
    settings = dict(proposal.settings)
    model = replace(backbone.config.model, classes=summary.classes)
    size = settings.pop("image_size")
    model = model if size == model.image_size else sized(model, size)
    training = TrainConfig("photos", start=proposal.start, strategy=proposal.strategy, **settings)
    run = Run.create(runs / "ours", RunConfig(model, training), start=backbone)
    environment = os.environ | {DATA_FOLDER_VARIABLE: str(data)}
    course: Course = []
    for line in lines([sys.executable, "-m", "resnet_space.train", str(run.path)], environment):
        if line.startswith("event=test "):
            (accuracy,) = (word for word in line.split() if word.startswith("accuracy="))
            course.append((time.monotonic() - began, float(accuracy.partition("=")[2])))
    return course


def others(which: str, archive: Path, cap: float, fastai: Path) -> Course:
    """The accuracy after each epoch of one of the loops, which ends with the first after `cap` seconds."""
    began = time.monotonic()
    search = os.pathsep.join(filter(None, [str(fastai), os.environ.get("PYTHONPATH")]))
    weights = ROOT / "checkpoints" / PHOTO_BACKBONE / WEIGHTS
    command = [sys.executable, "-W", "ignore", "benchmarks/photo_loops.py", which]
    command += [str(archive), str(weights), str(cap)]
    environment = os.environ | {"PYTHONPATH": search}
    found = lines(command, environment, most=2 * cap + 60)
    return [(time.monotonic() - began, json.loads(line)["accuracy"]) for line in found if line.startswith("{")]


def lines(command: list[str], environment: dict[str, str], most: float = 600.0) -> Any:
    """What a process prints, line by line; it is ended after `most` seconds."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        ending = threading.Timer(most, process.kill)
        ending.start()
        assert process.stdout is not None
        yield from process.stdout
        ending.cancel()
    if process.returncode:
        print(f"{command[1:4]} ended with {process.returncode}", file=sys.stderr)


def told(course: Course) -> dict[str, float | None]:
    """Seconds to the goal, the accuracy that was known after a minute, and the last; None where there is none."""
    soon = [accuracy for seconds, accuracy in course if seconds <= SOON]
    return {
        "seconds to 92 %": next((round(seconds, 1) for seconds, accuracy in course if accuracy >= GOAL), None),
        "accuracy after 60 s": soon[-1] if soon else None,
        "last accuracy": course[-1][1] if course else None,
        "seconds in all": round(course[-1][0], 1) if course else None,
    }


def install_fastai(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *FASTAI]
    subprocess.run(command, check=True)


def features(folder: Path) -> dict[str, float]:
    """Images a second of both, the fastest of several."""
    command = [sys.executable, "-c", FEATURES, str(ROOT / "checkpoints" / PHOTO_BACKBONE), str(folder / "features")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Photographs: this app, the tutorials' loop, fastai.")
    parser.add_argument("archive", type=Path, help="hymenoptera.zip, with train/ and val/")
    parser.add_argument("--cap", type=float, default=280.0, help="seconds of each other loop (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/photos.json")
    arguments = parser.parse_args()
    archive = arguments.archive.resolve()
    courses: dict[str, list[Course]] = {"ours": [], "tutorial": [], "fastai": []}
    with tempfile.TemporaryDirectory() as temporary:
        install_fastai(Path(temporary) / "fastai")
        for number in range(arguments.rounds):
            for which in sorted(courses, reverse=number % 2 == 0):
                folder = Path(temporary) / f"{which}-{number}"
                course = (
                    ours(archive, folder)
                    if which == "ours"
                    else others(which, archive, arguments.cap, Path(temporary) / "fastai")
                )
                courses[which].append(course)
                print(which, told(course), flush=True)
        rates = features(Path(temporary))
    results = {which: [told(course) for course in found] for which, found in courses.items()}

    def seconds(which: str) -> float | None:
        reached = [found["seconds to 92 %"] for found in results[which]]
        known = [value for value in reached if value is not None]
        return statistics.median(known) if len(known) == len(reached) else None

    own = seconds("ours")
    for which in ("tutorial", "fastai"):
        other = seconds(which)
        last = [course[-1][0] for course in courses[which] if course]
        if own is None or not last:
            continue
        at_least = "" if other is not None else "at least "
        print(f"ours is {at_least}{(other or min(last)) / own:.1f} times as fast to 92 % as {which}")
    print(f"features a second: {rates['ours']:.1f}, bare timm {rates['bare']:.1f}: {rates['ours'] / rates['bare']:.2f}")
    if arguments.save:
        save("photos", {"cap": arguments.cap, "contenders": results, "courses": courses, "features": rates})


if __name__ == "__main__":
    main()
