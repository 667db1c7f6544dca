"""ImageNet weights to start from: torchvision's, as timm's repositories on the Hub hold them, by names of their own.

Only `model.safetensors` is downloaded; the run has no metrics, as it was not trained here.
"""

from dataclasses import dataclass
from pathlib import Path

from resnet_space.common.hub_client import HubError, Progress, download_files, translated_errors
from resnet_space.common.imagenet import IMAGENET, imagenet_classes
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.hub.install import install, sizes_at, wanted_model
from resnet_space.runs import BACKBONE, WEIGHTS, Run, Source


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from; `name` is that of the run.

    `resize` is the short side in pixels that images are resized to before the centre crop to 224, as the weights were
    evaluated (the second version of torchvision's weights: 232).
    """

    name: str
    architecture: str
    resize: int

    @property
    def repo_id(self) -> str:
        return f"timm/{self.name}"

    @property
    def model(self) -> ModelConfig:
        classes, size = imagenet_classes(), 224
        return ModelConfig(
            self.architecture, classes, stem="imagenet", shortcut="projection", image_size=size, resize=self.resize
        )


PRETRAINED = tuple(
    Pretrained(f"{architecture}.{version}_in1k", architecture, resize)
    for version, resize, architectures in (
        ("tv", 256, ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")),
        ("tv2", 232, ("resnet50", "resnet101", "resnet152")),
    )
    for architecture in architectures
)


def pull_pretrained(
    name: str,
    root: Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """The run `root/name`, made from the Hub's weights; returned as it is, without a request, if it is there already.

    Args:
        name: of one of `PRETRAINED`.
        root: the folder of the runs.
        revision: branch, tag or commit of the repository.
        token: of who asks; the repositories are public.
        progress: called with (bytes there, bytes in all); what it raises ends the download and leaves no run.

    Raises:
        HubError: if the weights cannot be had, or do not fit.
        UserError: if a folder of that name is there, but is not a run.
    """
    chosen = next((known for known in PRETRAINED if known.name == name), None)
    if chosen is None:
        raise HubError(f"There are no weights {name!r}: choose one of {', '.join(known.name for known in PRETRAINED)}.")
    wanted = wanted_model(chosen.repo_id, revision, f"start from {BACKBONE}, which needs no network")
    if (root / name).exists():
        run = Run.open(root / name)
        if run.source is None or run.source.repo_id != chosen.repo_id:
            raise HubError(f"{name} on this machine is another model: rename or delete it first.")
        return run
    with translated_errors(wanted):
        commit, sizes, _ = sizes_at(wanted, token)
        (weights,) = download_files(
            "model", chosen.repo_id, commit, [WEIGHTS], total=sizes[WEIGHTS], token=token, progress=progress
        )
        config = RunConfig(chosen.model, TrainConfig(dataset=IMAGENET))
        return install(wanted.what, {WEIGHTS: weights}, config, Source(chosen.repo_id, commit), root, iter([name]))


def is_pretrained(name: str) -> bool:
    """Whether `pull_pretrained` knows this name."""
    return any(known.name == name for known in PRETRAINED)


def pretrained_model(name: str) -> ModelConfig:
    """The configuration of a known model, before its weights are here."""
    return next(known for known in PRETRAINED if known.name == name).model
