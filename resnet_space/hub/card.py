"""The model card of a run: its `README.md` and the figures in it, generated from its configuration and metrics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_space.common.cost import cost_words
from resnet_space.common.errors import UserError
from resnet_space.common.text import markdown_text
from resnet_space.config import ModelConfig, TrainConfig
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import open_dataset
from resnet_space.explain.sanity import sanity_checks
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
from resnet_space.training.strategies import STRATEGIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = f"{FIGURES}/learning_curves.png"
CONFUSION = f"{FIGURES}/confusion_matrix.png"
RESIDUALS = f"{FIGURES}/residual_profile.png"
PROFILE_IMAGES = 64
MOST_CLASSES = 40  # in the figure of the confusion matrix
NAMED_CLASSES = 12

# The Hub's data set that a bundled one is a part of.
PART_OF = {"cifar10-mini": "uoft-cs/cifar10"}


def write_card(run: Run) -> None:
    """Write or replace the run's card and its figures."""
    for name, content in card_files(run).items():
        with replaced_atomically(run.path / name) as file:
            file.write_bytes(content)


def card_files(run: Run, *, repo_id: str | None = None, space: str | None = None) -> dict[str, bytes]:
    """The card and its figures, by their names in the run's folder.

    Args:
        run: trained or not.
        repo_id: where on the Hub it is, or will be: its own lines of Python then pull it.
        space: the Space to link to.
    """
    from resnet_space.plots import figures  # brings matplotlib

    metrics = run.metrics()
    files = {CURVES: figures.png(figures.learning_curves(metrics))}
    confusion = _confusion_figure(run)
    if confusion is not None:
        files[CONFUSION] = figures.png(confusion)
    if (run.path / RESIDUALS).exists():  # measured when it was trained, with images that may be gone by now
        files[RESIDUALS] = (run.path / RESIDUALS).read_bytes()
    elif (profile := _residual_figure(run, metrics)) is not None:
        files[RESIDUALS] = figures.png(profile)
    text = card_text(run, metrics, repo_id=repo_id, space=space, pictures=tuple(files))
    return files | {CARD: text.encode()}


def card_text(
    run: Run,
    metrics: list[Metric],
    *,
    repo_id: str | None = None,
    space: str | None = None,
    pictures: Sequence[str] = (CURVES,),
) -> str:
    """The card in Markdown, with the Hub's front matter; `pictures` are the names of the figures that there are."""
    test = last_metric(metrics, "test")
    sections = [
        f"# {run.name}",
        _model_words(run.config.model, last_metric(metrics, "start")),
        *_results(run, metrics, test),
        *_pictures(pictures),
        *_trust(run, metrics, test),
        "## Training",
        *_recipe(run.config.training, metrics, test),
        "## Limits",
        _limits(run, test),
        "## Use",
        _use(run, repo_id, space),
        *_origin(space),
    ]
    return f"---\n{_front_matter(run, test, repo_id)}\n---\n\n" + "\n\n".join(sections) + "\n"


# Front matter


def _front_matter(run: Run, test: Metric | None, repo_id: str | None) -> str:
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
    data = ModelCardData(
        library_name="resnet_space",
        pipeline_tag="image-classification",
        license="mit",
        tags=["resnet_space", "resnet", *(["cbam"] if run.config.model.cbam else [])],
        datasets=[dataset] if dataset else None,
        base_model=_base_model(run),
        model_name=repo_id.split("/")[-1] if repo_id else run.name,
        eval_results=results,
    )
    text: str = data.to_yaml(line_break="\n")
    return text.strip()


def _hub_dataset(name: str) -> str | None:
    """Its id on the Hub, if it is there."""
    return name if "/" in name else PART_OF.get(name)


def _base_model(run: Run) -> str | None:
    """The Hub's repository of the weights that it started from, if they are from there."""
    start = run.config.training.start
    if start is None:
        return None
    try:
        source = Run.open(run.path.parent / start).source
    except UserError:
        return None
    return source.repo_id if source is not None else None


# Text


