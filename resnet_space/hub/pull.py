"""Pull a model of the Hub: what `push_run` pushed, or a ResNet as timm and torchvision have them, becomes a run.

Of a repository only the files of a run are ever fetched, each below a limit, and weights only as safetensors: a pickle
can run code. Nothing of it is believed: see `checks.py`. The run appears when all of it is there and its model was
loaded; `source.json` says where it is from.
"""

import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from safetensors import SafetensorError

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import (
    TIMEOUT,
    HubError,
    Progress,
    Wanted,
    download_files,
    endpoint,
    hub_api,
    is_repo_id,
    is_revision,
    search_repositories,
    sent_token,
    translated_errors,
)
from resnet_space.common.tokens import masked
from resnet_space.config import RunConfig
from resnet_space.explain.ood import load_usual
from resnet_space.hub.checks import read_config, require_safe_names, require_valid_metrics
from resnet_space.runs import (
    CARD,
    CONFIG,
    EVALUATION,
    FIGURE_PATTERN,
    METRICS,
    NAME_PATTERN,
    SOURCE,
    USUAL,
    WEIGHTS,
    Run,
    Source,
)
from resnet_space.runs.folder import weight_types
from resnet_space.training.evaluation import load_evaluation

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
TAG = "resnet_space"

MAX_BYTES = 1_000_000_000  # of the weights: four times ResNet-152
MAX_FIGURES = 20
_LIMITS = {CONFIG: 5_000_000, CARD: 1_000_000, METRICS: 20_000_000, EVALUATION: 200_000_000, USUAL: 20_000_000}
_MAX_FIGURE_BYTES = 5_000_000

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class RemoteModel:
    """A model of the Hub at one commit, as a page shows it before it is downloaded.

    Attributes:
        repo_id: "owner/name".
        revision: the commit, 40 hexadecimal digits.
        kind: "run" for one of this app, "timm" for one of timm's, which has weights only.
        architecture: one of `list_models()`.
        classes: how many.
        bytes: of all that a pull downloads.
        private: whether only some may see it.
        config: what the run will have.
        files: the size in bytes of each file that a pull downloads.
    """

    repo_id: str
    revision: str
    kind: Literal["run", "timm"]
    architecture: str
    classes: int
    bytes: int
    private: bool
    config: RunConfig = field(repr=False)
    files: Mapping[str, int] = field(repr=False)


def search_models(query: str, *, token: str | None = None, limit: int = 20) -> list[str]:
    """Ids of the Hub's models with this app's tag whose names have `query` in them; all if it is empty.

    Raises:
        HubError: if the Hub cannot be asked.
    """
    with translated_errors(Wanted("The list of models", instead="type owner/name")):
        found = search_repositories("models", query.strip()[:100], limit, token=token, filter=TAG)
        return [repo_id for repo_id in found if is_repo_id(repo_id)]


def describe_model(repo_id: str, *, revision: str | None = None, token: str | None = None) -> RemoteModel:
    """What a repository has; only its `config.json` is downloaded.

    Args:
        repo_id: "owner/name".
        revision: a branch, tag or commit; None is what the repository has now.
        token: of who asks, for private and gated repositories; None is whoever is signed in on this machine, and
            nobody on a Space.

    Raises:
        HubError: if it is not a model that can be used here, may not be read with this token, or cannot be had.
    """
    if not is_repo_id(repo_id):
        raise HubError(masked(f"{repo_id!r} cannot be a model of the Hub: write owner/name."))
    wanted = wanted_model(repo_id, revision)
    with translated_errors(wanted):
        commit, sizes, private = sizes_at(wanted, token)
        # The client's cache has what another visitor may have been allowed to read. Conditions of gated repositories
        # hold for the files only.
        url = hf_hub_url(repo_id, WEIGHTS, revision=commit, endpoint=endpoint())
        get_hf_file_metadata(url, token=sent_token(token), timeout=TIMEOUT, endpoint=endpoint())
        if CONFIG not in sizes:
            raise HubError(f"{wanted.what} cannot be used, as it has no {CONFIG} that says what it is.")
        (file,) = download_files("model", repo_id, commit, [CONFIG], total=sizes[CONFIG], token=token)
        kind, config = read_config(wanted.what, file.read_bytes())
    files = sizes if kind == "run" else {WEIGHTS: sizes[WEIGHTS]}
    model = config.model
    return RemoteModel(
        repo_id,
        commit,
        kind,
        model.architecture,
        len(model.classes),
        sum(files.values()),
        private,
        config,
        files,
    )


