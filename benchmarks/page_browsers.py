"""The page without a server in any browser: `python benchmarks/page_browsers.py [COMMAND ...]`.

Prints an address, which COMMAND is started with, and waits for a browser to open it: that exports the two shipped runs
as pages, with weights of 32 and of 12 bits, shows them in a frame, and gives each the photographs, as JPEG and as PNG.
The answers beside those of `Classifier.predict`, with 12 bits of the ONNX file in onnxruntime: how many top-5 differ,
the largest difference of a probability; the seconds until the page is ready, the median of an answer.

    python benchmarks/page_browsers.py firefox --headless --no-remote --profile /tmp/new
    xvfb-run -a python benchmarks/page_browsers.py /usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser
    python benchmarks/page_browsers.py --zip hymenoptera.zip --pictures 200 chromium --headless --no-sandbox
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import onnxruntime
from PIL import Image

from resnet_space.data.images import open_image
from resnet_space.hub.export import write
from resnet_space.inference import Classifier
from resnet_space.runs import PHOTO_BACKBONE, SHOWPIECE, Run
from resnet_space.ui.pictures import ENOUGH

PHOTOGRAPHS = ROOT / "resnet_space" / "datasets" / "photographs"
HARNESS = """<!doctype html><title>The page in this browser</title><p id="at">Running</p>
<iframe width="1000" height="800" style="border: 0"></iframe><script type="module">
const { pages, pictures } = await (await fetch("plan.json")).json(), frame = document.querySelector("iframe");
for (const name of pages) {
  document.getElementById("at").textContent = name;
  const start = performance.now();
  frame.src = `${name}/index.html`;
  await new Promise((loaded) => frame.addEventListener("load", loaded, { once: true }));
  const { page } = frame.contentWindow;
  await page.ready;
  const found = { name, ready: performance.now() - start, browser: navigator.userAgent, answers: [] };
  for (const picture of pictures) {
    const content = await (await fetch(picture)).blob(), before = performance.now();
    await page.read(content);
    const took = performance.now() - before, { top_names, top_probabilities } = page.answer();
    found.answers.push({ picture, took, names: [...top_names.data], probabilities: [...top_probabilities.data] });
  }
  await fetch("found", { method: "POST", body: JSON.stringify(found) });
}
document.getElementById("at").textContent = "Done";
</script>"""


class Handler(SimpleHTTPRequestHandler):
    """The folder's files, and what the browser found into a queue."""

    def __init__(self, *arguments: Any, found: "Queue[dict[str, Any]]", **options: Any) -> None:
        self.found = found
        super().__init__(*arguments, **options)

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def write_pictures(folder: Path, archive: Path | None, count: int) -> list[str]:
    """Photographs as JPEG files, and the first ten as PNG files."""
    if archive is None:
        contents = [file.read_bytes() for file in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    else:
        with zipfile.ZipFile(archive) as opened:
            contents = [opened.read(name) for name in sorted(opened.namelist()) if name.lower().endswith(".jpg")]
    names = []
    for number, content in enumerate(contents[:: max(len(contents) // count, 1)][:count]):
        (folder / f"{number}.jpg").write_bytes(content)
        names.append(f"{number}.jpg")
        if number < 10:
            Image.open(io.BytesIO(content)).convert("RGB").save(folder / f"{number}.png")
            names.append(f"{number}.png")
    return names


def expected(run: Run, kind: str, folder: Path, names: list[str]) -> dict[str, tuple[list[str], list[float]]]:
    """For each picture, the names and probabilities of the top 5."""
    if kind == "page":
        classifier = Classifier(run)
        own = {name: classifier.predict(open_image(folder / name, short_side=ENOUGH)) for name in names}
        return {name: (answer.classes, answer.probabilities) for name, answer in own.items()}
    session = onnxruntime.InferenceSession(write(run, folder / "small.onnx", "onnx-int8").path)
    found = {}
    for name in names:
        pixels = np.asarray(open_image(folder / name, short_side=ENOUGH))[None]
        top, shares = session.run(["top_names", "top_probabilities"], {"images": pixels})
        found[name] = (list(top[0]), [float(share) for share in shares[0]])
    return found


def row(found: dict[str, Any], own: dict[str, tuple[list[str], list[float]]]) -> str:
    said = [f"{found['name']}: ready after {found['ready'] / 1000:.1f} s"]
    for ending in ("png", "jpg"):
        answers = [answer for answer in found["answers"] if answer["picture"].endswith(ending)]
        other = sum(answer["names"] != own[answer["picture"]][0] for answer in answers)
        differences = [np.abs(np.subtract(each["probabilities"], own[each["picture"]][1])).max() for each in answers]
        took = statistics.median(answer["took"] for answer in answers)
        said.append(
            f"{len(answers)} {ending}: {took:.0f} ms, {other} with another top-5, {max(differences):.1e} at most"
        )
    return "; ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the page that needs no server in any browser.")
    parser.add_argument("--zip", type=Path, help="with JPEG photographs, instead of those that come with the app")
    parser.add_argument("--pictures", type=int, default=10, help="how many")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for a browser on another device")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="that starts a browser; the address is added")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pictures = write_pictures(folder, given.zip, given.pictures)
        own = {}
        for path in (ROOT / "checkpoints" / name for name in (SHOWPIECE, PHOTO_BACKBONE)):
            for kind in ("page", "page-int8"):
                run, name = Run.open(path), f"{path.name}-{kind}"
                with zipfile.ZipFile(write(run, folder / "page.zip", kind).path) as archive:
                    archive.extractall(folder)
                (folder / run.name).rename(folder / name)
                own[name] = expected(run, kind, folder, pictures)
        (folder / "plan.json").write_text(json.dumps({"pages": list(own), "pictures": pictures}))
        (folder / "index.html").write_text(HARNESS)
        found: Queue[dict[str, Any]] = Queue()
        server = ThreadingHTTPServer((given.host, 0), partial(Handler, found=found, directory=temporary))
        address = f"http://{given.host}:{server.server_port}/"
        print(address, flush=True)
        with server, tempfile.TemporaryFile() as said:
            import threading

            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = given.command and subprocess.Popen([*given.command, address], stdout=said, stderr=said)
            for number in range(len(own)):
                answers = found.get()
                if not number:
                    print(answers["browser"])
                print(row(answers, own[answers["name"]]), flush=True)
            if browser:
                browser.terminate()
                browser.wait()
            server.shutdown()


if __name__ == "__main__":
    main()