def _model_words(model: ModelConfig, start: Metric | None) -> str:
    cbam = {None: "no CBAM", "stage": "CBAM after every stage", "block": "CBAM inside every block"}[model.cbam]
    parameters = f"{start['parameters']:,} parameters, " if start else ""
    classes = ", ".join(map(markdown_text, model.classes[:NAMED_CLASSES]))
    more = f" and {len(model.classes) - NAMED_CLASSES} more" if len(model.classes) > NAMED_CLASSES else ""
    return (
        f"{model.architecture} with {cbam}, {parameters}for {len(model.classes)} classes ({classes}{more}). It sees "
        f"images of {model.image_size} x {model.image_size} pixels."
    )


def _results(run: Run, metrics: list[Metric], test: Metric | None) -> list[str]:
    training = run.config.training
    epochs = [m for m in metrics if m["event"] == "epoch"]
    start = last_metric(metrics, "start")
    words = ["It was not trained to the end, so it was not tested."]
    if test:
        low, high = wilson_interval(round(test["accuracy"] * test["images"]), test["images"])
        words = [
            f"Top-1 accuracy **{test['accuracy']:.2%}** (95 % interval {low:.2%} to {high:.2%}) on the "
            f"{test['images']:,} {split_words(test['split'])} images of `{training.dataset}`, which took no part in "
            "training or in the choice of the epoch."
        ]
        if test.get("test_evaluations", 1) > 1:
            words.append(
                f"They were evaluated {test['test_evaluations']} times, as it was trained on after its test: "
                "if it was chosen by that, the accuracy is a little too good."
            )
        if "ece" in test:
            words.append(
                f"Top-5 accuracy {test['top5_accuracy']:.2%}, macro F1 {test['macro_f1']:.2%}, expected calibration "
                f"error {100 * test['ece']:.1f} points."
            )
    if epochs:
        best = max(epochs, key=lambda m: m["validation_accuracy"])
        images = f"{start['validation_images']} " if start else ""
        words.append(
            f"Best epoch: {best['epoch']} of {training.total_epochs}, with {best['validation_accuracy']:.2%} on the "
            f"{images}validation images."
        )
    return ["\n".join(words)]


def _pictures(names: Sequence[str]) -> list[str]:
    known = {
        CURVES: "Loss by iteration and accuracy by epoch",
        CONFUSION: "Confusion matrix of the test images: rows are true classes, columns predicted ones",
        RESIDUALS: "Residual profile: how much each block changes its input",
    }
    found = [f"![{words}]({name})" for name, words in known.items() if name in names]
    if RESIDUALS not in names:
        found.append("The residual profile is not here, as no images were at hand to measure it with.")
    return found


def _trust(run: Run, metrics: list[Metric], test: Metric | None) -> list[str]:
    """How far its confidence and its maps can be believed; nothing for a run from before that was measured."""
    calibration, checks = last_metric(metrics, "calibration"), sanity_checks(metrics)
    if calibration is None:
        return []
    words = (
        f"Its probabilities are calibrated: logits are divided by {calibration['temperature']:g} (`temperature` in "
        f"`config.json`), fitted on {calibration['images']:,} validation images, whose expected calibration error went "
        f"from {100 * calibration['ece_before']:.1f} to {100 * calibration['ece_after']:.1f} points"
    )
    if test and "ece_uncalibrated" in test:
        words += (
            f", and that of the {split_words(test['split'])} images from {100 * test['ece_uncalibrated']:.1f} to "
            f"{100 * test['ece']:.1f}"
        )
    lines = [f"{words}."]
    if run.existing(FEATURE_STATISTICS):
        lines.append(
            "A picture is called unusual where its features lie further from the training images' than those of 95 % "
            "of the validation images do; `feature_statistics.safetensors` has what is needed to tell."
        )
    sanity = [f"- {check.words}" for check in checks]
    about = "Do its maps depend on what it learned? (Adebayo et al. 2018, arXiv:1810.03292)"
    return ["## Confidence and maps", "\n".join(lines), *([f"{about}\n\n" + "\n".join(sanity)] if sanity else [])]


