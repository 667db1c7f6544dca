"""This version beside another: `python benchmarks/versions.py OTHER_CHECKOUT [--rounds N] [--save]`.

In turns, each in a process of its own in its checkout: training images a second of `train` on cifar10-mini (resnet20,
CBAM, batch 64), the milliseconds of `measure` on 64 images, those of a prediction with its maps, the seconds until the
app answers for its page, and the memory that it then has. Prints medians and the ratio to the other version. The other
checkout may be older than the names that are imported here: PROBE knows both.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save

PROBE = """
import json, statistics, tempfile, time
try:
    from resnet_space.training.loop import train
except ImportError:
    from resnet_space.train import train
from pathlib import Path
import torch
from PIL import Image
from resnet_space.config import RunConfig, TrainConfig
from resnet_space.inference import Classifier
from resnet_space.residuals import last, measure
from resnet_space.runs import Run

run = Run.open("checkpoints/resnet20-cbam-cifar10")
with tempfile.TemporaryDirectory() as folder:
    config = RunConfig(run.config.model, TrainConfig(dataset="cifar10-mini", epochs=4))
    seconds = [m["seconds"] for m in train(Run.create(Path(folder) / "run", config)) if m["event"] == "epoch"]
classifier, images = Classifier(run), torch.randn(64, 3, 32, 32)
picture = Image.open("resnet_space/datasets/examples/cat.jpg").convert("RGB")

def milliseconds(what, times):
    found = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found)

predicted = lambda: classifier.class_maps(classifier.predict(picture, features=True), [0, 1])
print(json.dumps({
    "training images/s": 1800 * 3 / (seconds[-1] - seconds[0]),
    "measure, ms": milliseconds(lambda: last(measure(classifier.model, [images])), 9),
    "prediction with maps, ms": milliseconds(predicted, 30),
}))
"""


def probed(root: Path) -> dict[str, float]:
    """What the probe tells of a checkout."""
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def started(root: Path) -> dict[str, float]:
    """Seconds until the checkout's app gives its page, and the bytes of its process ten seconds later."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    command = [sys.executable, "app.py", f"--port={port}"]
    app = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        while app.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                break
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        seconds = time.monotonic() - began
        time.sleep(10)  # it loads what the first visitor needs
        return {"start, s": seconds, "memory, MB": psutil.Process(app.pid).memory_info().rss / 1e6}
    finally:
        app.terminate()
        app.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this version beside another.")
    parser.add_argument("other", type=Path, help="a checkout of the other version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/versions.json")
    arguments = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {"this": [], "other": []}
    for number in range(arguments.rounds):
        for which, root in sorted({"this": ROOT, "other": arguments.other}.items(), reverse=number % 2 == 1):
            rounds[which].append(probed(root) | started(root))
    medians = {
        which: {name: statistics.median(each[name] for each in found) for name in found[0]}
        for which, found in rounds.items()
    }
    print(f"{'':28}{'this':>10}{'other':>10}{'ratio':>8}")
    for name, value in medians["this"].items():
        other = medians["other"][name]
        print(f"{name:28}{value:10.2f}{other:10.2f}{value / other:8.3f}")
    if arguments.save:
        save("versions", {"medians": medians, "rounds": rounds})


if __name__ == "__main__":
    main()
