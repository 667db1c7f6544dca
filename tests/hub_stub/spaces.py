"""What is otherwise with Spaces: their SDK, their variables and secrets, and where their large files go."""

from typing import Any

import yaml
from fastapi import FastAPI, HTTPException, Request

from tests.hub_stub.store import Store, read, refusal


def add_spaces(app: FastAPI, store: Store, port: int) -> None:
    """To be called before the other routes are added, some of which would answer for a Space too."""

    @app.get("/api/spaces/zero-gpu/quota")
    def quota(request: Request) -> dict[str, Any]:
        user = store.user(request)
        if user is None:
            raise refusal(401, "", "Invalid username or password.")
        if user.name not in store.gpu_seconds:
            raise refusal(403, "", "The token lacks the scope read-billing")
        return {"base": 300, "current": store.gpu_seconds[user.name], "resetsAt": "2026-11-30T09:12:03.000Z"}

    @app.get("/api/spaces/{owner}/{name}")
    def info(request: Request, owner: str, name: str) -> dict[str, Any]:
        repository = store.readable(request, "spaces", f"{owner}/{name}")
        commit = repository.refs["main"]
        _, matter, *_ = read(repository.commits[commit].get("README.md", b"---\n---\n")).split(b"---\n")
        tags = (yaml.safe_load(matter) or {}).get("tags", [])  # as the Hub takes them from the front matter
        return {"id": f"{owner}/{name}", "sha": commit, "siblings": [], "sdk": repository.sdk, "tags": tags}

    @app.get("/api/spaces/{owner}/{name}/{settings}")
    def settings(request: Request, owner: str, name: str, settings: str) -> dict[str, Any]:
        if settings not in ("variables", "secrets"):
            raise HTTPException(404)
        repository = store.writable(request, "spaces", f"{owner}/{name}")
        values: dict[str, str] = getattr(repository, settings)
        own = {key: {"key": key, "value": value} for key, value in values.items()}
        return own if settings == "variables" else {key: {"key": key} for key in own}  # nobody can read a secret

    @app.post("/spaces/{owner}/{name}.git/info/lfs/objects/batch")
    async def batch(request: Request, owner: str, name: str) -> dict[str, Any]:
        store.writable(request, "spaces", f"{owner}/{name}")
        objects = []
        for asked in (await request.json())["objects"]:
            oid = asked["oid"]
            upload = {"href": f"http://localhost:{port}/upload/{oid}"}
            missing = {"actions": {"upload": upload}} if store.stored(oid) is None else {}
            objects.append({"oid": oid, "size": asked["size"], **missing})
        return {"transfer": "basic", "objects": objects}
