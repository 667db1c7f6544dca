"""The browser of the tests: find one, install one where there is none, launch it.

`python -m tests.ui.browser` sets one up: Playwright's own Chromium or one of the system is taken as it is; where there
is neither, Playwright's is downloaded, or the system's is installed.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from playwright.sync_api import Browser, BrowserType, Playwright, sync_playwright

SYSTEM_BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The address bar's lists are a page each, loaded for every visitor. Only the last such flag counts: the other names
    # are those of Playwright's own that matter here.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,AvoidUnnecessaryBeforeUnloadCheckSync,"
    "DestroyProfileOnBrowserClose,HttpsFirstBalancedModeAutoEnable,HttpsUpgrades,MediaRouter,OptimizationHints,"
    "PaintHolding,ThirdPartyStoragePartitioning",
)
INSTALL_SECONDS = 180
NO_BROWSER = (
    "There is no browser for the tests, and none could be installed: install Chromium or Google Chrome, then try again."
)


@cache
def _runs(path: str) -> bool:
    """A file may be there and still not run: a snap's stub, or a download without the libraries it needs."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _find(playwrights_own: str) -> str | None:
    candidates = [playwrights_own, *(shutil.which(name) for name in SYSTEM_BROWSERS)]
    return next((path for path in candidates if path and Path(path).exists() and _runs(path)), None)


def chromium_path() -> str | None:
    """The browser that the tests use: Playwright's own before the system's; None where there is neither."""
    with sync_playwright() as playwright:
        return _find(playwright.chromium.executable_path)


def launch(playwright: Playwright) -> Browser:
    """Start the browser. A missing one is an error, never a reason to skip a test."""
    return launch_with(playwright.chromium)


def launch_with(chromium: BrowserType, *flags: str) -> Browser:
    """The same with more flags, also beside one that runs: `browser.browser_type`."""
    path = _find(chromium.executable_path)
    if path is None:
        raise RuntimeError(NO_BROWSER)
    return chromium.launch(executable_path=path, args=[*FLAGS, *flags])


def _run_limited(command: list[str]) -> None:
    """Run an installer, and end it with all that it started when its time is up."""
    print(" ".join(command), flush=True)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(error, file=sys.stderr)
        return
    try:
        process.wait(INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"Gave up after {INSTALL_SECONDS} s.", file=sys.stderr)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _download_playwrights() -> None:
    libraries = ["--with-deps"] if sys.platform == "linux" and os.geteuid() == 0 else []
    _run_limited([sys.executable, "-m", "playwright", "install", "--no-shell", *libraries, "chromium"])


def _install_systems() -> None:
    if shutil.which("apt-get"):
        as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        _run_limited([*as_root, "apt-get", "update"])  # a fresh machine knows no packages yet
        _run_limited([*as_root, "apt-get", "install", "-y", "chromium"])


def main() -> int:
    installers: list[Callable[[], None]] = [_download_playwrights, _install_systems]
    while (path := chromium_path()) is None and installers:
        installers.pop(0)()
        _runs.cache_clear()
    print(path or NO_BROWSER, file=sys.stdout if path else sys.stderr)
    return int(path is None)


if __name__ == "__main__":
    sys.exit(main())
