"""Published weights to start from: safetensors on the Hub, or what torchvision downloads where the Hub has none.

Only the weights are downloaded; the run has no metrics because it was not trained here. Its notice has their licence,
which every run that starts from it takes over.
"""

import pickle
import re
import tempfile
from pathlib import Path

from resnet_space.common.hub_client import HubError, Progress, download_files, translated_errors
from resnet_space.common.imagenet import IMAGENET
from resnet_space.config import ModelConfig, RunConfig, TrainConfig, imagenet_config
from resnet_space.hub.install import install, model_request, model_shapes, repository_at, with_empty_head
from resnet_space.hub.licence import notice_text
from resnet_space.models.registry import Pretrained, entries, few
from resnet_space.runs import BACKBONE, NOTICE, WEIGHTS, Run, Source

TORCHVISION = "torchvision:"  # begins the `repo_id` of weights that torchvision downloads

PRETRAINED = [known for entry in entries().values() for known in entry.pretrained]


def pull_pretrained(
    name: str,
    root: Path,
    *,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """The run `root/name`, created from the Hub's weights; an existing one is returned without a request.

    Args:
        name: of one of `PRETRAINED`.
        root: the folder of the runs.
        revision: branch, tag or commit of the repository.
        progress: called with (bytes received, total bytes); an exception from it ends the download and leaves no run.

    Raises:
        HubError: if the weights cannot be downloaded or do not fit.
        UserError: if a folder of that name exists but is not a run.
    """
    chosen = next((known for known in PRETRAINED if known.name == name), None)
    if chosen is None:
        known_names = few([known.name for known in PRETRAINED])
        raise HubError(f"There are no pretrained weights named {name!r}: choose one of {known_names}.")
    request = model_request(chosen.repo_id, revision, f"start from {BACKBONE}, which needs no network")
    if (root / name).exists():
        run = Run.open(root / name)
        if run.source is None or run.source.repo_id != chosen.repo_id:
            raise HubError(f"{name} on this machine is a different model: rename or delete it first.")
        return run
    config = RunConfig(_model_config(chosen), TrainConfig(dataset=IMAGENET))
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder)
        if chosen.repo_id.startswith(TORCHVISION):
            weights, version = _from_torchvision(chosen, config.model, beside, progress)
        else:
            with translated_errors(request):
                there = repository_at(request, None)
                version, size = there.commit, there.sizes[WEIGHTS]
                (weights,) = download_files("model", chosen.repo_id, version, [WEIGHTS], total=size, progress=progress)
            weights = weights if chosen.head else with_empty_head(weights, config.model, beside)
        (beside / NOTICE).write_text(_notice(chosen), encoding="utf-8")
        files = {WEIGHTS: weights, NOTICE: beside / NOTICE}
        return install(request.what, files, config, Source(chosen.repo_id, version), root, iter([name]))


def _from_torchvision(
    chosen: Pretrained, model: ModelConfig, folder: Path, progress: Progress | None
) -> tuple[Path, str]:
    """(a safetensors file of torchvision's weights, the digits of their hash). torchvision compares the hash, and loads
    nothing but tensors; what only its own training needs is left out.
    """
    import safetensors.torch
    from torchvision.models import get_weight

    theirs = get_weight(chosen.repo_id.removeprefix(TORCHVISION))
    size = round(1e6 * theirs.meta["_file_size"])
    if progress is not None:
        progress(0, size)
    try:
        found = theirs.get_state_dict(progress=False, check_hash=True, weights_only=True, model_dir=str(folder))
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise HubError(f"{chosen.name} cannot be downloaded ({reason}): check your network, or try again.") from None
    except (RuntimeError, pickle.UnpicklingError):  # another hash, or more than tensors
        raise HubError(f"{chosen.name} cannot be used because the download is damaged: try again.") from None
    own = model_shapes(model)
    safetensors.torch.save_file({name: found[name].contiguous() for name in own if name in found}, folder / WEIGHTS)
    if progress is not None:
        progress(size, size)
    version = re.search(r"-([0-9a-f]{8,})\.", theirs.url)
    assert version is not None  # or torchvision could not have compared it
    return folder / WEIGHTS, version[1]


def _notice(chosen: Pretrained) -> str:
    """The origin and licence of the weights."""
    from_where = (
        f"torchvision's {chosen.repo_id.removeprefix(TORCHVISION)}"
        if chosen.repo_id.startswith(TORCHVISION)
        else f"https://huggingface.co/{chosen.repo_id}"
    )
    return notice_text(chosen.licence, f"{chosen.name}, trained on {chosen.trained_on}: {from_where}")


def _model_config(chosen: Pretrained) -> ModelConfig:
    architecture = next(name for name, entry in entries().items() if chosen in entry.pretrained)
    return imagenet_config(architecture, resize=chosen.resize, mean=chosen.mean, std=chosen.std)


def is_pretrained(name: str) -> bool:
    """Whether `pull_pretrained` knows this name."""
    return any(known.name == name for known in PRETRAINED)


def pretrained_model(name: str) -> ModelConfig:
    """The configuration of a known model, before its weights are downloaded."""
    return _model_config(next(known for known in PRETRAINED if known.name == name))
