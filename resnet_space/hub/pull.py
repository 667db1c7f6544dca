"""Pull a model from the Hub as a run: one pushed by `push_run`, or timm's repository of a network that is known here.

Only the files of a run are fetched, each below a size limit, and weights only as safetensors because a pickle can run
code. All content is validated: see `checks.py`. The run appears when it is complete and its model was loaded;
`source.json` records its origin.
"""

import itertools
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import (
    TIMEOUT,
    HubError,
    HubRequest,
    Progress,
    download_files,
    endpoint,
    is_repo_id,
    search_repositories,
    sent_token,
    translated_errors,
)
from resnet_space.common.tokens import masked
from resnet_space.config import RunConfig
from resnet_space.hub.checks import Kind, read_config
from resnet_space.hub.install import install, model_request, repository_at, with_empty_head
from resnet_space.hub.licence import OWN, notice_text
from resnet_space.hub.pretrained import is_pretrained
from resnet_space.runs import (
    CONFIG,
    NAME_PATTERN,
    NOTICE,
    SOURCE,
    WEIGHTS,
    Run,
    Source,
)

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
TAG = "resnet_space"


@dataclass(frozen=True)
class RemoteModel:
    """A Hub model at one commit, as the page shows it before the download.

    Attributes:
        repo_id: "owner/name".
        revision: the commit, 40 hexadecimal digits.
        kind: "run" for a run of this app, "timm" for a timm model, which has only weights, "features" for one without
            a classifier, which can be fine-tuned but not predict.
        licence: that its card states, or "unknown".
        private: whether access is restricted.
        config: of the future run.
        files: the size in bytes of each file that a pull downloads.
    """

    repo_id: str
    revision: str
    kind: Kind
    licence: str
    private: bool
    config: RunConfig = field(repr=False)
    files: Mapping[str, int] = field(repr=False)

    @property
    def classes(self) -> int:
        """Their number; 0 without a classifier."""
        return 0 if self.kind == "features" else len(self.config.model.classes)

    @property
    def bytes(self) -> int:
        """Size of the download."""
        return sum(self.files.values())


def search_models(query: str, *, token: str | None = None, limit: int = 20) -> list[str]:
    """Ids of the Hub's models with this app's tag whose names have `query` in them; all if it is empty.

    Raises:
        HubError: if the Hub is not available.
    """
    with translated_errors(HubRequest("The list of models", instead="type owner/name")):
        found = search_repositories("models", query.strip()[:100], limit, token=token, filter=TAG)
        return [repo_id for repo_id in found if is_repo_id(repo_id)]


def describe_model(repo_id: str, *, revision: str | None = None, token: str | None = None) -> RemoteModel:
    """Describe a repository; only its `config.json` is downloaded.

    Args:
        repo_id: "owner/name".
        revision: a branch, tag or commit; None is what the repository has now.
        token: of the user, for private and gated repositories; None uses the login saved on this machine, and none on a
            Space.

    Raises:
        HubError: if it is not a supported model, cannot be read with this token, or cannot be downloaded.
    """
    if not is_repo_id(repo_id):
        raise HubError(masked(f"{repo_id!r} is not a valid name of a Hub model: use the form owner/name."))
    request = model_request(repo_id, revision)
    with translated_errors(request):
        there = repository_at(request, token)
        commit, sizes = there.commit, there.sizes
        # The client's cache has what another visitor may have been allowed to read. Conditions of gated repositories
        # hold for the files only.
        url = hf_hub_url(repo_id, WEIGHTS, revision=commit, endpoint=endpoint())
        get_hf_file_metadata(url, token=sent_token(token), timeout=TIMEOUT, endpoint=endpoint())
        if CONFIG not in sizes:
            raise HubError(f"{request.what} cannot be used because it has no {CONFIG} that describes it.")
        (file,) = download_files("model", repo_id, commit, [CONFIG], total=sizes[CONFIG], token=token)
        kind, config = read_config(request.what, file.read_bytes())
    files = sizes if kind == "run" else {WEIGHTS: sizes[WEIGHTS]}
    return RemoteModel(repo_id, commit, kind, there.licence, there.private, config, files)


def pull_run(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    root: Path | None = None,
    progress: Progress | None = None,
    hidden: bool = False,
) -> Run:
    """The run `root/owner.name`, created from a Hub repository.

    If the same commit was pulled before, that run is returned after the Hub has confirmed that it may be read with this
    token. If the name is taken by something else, a suffix such as -2 is added.

    Args:
        repo_id, revision, token: as in `describe_model`.
        root: the folder of the runs; None is this repository's `checkpoints/`.
        progress: called with (bytes there, bytes in all); what it raises ends the download and leaves no run.
        hidden: give the run of a private repository an unguessable name, because others can open it by name.

    Raises:
        HubError: as `describe_model`, or if a file is invalid.
    """
    remote = describe_model(repo_id, revision=revision, token=token)
    root, source = root or CHECKPOINTS, Source(repo_id, remote.revision)
    there = next((run for run in _pulled(root) if run.source == source), None)
    if there is not None:
        return there
    names = _hidden_names(repo_id) if hidden and remote.private else folder_names(repo_id)
    request = model_request(repo_id, revision)
    with translated_errors(request):
        paths = download_files(
            "model", repo_id, remote.revision, list(remote.files), total=remote.bytes, token=token, progress=progress
        )
        files = dict(zip(remote.files, paths, strict=True))
        with tempfile.TemporaryDirectory() as beside:
            if remote.kind == "features":
                files[WEIGHTS] = with_empty_head(files[WEIGHTS], remote.config.model, Path(beside))
            # A run of this app has its own notice, if it was not trained from nobody's weights.
            if remote.kind != "run" or (NOTICE not in files and remote.licence != OWN):
                files[NOTICE] = Path(beside) / NOTICE
                page = f"https://huggingface.co/{repo_id}/tree/{remote.revision}"
                files[NOTICE].write_text(notice_text(remote.licence, f"those of {page}"), encoding="utf-8")
            return install(request.what, files, remote.config, source, root, names)


# From files to a run


def folder_names(repo_id: str) -> Iterator[str]:
    """The names that a repository's run may have, the best first: "owner.name", "owner.name-2", ..."""
    base = repo_id.replace("/", ".")[:92]
    while not NAME_PATTERN.fullmatch(base):  # it was cut off at an unlucky place
        base = base[:-1]
    names = itertools.chain([base], (f"{base}-{i}" for i in itertools.count(2)))
    return (
        name for name in names if not is_pretrained(name)
    )  # a repository tv_in1k of an owner resnet18 must not pass


def _hidden_names(repo_id: str) -> Iterator[str]:
    base = next(folder_names(repo_id))[:80].rstrip("-._")
    return (f"{base}-{secrets.token_hex(5)}" for _ in itertools.count())


def _pulled(root: Path) -> Iterator[Run]:
    """The runs pulled from the Hub."""
    for file in sorted(root.glob(f"*/{SOURCE}")):
        try:
            yield Run.open(file.parent)
        except UserError:
            continue
