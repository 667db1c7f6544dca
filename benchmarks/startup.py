"""Seconds from starting a process to its first page: `python benchmarks/startup.py [--save]`.

`python app.py` beside a one-line Gradio app after `import torch, torchvision`, in interleaved rounds. The page is there
when a GET of / answers with status 200. A first round, which does not count, warms up the disk's cache.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save

ONE_LINE = 'import torch, torchvision, gradio as gr; gr.Interface(lambda x: x, "text", "text").launch()'
GIVE_UP_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def seconds_to_page(arguments: list[str], port: int) -> float:
    """Start Python with these arguments, wait for the page at the port, and end it."""
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        while (seconds := time.perf_counter() - started) < GIVE_UP_SECONDS and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=GIVE_UP_SECONDS) as page:
                    page.read()
                    return time.perf_counter() - started
            except (URLError, ConnectionError):
                time.sleep(0.02)
        raise SystemExit(f"No page from `python {' '.join(arguments)}` after {seconds:.0f} s.")
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/startup.json")
    arguments = parser.parse_args()

    app: list[float] = []
    one_line: list[float] = []
    for number in range(arguments.rounds + 1):
        port = free_port()
        in_app = seconds_to_page(["app.py", "--port", str(port)], port)
        in_one_line = seconds_to_page(["-c", ONE_LINE], free_port())
        if number > 0:
            app.append(in_app)
            one_line.append(in_one_line)

    ratio = statistics.median(app) / statistics.median(one_line)
    print(f"to the first page; median (least to most) of {arguments.rounds} rounds, seconds")
    for name, seconds in (("app.py", app), ("one-line app", one_line)):
        print(f"  {name:<12} {statistics.median(seconds):6.2f}   ({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"  {'ratio':<12} {ratio:6.2f}")
    if arguments.save:
        rounds = {"app": app, "one_line": one_line}
        results = {name: [round(value, 3) for value in seconds] for name, seconds in rounds.items()}
        medians = {name: round(statistics.median(seconds), 3) for name, seconds in rounds.items()}
        save("startup", {"unit": "seconds", "medians": medians, "ratio": round(ratio, 3), "rounds": results})


if __name__ == "__main__":
    main()
