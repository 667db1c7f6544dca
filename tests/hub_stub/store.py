"""What is there, and who may see and change it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import HTTPException, Request

Content = bytes | Path

STORED_APART = (".parquet", ".safetensors", ".bin", ".pt")  # Git LFS: the Hub redirects to where they are


@dataclass
class Repository:
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)  # commit -> path -> content
    refs: dict[str, str] = field(default_factory=dict)  # branch -> commit
    messages: dict[str, str] = field(default_factory=dict)  # commit -> what its author said; of pushed ones only
    gated: bool = False
    private: bool = False
    tags: tuple[str, ...] = ()
    sdk: str | None = None  # of a Space, with its settings
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def split_revision(self, rest: str) -> tuple[str, str]:
        """(commit, path) of "revision/path", where the names of branches may have slashes."""
        for revision, commit in {**self.refs, **{commit: commit for commit in self.commits}}.items():
            if rest == revision or rest.startswith(f"{revision}/"):
                return commit, rest[len(revision) + 1 :]
        raise refusal(404, "RevisionNotFound", "Invalid rev id")


@dataclass(frozen=True)
class User:
    name: str
    writes: bool  # whether the token may write


class Store:
    """Repositories, stored objects, and tokens."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}  # ("datasets" or "models", id)
        self.tokens: dict[str, set[str]] = {}  # valid tokens -> ids of private and gated repositories they may read
        self.users: dict[str, User] = {}  # token -> whose it is
        self.objects: dict[str, bytes] = {}  # sha256 -> what was uploaded
        self.signs_in: str | None = None  # the token of whoever signs in
        self.without_credit: set[str] = set()  # users who cannot pay for jobs
        self.gpu_seconds: dict[str, float] = {}  # users whose tokens may read it -> what is left of their ZeroGPU quota

    def commit(self, kind: str, repo_id: str, files: Mapping[str, Content], ref: str = "main") -> str:
        """Make `files` all that `ref` has; returns the commit."""
        repository = self.repositories.setdefault((kind, repo_id), Repository())
        commit = hashlib.sha1(f"{kind} {repo_id} {ref} {len(repository.commits)}".encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.refs[ref] = commit
        return commit

    def stored(self, digest: str) -> Content | None:
        """A large file by its SHA-256."""
        if digest in self.objects:
            return self.objects[digest]
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for path, content in files.items():
                    if path.endswith(STORED_APART) and sha256(content) == digest:
                        return content
        return None

    def user(self, request: Request) -> User | None:
        """Who asks, None for somebody without a token; refuses one that is not valid."""
        token = sent_token(request)
        if token is None:
            return None
        if token not in self.tokens:
            # The Hub's message is in the header, but the client reads "repository not found" all the same.
            raise refusal(401, "RepoNotFound", "Invalid credentials in Authorization header")
        return self.users.get(token)

    def may_read(self, request: Request, repo_id: str) -> bool:
        """Whether somebody may read a repository that is not open to all."""
        user, token = self.user(request), sent_token(request)
        own = user is not None and repo_id.split("/")[0] == user.name
        return own or (token is not None and repo_id in self.tokens[token])

    def readable(self, request: Request, kind: str, repo_id: str, *, reads_files: bool = False) -> Repository:
        """The repository, if whoever asks may see it; refuses as the Hub does."""
        repository = self.repositories.get((kind, repo_id))
        allowed, anonymous = self.may_read(request, repo_id), sent_token(request) is None
        if repository is None or (repository.private and not allowed):
            raise refusal(401 if anonymous else 404, "RepoNotFound", "Repository not found")
        if reads_files and repository.gated and not allowed:
            raise refusal(401 if anonymous else 403, "GatedRepo", "Access to this repository is restricted")
        return repository

    def writable(self, request: Request, kind: str, repo_id: str) -> Repository:
        """The repository, if whoever asks may write to it; refuses as the Hub does."""
        repository = self.readable(request, kind, repo_id)
        self.require_writer(request, repo_id)
        return repository

    def require_writer(self, request: Request, repo_id: str) -> None:
        user = self.user(request)
        if user is None:
            raise refusal(401, "", "Invalid username or password.")
        if not user.writes or repo_id.split("/")[0] != user.name:
            raise refusal(403, "", "You don't have the rights to write to this repository")


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    named = {"X-Error-Code": code} if code else {}
    return HTTPException(status, message, {**named, "X-Error-Message": message, **(headers or {})})


def sent_token(request: Request) -> str | None:
    header = request.headers.get("authorization")
    return None if header is None else header.removeprefix("Bearer ")


def size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def read(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def sha256(content: Content) -> str:
    return hashlib.sha256(read(content)).hexdigest()


def git_hash(content: Content) -> str:
    body = read(content)
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
