"""A stand-in for ZeroGPU's device API on 127.0.0.1, and a Space on it: the real package `spaces` asks, forks and runs.

    with ZeroGPUStub() as zero:
        zero.refuse(left=20)
        subprocess.run([*SPACE, "train", str(run.path), "--most=5"], env=os.environ | zero.environment)

Only the two functions of the package that need CUDA do nothing (`simulate_gpu`), so that a slice trains on the CPU. The
addresses and answers are those that spaces 0.51 asks for and understands.

As a program, `python -m tests.zero_stub train RUN_DIR` is what a page does that trains a run (with `--leave-at STEP`
one that is closed then), and `python -m tests.zero_stub app ...` is `python app.py ...`.
"""

import argparse
import base64
import json
import runpy
import sys
import threading
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

from resnet_space.serve.stubs import without_stubs

REPOSITORY = Path(__file__).parents[1]
SPACE = (sys.executable, "-m", "tests.zero_stub")
HEADER = "X-IP-Token"


def visitor_token(name: str) -> str:
    """As the Hub's proxy adds it to a visitor's requests; its signature is nobody's business here."""
    payload = base64.urlsafe_b64encode(json.dumps({"user": name}).encode()).decode().rstrip("=")
    return f"e30.{payload}.signature"


@dataclass
class Asked:
    """A GPU that was asked for: the seconds, and by whom."""

    seconds: int
    token: str | None


class ZeroGPUStub:
    """Gives a GPU to whoever asks, but for the refusals that wait."""

    def __init__(self) -> None:
        self.started = False  # a Space with at least one GPU function has reported
        self.asked: list[Asked] = []
        self.workers: list[int] = []  # the process ids that were allowed to use the GPU
        self.released: list[bool] = []  # whether the task had failed
        self._answers: list[tuple[int, dict[str, Any]] | None] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def give(self, times: int = 1) -> None:
        """The GPU, so many times, before the refusals that are to come."""
        self._answers += [None] * times

    def refuse(self, left: int, wait: int = 3 * 3600) -> None:
        """Once, as the quota has only so many seconds left, and more in `wait`; -1 is "longer than is allowed"."""
        self._answers.append((429, {"left": left, "wait": wait}))

    def no_gpu(self) -> None:
        self._answers.append((503, {}))

    @property
    def environment(self) -> dict[str, str]:
        """Of a ZeroGPU Space with this stub."""
        return {
            "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{self._server.server_port}",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def __enter__(self) -> "ZeroGPUStub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for pid in self.workers:  # which wait for more to do where their Space was ended from outside
            with suppress(psutil.NoSuchProcess):
                worker = psutil.Process(pid)
                if "tests.zero_stub" in worker.cmdline():  # or another process has its number by now
                    worker.kill()

    def _answer(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if path == "/startup-report":
            self.started = True
        elif path == "/allow":
            self.workers.append(int(query["pid"]))
        elif path == "/release":
            self.released.append(query["fail"] == "true")
        elif path == "/schedule":
            self.asked.append(Asked(int(query["durationSeconds"]), query.get("token")))
            refused = self._answers.pop(0) if self._answers else None
            idle = len(self.workers) > 0
            given = {"idle": idle, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": f"allow-{len(self.asked)}"}
            return refused or (200, given)
        else:
            return 404, {}
        return 200, {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # its name in http.server
                address = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(address.query).items()}
                status, answer = stub._answer(address.path, query)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Authenticated", "regular")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


# What runs on the Space


def simulate_gpu() -> None:
    """Let the package's workers start without CUDA."""
    with without_stubs():
        import spaces  # first of all, as on a Space
    import spaces.zero.torch

    spaces.zero.torch.init = lambda _uuid: None
    spaces.zero.torch.move = lambda callback=None: None


def visitor_request() -> Any:
    """As the page of a visitor of the Hub sends it."""
    import gradio as gr
    from starlette.requests import Request

    header = (HEADER.lower().encode(), visitor_token("reader").encode())
    app_header = (b"x-gradio-user", b"app")
    return gr.Request(request=Request({"type": "http", "headers": [header, app_header]}))


def _train(arguments: argparse.Namespace) -> None:
    """As an event of the page does, in a thread of its own with the visitor's request."""
    from gradio.context import LocalContext

    from resnet_space.runs import Run
    from resnet_space.serve.zero.host import train_in_slices

    LocalContext.request.set(visitor_request())
    progress = train_in_slices(Run.open(arguments.run), resume=arguments.resume, most=arguments.most)
    for made in progress:
        print(made, flush=True)
        if arguments.leave_at is not None and made.step >= arguments.leave_at:
            # As Gradio does it: from another thread than the one that trained so far.
            leaving = threading.Thread(target=copy_context().run, args=(progress.close,))
            leaving.start()
            leaving.join()
            break


def main() -> None:
    simulate_gpu()
    if sys.argv[1] == "app":
        sys.argv = ["app.py", *sys.argv[2:]]
        runpy.run_path(str(REPOSITORY / "app.py"), run_name="__main__")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train"])
    parser.add_argument("run", type=Path)
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--leave-at", type=int, default=None, metavar="STEP")
    worker = threading.Thread(target=_train, args=(parser.parse_args(),))
    worker.start()
    worker.join()


if __name__ == "__main__":
    main()
