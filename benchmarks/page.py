"""The page without a server beside Python: `python benchmarks/page.py [RUN_DIR ...] [--rounds N] [--save]`.

Exports each run as a page, with weights of 32 and of 12 bits, and opens it from its folder. Prints the megabytes of the
page, the seconds until it is ready, and the milliseconds from a photograph of 1,200 x 900 pixels, a PNG, to its answer:
in the page, by `Classifier.predict`, and by the ONNX file in onnxruntime. They take turns, each on one thread; medians.
"""

import argparse
import base64
import io
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import onnxruntime
import torch
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from benchmarks.machine import save
from resnet_space.data.images import open_image
from resnet_space.hub.export import write, write_onnx
from resnet_space.inference import Classifier
from resnet_space.runs import PHOTO_BACKBONE, SHOWPIECE, Run
from resnet_space.ui.pictures import ENOUGH
from tests.ui.browser import launch

PICTURE = ROOT / "resnet_space" / "datasets" / "photographs" / "tabby.jpg"
READ = """async (content) => {
  const picture = new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))]);
  const before = performance.now();
  await page.read(picture);
  return performance.now() - before;
}"""


def timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def measured(browser: Browser, folder: Path, run: Run, kind: str, rounds: int) -> dict[str, Any]:
    with zipfile.ZipFile(write(run, folder / "page.zip", kind).path) as archive:
        archive.extractall(folder / kind)
    write_onnx(run, folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    buffer = io.BytesIO()
    Image.open(PICTURE).convert("RGB").resize((1_200, 900)).save(buffer, "PNG")

    def decoded() -> Image.Image:
        return open_image(io.BytesIO(buffer.getvalue()), short_side=ENOUGH)

    classifier = Classifier(run)
    index = folder / kind / run.name / "index.html"
    page = browser.new_page()
    start = time.perf_counter()
    page.goto(index.as_uri())
    page.evaluate("() => page.ready")
    ready = time.perf_counter() - start
    content = base64.b64encode(buffer.getvalue()).decode()
    found: dict[str, list[float]] = {"page": [], "python": [], "onnxruntime": []}
    for _ in range(rounds + 1):
        found["page"].append(page.evaluate(READ, content))
        found["python"].append(timed(lambda: classifier.predict(decoded())))
        found["onnxruntime"].append(timed(lambda: session.run(None, {"images": np.asarray(decoded())[None]})))
    page.close()
    medians = {name: round(statistics.median(values[1:]), 1) for name, values in found.items()}
    megabytes = round(index.stat().st_size / 1e6, 1)
    return {"run": run.name, "kind": kind, "megabytes": megabytes, "ready_s": round(ready, 2), "ms": medians}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the page that needs no server.")
    shipped = [ROOT / "checkpoints" / name for name in (SHOWPIECE, PHOTO_BACKBONE)]
    parser.add_argument("runs", nargs="*", type=Path, default=shipped, metavar="RUN_DIR", help="what is exported")
    parser.add_argument("--rounds", type=int, default=9, help="pictures of each")
    parser.add_argument("--save", action="store_true", help="store the numbers in results/page.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch(playwright)
        for number, path in enumerate(given.runs):
            for kind in ("page", "page-int8"):
                own = Path(folder) / f"{number}-{kind}"
                own.mkdir()
                rows.append(measured(browser, own, Run.open(path), kind, given.rounds))
                print(rows[-1], flush=True)
        browser.close()
    if given.save:
        save("page", {"rounds": given.rounds, "pages": rows})


if __name__ == "__main__":
    main()