def pull_run(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    root: Path | None = None,
    progress: Progress | None = None,
    hidden: bool = False,
) -> Run:
    """The run `root/owner.name`, made from a repository of the Hub.

    Where the same commit was pulled before, that run is returned, once the Hub has confirmed that it may be read with
    this token. Where the name is taken by something else, -2 and so on is added.

    Args:
        repo_id, revision, token: as in `describe_model`.
        root: the folder of the runs; None is this repository's `checkpoints/`.
        progress: called with (bytes there, bytes in all); what it raises ends the download and leaves no run.
        hidden: give the run of a private repository a name that nobody can guess, as others can ask for it by name.

    Raises:
        HubError: as `describe_model`, or if a file of it is not what it should be.
    """
    remote = describe_model(repo_id, revision=revision, token=token)
    root, source = root or CHECKPOINTS, Source(repo_id, remote.revision)
    there = next((run for run in _pulled(root) if run.source == source), None)
    if there is not None:
        return there
    names = _hidden_names(repo_id) if hidden and remote.private else folder_names(repo_id)
    wanted = wanted_model(repo_id, revision)
    with translated_errors(wanted):
        paths = download_files(
            "model", repo_id, remote.revision, list(remote.files), total=remote.bytes, token=token, progress=progress
        )
        files = dict(zip(remote.files, paths, strict=True))
        return install(wanted.what, files, remote.config, source, root, names)


def wanted_model(repo_id: str, revision: str | None, instead: str = "use a model that is on this machine") -> Wanted:
    """As messages speak of it. Raises HubError for what cannot be a revision."""
    if revision is not None and not is_revision(revision):
        raise HubError(masked(f"{revision!r} cannot be a revision: use a branch, a tag or a commit's 40 digits."))
    return Wanted(f"The model {repo_id}", repo_id, revision, instead)


def sizes_at(wanted: Wanted, token: str | None) -> tuple[str, dict[str, int], bool]:
    """(commit, bytes of each file of a run in a repository, whether it is private); no other file matters.

    Raises:
        HubError: if it has no safetensors, a file that is too large, or a file name that leads out of its folder.
    """
    what, repo_id = wanted.what, wanted.page
    info = hub_api(token).model_info(repo_id, revision=wanted.revision, files_metadata=True, timeout=TIMEOUT)
    assert info.sha is not None  # the Hub always says which commit it answered for
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    require_safe_names(what, sizes)
    if WEIGHTS not in sizes:
        raise HubError(f"{what} has no {WEIGHTS}, and other formats are not read, as they can run code.")
    if sizes[WEIGHTS] > MAX_BYTES:
        raise HubError(f"The {WEIGHTS} of {repo_id} has {sizes[WEIGHTS] / 1e9:.3g} GB, which cannot be right.")
    figures = [path for path in sizes if FIGURE_PATTERN.fullmatch(path)]
    if len(figures) > MAX_FIGURES:
        raise HubError(f"{what} cannot be used, as it has {len(figures)} figures, more than {MAX_FIGURES}.")
    limits = _LIMITS | dict.fromkeys(figures, _MAX_FIGURE_BYTES)
    for path, limit in limits.items():
        if sizes.get(path, 0) > limit:
            raise HubError(
                f"{what} cannot be used, as its {path} has {sizes[path] / 1e6:,.0f} MB, more than {limit / 1e6:.0f}."
            )
    kept = [path for path in (CONFIG, CARD, METRICS, EVALUATION, USUAL, *sorted(figures)) if path in sizes]
    return info.sha, {path: sizes[path] for path in (*kept, WEIGHTS)}, bool(info.private)


