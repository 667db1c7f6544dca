"""Access to the Hugging Face Hub: its address, the token to use, and its errors as one sentence each."""

import errno
import json
import os
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
    hf_raise_for_status,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers  # pyrefly: ignore[implicit-reexport]  # documented, but not in its __all__

from resnet_space.common.errors import UserError
from resnet_space.common.tokens import masked

NO_SAVED_TOKEN = "HF_HUB_DISABLE_IMPLICIT_TOKEN"  # a variable that the client knows too
TIMEOUT = 10.0  # seconds without a byte, after which an answer is not waited for any longer
COMMIT = re.compile(r"[0-9a-f]{40}")

Progress = Callable[[int, int], None]  # (bytes there, bytes in all)

_OWNER = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"(?!.*(--|\.\.|\.git$))({_OWNER}/)?{_OWNER}")
_REVISION = re.compile(r"(?!.*(\.\.|//))[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")


class HubError(UserError):
    """Something the Hub refused or that could not be reached; the message says what and what to do, in one sentence."""


def endpoint() -> str:
    """The Hub's address. Looked up at every call: the client itself reads `HF_ENDPOINT` once, when it is imported."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def sent_token(token: str | None) -> str | bool | None:
    """The token argument for the Hub client, for a user who may have no token.

    The client takes None for "the token saved on this machine". That is right for whoever runs the app at home; on an
    app for others it would read the owner's private repositories out to any visitor. `app.py` sets the client's own
    variable for such an app, which its trainers inherit.
    """
    nobodys = os.environ.get("SYSTEM") == "spaces" or os.environ.get(NO_SAVED_TOKEN, "") not in ("", "0")
    return token or (False if nobodys else None)


def hub_api(token: str | None = None) -> HfApi:
    return HfApi(endpoint=endpoint(), token=sent_token(token))


def is_repo_id(repo_id: object) -> bool:
    """Whether the name is valid for a Hub repository. Check it before any call: it becomes part of URLs."""
    return isinstance(repo_id, str) and _REPO_ID.fullmatch(repo_id) is not None


def require_owned_id(repo_id: str, what: str, example: str) -> None:
    """Refuse what is not "owner/name". Raises HubError; `what` is a "dataset", "repository" or "Space"."""
    if not is_repo_id(repo_id) or "/" not in repo_id:
        raise HubError(masked(f"{repo_id!r} is not a valid {what} name: use the form owner/name, such as {example}."))


def is_revision(revision: object) -> bool:
    return isinstance(revision, str) and _REVISION.fullmatch(revision) is not None


@dataclass(frozen=True)
class HubRequest:
    """A request to the Hub, as error messages describe it.

    Attributes:
        what: the sentence's subject, such as "The dataset uoft-cs/cifar10".
        page: the repository's path on the Hub's site, such as "datasets/uoft-cs/cifar10".
        revision: the one that was asked for.
        instead: an alternative without the Hub, such as "start from a run of this machine".
        done: the action: "fetched", "pushed", "deployed" or "started".
        refusals: reasons by the status code of the Hub's response, where a code has a special meaning.
    """

    what: str
    page: str = ""
    revision: str | None = None
    instead: str = "work with what is on this machine"
    done: Literal["fetched", "pushed", "started", "deployed"] = "fetched"
    refusals: Mapping[int, str] = field(default_factory=dict)

    @property
    def cannot(self) -> str:
        return f"{self.what} cannot be {self.done}"


@contextmanager
def translated_errors(request: HubRequest, kind: type[Exception] = HubError) -> Generator[None]:
    """Turn any exception of the client into a `kind` with one sentence. A `kind` raised inside passes unchanged."""
    try:
        yield
    except kind:
        raise
    except (httpx2.HTTPError, HFValidationError, json.JSONDecodeError, OSError) as error:
        raise kind(masked(_sentence(error, request))) from None


def _sentence(error: BaseException, request: HubRequest) -> str:
    what, cannot, instead = request.what, request.cannot, request.instead
    if isinstance(error, LocalEntryNotFoundError):  # the client's wrapper: the reason is inside
        if error.__cause__ is None:
            return f"{what} is not on this machine."
        return _sentence(error.__cause__, request)
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, request)
    match error:
        case LocalTokenNotFoundError():
            return f"{cannot} because nobody is signed in: sign in first."
        case OfflineModeIsEnabled():
            return f"{cannot} because HF_HUB_OFFLINE is set: unset it, or {instead}."
        case HFValidationError():
            return f"{what} has an invalid name for the Hub: use the form owner/name."
        case httpx2.TimeoutException():
            return f"{cannot} because the Hub did not answer in time: try again later, or {instead}."
        case httpx2.ConnectError() | httpx2.ProxyError():
            return f"{cannot} because the Hub is unreachable: check your network, or {instead}."
        case httpx2.TransportError():
            return f"{cannot} because the connection to the Hub was lost: try again."
        case FileMetadataError() | json.JSONDecodeError() | httpx2.HTTPError():
            return (
                f"{cannot} because {endpoint()} did not answer like the Hub: check HF_ENDPOINT and your network's "
                "proxy."
            )
        case OSError(errno=errno.ENOSPC):
            return f"{what} does not fit on the disk: free some space, or set HF_HOME to a folder on a larger one."
        case OSError(strerror=str(reason)):
            return f"{what} cannot be stored in {constants.HF_HUB_CACHE} ({reason}): set HF_HOME to another folder."
    return f"{what} was downloaded incompletely: try again."  # the client's check of sizes


def _refusal(error: HfHubHTTPError, request: HubRequest) -> str:
    what, cannot, page = request.what, request.cannot, f"{endpoint()}/{request.page}"
    status = error.response.status_code
    signed_in = "authorization" in error.response.request.headers
    # First: with an expired token, every repository reads as "not found". Without one, so does a private one.
    if status == 401 and signed_in:
        return f"{cannot} because the Hub rejected the token: sign in again."
    if status in request.refusals:
        return f"{cannot} because {request.refusals[status]}."
    match error:
        case GatedRepoError():  # a subclass of RepositoryNotFoundError
            todo = "accept its conditions" if signed_in else "sign in and accept its conditions"
            return f"{what} is gated: {todo} at {page}, then try again."
        case RepositoryNotFoundError():
            todo = "use an account that can read it" if signed_in else "sign in with an account that can read it"
            return f"{what} does not exist on the Hub, or is private: check the spelling, or {todo}."
        case RevisionNotFoundError():
            return f"{what} has no revision {request.revision!r}: leave it empty, or use one of {page}/commits/main."
        case RemoteEntryNotFoundError():
            file = error.response.url.path.partition("/resolve/")[2].partition("/")[2]
            return f"{what} has no file {file or 'of that name'} on the Hub: choose another one."
        case DisabledRepoError():
            return f"{what} has been disabled by the Hub: choose another one."
    if status == 402:
        return f"{cannot} because the account has no credit on the Hub: add some at {endpoint()}/settings/billing."
    if status == 429:
        more = "" if signed_in else ", or sign in for a higher limit"
        return f"{cannot} because the Hub received too many requests from here: wait a few minutes{more}."
    if status >= 500:
        trouble = f"because the Hub is having problems (error {status})"
        return f"{cannot} {trouble}: try again later, or {request.instead}."
    if status in (401, 403):
        done = "read" if request.done == "fetched" else request.done
        return f"{what} cannot be {done} with this account: check the token's permissions."
    return f"{cannot} because the Hub refused the request (error {status}): try again later."


def search_repositories(
    kind: Literal["datasets", "models"], query: str, limit: int, *, token: str | None = None, **more: str
) -> list[str]:
    """Ids with `query` in them, those downloaded most first. Call it inside `translated_errors`.

    `HfApi.list_datasets` is not used because it retries for 23 s during an outage, while somebody types.
    """
    response = get_session().get(
        f"{endpoint()}/api/{kind}",
        params={"search": query, "limit": limit, "sort": "downloads", "direction": "-1", **more},
        headers=build_hf_headers(token=sent_token(token)),
        timeout=TIMEOUT,
    )
    hf_raise_for_status(response)
    return [entry["id"] for entry in response.json()][:limit]


def cached_file(repo_type: str, repo_id: str, revision: str, file: str) -> Path | None:
    """A file of a pinned revision in the client's cache, without a request; None if it is not there."""
    found = try_to_load_from_cache(repo_id, file, revision=revision, repo_type=repo_type)
    return Path(found) if isinstance(found, str) else None


