"""What a visitor sees first: `python benchmarks/first_look.py [OTHER_CHECKOUT] [--rounds N] [--save]`.

Starts the app on a copy of the runs that ship, of another checkout, too, where one is given, and opens each tab by its
address in a new browser, the checkouts in turns. Prints the seconds from the navigation until the page is painted, and
from then until the first answer on Predict, the first chart on Explore and that of Fine-tune; and how much has moved by
itself (layout shift, web.dev/articles/cls). The first round warms up and does not count.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, sync_playwright

from benchmarks.first_press import answers, wait_for
from benchmarks.machine import save
from benchmarks.startup import free_port
from resnet_space.runs import SHIPPED
from tests.ui.browser import launch
from tests.ui.quality import WATCH_SHIFTS

TABS = {  # by the address: what is waited for
    "finetune": "#live .points path",
    "predict": "#answer .said",
    "explore": ".js-plotly-plot .points path, .js-plotly-plot .bars path, .js-plotly-plot .lines path",
}
WATCH = """(wanted) => new Promise((done) => {
  let painted = null;
  const isSeen = (element) => element?.getClientRects().length && getComputedStyle(element).visibility === "visible";
  const look = () => {
    if (painted === null && isSeen(document.querySelector("#tabs"))) painted = performance.now();
    const there = [...document.querySelectorAll(wanted)].some(isSeen);
    if (painted !== null && there) done({ painted, there: performance.now() - painted });
    else setTimeout(look, 10);
  };
  look();
})"""


def looked_at(browser: Browser, url: str, tab: str) -> dict[str, float]:
    """Of one page: seconds until it is painted and from then until what is waited for is there; its layout shift."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        context.add_init_script(WATCH_SHIFTS)
        page = context.new_page()
        page.goto(f"{url}/?tab={tab}", wait_until="commit")
        seconds: dict[str, float] = {name: ms / 1000 for name, ms in page.evaluate(WATCH, TABS[tab]).items()}
        page.wait_for_timeout(1_500)  # for what still moves
        return seconds | {"shift": float(page.evaluate("window.shifts.reduce((sum, [value]) => sum + value, 0)"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/first_look.json")
    arguments = parser.parse_args()
    checkouts = {"this": ROOT} | ({"other": arguments.other.resolve()} if arguments.other else {})

    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {tab: [] for tab in TABS} for name in checkouts}
    with ExitStack() as stack:
        urls = {}
        for name, root in checkouts.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for run in SHIPPED:
                shutil.copytree(root / "checkpoints" / run, folder / "checkpoints" / run)
            port = free_port()
            command = [sys.executable, "app.py", f"--port={port}", f"--checkpoints={folder / 'checkpoints'}"]
            app = subprocess.Popen([*command, f"--data={folder / 'data'}"], cwd=root, stdout=subprocess.DEVNULL)
            stack.callback(app.wait)
            stack.callback(app.terminate)
            urls[name] = f"http://127.0.0.1:{port}"
            wait_for("the page", lambda url=urls[name]: answers(url))
        with sync_playwright() as playwright:
            browser = launch(playwright)
            for number in range(arguments.rounds + 1):
                for tab in TABS:
                    for name, url in urls.items():
                        seen = looked_at(browser, url, tab)
                        if number > 0:
                            found[name][tab].append(seen)
            browser.close()

    medians: dict[str, Any] = {
        name: {
            tab: {what: round(statistics.median(seen[what] for seen in rounds), 3) for what in rounds[0]}
            for tab, rounds in tabs.items()
        }
        for name, tabs in found.items()
    }
    print(f"medians of {arguments.rounds} rounds: seconds to the paint, seconds from then to the answer, layout shift")
    for name, tabs in medians.items():
        for tab, seen in tabs.items():
            print(f"  {name:<6} {tab:<9} {seen['painted']:6.2f} {seen['there']:6.2f} {seen['shift']:7.3f}")
    if arguments.save:
        save("first_look", {"medians": medians, "rounds": arguments.rounds})


if __name__ == "__main__":
    main()
