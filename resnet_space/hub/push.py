"""Push a run: its folder becomes a model repository on the Hub, in one commit.

`resume/` and hidden files stay on this machine. An interrupted push can simply be repeated: large files that have
arrived are not sent again, and if the repository is already up to date, no commit is made.
"""

import io
import json
import re
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils._runtime import is_xet_available

from resnet_space.common.errors import UserError
from resnet_space.common.faults import words_of
from resnet_space.common.files import in_a_sentence
from resnet_space.common.hub_client import (
    TIMEOUT,
    HubError,
    HubRequest,
    Progress,
    download_files,
    hub_api,
    require_owned_id,
    translated_errors,
)
from resnet_space.common.tokens import masked
from resnet_space.hub.account import has_token
from resnet_space.hub.card import card_files
from resnet_space.hub.licence import licence_of, why_no_push
from resnet_space.hub.portable import MODEL_FILE, model_file, needs, portable_config
from resnet_space.runs import (
    CARD,
    CONFIG,
    EVALUATION,
    FEATURE_STATISTICS,
    FIGURE_PATTERN,
    FIGURES,
    METRICS,
    NOTICE,
    WEIGHTS,
    Run,
    names_of,
)

MAX_CONFIG_BYTES = 5_000_000
_OF_A_RUN = (METRICS, EVALUATION, NOTICE, MODEL_FILE, *names_of(FEATURE_STATISTICS))
_NOT_A_MODELS = {".gitattributes", ".gitignore", CARD, "LICENSE", "LICENSE.md", "LICENSE.txt"}


def push_run(
    run: Run,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    progress: Progress | None = None,
    space: str | None = None,
    in_training: bool = False,
    licence: str = "",
) -> str:
    """Commit a run to a repository, which is created if it does not exist. It may take minutes.

    A run that is already in the repository is replaced; other files stay. Somebody's model that is not a run is never
    overwritten.

    Args:
        run: with weights; its card is rewritten for the repository.
        repo_id: "owner/name".
        token: of the user; None uses the login saved on this machine, and none on a Space.
        private: whether a new repository is private; an existing one keeps its visibility.
        progress: called with (bytes sent, bytes in all): as the weights go where they go by plain HTTP; where the
            client sends them by Xet (hf_xet, installed with it), which tells nothing on the way, at the beginning and
            the end only. What it raises ends the push; nothing is committed then.
        space: "owner/name" of the Space that the card links to.
        in_training: push a run while it trains; otherwise such a run is refused.
        licence: one of `licence.CHOICES`; empty is that of the weights it started from, "mit" if they are nobody's.

    Returns:
        The URL of the commit; of the last one if nothing has changed.

    Raises:
        HubError: if the run is not ready, or the Hub refuses or is unreachable.
    """
    request = push_request(run, repo_id, token, licence=licence, in_training=in_training)
    with ExitStack() as opened:
        files = _files(run, repo_id, space, licence, opened)
        total = sum(_size(content) for content in files.values())
        if progress is not None:
            progress(0, total)
        api = hub_api(token)
        with push_errors(request):
            head = _head(api, repo_id, private)
            _require_ours(head, repo_id, token)
            commit = api.create_commit(
                repo_id,
                [*_stale(head, files), *_additions(files, progress, total)],
                commit_message=f"Push {run.name}",
                parent_commit=head.sha,
            )
    if progress is not None:
        progress(total, total)
    return commit.commit_url


def push_request(
    run: Run, repo_id: str, token: str | None, *, licence: str = "", in_training: bool = False, page: str = ""
) -> HubRequest:
    """What is asked of the Hub, after everything that can be refused without it: the arguments are `push_run`'s.

    Raises:
        HubError: if the run is not ready or may not be pushed, the name is not valid, or nobody is signed in.
    """
    require_owned_id(repo_id, "repository", "ann/birds")
    if not run.has_weights:
        raise HubError(f"{run.name} has no weights to push: train it for at least one epoch first.")
    if run.is_training and not in_training:
        raise HubError(f"{run.name} is training: stop it, or push it when the training has finished.")
    with in_a_sentence(f"{run.name} cannot be pushed", HubError):
        why_not = why_no_push(run, licence)
    if why_not:
        raise HubError(why_not)
    changed = f"{repo_id} has changed in the meantime: review it, then push again"
    refusals = {
        403: f"this account or token has no write access to {repo_id}: use a token with write access, or a "
        "repository of your own",
        404: f"{repo_id} does not exist or is not visible to this account: check the spelling",
        409: changed,
        412: changed,
    }
    request = HubRequest(f"The run {run.name}", page or repo_id, None, "keep it on this machine", "pushed", refusals)
    if not has_token(token):
        raise HubError(f"{request.cannot} because nobody is signed in: sign in first.")
    return request


def suggested_repo_id(run: Run, user: str) -> str:
    """A suggested repository for a run: named like the run; for a pulled run, without its former owner."""
    name = run.name
    if run.source is not None and "/" in run.source.repo_id:
        name = name.removeprefix(f"{run.source.repo_id.split('/')[0]}.")
    return f"{user}/{name}"


# What is pushed