def download_files(
    repo_type: str,
    repo_id: str,
    revision: str,
    files: Sequence[str],
    *,
    total: int,
    token: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Files of a pinned revision, from the client's cache or else from the Hub. Call it inside `translated_errors`.

    A dropped connection is resumed. An exception raised by `progress` ends the download and reaches the caller:
    `snapshot_download` has threads of its own that nobody can end, counts files instead of bytes, and asks for the list
    of all files again.
    """
    done = 0
    reached = False
    paths = []
    for file in files:
        path = cached_file(repo_type, repo_id, revision, file)
        if path is None:
            if not reached:  # the client retries for 23 s during an outage: too long for a waiting visitor
                url = hf_hub_url(repo_id, file, repo_type=repo_type, revision=revision, endpoint=endpoint())
                get_hf_file_metadata(url, token=sent_token(token), timeout=TIMEOUT, endpoint=endpoint())
                reached = True
            path = _download(repo_type, repo_id, revision, file, token, _bar(progress, done, total))
        paths.append(path)
        done += path.stat().st_size
        if progress is not None:
            progress(done, total)
    return paths


def _download(repo_type: str, repo_id: str, revision: str, file: str, token: str | None, bar: Any) -> Path:
    tries_left = 3
    while True:
        try:
            return Path(
                hf_hub_download(
                    repo_id,
                    file,
                    repo_type=repo_type,
                    revision=revision,
                    token=sent_token(token),
                    endpoint=endpoint(),
                    etag_timeout=TIMEOUT,
                    tqdm_class=bar,
                )
            )
        except httpx2.ReadError:  # a reset connection: the one kind of break that the client does not resume
            tries_left -= 1
            if not tries_left:
                raise
            time.sleep(1)


def _bar(progress: Progress | None, before: int, total: int) -> type:
    """A stand-in for a tqdm bar: draws nothing, reports the bytes received of one file."""

    class Bar:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.n = initial

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            if progress is not None:
                progress(min(before + self.n, total), total)

        # Xet reports what came over the network apart from what is in the file. The latter is counted.
        def update_transfer(self, count: float) -> None:
            pass

        def set_postfix_str(self, *_: object, **__: object) -> None:
            pass

        def set_transfer_postfix_str(self, *_: object, **__: object) -> None:
            pass

        def close(self) -> None:
            pass

    return Bar
