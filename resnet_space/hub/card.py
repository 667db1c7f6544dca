"""The model card of a run: its `README.md` and the figures in it, generated from its configuration and metrics."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_space.common.cost import cost_words
from resnet_space.common.errors import UserError
from resnet_space.common.imagenet import IMAGENET
from resnet_space.common.text import markdown_text
from resnet_space.config import TrainConfig
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import open_dataset
from resnet_space.explain.sanity import sanity_checks
from resnet_space.hub.licence import base_model, licence_of, notice_of
from resnet_space.hub.portable import is_in_timm
from resnet_space.runs import (
    CARD,
    FEATURE_STATISTICS,
    FIGURES,
    Metric,
    Run,
    last_metric,
    replaced_atomically,
    split_words,
)
from resnet_space.training.evaluation import confusion_matrix, load_evaluation, most_mistaken, wilson_interval
from resnet_space.training.robustness import load_robustness
from resnet_space.training.strategies import STRATEGIES

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure

CURVES = f"{FIGURES}/learning_curves.png"
CONFUSION = f"{FIGURES}/confusion_matrix.png"
RESIDUALS = f"{FIGURES}/residual_profile.png"
PICTURES = {
    CURVES: "Loss by iteration and accuracy by epoch",
    CONFUSION: "Confusion matrix on the test images: rows are true classes, columns are predicted classes",
    RESIDUALS: "Residual profile: how much each block changes its input",
}
TEMPLATE = "card.md.jinja"
PROFILE_IMAGES = 64
MOST_CLASSES = 40  # in the figure of the confusion matrix
NAMED_CLASSES = 12

# The Hub's dataset that a bundled one is a part of.
PART_OF = {"cifar10-mini": "uoft-cs/cifar10"}


def write_card(run: Run) -> None:
    """Write or replace the run's card and its figures."""
    for name, content in card_files(run).items():
        with replaced_atomically(run.path / name) as file:
            file.write_bytes(content)


def card_files(run: Run, *, repo_id: str | None = None, **about: str | None) -> dict[str, bytes]:
    """The card and its figures, by their names in the run's folder. The arguments are those of `card_text`."""
    from resnet_space.plots import figures  # brings matplotlib

    metrics = run.metrics()
    files = {} if _is_published(run, metrics) else {CURVES: figures.png(figures.learning_curves(metrics))}
    confusion = _confusion_figure(run)
    if confusion is not None:
        files[CONFUSION] = figures.png(confusion)
    if (run.path / RESIDUALS).exists():  # measured when it was trained, with images that may be gone by now
        files[RESIDUALS] = (run.path / RESIDUALS).read_bytes()
    elif (profile := _residual_figure(run, metrics)) is not None:
        files[RESIDUALS] = figures.png(profile)
    text = card_text(run, metrics, repo_id=repo_id, pictures=tuple(files), **about)
    return files | {CARD: text.encode()}


@cache
def _template() -> "jinja2.Template":
    import jinja2  # late: the trainer imports this module, and writes a card once

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), keep_trailing_newline=True)
    filters: dict[str, Callable[..., str]] = {
        "markdown": markdown_text,
        "percent": lambda share: f"{100 * share:.2f} %",
        "points": lambda share: f"{100 * share:.1f}",
    }
    environment.filters |= filters
    return environment.get_template(TEMPLATE)


def card_text(
    run: Run,
    metrics: list[Metric],
    *,
    repo_id: str | None = None,
    space: str | None = None,
    licence: str | None = None,
    needs: str | None = None,
    pictures: Sequence[str] = (CURVES,),
) -> str:
    """The card in Markdown, with the Hub's front matter.

    Args:
        run: trained or not.
        metrics: the run's.
        repo_id: its repository on the Hub, if any: the Python examples then load it from there.
        space: the Space to link to.
        licence: another one than the run's own.
        needs: the packages that the repository's `model.py` imports, if it has one.
        pictures: the names of the figures that there are.
    """
    training, test, start = run.config.training, last_metric(metrics, "test"), last_metric(metrics, "start")
    epochs = [metric for metric in metrics if metric["event"] == "epoch"]
    return _template().render(
        front_matter=_front_matter(run, test, repo_id, licence or licence_of(run)),
        name=run.name,
        model=run.config.model,
        options=run.config.model.entry.words(run.config.model.options),
        named_classes=NAMED_CLASSES,
        training=training,
        start=start,
        test=test,
        interval=wilson_interval(round(test["accuracy"] * test["images"]), test["images"]) if test else None,
        split=split_words(test["split"]) if test else "",
        cost=cost_words(test["seconds"]) if test else "",
        best=max(epochs, key=lambda m: (m["validation_accuracy"], -m.get("validation_loss", 0.0)), default=None),
        pictures=[(name, words) for name, words in PICTURES.items() if name in pictures],
        has_profile=RESIDUALS in pictures,
        calibration=last_metric(metrics, "calibration"),
        checks=sanity_checks(metrics),
        published=_is_published(run, metrics),
        notice=notice_of(run),
        robustness=load_robustness(run),
        statistics=FEATURE_STATISTICS if run.existing(FEATURE_STATISTICS) else "",
        strategy=STRATEGIES[training.strategy].summary,
        optimizer=_optimizer_words(training),
        augmentation=_augmentation_words(training),
        repo_id=repo_id,
        in_timm=is_in_timm(run.config.model),
        needs=needs,
        space=space,
        address=f"https://huggingface.co/spaces/{space}",
    )


