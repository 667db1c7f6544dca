"""The first press of a newcomer: `python benchmarks/first_press.py [HYMENOPTERA_ZIP] [--save]`.

Starts the app as the README says, on a copy of the runs that ship, and presses Start in a real browser with nothing
changed: on `cifar10-mini`, and, where an archive is given, after dropping it. Prints what the page shows: the seconds
from the press, or from the drop, to the first tested number, to the final result, and until the training has ended;
the accuracies; and the time that the page had promised. The app was up, and had timed the machine, before each press.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Page, sync_playwright

from benchmarks.machine import save
from resnet_space.common.text import percent
from resnet_space.runs import RESUME, SHIPPED, Run, last_metric
from resnet_space.training.speeds import SPEEDS
from tests.ui.browser import launch

LONGEST = 900.0  # seconds of a training
LOOK = 0.05  # seconds between two looks at the page


def wait_for(what: str, found: Any, seconds: float = LONGEST) -> float:
    """Until `found()` is true. Returns when that was, by the monotonic clock."""
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds:.0f} s for {what}")
        time.sleep(LOOK)
    return time.monotonic()


def shows(page: Page, selector: str) -> str:
    """The text of the first element, "" where there is none."""
    text: str = page.evaluate("(selector) => document.querySelector(selector)?.innerText ?? ''", selector)
    return text


def pressed(page: Page, checkpoints: Path, began: float | None = None) -> dict[str, Any]:
    """Press Start, and watch until the training has ended. The clock runs from the press, or from `began`."""
    before = {path.name for path in checkpoints.glob("fine-tune-*")}
    recommended = shows(page, "#recommended").strip()
    at_press = time.monotonic()
    page.get_by_role("button", name="Start", exact=True).click()
    began = at_press if began is None else began
    made: list[Path] = []

    def is_made() -> bool:
        made[:] = [path for path in checkpoints.glob("fine-tune-*") if path.name not in before]
        return bool(made)

    wait_for("a run", is_made, 60)
    path = made[0]
    seen: dict[str, float] = {}
    accuracies: dict[str, str] = {}

    def look() -> bool:
        """What the page says of the new head alone, where it was tested, and of the result."""
        if page.evaluate("!!document.querySelector('.status.failed, .status.stopped')"):
            raise RuntimeError(shows(page, "#status"))
        run, result = Run.open(path), shows(page, "#result")
        metrics = run.metrics()
        head = next((m["test_accuracy"] for m in metrics if "test_accuracy" in m), None)
        for name, accuracy in (("first", head), ("final", (last_metric(metrics, "test") or {}).get("accuracy"))):
            if accuracy is not None and name not in seen and run.name in result and percent(accuracy) in result:
                seen[name], accuracies[name] = time.monotonic(), percent(accuracy)
        return last_metric(metrics, "end") is not None and not run.is_training and "final" in seen

    seen["end"] = wait_for("the end", look)
    run = Run.open(path)
    return {
        "recommended": recommended,
        "seconds": {name: round(moment - began, 1) for name, moment in seen.items()},
        "accuracy shown": accuracies,
        "strategy": run.config.training.strategy,
        "epochs": run.config.training.epochs,
    }


def dropped(page: Page, checkpoints: Path, archive: Path) -> dict[str, Any]:
    """Bring an archive, and press Start when the form has taken the proposal."""
    began = time.monotonic()
    page.locator("#archive input[type=file]").set_input_files(archive)
    wait_for("the report", lambda: "is ready" in shows(page, ".report"))
    wait_for("the proposal", lambda: "photographs" in shows(page, "#recommended"))
    ready = time.monotonic() - began
    return pressed(page, checkpoints, began) | {"ready to press after": round(ready, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description="What a newcomer waits for.")
    parser.add_argument("archive", type=Path, nargs="?", help="photographs to drop, such as hymenoptera.zip")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/first_press.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        checkpoints = Path(folder) / "checkpoints"
        for name in SHIPPED:
            shutil.copytree(ROOT / "checkpoints" / name, checkpoints / name, ignore=shutil.ignore_patterns(RESUME))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "app.py", f"--port={port}", f"--checkpoints={checkpoints}"]
        command += [f"--data={Path(folder) / 'data'}"]
        environment = os.environ | {"GRADIO_TEMP_DIR": str(Path(folder) / "uploads")}
        log = (Path(folder) / "app.log").open("wb")
        app = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for("the app", lambda: answers(url), 120)
            wait_for("the machine to be timed", (checkpoints / SPEEDS).exists, 300)
            print(f"speeds: {(checkpoints / SPEEDS).read_text()}", flush=True)
            with sync_playwright() as playwright:
                browser = launch(playwright)
                for name, archive in (("cifar10-mini", None), ("photographs", arguments.archive)):
                    if name == "photographs" and archive is None:
                        continue
                    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
                    page.goto(url)
                    wait_for("the page", lambda page=page: "About" in shows(page, "#recommended"), 60)
                    time.sleep(2)  # as somebody reads it
                    results[name] = (
                        pressed(page, checkpoints) if archive is None else dropped(page, checkpoints, archive.resolve())
                    )
                    print(name, json.dumps(results[name], indent=2, ensure_ascii=False), flush=True)
                browser.close()
        finally:
            app.terminate()
            app.wait()
            log.close()
    if arguments.save:
        save("first_press", results)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).read()
    except (URLError, ConnectionError, TimeoutError):
        return False
    return True


if __name__ == "__main__":
    main()
