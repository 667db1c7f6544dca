"""A stand-in for the Hugging Face Hub on 127.0.0.1, which the real client talks to over HTTP.

    with HubStub() as hub:
        commit = hub.add_dataset("uoft-cs/cifar10", {"plain_text/train-00000-of-00001.parquet": content})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

It answers reads as the Hub does, errors included, as far as the client looks at them: addresses and headers are those
that huggingface_hub 2.4 requests and understands. Large files lie behind a redirect to another host, as on the Hub,
where the token must not arrive. What was asked for is in `requests`.
"""

import asyncio
import hashlib
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from huggingface_hub import constants
from huggingface_hub.utils import _http
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Content = bytes | Path

STORED_APART = (".parquet", ".safetensors", ".bin", ".pt")  # Git LFS: the Hub redirects to where they are


@dataclass
class Repository:
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)  # commit -> path -> content
    refs: dict[str, str] = field(default_factory=dict)  # branch -> commit
    gated: bool = False
    private: bool = False
    tags: tuple[str, ...] = ()


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Fault:
    """What happens to the next `times` requests that match: an error, a wait, or a connection that ends half-way."""

    method: str
    path: re.Pattern[str]
    times: int
    status: int | None = None
    drop_after: int | None = None  # bytes of the body
    delay: float = 0.0


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


