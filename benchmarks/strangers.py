"""What one stranger can do to a public app's other visitors: `python benchmarks/strangers.py [--save NAME]`.

Starts the app as for others to use (`python app.py --host 0.0.0.0`, asked at 127.0.0.1 only), for each attack anew, on
a folder of its own that may take 1 GB. 50 visitors watch a run and now and then load the page, 10 predict, 5 measure
residuals, 3 bring datasets, each from an address of their own (127.0.x.y); one attacker, from another, does what
`attacks.py` says, in a process of its own. Told are the visitors' seconds and errors, the most memory of the app and of
all its processes, and the most that lay in its folders, files that are open but deleted included. App, visitors and
attacker share the machine's cores; an app that takes more than 12 GB of memory is ended, and that is told.

`--app PATH` measures the app.py of another checkout, `--attacks NAME...` some of them, `--seconds N` how long each.
"""

import argparse
import asyncio
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.attacks import ATTACKS
from benchmarks.machine import save
from benchmarks.visitors import Crowd, an_archive, visit
from resnet_space.runs import BACKBONE, SHOWPIECE

LIMITS = {"RESNET_SPACE_MAX_STORAGE_GB": "1", "RESNET_SPACE_MAX_UPLOAD_MB": "100"}
CEILING = 12e9  # bytes of the app and its processes
RESERVE = 2e9  # bytes that are left to the rest of the machine
START_SECONDS = 180
# Each app has the next: not one that the system gives to clients, nor one that the app before has just left.
PORTS = itertools.cycle(range(7950, 7970))
FEW_FILES = {"idle": 256}  # file descriptors that the app may have, by attack
EXAMPLES = ROOT / "resnet_space" / "datasets" / "examples"
QUIET = "quiet"


class Watch(threading.Thread):
    """Notes the most memory and disk that an app takes; and ends it where the memory is too much."""

    def __init__(self, app: psutil.Process, folder: Path) -> None:
        super().__init__(daemon=True)
        self.app, self.folder = app, folder
        self.most = {"app_mb": 0, "with_children_mb": 0, "disk_mb": 0}
        self.ended = False  # for too much memory
        self._done = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self._done.wait(0.1):
            app, children = resident(self.app)
            self._note("app_mb", max(app, peak(self.app.pid)))
            self._note("with_children_mb", app + children)
            too_much = app + children > CEILING or psutil.virtual_memory().available < RESERVE
            if too_much and not self.ended:
                self.ended = True
                end(self.app)
            if turn % 10 == 0:
                self._note("disk_mb", on_disk(self.folder, self.app))
            turn += 1

    def stop(self) -> None:
        self._done.set()
        self.join()
        self._note("disk_mb", on_disk(self.folder, self.app))

    def _note(self, name: str, count: int) -> None:
        self.most[name] = max(self.most[name], round(count / 1e6))


def processes(app: psutil.Process) -> list[psutil.Process]:
    """The app's and those that it has started."""
    with suppress(psutil.Error):
        return [app, *app.children(recursive=True)]
    return []


def resident(app: psutil.Process) -> tuple[int, int]:
    """Bytes of memory of the app's process, and of all its children."""
    sizes = []
    for process in processes(app):
        with suppress(psutil.Error):
            sizes.append(process.memory_info().rss)
    return (sizes[0], sum(sizes[1:])) if sizes else (0, 0)


def peak(pid: int) -> int:
    """The most memory, in bytes, that a process has had; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def on_disk(folder: Path, app: psutil.Process) -> int:
    """Bytes of all files in the folder, and of those that are deleted but open."""
    count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                count += os.lstat(os.path.join(place, name)).st_blocks * 512
    for process in processes(app):
        with suppress(OSError):
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    where = os.readlink(link)
                    if where.startswith(str(folder)) and where.endswith(" (deleted)"):
                        count += link.stat().st_blocks * 512
    return count


def end(app: psutil.Process) -> None:
    """The app's process and those that it started, its trainers too."""
    for process in reversed(processes(app)):
        with suppress(psutil.Error):
            process.kill()


