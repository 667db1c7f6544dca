"""ImageNet weights to start from: torchvision's, as stored in timm's repositories on the Hub.

Only `model.safetensors` is downloaded; the run has no metrics because it was not trained here.
"""

from pathlib import Path

from resnet_space.common.hub_client import HubError, Progress, download_files, translated_errors
from resnet_space.common.imagenet import IMAGENET
from resnet_space.config import ModelConfig, RunConfig, TrainConfig, imagenet_config
from resnet_space.hub.install import install, model_request, sizes_at
from resnet_space.models.registry import Pretrained, entries
from resnet_space.runs import BACKBONE, WEIGHTS, Run, Source

PRETRAINED = [known for entry in entries().values() for known in entry.pretrained]


def pull_pretrained(
    name: str,
    root: Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """The run `root/name`, created from the Hub's weights; an existing one is returned without a request.

    Args:
        name: of one of `PRETRAINED`.
        root: the folder of the runs.
        revision: branch, tag or commit of the repository.
        token: of the user; the repositories are public.
        progress: called with (bytes received, total bytes); an exception from it ends the download and leaves no run.

    Raises:
        HubError: if the weights cannot be downloaded or do not fit.
        UserError: if a folder of that name exists but is not a run.
    """
    chosen = next((known for known in PRETRAINED if known.name == name), None)
    if chosen is None:
        raise HubError(
            f"There are no pretrained weights named {name!r}: choose one of "
            f"{', '.join(known.name for known in PRETRAINED)}."
        )
    request = model_request(chosen.repo_id, revision, f"start from {BACKBONE}, which needs no network")
    if (root / name).exists():
        run = Run.open(root / name)
        if run.source is None or run.source.repo_id != chosen.repo_id:
            raise HubError(f"{name} on this machine is a different model: rename or delete it first.")
        return run
    with translated_errors(request):
        commit, sizes, _ = sizes_at(request, token)
        (weights,) = download_files(
            "model", chosen.repo_id, commit, [WEIGHTS], total=sizes[WEIGHTS], token=token, progress=progress
        )
        config = RunConfig(_model_config(chosen), TrainConfig(dataset=IMAGENET))
        return install(request.what, {WEIGHTS: weights}, config, Source(chosen.repo_id, commit), root, iter([name]))


def _model_config(chosen: Pretrained) -> ModelConfig:
    architecture = next(name for name, entry in entries().items() if chosen in entry.pretrained)
    return imagenet_config(architecture, resize=chosen.resize, mean=chosen.mean, std=chosen.std)


def is_pretrained(name: str) -> bool:
    """Whether `pull_pretrained` knows this name."""
    return any(known.name == name for known in PRETRAINED)


def pretrained_model(name: str) -> ModelConfig:
    """The configuration of a known model, before its weights are downloaded."""
    return _model_config(next(known for known in PRETRAINED if known.name == name))