def _recipe(training: TrainConfig, metrics: list[Metric], test: Metric | None) -> list[str]:
    """The training in words: from what, on what, how, on which machine, and what it took."""
    start = last_metric(metrics, "start")
    beginning = f"from the weights of `{training.start}`" if training.start else "from random initialisation"
    epochs = f"{training.total_epochs} epoch{'' if training.total_epochs == 1 else 's'}"
    images = ""
    if start:
        images = f" ({start['train_images']:,} images to train with, {start['validation_images']:,} to choose by)"
    words = [f"{epochs} of `{training.dataset}`{images}, {beginning}, in batches of {training.batch_size}."]
    words.append(f"Strategy `{training.strategy}`: {STRATEGIES[training.strategy].summary}.")
    words.append(f"{_optimizer_words(training)} {_augmentation_words(training)} Seed {training.seed}.")
    hardware = f" on the {start['device'].upper()} in {start['precision']}" if start else ""
    if test:
        cost = cost_words(test["seconds"])
        words.append(f"It took {test['seconds'] / 60:.1f} minutes{hardware}{f', which cost {cost}' if cost else ''}.")
    phases = (start or {}).get("phases") or []
    lines = [_phase_line(i, phase) for i, phase in enumerate(phases, 1)]
    return [
        "\n".join(words),
        *(["\n".join(lines)] if lines else []),
        "`config.json` has all of it; `python -m resnet_space.train NEW_RUN --like THIS_RUN` repeats it.",
    ]


def _optimizer_words(training: TrainConfig) -> str:
    optimizer = f"SGD with Nesterov momentum {training.momentum:g}" if training.optimizer == "sgd" else "AdamW"
    words = f"{optimizer}, weight decay {training.weight_decay:g}, {training.schedule} schedule"
    words += f" with {training.warmup:.0%} warm-up" if training.schedule in ("cosine", "one-cycle") else ""
    extras = [
        f"label smoothing {training.label_smoothing:g}" if training.label_smoothing else "",
        f"gradients clipped at norm {training.clip_norm:g}" if training.clip_norm else "",
        f"a moving average of the weights, decay {training.ema:g}" if training.ema else "",
        f"early stopping after {training.patience} epochs without a better one" if training.patience else "",
    ]
    return "; ".join([words, *filter(None, extras)]) + "."


def _augmentation_words(training: TrainConfig) -> str:
    crop = f"random crops of images padded by {training.crop_padding} pixels"
    if training.crop == "resized":
        crop = f"random crops of at least {training.min_crop_area:.0%} of the area, resized"
    extras = [
        "half of them mirrored" if training.flip else "",
        f"MixUp with alpha {training.mixup:g}" if training.mixup else "",
        f"CutMix with alpha {training.cutmix:g}" if training.cutmix else "",
    ]
    return "Augmented by " + ", ".join([crop, *filter(None, extras)]) + "."


def _phase_line(number: int, phase: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{markdown_text(part)} {rate:g}" for part, rate in phase["rates"].items())
    epochs = f"{phase['epochs']} epoch{'' if phase['epochs'] == 1 else 's'}"
    return f"{number}. {epochs}; peak learning rates: {rates}. What is not named is frozen."


def _limits(run: Run, test: Metric | None) -> str:
    model = run.config.model
    tested = f"the {test['images']:,} images named above" if test else "no test images at all"
    return (
        f"It was tested on {tested} and on nothing else. It names one of its {len(model.classes)} classes for any "
        "picture, also for one of something else, and its confidence was measured on pictures like those that it was "
        f"trained with. Pictures are reduced to {model.image_size} x {model.image_size} pixels. Its attention maps are "
        "gates inside the network, not proof of why it decided."
    )


def _use(run: Run, repo_id: str | None, space: str | None) -> str:
    where = "the folder of resnet_space"
    if space:
        address = f"https://huggingface.co/spaces/{space}"
        where = f"a copy of [resnet_space]({address}), which `git clone {address}` makes"
    there, loaded = "from resnet_space.runs import Run", f'Run.open("{run.name}")'
    if repo_id:
        there, loaded = "from resnet_space.hub import pull_run", f'pull_run("{repo_id}")'
    return f"""In {where}:

```python
from PIL import Image
from resnet_space.inference import Classifier
{there}

print(Classifier({loaded}).predict(Image.open("picture.jpg").convert("RGB")))
```"""


def _origin(space: str | None) -> list[str]:
    return [f"Made with [resnet_space](https://huggingface.co/spaces/{space})."] if space else []


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
    """Measured on some test images; None where there are no weights, no shortcuts, or no images on this machine."""
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
