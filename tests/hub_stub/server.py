"""The server: HubStub, and what the client has to be told to use it."""

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from huggingface_hub import constants
from huggingface_hub.utils import _http

from tests.hub_stub.faults import Asked, Fault, Faulty
from tests.hub_stub.jobs import StubJob, add_jobs, end_job
from tests.hub_stub.oauth import add_oauth
from tests.hub_stub.reads import add_reads
from tests.hub_stub.spaces import add_spaces
from tests.hub_stub.store import Content, Repository, Store, User
from tests.hub_stub.writes import add_writes


def isolate_client(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give the client a cache of the test's own and no token; it reads these names once, when it is imported."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(folder / "assets"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # Else the first call asks the real Hub for the names of programs that call it.
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", {"standardEnvVars": [], "harnesses": {}})
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SYSTEM"):
        monkeypatch.delenv(name, raising=False)


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client repeats a request five times in 23 s before it gives up: without the pauses between them."""
    monkeypatch.setattr(_http, "time", SimpleNamespace(**(vars(time) | {"sleep": lambda _seconds: None})))


class HubStub(Store):
    """Start it with `with`; `url` is its address, `requests` what was asked, `tokens` who may read what."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.jobs: dict[str, StubJob] = {}
        self._faulty = Faulty(cache(self._routes))
        self._server = uvicorn.Server(uvicorn.Config(self._faulty, log_level="critical", lifespan="off", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def _routes(self) -> FastAPI:
        app = FastAPI()
        add_spaces(app, self, self.port)
        add_writes(app, self, self.port)
        add_jobs(app, self, self.port, self.jobs)
        add_oauth(app, self, self.port)
        add_reads(app, self, self.port)
        return app

    def __enter__(self) -> "HubStub":
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self.jobs.values():
            end_job(job)
        _http.close_session()  # the client's connections to here
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    # What is there

    def add_dataset(self, repo_id: str, files: Mapping[str, Content], ref: str = "main", **traits: Any) -> str:
        """Commit `files` (all that `ref` then has); traits are those of `Repository`. Returns the commit."""
        return self._add("datasets", repo_id, files, ref, traits)

    def add_model(self, repo_id: str, files: Mapping[str, Content], ref: str = "main", **traits: Any) -> str:
        return self._add("models", repo_id, files, ref, traits)

    def _add(self, kind: str, repo_id: str, files: Mapping[str, Content], ref: str, traits: dict[str, Any]) -> str:
        repository = self.repositories.setdefault((kind, repo_id), Repository())
        vars(repository).update(traits)
        return self.commit(kind, repo_id, files, ref)

    def add_user(self, token: str, name: str, *, writes: bool = True) -> None:
        """A token of a user, who may do everything with repositories of their own, or only read with this token."""
        self.tokens.setdefault(token, set())
        self.users[token] = User(name, writes)

    def model(self, repo_id: str) -> Repository:
        return self.repositories["models", repo_id]

    def files(self, repo_id: str) -> dict[str, Content]:
        """What a model's repository has now."""
        repository = self.model(repo_id)
        return repository.commits[repository.refs["main"]]

    # What was asked, and what goes wrong

    @property
    def requests(self) -> list[Asked]:
        return self._faulty.requests

    def asked(self, method: str, path: str) -> list[Asked]:
        """The requests so far whose path matches the expression."""
        return [asked for asked in self.requests if asked.method == method and re.search(path, asked.path)]

    def fail(self, path: str, status: int, *, times: int = 1_000, method: str = "") -> None:
        """Answer requests whose path matches the expression with an error."""
        self._faulty.faults.append(Fault(method, re.compile(path), times, status=status))

    def drop(self, path: str, after: int, *, times: int = 1, method: str = "GET") -> None:
        """End the connection after so many bytes of the body: of a GET's answer, or of what else is sent."""
        self._faulty.faults.append(Fault(method, re.compile(path), times, drop_after=after))

    def slow(self, path: str, seconds: float, *, times: int = 1_000) -> None:
        self._faulty.faults.append(Fault("", re.compile(path), times, delay=seconds))

    def first(self, path: str, happens: Callable[[], object], *, method: str = "") -> None:
        """Let something happen before the next request that matches is answered."""
        self._faulty.faults.append(Fault(method, re.compile(path), 1, first=happens))
