"""Many photographs, imported and probed: `python benchmarks/many_photos.py [--images N] [--save NAME]`.

Synthetic JPEGs of ten classes and of many sizes (256 to 640 pixels a side), all different; one in the middle is broken.
They are zipped, imported as a visitor's archive is, and trained as the app trains them, each in a process of its own,
whose largest memory is printed, beside what its decoded images take.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save

CLASSES = 10
IMPORT = """
import json, sys
from pathlib import Path
from resnet_space.data import import_archive
report = import_archive(Path(sys.argv[1]), Path(sys.argv[2]))
images = sum(sum(counts.values()) for counts in report.counts.values())
print(json.dumps({"images": images, "left_out": report.skipped_count, "first": str(report.skipped[:1])}))
"""
TRAIN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from resnet_space.common.hardware import keep_threads_apart
keep_threads_apart()
from resnet_space.config import RunConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.runs import PHOTO_BACKBONE, Run
from resnet_space.training.loop import train
from resnet_space.training.strategies import recipe
start = Run.open(Path("checkpoints") / PHOTO_BACKBONE)
model = replace(start.config.model, classes=dataset_classes("many"))
run = Run.create(Path(sys.argv[1]), RunConfig(model, recipe("linear-probe", "many", start=start.name)), start=start)
for metric in train(run):
    if metric["event"] in ("start", "test"):
        told = {name: value for name, value in metric.items() if isinstance(value, int | float)}
        print(json.dumps(told), flush=True)
"""


def write_archive(path: Path, images: int) -> None:
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(images):
            label = i % CLASSES
            width, height = random.integers(256, 641, 2).tolist()
            small = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
            small[..., label % 3] = small[..., label % 3] // 4 + 6 * label  # something to learn
            buffer = io.BytesIO()
            Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=80)
            content = buffer.getvalue()
            archive.writestr(f"class {label}/{i:06}.jpg", content[: 40 if i == images // 2 else len(content)])


def run(code: str, *arguments: Path, environment: dict[str, str]) -> tuple[list[dict[str, object]], float, float]:
    """(what it printed, seconds, largest memory in GB) of a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"It ended with the status {os.waitstatus_to_exitcode(status)}.")
    scale = 1 if sys.platform == "darwin" else 1024
    return lines, time.monotonic() - started, usage.ru_maxrss * scale / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--save", metavar="NAME")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_archive(folder / "many.zip", arguments.images)
        size = (folder / "many.zip").stat().st_size / 1e9
        print(f"{arguments.images:,} photographs, {size:.2f} GB", flush=True)
        environment = {"RESNET_SPACE_DATA": str(folder / "data")}
        found: dict[str, object] = {"images": arguments.images, "archive_gb": round(size, 2)}
        for name, code, paths in (
            ("import", IMPORT, (folder / "many.zip", folder / "data" / "many")),
            ("train", TRAIN, (folder / "runs" / "probe",)),
        ):
            told, seconds, memory = run(code, *paths, environment=environment)
            print(f"{name}: {seconds:.0f} s, at most {memory:.2f} GB; {told}", flush=True)
            found[name] = {"seconds": round(seconds), "memory_gb": round(memory, 2), "told": told}
        features = sum(file.stat().st_size for file in (folder / "runs" / ".features").glob("*")) / 1e9
        decoded = arguments.images * 256 * 256 * 3 / 1e9
        print(f"its decoded images take {decoded:.2f} GB, its features {features:.2f} GB on disk")
        if arguments.save:
            save(arguments.save, {**found, "decoded_gb": round(decoded, 2), "features_gb": round(features, 2)})


if __name__ == "__main__":
    main()
