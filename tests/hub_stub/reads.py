"""The routes that read: search, info, tree, files."""

import re
from typing import Any

import yaml
from fastapi import FastAPI, HTTPException, Request, Response

from tests.hub_stub.store import STORED_APART, Content, Store, read, refusal, sha256, size


def add_reads(app: FastAPI, store: Store, port: int) -> None:
    @app.get("/api/{kind}")
    def search(
        request: Request, kind: str, search: str = "", filter: str = "", limit: int = 1_000
    ) -> list[dict[str, Any]]:
        if kind not in ("datasets", "models"):
            raise HTTPException(404)  # such as the list of programs that the client asks for to name its caller
        return [
            {"id": repo_id, "private": repository.private, "gated": repository.gated, "tags": repository.tags}
            for (repo_kind, repo_id), repository in store.repositories.items()
            if repo_kind == kind and (not repository.private or store.may_read(request, repo_id))
            if search.lower() in repo_id.lower() and (not filter or filter in repository.tags)
        ][:limit]

    @app.get("/api/{kind}/{owner}/{name}/refs")
    def refs(request: Request, kind: str, owner: str, name: str) -> dict[str, Any]:
        repository = store.readable(request, kind, f"{owner}/{name}")
        entries = [
            {"name": ref.removeprefix("refs/convert/"), "ref": ref, "targetCommit": commit}
            for ref, commit in repository.refs.items()
        ]
        converts = [entry for entry in entries if entry["ref"].startswith("refs/convert/")]
        return {"branches": [e for e in entries if e not in converts], "converts": converts, "tags": []}

    @app.get("/api/{kind}/{owner}/{name}/tree/{rest:path}")
    def tree(request: Request, kind: str, owner: str, name: str, rest: str) -> list[dict[str, Any]]:
        repository = store.readable(request, kind, f"{owner}/{name}")
        commit, folder = repository.split_revision(rest)
        return [
            {"type": "file", "path": path, "size": size(content), "oid": sha256(content)[:40]}
            for path, content in repository.commits[commit].items()
            if path.startswith(folder)
        ]

    @app.get("/api/{kind}/{owner}/{name}")
    @app.get("/api/{kind}/{owner}/{name}/revision/{revision:path}")
    def info(
        request: Request, kind: str, owner: str, name: str, revision: str = "main", blobs: bool = False
    ) -> dict[str, Any]:
        repository = store.readable(request, kind, f"{owner}/{name}")
        commit, _ = repository.split_revision(revision)
        siblings = [
            {"rfilename": path, **({"size": size(content)} if blobs else {})}
            for path, content in repository.commits[commit].items()
        ]
        return {
            "id": f"{owner}/{name}",
            "sha": commit,
            "siblings": siblings,
            "private": repository.private,
            "gated": repository.gated,
            "tags": repository.tags,
            "cardData": _card_data(repository.commits[commit].get("README.md", b"")),
        }

    def resolve(request: Request, kind: str, repo_id: str, rest: str) -> Response:
        repository = store.readable(request, kind, repo_id, reads_files=True)
        commit, path = repository.split_revision(rest)
        content = repository.commits[commit].get(path)
        if content is None:
            raise refusal(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        digest = sha256(content)
        headers = {"X-Repo-Commit": commit}
        if not path.endswith(STORED_APART):
            return _file(request, content, headers | {"ETag": f'"{digest[:40]}"'})
        # "localhost" is another host than "127.0.0.1" to the client.
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size(content))}
        return Response(status_code=302, headers=headers | {"Location": f"http://localhost:{port}/storage/{digest}"})

    @app.api_route("/datasets/{owner}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
    def resolve_dataset(request: Request, owner: str, name: str, rest: str) -> Response:
        return resolve(request, "datasets", f"{owner}/{name}", rest)

    @app.api_route("/{owner}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
    def resolve_model(request: Request, owner: str, name: str, rest: str) -> Response:
        return resolve(request, "models", f"{owner}/{name}", rest)

    @app.api_route("/storage/{digest}", methods=["GET", "HEAD"])
    def storage(request: Request, digest: str) -> Response:
        content = store.stored(digest)
        if content is None:
            raise HTTPException(404)
        return _file(request, content, {"ETag": f'"{digest}"'})


def _card_data(card: Content) -> dict[str, Any]:
    """The front matter of a card: its texts alone, as what is nested could be endless when it is written as JSON."""
    found = re.match(rb"---\r?\n(.*?)\r?\n---", read(card), re.DOTALL)
    try:
        data = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return {}
    return {name: value for name, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}


def _file(request: Request, content: Content, headers: dict[str, str]) -> Response:
    body = read(content)
    headers = headers | {"Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Response(body, headers=headers)
    start, stop = int(asked[1]), min(int(asked[2] or len(body)) + 1, len(body))
    if start >= stop:
        return Response(status_code=416)
    return Response(body[start:stop], 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"})