@contextmanager
def public_app(app: Path, folder: Path, files: int | None) -> Generator[tuple[int, psutil.Process]]:
    """The app's port and process, up and answering."""
    for name in (BACKBONE, SHOWPIECE):
        shutil.copytree(app.parent / "checkpoints" / name, folder / "checkpoints" / name)
    port = next(port for port in PORTS if is_free(port))
    (folder / "temporary").mkdir()
    environment = os.environ | LIMITS
    environment |= {
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "TMPDIR": str(folder / "temporary"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, str(app), "--host=0.0.0.0", f"--port={port}"]
    command += [f"--checkpoints={folder / 'checkpoints'}", f"--data={folder / 'data'}"]

    def few_files() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with (folder / "app.log").open("wb") as log:
        started = subprocess.Popen(
            command, cwd=app.parent, env=environment, stdout=log, stderr=subprocess.STDOUT, preexec_fn=few_files
        )
    process = psutil.Process(started.pid)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            if started.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"The app did not start:\n{(folder / 'app.log').read_text()[-2_000:]}")
            time.sleep(0.2)
        yield port, process
    finally:
        end(process)
        started.wait()


def is_free(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0


def answers(port: int) -> bool:
    """Whether the app is up, and still answers, within ten seconds."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


async def attacked(name: str, port: int, seconds: float) -> Any:
    """What an attack in a process of its own was answered; it is ended where it does not end."""
    if name == QUIET:
        return dict[str, int]()
    command = [sys.executable, str(ROOT / "benchmarks" / "attacks.py"), name, str(port), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(seconds + 60):
            said, error = await process.communicate()
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        return {"was not answered to the end": 1}
    return json.loads(said) if process.returncode == 0 else {"failed": error.decode()[-500:]}


def measure(name: str, app: Path, crowd: Crowd, seconds: float) -> dict[str, Any]:
    """One attack against a new app, and what it did to the others."""
    picture, archive = (EXAMPLES / "horse.jpg").read_bytes(), an_archive(EXAMPLES)
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="strangers-") as place,
        public_app(app, Path(place), FEW_FILES.get(name)) as (port, process),
    ):
        watch = Watch(process, Path(place))
        watch.start()
        found = asyncio.run(visit(port, crowd, seconds, picture, archive, lambda: attacked(name, port, seconds)))
        found |= {"still_answers": answers(port)}
        watch.stop()
        return found | watch.most | {"ended_for_memory": watch.ended, "load_before": round(load, 1)}


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    served = found["served"]
    cells = [f"{name:<18}"]
    for kind in ("get", "predict", "measure", "upload"):
        times = served.get(kind, {"p50": float("nan"), "p95": float("nan")})
        cells.append(f"{times['p50']:6.2f} {times['p95']:6.2f}")
    wrong = sum(sum(kind["errors"].values()) for kind in served.values())
    cells.append(f"{wrong:6}")
    cells.append(f"{found['app_mb'] / 1e3:6.2f} {found['with_children_mb'] / 1e3:6.2f} {found['disk_mb'] / 1e3:6.2f}")
    cells.append(" ".join(("kept" if found["session_kept"] else "LOST", "no" if found["training_refused"] else "yes")))
    if found["ended_for_memory"]:
        cells.append("ended, as it took too much memory")
    elif not found["still_answers"]:
        cells.append("answers no more")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [QUIET, *ATTACKS]
    parser.add_argument("--attacks", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--seconds", type=float, default=20, help="of each attack (default: 20)")
    parser.add_argument("--app", type=Path, default=ROOT / "app.py", help="another checkout's app.py")
    parser.add_argument("--visitors", type=int, nargs=4, default=[50, 10, 5, 3], help="watch, predict, measure, upload")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # which ends the app, too
    crowd = Crowd(*arguments.visitors)
    print(f"{crowd}, {os.cpu_count()} cores; seconds: median and 95th percentile; memory and disk: the most, GB")
    heads = ["get", "predict", "measure", "upload"]
    print(
        " | ".join([f"{'':18}", *(f"{head:>13}" for head in heads), "errors", "   app    all   disk", "session trains"])
    )
    results: dict[str, Any] = {"visitors": vars(crowd), "seconds": arguments.seconds, "limits": LIMITS, "attacks": {}}
    for name in arguments.attacks:
        results["attacks"][name] = measure(name, arguments.app.resolve(), crowd, arguments.seconds)
        print(row(name, results["attacks"][name]), flush=True)
        print(f"{'':18} | {results['attacks'][name]['attack']}", flush=True)
    if arguments.save:
        save(arguments.save, results)


if __name__ == "__main__":
    main()
