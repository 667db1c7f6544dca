"""ImageNet weights as runs to start from: torchvision's, as timm's repositories on the Hub hold them.

Only `model.safetensors` is downloaded and nothing else is ever read: a pickle can run code. The names and shapes in it
must be the architecture's. The run has no metrics, as it was not trained here; `source.json` says where it is from.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.hub.client import (
    TIMEOUT,
    HubError,
    Progress,
    Wanted,
    download_files,
    hub_api,
    is_revision,
    translated_errors,
)
from resnet_space.runs import CONFIG, WEIGHTS, Run, RunError

SOURCE = "source.json"  # {"repo_id": ..., "revision": the commit}
MAX_BYTES = 1_000_000_000  # four times ResNet-152
SHIPPED = "resnet20-cbam-imagenet32"  # the checkpoint that is there without a network


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
        RunError: if a folder of that name is there, but is not a run.
    """
    chosen = next((known for known in PRETRAINED if known.name == name), None)
    if chosen is None:
        raise HubError(f"There are no weights {name!r}: choose one of {', '.join(known.name for known in PRETRAINED)}.")
    if revision is not None and not is_revision(revision):
        raise HubError(f"{revision!r} cannot be a revision: use a branch, a tag or a commit's 40 digits.")
    if (root / name).exists():
        return Run.open(root / name)
    what = f"The model {chosen.repo_id}"
    wanted = Wanted(what, chosen.repo_id, revision, f"start from {SHIPPED}, which needs no network")
    with translated_errors(wanted):
        info = hub_api(token).model_info(chosen.repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT)
        assert info.sha is not None  # the Hub always says which commit it answered for
        size = next((file.size or 0 for file in info.siblings or () if file.rfilename == WEIGHTS), None)
        if size is None:
            raise HubError(f"{what} has no {WEIGHTS}, and other formats are not read, as they can run code.")
        if size > MAX_BYTES:
            raise HubError(f"The {WEIGHTS} of {chosen.repo_id} has {size / 1e9:.3g} GB, which cannot be right.")
        (weights,) = download_files(
            "model", chosen.repo_id, info.sha, [WEIGHTS], total=size, token=token, progress=progress
        )
    return _make_run(chosen, weights, info.sha, root)


def _make_run(chosen: Pretrained, weights: Path, commit: str, root: Path) -> Run:
    """Write the run in a folder of its own, and move it to its place once its model has been loaded."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".pull-") as beside:
        path = Path(beside) / chosen.name
        path.mkdir()
        run = Run(path, RunConfig(_model_config(chosen), TrainConfig(dataset="ILSVRC/imagenet-1k")))
        _copy_weights(weights, run)
        try:
            run.load_model()
        except RunError as error:
            raise HubError(f"The model {chosen.repo_id} cannot be used: {error}") from None
        for file, content in (
            (SOURCE, {"repo_id": chosen.repo_id, "revision": commit}),
            (CONFIG, run.config.to_json()),
        ):
            (path / file).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        path.chmod(0o755)
        try:
            os.rename(path, root / chosen.name)
        except OSError:  # another one was quicker
            shutil.rmtree(path)
    return Run.open(root / chosen.name)


def _copy_weights(file: Path, run: Run) -> None:
    """As they are, but for BatchNorm's counters: older files have none, and inference does not use them."""
    import safetensors.torch

    from resnet_space.models import model_from_config

    try:
        weights = safetensors.torch.load_file(file)
    except (SafetensorError, OSError) as error:
        raise HubError(f"The {WEIGHTS} of timm/{run.name} is damaged ({error}): delete {file} and try again.") from None
    counters = {
        name: value
        for name, value in model_from_config(run.config.model).state_dict().items()
        if name.endswith(".num_batches_tracked")
    }
    run.save_weights(counters | weights)


def _model_config(chosen: Pretrained) -> ModelConfig:
    from torchvision.models import ResNet18_Weights

    classes = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]  # the same for all of them
    return ModelConfig(
        chosen.architecture,
        tuple(classes),
        stem="imagenet",
        shortcut="projection",
        image_size=224,
        resize=chosen.resize,
    )


def is_pretrained(name: str) -> bool:
    """Whether `pull_pretrained` knows this name."""
    return any(known.name == name for known in PRETRAINED)


def pretrained_model(name: str) -> ModelConfig:
    """The configuration of a known model, before its weights are here."""
    return _model_config(next(known for known in PRETRAINED if known.name == name))
