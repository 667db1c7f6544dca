"""A map of many pictures: `python benchmarks/data_map.py CHECK URL`.

CHECK is the folder of a check, such as `checkpoints/.checks/cifar10-1`: what t-SNE of its pictures takes by openTSNE
and by scikit-learn, in CPU time of one thread, and how many of a picture's ten nearest neighbours by features are among
its ten nearest on the map. URL is that of an app in which the map of its newest check is drawn: frames a second in
Chromium without a GPU while the map is dragged, with all points in sight and with pictures; what the browser fetches;
its heap.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from playwright.sync_api import Page, sync_playwright
from sklearn.manifold import TSNE

from resnet_space.training.data_map import NEAREST, Mapped
from resnet_space.training.plane import PERPLEXITY, Floats, kept_neighbours, on_a_plane
from tests.ui.browser import launch

FRAMES = 120
DRAG = """async (frames) => {
  const canvas = document.querySelector("#data-map .stage canvas");
  const box = canvas.getBoundingClientRect();
  const tell = (kind, i) => canvas.dispatchEvent(new PointerEvent(kind, { pointerId: 1, bubbles: true,
    clientX: box.left + box.width / 2 + 60 * Math.sin(i / 9), clientY: box.top + box.height / 2 }));
  canvas.setPointerCapture = () => {};
  tell("pointerdown", 0);
  const began = performance.now();
  for (let i = 0; i < frames; i += 1) {
    tell("pointermove", i);
    await new Promise(requestAnimationFrame);
  }
  const seconds = (performance.now() - began) / 1000;
  tell("pointerup", frames);
  return frames / seconds;
}"""


def methods(components: Floats) -> None:
    sklearn = TSNE(init="pca", perplexity=PERPLEXITY, random_state=0, n_jobs=1)
    found: dict[str, Callable[[Floats], Any]] = {"openTSNE": on_a_plane, "scikit-learn": sklearn.fit_transform}
    for name, method in found.items():
        began = time.process_time()
        places = np.asarray(method(components), dtype=np.float32)
        kept = kept_neighbours(components, places, NEAREST)
        print(f"{name}: {time.process_time() - began:.0f} s, {kept:.2f} of {NEAREST} neighbours", flush=True)


def dragged(page: Page, url: str) -> None:
    fetched: dict[str, int] = {}
    page.on("response", lambda answer: fetched.update({answer.url: int(answer.headers.get("content-length", 0))}))
    page.goto(url)
    page.get_by_role("button", name="Check the data").click()
    page.locator("#data-map .stage canvas").wait_for()
    page.locator("#data-map .stage").scroll_into_view_if_needed()
    session = page.context.new_cdp_session(page)
    for zooms in (0, 7):
        for _ in range(zooms):
            page.get_by_role("button", name="Zoom in").click()
        page.wait_for_timeout(3_000)  # until the sheets are there
        frames = page.evaluate(DRAG, FRAMES)
        size = sum(length for address, length in fetched.items() if "/map/" in address)
        heap = session.send("Runtime.getHeapUsage")["usedSize"]
        mb = f"{size / 1e6:.2f} MB fetched, heap {heap / 1e6:.0f} MB"
        print(f"zoomed {zooms} times: {frames:.0f} frames/s, {mb}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", type=Path)
    parser.add_argument("url")
    arguments = parser.parse_args()
    with sync_playwright() as playwright, launch(playwright) as browser:
        dragged(browser.new_page(viewport={"width": 1440, "height": 900}), arguments.url)
    methods(Mapped.read(arguments.check).components)


if __name__ == "__main__":
    main()
