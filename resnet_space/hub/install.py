"""Turn the files of an untrusted repository into a run: select the files, limit their size, check that they fit.

Weights are only accepted as safetensors because a pickle can run code. The run appears once it is checked and its model
is loaded.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import TIMEOUT, HubError, HubRequest, hub_api, is_revision
from resnet_space.common.tokens import masked
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.explain.ood import load_feature_statistics
from resnet_space.hub.checks import require_safe_names, require_valid_metrics
from resnet_space.hub.licence import stated_licence
from resnet_space.runs import (
    CARD,
    CONFIG,
    EVALUATION,
    FEATURE_STATISTICS,
    FIGURE_PATTERN,
    METRICS,
    NOTICE,
    WEIGHTS,
    Run,
    Source,
    names_of,
    present_name,
)
from resnet_space.runs.weights import weight_types
from resnet_space.training.evaluation import load_evaluation

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 1_000_000_000  # of the weights: four times ResNet-152
MAX_FIGURES = 20
_LIMITS = {
    CONFIG: 5_000_000,
    CARD: 1_000_000,
    NOTICE: 1_000_000,
    METRICS: 20_000_000,
    EVALUATION: 200_000_000,
    **dict.fromkeys(names_of(FEATURE_STATISTICS), 20_000_000),
}
_MAX_FIGURE_BYTES = 5_000_000

_PNG = b"\x89PNG\r\n\x1a\n"


def model_request(repo_id: str, revision: str | None, instead: str = "use a model on this machine") -> HubRequest:
    """The request as messages describe it. Raises HubError for an invalid revision."""
    if revision is not None and not is_revision(revision):
        raise HubError(
            masked(f"{revision!r} is not a valid revision: use a branch, a tag or a full commit hash of 40 digits.")
        )
    return HubRequest(f"The model {repo_id}", repo_id, revision, instead)


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        commit: 40 hexadecimal digits.
        sizes: bytes of each file of a run; no other file matters.
        private: whether access is restricted.
        licence: that its card states; "unknown" if it states none.
    """

    commit: str
    sizes: dict[str, int]
    private: bool
    licence: str


def repository_at(request: HubRequest, token: str | None) -> Repository:
    """What a repository has.

    Raises:
        HubError: if it has no safetensors, a file that is too large, or a file name that points outside its folder.
    """
    what, repo_id = request.what, request.page
    info = hub_api(token).model_info(repo_id, revision=request.revision, files_metadata=True, timeout=TIMEOUT)
    assert info.sha is not None  # the Hub always says which commit it answered for
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    require_safe_names(what, sizes)
    if WEIGHTS not in sizes:
        raise HubError(f"{what} has no {WEIGHTS}, and other formats are not loaded because they can run code.")
    if sizes[WEIGHTS] > MAX_BYTES:
        raise HubError(f"The {WEIGHTS} of {repo_id} has {sizes[WEIGHTS] / 1e9:.3g} GB, which is not plausible.")
    figures = [path for path in sizes if FIGURE_PATTERN.fullmatch(path)]
    if len(figures) > MAX_FIGURES:
        raise HubError(f"{what} cannot be used because it has {len(figures)} figures, more than {MAX_FIGURES}.")
    limits = _LIMITS | dict.fromkeys(figures, _MAX_FIGURE_BYTES)
    for path, limit in limits.items():
        if sizes.get(path, 0) > limit:
            raise HubError(
                f"{what} cannot be used because its {path} has {sizes[path] / 1e6:,.0f} MB, more than "
                f"{limit / 1e6:.0f}."
            )
    statistics = next((name for name in names_of(FEATURE_STATISTICS) if name in sizes), "")
    wanted_files = (CONFIG, CARD, NOTICE, METRICS, EVALUATION, statistics, *sorted(figures), WEIGHTS)
    wanted = {path: sizes[path] for path in wanted_files if path in sizes}
    licence = stated_licence(info.card_data.license if info.card_data else None)
    return Repository(info.sha, wanted, bool(info.private), licence)


def install(
    what: str, files: Mapping[str, Path], config: RunConfig, source: Source, root: Path, names: Iterator[str]
) -> Run:
    """Write a run to a temporary folder, and move it into place once it is checked.

    Args:
        what: the sentence's subject, such as "The model ann/bees".
        files: the downloaded files by their names in the run.
        config: the run's.
        source: their origin.
        root: the folder of the runs.
        names: for the run; the first free one is used.

    Raises:
        HubError: if a file is invalid. Then nothing is left behind.
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
                shutil.copyfile(files[file], path / present_name(file))
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
                    f"{taken.name if taken else path.name} already exists on this machine and is something "
                    "else: rename it first."
                )


def with_empty_head(weights: Path, model: ModelConfig, folder: Path) -> Path:
    """The weights with a classifier of zeros, in place of whatever they have: `Classifier` refuses to predict with it.

    A file that cannot be read is given back as it is, for whoever installs it to refuse.
    """
    import safetensors.torch
    import torch

    try:
        tensors = safetensors.torch.load_file(weights)
    except (SafetensorError, OSError):
        return weights
    head = f"{model.entry.head}."
    empty = {name: torch.zeros(value.shape) for name, value in model_shapes(model).items() if name.startswith(head)}
    safetensors.torch.save_file(tensors | empty, folder / WEIGHTS)
    return folder / WEIGHTS


def model_shapes(model: ModelConfig) -> "dict[str, Tensor]":
    """The tensors of a model, without memory."""
    import torch

    with torch.device("meta"):
        return model.build_unfilled().state_dict()


def _copy_weights(what: str, file: Path, run: Run) -> None:
    """Copy all tensors and nothing else, after checking that they fit.

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
        raise HubError(f"The {WEIGHTS} of {name} is damaged ({error}): choose another model, or try again.") from None
    counters = {
        name: value
        for name, value in run.config.model.build_unfilled().state_dict().items()
        if name.endswith(".num_batches_tracked")
    }
    run.save_weights(counters | weights)
    try:
        model = run.load_model()
    except UserError as error:
        raise HubError(f"{what} cannot be used: {error}") from None
    state = model.state_dict()
    if not all(value.isfinite().all() for value in state.values()):
        raise HubError(f"{what} cannot be used because its {WEIGHTS} contains values that are not finite.")
    if any(weights[name].dtype != value.dtype for name, value in state.items() if name in weights):
        run.save_weights(state)  # float16 and the like: everything here is float32


def _check_rest(what: str, run: Run, files: Mapping[str, Path]) -> None:
    if METRICS in files:
        require_valid_metrics(what, (run.path / METRICS).read_bytes(), evaluated=EVALUATION in files)
    try:
        load_evaluation(run)
        load_feature_statistics(run)
    except UserError as error:
        raise HubError(f"{what} cannot be used: {error}") from None
    for file in files:
        if FIGURE_PATTERN.fullmatch(file) and not (run.path / file).read_bytes().startswith(_PNG):
            raise HubError(f"{what} cannot be used because its {file} is not a PNG.")
    for text in {CARD, NOTICE} & set(files):
        try:
            (run.path / text).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise HubError(f"{what} cannot be used because its {text} is not UTF-8 text.") from None
