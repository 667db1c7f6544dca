"""The service of jobs: each really runs as a process of this machine, with the environment and secrets it was given.

Instead of the image's Python its own is used, and the client in it talks to the stub.
"""

import asyncio
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from resnet_space.common.forking import Child, ForkServer
from resnet_space.common.hardware import nvidia_gpus
from tests.hub_stub.store import Store, refusal

REPOSITORY = Path(__file__).parent.parent.parent
START_SECONDS = 120
HARDWARE = [
    ("cpu-basic", "CPU Basic", None, "", 167),
    ("t4-small", "Nvidia T4 - small", "T4", "16 GB", 6_667),
    ("a10g-small", "Nvidia A10G - small", "A10G", "24 GB", 16_667),
    ("h200", "Nvidia H200", "H200", "141 GB", 83_333),
]


@dataclass
class StubJob:
    """A job: what was asked for, and the process that does it."""

    id: str
    owner: str
    asked: dict[str, Any]
    folder: Path
    process: Child | None = None
    cancelled: bool = False
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log"

    @property
    def stage(self) -> str:
        if self.process is None:
            return "SCHEDULING"
        if self.cancelled:
            return "CANCELED"
        status = self.process.poll()
        return "RUNNING" if status is None else "COMPLETED" if status == 0 else "ERROR"

    def described(self) -> dict[str, Any]:
        status = None if self.process is None else self.process.poll()
        message = None if not status or self.cancelled else f"Exit code {status}"
        return {
            "id": self.id,
            "spaceId": self.asked.get("spaceId"),
            "command": self.asked["command"],
            "environment": self.asked["environment"],
            "flavor": self.asked["flavor"],
            "owner": {"id": "1", "name": self.owner, "type": "user"},
            "status": {"stage": self.stage, "message": message},
        }


def add_jobs(app: FastAPI, store: Store, port: int, jobs: dict[str, StubJob]) -> None:
    """Add the routes, and each new job to `jobs`, by its id."""

    def found(request: Request, owner: str, job_id: str) -> StubJob:
        require(request, owner)
        if job_id not in jobs:
            raise refusal(404, "", "Job not found")
        return jobs[job_id]

    def require(request: Request, owner: str) -> None:
        user = store.user(request)
        if user is None:
            raise refusal(401, "", "Invalid username or password.")
        if not user.writes or user.name != owner:
            raise refusal(403, "", "You don't have the rights to start jobs here")
        if user.name in store.without_credit:
            raise refusal(402, "", "Payment required: pre-paid credits are needed to run jobs")

    @app.get("/api/jobs/hardware")
    def hardware() -> list[dict[str, Any]]:
        def gpu(model: str, vram: str) -> dict[str, str]:
            return {"type": "gpu", "model": model, "quantity": "1", "vram": vram, "manufacturer": "Nvidia"}

        return [
            {"name": name, "prettyName": pretty, "cpu": "4 vCPU", "ram": "16 GB", "unitLabel": "minute"}
            | {"unitCostMicroUSD": cost, "unitCostUSD": cost / 1e6, "accelerator": gpu(model, vram) if model else None}
            for name, pretty, model, vram, cost in HARDWARE
        ]

    @app.post("/api/jobs/{owner}")
    async def start(request: Request, owner: str) -> dict[str, Any]:
        require(request, owner)
        asked = await request.json()
        job = StubJob(f"{len(jobs):024x}", owner, asked, Path(tempfile.mkdtemp(prefix="stub-job-")))
        jobs[job.id] = job
        # Two jobs of one test must not share a folder.
        parts = (part.replace("/tmp/", f"{job.folder}/") for part in asked["command"])
        command = [sys.executable if part == "python" else part for part in parts]
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "SYSTEM", "RESNET_SPACE", "GRADIO"))}
        own = {
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HOME": str(job.folder / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONUNBUFFERED": "1",
            "SYSTEM": "spaces",  # as the images of Spaces have it
        }
        environment = plain | own | asked["environment"] | asked.get("secrets", {})
        with job.log.open("wb") as log:
            job.process = await asyncio.to_thread(_start, command, log, environment)
        return job.described()

    @app.get("/api/jobs/{owner}/{job_id}")
    def inspect(request: Request, owner: str, job_id: str) -> dict[str, Any]:
        return found(request, owner, job_id).described()

    @app.post("/api/jobs/{owner}/{job_id}/cancel")
    def cancel(request: Request, owner: str, job_id: str) -> dict[str, Any]:
        job = found(request, owner, job_id)
        job.cancelled = True
        assert job.process is not None
        job.process.kill()
        job.process.wait()
        return {}

    @app.get("/api/jobs/{owner}/{job_id}/logs")
    def logs(request: Request, owner: str, job_id: str) -> StreamingResponse:
        return StreamingResponse(_log_events(found(request, owner, job_id)), media_type="text/event-stream")


@cache
def _fork_server() -> ForkServer | None:
    """One from which jobs start at once, where there can be one."""
    if sys.platform != "linux" or nvidia_gpus():
        return None
    server = ForkServer(("torch._dynamo", "resnet_space.training.host", "resnet_space.plots.figures"))
    atexit.register(server.close)
    return server


def _start(command: list[str], log: IO[bytes], environment: dict[str, str]) -> Child:
    server = _fork_server()
    if server is not None and command[:2] == [sys.executable, "-m"] and server.is_ready(START_SECONDS):
        return server.fork(command[2:], log, environment)
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT)


def end_job(job: StubJob) -> None:
    """Leave nothing of it behind."""
    if job.process is not None:
        job.process.kill()
        job.process.wait()
    shutil.rmtree(job.folder, ignore_errors=True)


async def _log_events(job: StubJob) -> AsyncIterator[str]:
    def event(text: str) -> str:
        return f"data: {json.dumps({'data': text, 'timestamp': '2026-11-24T12:00:00.000Z'})}\n\n"

    yield event("===== Job started at 2026-11-24 12:00:00 =====")
    sent = 0
    while True:
        over = job.stage != "RUNNING"  # looked at before the log: what was said last is not lost
        lines = job.log.read_bytes().split(b"\n")[:-1]
        for line in lines[sent:]:
            yield event(line.decode(errors="replace"))
        sent = len(lines)
        if over:
            return
        await asyncio.sleep(0.1)