# Front matter


def _front_matter(run: Run, test: Metric | None, repo_id: str | None, licence: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # which knows how to quote whatever a name has in it

    training = run.config.training
    dataset = _hub_dataset(training.dataset)
    results: list[EvalResult] | None = None
    if test is not None:
        common: dict[str, Any] = {
            "task_type": "image-classification",
            "dataset_type": dataset or training.dataset,
            "dataset_name": training.dataset,
            "dataset_config": training.dataset_config,
            "dataset_split": test["split"],
            "dataset_revision": training.dataset_revision,
        }
        scores = (
            ("accuracy", "accuracy", "Top-1 accuracy"),
            ("top5_accuracy", "top_5_accuracy", "Top-5 accuracy"),
            ("macro_f1", "f1", "Macro F1"),
            ("ece", "ece", "Expected calibration error"),
        )
        results = [
            EvalResult(metric_type=kind, metric_name=words, metric_value=round(test[name], 4), **common)
            for name, kind, words in scores
            if name in test
        ]
    base, in_timm = base_model(run), is_in_timm(run.config.model)
    tags = ["resnet_space", run.config.model.entry.family]
    tags += (["cbam"] if run.config.model.added_parts else []) + (["timm", "transformers"] if in_timm else [])
    data = ModelCardData(
        library_name="timm" if in_timm else "resnet_space",
        pipeline_tag="image-classification",
        license=licence,
        tags=tags,
        datasets=[dataset] if dataset else None,
        base_model=base,
        base_model_relation="finetune" if base else None,
        model_name=repo_id.split("/")[-1] if repo_id else run.name,
        eval_results=results,
    )
    text: str = data.to_yaml(line_break="\n")
    return text.strip()


def _is_published(run: Run, metrics: list[Metric]) -> bool:
    """Whether its weights are published ones, without further training."""
    return run.config.training.dataset == IMAGENET and not metrics


def _hub_dataset(name: str) -> str | None:
    """The dataset's id on the Hub, if it is there."""
    return name if "/" in name else PART_OF.get(name)


def _optimizer_words(training: TrainConfig) -> str:
    # If a solver was chosen, phases that are trained in steps use AdamW.
    optimizer = f"SGD with Nesterov momentum {training.momentum:g}" if training.optimizer == "sgd" else "AdamW"
    words = f"{optimizer}, weight decay {training.weight_decay:g}, {training.schedule} schedule"
    words += f" with {100 * training.warmup:.0f} % warm-up" if training.schedule in ("cosine", "one-cycle") else ""
    extras = [
        f"label smoothing {training.label_smoothing:g}" if training.label_smoothing else "",
        f"gradient clipping at norm {training.clip_norm:g}" if training.clip_norm else "",
        f"exponential moving average of the weights with decay {training.ema:g}" if training.ema else "",
        f"early stopping after {training.patience} epochs without improvement" if training.patience else "",
    ]
    return "; ".join([words, *filter(None, extras)]) + "."


def _augmentation_words(training: TrainConfig) -> str:
    crop = f"random crops after padding by {training.crop_padding} pixels"
    if training.crop == "resized":
        crop = f"random resized crops of at least {100 * training.min_crop_area:.0f} % of the area"
    extras = [
        "random horizontal flips" if training.flip else "",
        f"MixUp with alpha {training.mixup:g}" if training.mixup else "",
        f"CutMix with alpha {training.cutmix:g}" if training.cutmix else "",
    ]
    return "Augmentation: " + ", ".join([crop, *filter(None, extras)]) + "."


# Figures


def _confusion_figure(run: Run) -> "Figure | None":
    from resnet_space.plots import figures

    try:
        evaluation = load_evaluation(run)
    except UserError:
        return None
    if evaluation is None:
        return None
    matrix = confusion_matrix(evaluation)
    classes = most_mistaken(matrix, MOST_CLASSES)
    return figures.confusion(matrix[np.ix_(classes, classes)], [evaluation.classes[i] for i in classes])


def _residual_figure(run: Run, metrics: list[Metric]) -> "Figure | None":
    """Measured on some test images; None without weights, without shortcuts, or without images on this machine."""
    from resnet_space.plots import figures

    test, training = last_metric(metrics, "test"), run.config.training
    if test is None or not run.has_weights:
        return None
    try:
        data = open_dataset(DatasetRef.of(training), run.config.model.classes)
        evaluation = load_evaluation(run)
        if evaluation is None or not len(evaluation.rows):
            return None
        chosen = np.linspace(0, len(evaluation.rows) - 1, min(PROFILE_IMAGES, len(evaluation.rows)), dtype=int)
        found = read_images(data.files[test["split"]], evaluation.rows[chosen].tolist(), data.columns.image)
        pictures = [image for image in found if image is not None]
    except (UserError, KeyError, IndexError, OSError):
        return None
    if not pictures:
        return None
    from resnet_space.inference import Classifier
    from resnet_space.residuals import NoResidualBlocksError, residual_norms

    classifier = Classifier(run)
    try:
        norms = residual_norms(classifier.model, classifier.prepare(pictures))
    except NoResidualBlocksError:  # a plain network
        return None
    quartiles = np.quantile(norms.ratio.numpy(), (0.25, 0.5, 0.75), axis=1).T
    return figures.residual_profile(norms.blocks, norms.identity, quartiles.tolist(), len(pictures))