# From files to a run


def folder_names(repo_id: str) -> Iterator[str]:
    """The names that a repository's run may have, the best first: "owner.name", "owner.name-2", ..."""
    from resnet_space.hub.pretrained import is_pretrained

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
    """The runs that are from the Hub."""
    for file in sorted(root.glob(f"*/{SOURCE}")):
        try:
            yield Run.open(file.parent)
        except UserError:
            continue


def install(
    what: str, files: Mapping[str, Path], config: RunConfig, source: Source, root: Path, names: Iterator[str]
) -> Run:
    """Write a run in a folder of its own, and move it to its place once all of it was checked.

    Args:
        what: the sentence's subject, such as "The model ann/bees".
        files: the downloaded files by their names in the run.
        config: the run's.
        source: where they are from.
        root: the folder of the runs.
        names: for the run; the first that is free is taken.

    Raises:
        HubError: if a file is not what it should be. Then nothing is left behind.
    """
    root.mkdir(parents=True, exist_ok=True)
    name = next(names)
    with tempfile.TemporaryDirectory(dir=root, prefix=".pull-") as beside:
        path = Path(beside) / name
        path.mkdir()
        run = Run(path, config)
        run.write_config()
        run.write_source(source)
        _copy_weights(what, files[WEIGHTS], run)
        for file in files:
            if file not in (CONFIG, WEIGHTS):
                (path / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(files[file], path / file)
        _check_rest(what, run, files)
        path.chmod(0o755)
        while True:
            try:
                os.rename(path, root / name)
                return Run.open(root / name)
            except OSError:  # the name is taken, perhaps by another pull of the same that was quicker
                if not (root / name).exists():
                    raise
            taken = Run.open(root / name) if (root / name / CONFIG).exists() else None
            if taken is not None and taken.source == source:
                return taken
            name = next(names, "")
            if not name:
                raise HubError(
                    f"{taken.name if taken else path.name} on this machine is something else: rename it first."
                )


def _copy_weights(what: str, file: Path, run: Run) -> None:
    """All tensors and nothing else, once they are known to fit.

    BatchNorm's counters may be missing: older files have none, and inference does not use them.
    """
    import safetensors.torch

    name = what.removeprefix("The model ")
    try:
        weight_types(file, name)
        weights = safetensors.torch.load_file(file)
    except UserError as error:
        raise HubError(str(error)) from None
    except (SafetensorError, OSError) as error:
        with suppress(OSError):  # perhaps it is damaged only here: the cache has it behind a link
            file.resolve().unlink()
            file.unlink()
        raise HubError(f"The {WEIGHTS} of {name} is damaged ({error}): choose another, or try again.") from None
    counters = {
        name: value
        for name, value in run.config.model.build().state_dict().items()
        if name.endswith(".num_batches_tracked")
    }
    run.save_weights(counters | weights)
    try:
        model = run.load_model()
    except UserError as error:
        raise HubError(f"{what} cannot be used: {error}") from None
    state = model.state_dict()
    if not all(value.isfinite().all() for value in state.values()):
        raise HubError(f"{what} cannot be used, as its {WEIGHTS} has values that are not finite numbers.")
    if any(weights[name].dtype != value.dtype for name, value in state.items() if name in weights):
        run.save_weights(state)  # float16 and the like: everything here is float32


def _check_rest(what: str, run: Run, files: Mapping[str, Path]) -> None:
    if METRICS in files:
        require_valid_metrics(what, (run.path / METRICS).read_bytes(), evaluated=EVALUATION in files)
    try:
        load_evaluation(run)
        load_usual(run)
    except UserError as error:
        raise HubError(f"{what} cannot be used: {error}") from None
    for file in files:
        if FIGURE_PATTERN.fullmatch(file) and not (run.path / file).read_bytes().startswith(_PNG):
            raise HubError(f"{what} cannot be used, as its {file} is not a PNG.")
    if CARD in files:
        try:
            (run.path / CARD).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise HubError(f"{what} cannot be used, as its {CARD} is not UTF-8 text.") from None
