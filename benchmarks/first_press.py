"""The first press of a newcomer: `python benchmarks/first_press.py [HYMENOPTERA_ZIP] [--save]`.

Starts the app as the README says, on a copy of the runs that ship, and presses Start in a real browser with nothing
changed: on `cifar10-mini`, and, where an archive is given, after dropping it. Prints what the page shows: the seconds
from the press, or from the drop, to the first tested number, to the final result, and until the training has ended;
the accuracies; and the time that the page had promised. The app was up, and had timed the machine, before each press.
"""

import argparse
import json
import os
import re
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
        """What the status line says: a percentage is a tested number; the last is there when it has finished."""
        status = shows(page, "#status")
        percent = re.search(r"\d+(\.\d+)? ?%", status)
        if percent and "first" not in seen:
            seen["first"], accuracies["first"] = time.monotonic(), percent[0]
        if page.evaluate("!!document.querySelector('.status.failed, .status.stopped')"):
            raise RuntimeError(status)
        run = Run.open(path)
        if "final" not in seen and percent and last_metric(run.metrics(), "test"):
            shown = f"{last_metric(run.metrics(), 'test')['accuracy']:.1%}"  # type: ignore[index]
            if shown in status:
                seen["final"], accuracies["final"] = time.monotonic(), shown
        return last_metric(run.metrics(), "end") is not None and not run.is_training and "final" in seen

    seen["end"] = wait_for("the end", look)
    run = Run.open(path)
    first = next((m for m in run.metrics() if "test_accuracy" in m), None)
    return {
        "recommended": recommended,
        "seconds": {name: round(moment - began, 1) for name, moment in seen.items()},
        "accuracy shown": accuracies,
        "solved head": first and first["test_accuracy"],
        "strategy": run.config.training.strategy,
        "epochs": run.config.training.epochs,
    }


def dropped(page: Page, checkpoints: Path, archive: Path) -> dict[str, Any]:
    """Bring an archive, and press Start when the form has taken the proposal."""
    page.get_by_role("button", name="Other images").click()
    began = time.monotonic()
    page.locator("#archive input[type=file]").set_input_files(archive)
    wait_for("the report", lambda: "is ready" in shows(page, ".report"))
    wait_for("the proposal", lambda: "photographs" in shows(page, "#recommended"))
    wait_for("the form", lambda: "imagenet32" not in page.get_by_label("Start from", exact=True).input_value(), 60)
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
                    wait_for("the page", lambda page=page: "Recommended" in shows(page, "#recommended"), 60)
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