class _Read(io.BufferedReader):
    """A file that reports how far it has been read, once `told` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.told: Callable[[int], None] | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if self.told is not None:
            self.told(self.tell())
        return content


_Content = bytes | Path | _Read


def _files(run: Run, repo_id: str, space: str | None, licence: str, opened: ExitStack) -> dict[str, _Content]:
    """The files to push, by path in the repository."""
    try:
        files: dict[str, _Content] = {
            f"{FIGURES}/{file.name}": file.read_bytes()
            for file in sorted((run.path / FIGURES).glob("*.png"))
            if FIGURE_PATTERN.fullmatch(f"{FIGURES}/{file.name}") and file.is_file() and not file.is_symlink()
        }
        licence = licence or licence_of(run)
        source = model_file(run.config.model)
        files |= card_files(run, repo_id=repo_id, space=space, licence=licence, needs=needs(source))
        files[CONFIG] = portable_config(run.config, licence)
        if source:
            files[MODEL_FILE] = source.encode()
        if (run.path / METRICS).exists():
            metrics = (run.path / METRICS).read_bytes()
            files[METRICS] = metrics[: metrics.rfind(b"\n") + 1]  # without an unfinished last line
        for file in (EVALUATION, FEATURE_STATISTICS, NOTICE):
            if (there := run.existing(file)) is not None:
                files[file] = there
        # Xet reads files by their paths only.
        weights = run.path / WEIGHTS
        files[WEIGHTS] = weights if is_xet_available() else opened.enter_context(_Read(weights))
    except (OSError, UserError) as error:
        words = str(error) if isinstance(error, UserError) else words_of(error)
        raise HubError(f"{run.name} cannot be read: {words}") from None
    return files


def _size(content: _Content) -> int:
    if isinstance(content, bytes):
        return len(content)
    return Path(content.name if isinstance(content, _Read) else content).stat().st_size


def _additions(files: dict[str, _Content], progress: Progress | None, total: int) -> list[CommitOperationAdd]:
    additions = []
    for path, content in files.items():
        additions.append(CommitOperationAdd(path, content))  # which reads a file to its end, to hash it
        if isinstance(content, _Read) and progress is not None:
            content.told = lambda position: progress(min(position, total), total)
    return additions


def _stale(head: ModelInfo, files: dict[str, _Content]) -> list[CommitOperationDelete]:
    """Files of an earlier run in the repository that this one does not have."""
    paths = [sibling.rfilename for sibling in head.siblings or ()]
    return [
        CommitOperationDelete(path)
        for path in paths
        if path not in files and (path in _OF_A_RUN or FIGURE_PATTERN.fullmatch(path))
    ]


def _head(api: HfApi, repo_id: str, private: bool) -> ModelInfo:
    """The repository's last commit; the repository is created if it does not exist."""
    # The client's `exist_ok` alone fails on existing ones that may not be written to, on any Hub but huggingface.co.
    try:
        return api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=private, exist_ok=True)
        return api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT)


# What is refused


def _require_ours(head: ModelInfo, repo_id: str, token: str | None) -> None:
    """Refuse a repository that contains something other than a run."""
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in head.siblings or ()}
    others = sorted(set(sizes) - _NOT_A_MODELS)
    if not others:
        return
    if CONFIG in sizes and sizes[CONFIG] <= MAX_CONFIG_BYTES:
        assert head.sha is not None  # the Hub always says which commit it answered for
        (file,) = download_files("model", repo_id, head.sha, [CONFIG], total=sizes[CONFIG], token=token)
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            config = None
        # Not more: it may be from another version of this app.
        if isinstance(config, dict) and all(isinstance(config.get(part), dict) for part in ("model", "training")):
            return
    raise HubError(f"{repo_id} already contains something else ({others[0]}): choose another name.")


@contextmanager
def push_errors(request: HubRequest) -> Generator[None]:
    """As `translated_errors`, with errors specific to a push."""
    with translated_errors(request):
        try:
            yield
        except (UserError, HfHubHTTPError, HFValidationError, OSError):
            raise
        except (httpx2.TransportError, ValueError, RuntimeError) as error:
            # The client wraps what ends an upload.
            wrapped = error.__cause__ if isinstance(error, RuntimeError) else None
            cause = wrapped if isinstance(wrapped, Exception) else error
            reason = _reason(cause)
            if reason is None:
                raise cause from None
            raise HubError(masked(f"{request.cannot} because {reason}.")) from None


def _reason(error: Exception) -> str | None:
    """Why a push failed; None if `translated_errors` describes it better."""
    match error:
        case httpx2.TimeoutException() | httpx2.ConnectError() | httpx2.ProxyError():
            return None
        case httpx2.TransportError():
            return "the connection was lost: push again; files that have already arrived are not sent twice"
        case ValueError() if "README.md" in str(error):  # the client's own, from the Hub's answer
            reason = re.sub(r"\s+", " ", str(error).partition("\n")[2]).strip("- .")
            return f"the Hub rejected its model card: {reason}"
    if type(error) is ValueError:
        first_line = str(error).strip().splitlines()[0].rstrip(".")
        return f"the Hub sent an unexpected response ({first_line})"
    return None