class HubStub:
    """Start it with `with`; `url` is its address, `requests` what was asked, `tokens` who may read what."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}  # ("datasets" or "models", id)
        self.tokens: dict[str, set[str]] = {}  # valid tokens -> ids of private and gated repositories they may read
        self.requests: list[Asked] = []
        self.faults: list[Fault] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        app = _Faulty(self._routes(), self)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> "HubStub":
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        commit = hashlib.sha1(f"{kind} {repo_id} {ref} {len(repository.commits)}".encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.refs[ref] = commit
        return commit

    # What goes wrong

    def fail(self, path: str, status: int, *, times: int = 1_000, method: str = "") -> None:
        """Answer requests whose path matches the expression with an error."""
        self.faults.append(Fault(method, re.compile(path), times, status=status))

    def drop(self, path: str, after: int, *, times: int = 1) -> None:
        """End the connection after so many bytes of the body."""
        self.faults.append(Fault("GET", re.compile(path), times, drop_after=after))

    def slow(self, path: str, seconds: float, *, times: int = 1_000) -> None:
        self.faults.append(Fault("", re.compile(path), times, delay=seconds))

    def asked(self, method: str, path: str) -> list[Asked]:
        """The requests so far whose path matches the expression."""
        return [asked for asked in self.requests if asked.method == method and re.search(path, asked.path)]

    # Answers

    def _routes(self) -> FastAPI:
        app = FastAPI()

        @app.get("/api/{kind}")
        def search(kind: str, search: str = "", filter: str = "", limit: int = 1_000) -> list[dict[str, Any]]:
            if kind not in ("datasets", "models"):
                raise HTTPException(404)  # such as the list of programs that the client asks for to name its caller
            return [
                {"id": repo_id, "private": repository.private, "gated": repository.gated, "tags": repository.tags}
                for (repo_kind, repo_id), repository in self.repositories.items()
                if repo_kind == kind and not repository.private
                if search.lower() in repo_id.lower() and (not filter or filter in repository.tags)
            ][:limit]

        @app.get("/api/{kind}/{owner}/{name}/refs")
        def refs(request: Request, kind: str, owner: str, name: str) -> dict[str, Any]:
            repository = self._open(request, kind, f"{owner}/{name}")
            entries = [
                {"name": ref.removeprefix("refs/convert/"), "ref": ref, "targetCommit": commit}
                for ref, commit in repository.refs.items()
            ]
            converts = [entry for entry in entries if entry["ref"].startswith("refs/convert/")]
            return {"branches": [e for e in entries if e not in converts], "converts": converts, "tags": []}

        @app.get("/api/{kind}/{owner}/{name}/tree/{rest:path}")
        def tree(request: Request, kind: str, owner: str, name: str, rest: str) -> list[dict[str, Any]]:
            repository = self._open(request, kind, f"{owner}/{name}")
            commit, folder = _split_revision(repository, rest)
            return [
                {"type": "file", "path": path, "size": _size(content), "oid": _sha256(content)[:40]}
                for path, content in repository.commits[commit].items()
                if path.startswith(folder)
            ]

        @app.get("/api/{kind}/{owner}/{name}")
        @app.get("/api/{kind}/{owner}/{name}/revision/{revision:path}")
        def info(
            request: Request, kind: str, owner: str, name: str, revision: str = "main", blobs: bool = False
        ) -> dict[str, Any]:
            repository = self._open(request, kind, f"{owner}/{name}")
            commit, _ = _split_revision(repository, revision)
            siblings = [
                {"rfilename": path, **({"size": _size(content)} if blobs else {})}
                for path, content in repository.commits[commit].items()
            ]
            return {"id": f"{owner}/{name}", "sha": commit, "siblings": siblings, "gated": repository.gated}

        @app.api_route("/datasets/{owner}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
        def resolve_dataset(request: Request, owner: str, name: str, rest: str) -> Response:
            return self._resolve(request, "datasets", f"{owner}/{name}", rest)

        @app.api_route("/{owner}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
        def resolve_model(request: Request, owner: str, name: str, rest: str) -> Response:
            return self._resolve(request, "models", f"{owner}/{name}", rest)

        @app.api_route("/storage/{digest}", methods=["GET", "HEAD"])
        def storage(request: Request, digest: str) -> Response:
            for repository in self.repositories.values():
                for files in repository.commits.values():
                    for content in files.values():
                        if _sha256(content) == digest:
                            return _file(request, content, {"ETag": f'"{digest}"'})
            raise HTTPException(404)

        return app

    def _open(self, request: Request, kind: str, repo_id: str, *, reads_files: bool = False) -> Repository:
        """The repository, if whoever asks may see it; refuses as the Hub does."""
        repository = self.repositories.get((kind, repo_id))
        token = _token(dict(request.headers))
        if token is not None and token not in self.tokens:
            # The Hub's message is in the header, but the client reads "repository not found" all the same.
            raise _refusal(401, "RepoNotFound", "Invalid credentials in Authorization header")
        allowed = token is not None and repo_id in self.tokens[token]
        if repository is None or (repository.private and not allowed):
            raise _refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if reads_files and repository.gated and not allowed:
            raise _refusal(401 if token is None else 403, "GatedRepo", "Access to this repository is restricted")
        return repository

    def _resolve(self, request: Request, kind: str, repo_id: str, rest: str) -> Response:
        repository = self._open(request, kind, repo_id, reads_files=True)
        commit, path = _split_revision(repository, rest)
        content = repository.commits[commit].get(path)
        if content is None:
            raise _refusal(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        digest = _sha256(content)
        headers = {"X-Repo-Commit": commit}
        if not path.endswith(STORED_APART):
            return _file(request, content, headers | {"ETag": f'"{digest[:40]}"'})
        # "localhost" is another host than "127.0.0.1" to the client.
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(_size(content))}
        return Response(
            status_code=302, headers=headers | {"Location": f"http://localhost:{self.port}/storage/{digest}"}
        )


class _Faulty:
    """Notes each request, and spoils those that a fault is meant for."""

    def __init__(self, app: ASGIApp, hub: HubStub) -> None:
        self.app, self.hub = app, hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        method, path = request.method, request.url.path
        self.hub.requests.append(Asked(method, path, request.headers.get("range"), _token(dict(request.headers))))
        for fault in self.hub.faults:
            if fault.times and fault.method in ("", method) and fault.path.search(path):
                fault.times -= 1
                await asyncio.sleep(fault.delay)
                if fault.status is not None:
                    await Response("{}", fault.status)(scope, receive, send)
                    return
                if fault.drop_after is not None:
                    send = _dropping(send, fault.drop_after)
        await self.app(scope, receive, send)


def _dropping(send: Send, after: int) -> Send:
    async def cut(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({"type": "http.response.body", "body": message["body"][:after], "more_body": True})
            raise ConnectionAbortedError  # the server closes a connection whose answer was not finished
        await send(message)

    return cut


def _split_revision(repository: Repository, rest: str) -> tuple[str, str]:
    """(commit, path) of "revision/path", where the names of branches may have slashes."""
    for revision, commit in {**repository.refs, **{commit: commit for commit in repository.commits}}.items():
        if rest == revision or rest.startswith(f"{revision}/"):
            return commit, rest[len(revision) + 1 :]
    raise _refusal(404, "RevisionNotFound", "Invalid rev id")


def _file(request: Request, content: Content, headers: dict[str, str]) -> Response:
    body = content if isinstance(content, bytes) else content.read_bytes()
    headers = headers | {"Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Response(body, headers=headers)
    start, stop = int(asked[1]), min(int(asked[2] or len(body)) + 1, len(body))
    if start >= stop:
        return Response(status_code=416)
    return Response(body[start:stop], 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"})


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    return HTTPException(status, message, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})


def _token(headers: Mapping[str, str]) -> str | None:
    return headers["authorization"].removeprefix("Bearer ") if "authorization" in headers else None


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _sha256(content: Content) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()
