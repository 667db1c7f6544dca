"""The routes that write: who somebody is, a new repository, its card's front matter, uploads, a commit."""

import base64
import hashlib
import json
import re
from typing import Any

import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.hub_stub.store import STORED_APART, Repository, Store, git_hash, refusal, sha256

INITIAL = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}  # what the Hub itself commits
LICENSES = ["mit", "apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"]
LICENSES += ["other", "unknown"]


def add_writes(app: FastAPI, store: Store, port: int) -> None:
    @app.get("/api/whoami-v2")
    def who_am_i(request: Request) -> dict[str, Any]:
        user = store.user(request)
        if user is None:
            raise refusal(401, "", "Invalid username or password.")
        role = "write" if user.writes else "read"
        return {"type": "user", "name": user.name, "orgs": [], "auth": {"accessToken": {"role": role}}}

    @app.post("/api/repos/create")
    async def create(request: Request) -> JSONResponse:
        asked = await request.json()
        user = store.user(request)
        owner = asked["organization"] or (user.name if user else "")
        repo_id = f"{owner}/{asked['name']}"
        kind = f"{asked.get('type') or 'model'}s"
        store.require_writer(request, repo_id)
        url = f"http://127.0.0.1:{port}/{repo_id}"
        if (kind, repo_id) in store.repositories:
            return JSONResponse({"error": "You already created this model repo", "url": url}, 409)
        store.repositories[kind, repo_id] = Repository(
            private=asked.get("visibility") == "private", sdk=asked.get("sdk")
        )
        store.commit(kind, repo_id, INITIAL)
        return JSONResponse({"url": url, "name": repo_id})

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> JSONResponse:
        store.user(request)
        errors = _card_errors((await request.json())["content"])
        return JSONResponse(
            {"errors": [{"message": error} for error in errors], "warnings": []}, 400 if errors else 200
        )

    @app.post("/api/{kind}/{owner}/{name}/preupload/{revision:path}")
    async def preupload(request: Request, kind: str, owner: str, name: str, revision: str) -> dict[str, Any]:
        repository = store.writable(request, kind, f"{owner}/{name}")
        commit, _ = repository.split_revision(revision)
        there = repository.commits[commit]
        answers = []
        for file in (await request.json())["files"]:
            path = file["path"]
            large = path.endswith(STORED_APART)
            content = there.get(path)
            oid = None if content is None else sha256(content) if large else git_hash(content)
            mode = "lfs" if large else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers, "commitOid": commit}

    @app.post("/{owner}/{name}.git/info/lfs/objects/batch")
    async def batch(request: Request, owner: str, name: str) -> dict[str, Any]:
        store.writable(request, "models", f"{owner}/{name}")
        objects = []
        for asked in (await request.json())["objects"]:
            oid = asked["oid"]
            # "localhost" is another host than "127.0.0.1" to the client: the token must not arrive there.
            upload = {"href": f"http://localhost:{port}/upload/{oid}"}
            verify = {"href": f"http://127.0.0.1:{port}/{owner}/{name}.git/info/lfs/objects/verify"}
            missing = {"actions": {"upload": upload, "verify": verify}} if store.stored(oid) is None else {}
            objects.append({"oid": oid, "size": asked["size"], **missing})
        return {"transfer": "basic", "objects": objects}

    @app.put("/upload/{oid}")
    async def upload(request: Request, oid: str) -> dict[str, Any]:
        body = await request.body()
        if hashlib.sha256(body).hexdigest() != oid:
            raise refusal(400, "", "The checksum does not match")
        store.objects[oid] = body
        return {}

    @app.post("/{owner}/{name}.git/info/lfs/objects/verify")
    async def verify(request: Request, owner: str, name: str) -> dict[str, Any]:
        store.writable(request, "models", f"{owner}/{name}")
        asked = await request.json()
        if len(store.objects.get(asked["oid"], b"")) != asked["size"]:
            raise refusal(404, "", "Object does not exist")
        return {}

    @app.post("/api/{kind}/{owner}/{name}/commit/{revision:path}")
    async def commit(request: Request, kind: str, owner: str, name: str, revision: str) -> dict[str, Any]:
        repo_id = f"{owner}/{name}"
        repository = store.writable(request, kind, repo_id)
        head, _ = repository.split_revision(revision)
        files = dict(repository.commits[head])
        header: dict[str, Any] = {}
        for line in (await request.body()).splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    header = value
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"], validate=True)
                case "lfsFile":
                    content = store.stored(value["oid"])
                    if content is None:
                        raise refusal(422, "", "A file was not uploaded")
                    files[value["path"]] = content
                case "deletedFile":
                    del files[value["path"]]
                case key:
                    raise refusal(400, "", f"Unknown operation {key}")
        if header.get("parentCommit", head) != head:
            raise refusal(412, "", "A commit has happened since. Please refresh and try again.")
        made = store.commit(kind, repo_id, files, revision)
        repository.messages[made] = header["summary"]
        return {"commitUrl": f"http://127.0.0.1:{port}/{repo_id}/commit/{made}", "commitOid": made, "success": True}


def _card_errors(card: str) -> list[str]:
    """What the Hub would not accept in a card's front matter, as far as a model's card may have it wrong."""
    found = re.match(r"---\r?\n(.*?)\r?\n---(\r?\n|$)", card, re.DOTALL)
    if found is None:
        return []
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"]
    if not isinstance(data, dict):
        return ["The front matter must be a mapping"]
    errors = []
    for name in ("license", "library_name", "pipeline_tag"):
        if name in data and not isinstance(data[name], str):
            errors.append(f'"{name}" must be a string')
    if "license" in data and data["license"] not in LICENSES:
        errors.append(f'"license" must be one of {LICENSES}')
    for name in ("tags", "datasets", "base_model"):
        values = data.get(name, [])
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            errors.append(f'"{name}" must be a list of strings')
        elif name != "tags" and not all(re.fullmatch(r"[\w.-]+(/[\w.-]+)?", value) for value in values):
            errors.append(f'"{name}" has something that is no id')
    for i, model in enumerate(data.get("model-index", [])):
        if not isinstance(model.get("name"), str):
            errors.append(f'"model-index[{i}].name" must be a string')
        for result in model.get("results", []):
            if not isinstance(result.get("task", {}).get("type"), str):
                errors.append(f'"model-index[{i}].results.task.type" is required')
            if not all(isinstance(result.get("dataset", {}).get(key), str) for key in ("type", "name")):
                errors.append(f'"model-index[{i}].results.dataset" must have a type and a name')
            for metric in result.get("metrics", []):
                if not isinstance(metric.get("type"), str) or "value" not in metric:
                    errors.append(f'"model-index[{i}].results.metrics" must have types and values')
    return errors
