"""Evaluation on the test images: one pass over them, stored in the run's folder.

Stored for every image are its label, the most probable classes and its loss: enough for all metrics and error views, in
52 bytes per image, whatever the number of classes.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.runs import EVALUATION, Run, replaced_atomically
from resnet_space.runs.weights import array_problem

if TYPE_CHECKING:  # torch takes seconds to import, and an evaluation is read without it
    import torch
    from torch import nn

    from resnet_space.data.splits import ImageSet

TOP = 5  # classes stored of every image
BINS = 15  # of confidence, as in Guo et al. 2017


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The predictions of a model for N test images, with k = min(5, C) of the C classes for each.

    Attributes:
        labels: int32 [N], the true classes.
        top: int32 [N, k], the most probable classes, best first: the first is the prediction.
        probabilities: float32 [N, k], of these classes: the first is the confidence.
        losses: float32 [N], the cross-entropy in nats.
        rows: int32 [N], the images' rows in the files of the split that was evaluated.
        classes: the C names.
    """

    labels: NDArray[np.int32]
    top: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    losses: NDArray[np.float32]
    rows: NDArray[np.int32]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> NDArray[np.int32]:
        """The most probable class of each image: [N]."""
        return self.top[:, 0]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of that class: [N]."""
        return self.probabilities[:, 0]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether it is the true one: [N]."""
        return np.equal(self.predicted, self.labels)


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class against all others; 0 if the denominator is 0.

    Attributes:
        name: of the class.
        images: how many test images belong to it.
        precision: fraction of the images predicted as this class that belong to it.
        recall: fraction of its images that are predicted as this class.
        f1: the harmonic mean of the two.
    """

    name: str
    images: int
    precision: float
    recall: float
    f1: float


# From a model to its evaluation


def evaluate_test(
    model: "nn.Module",
    data: "ImageSet",
    config: ModelConfig,
    logits: "torch.Tensor | None" = None,
) -> tuple[Evaluation, dict[str, float]]:
    """Evaluate a model, which is left in eval mode, on all images of a set.

    Args:
        model: gives logits [n, C] for images [n, 3, H, W].
        data: the images; only their rows in the files are stored, or where those are not known their positions.
        config: the model's, for its preprocessing, classes and temperature: the probabilities are calibrated.
        logits: the model's for all images [N, C], where they are known already.

    Returns:
        The evaluation and its `summary`; with a temperature, "ece_uncalibrated" says what the error was without.
    """
    import torch

    from resnet_space.data.batches import evaluation_batches

    model.eval()
    device = next(model.parameters()).device
    parts, uncalibrated = list[tuple[torch.Tensor, ...]](), list[torch.Tensor]()
    with torch.inference_mode():
        batches = ((model(images), truth) for images, truth in evaluation_batches(data, config, device=device))
        for own, truth in batches if logits is None else [(logits, data.labels.to(logits.device))]:
            uncalibrated.append(own.float().softmax(1).amax(1))
            scaled = own.float() / config.temperature
            # They stay on the device until the end, so that not every batch waits for them.
            parts.append(_judged(scaled, truth))
    labels, top, probabilities, losses = (torch.cat(tensors).cpu().numpy() for tensors in zip(*parts, strict=True))
    rows = np.arange(len(data)) if data.source is None else data.source.cpu().numpy()
    evaluation = Evaluation(labels, top, probabilities, losses, rows.astype(np.int32), config.classes)
    scores = summary(evaluation)
    if config.temperature != 1:
        scores["ece_uncalibrated"] = calibration_error(torch.cat(uncalibrated).cpu().numpy(), evaluation.correct)
    return evaluation, scores


def evaluation_of(
    logits: "torch.Tensor", labels: "torch.Tensor", rows: "torch.Tensor", classes: tuple[str, ...]
) -> Evaluation:
    """From calibrated logits float32 [N, C], labels int64 [N] and rows int64 [N], on the CPU."""
    own, top, probabilities, losses = (tensor.numpy() for tensor in _judged(logits, labels))
    return Evaluation(own, top, probabilities, losses, rows.int().numpy(), classes)


def _judged(logits: "torch.Tensor", labels: "torch.Tensor") -> "tuple[torch.Tensor, ...]":
    """What an evaluation stores of calibrated logits [n, C]: labels, top, probabilities, losses."""
    import torch.nn.functional as F

    probabilities, top = most_probable(logits)
    return labels.int(), top.int(), probabilities, F.cross_entropy(logits, labels, reduction="none")


def most_probable(logits: "torch.Tensor", top: int = TOP) -> "tuple[torch.Tensor, torch.Tensor]":
    """Of calibrated logits [N, C]: probabilities and class indices [N, min(top, C)], the most probable first.

    In the order of the logits: those of an untrained network may be so far apart that all probabilities but one are 0.
    """
    indices = logits.topk(min(top, logits.shape[1])).indices
    return logits.softmax(1).gather(1, indices), indices


def summary(evaluation: Evaluation) -> dict[str, float]:
    """Summary metrics over all images.

    `loss` is the mean cross-entropy in nats; `accuracy` and `top5_accuracy` are shares of the images; `ece` is the
    expected calibration error, the mean distance of confidence from accuracy over `BINS` bins of equal width, weighted
    by their images (Guo et al. 2017, arXiv:1706.04599); `macro_f1` is the mean F1 over the classes that have an image
    or a prediction.
    """
    occurring = np.union1d(evaluation.labels, evaluation.predicted)
    scores = per_class(evaluation)
    return {
        "loss": float(evaluation.losses.mean(dtype=np.float64)),
        "accuracy": float(evaluation.correct.mean()),
        "top5_accuracy": float((evaluation.top == evaluation.labels[:, None]).any(1).mean()),
        "ece": calibration_error(evaluation.confidence, evaluation.correct),
        "macro_f1": fmean(scores[i].f1 for i in occurring),
    }


# The file


def save(evaluation: Evaluation, path: Path) -> None:
    """Write or replace the file, `EVALUATION` in a run's folder. The classes are not in it: the run has them."""
    # safetensors would write the memory of a view as if it were contiguous: other numbers, and no error.
    arrays = {name: np.ascontiguousarray(getattr(evaluation, name)) for name in _ARRAYS}
    with replaced_atomically(path) as file:
        save_file(arrays, file)
        file.chmod(0o644)  # safetensors keeps it from other users, who may serve the app


def load_evaluation(run: Run) -> Evaluation | None:
    """The run's evaluation, None before there is one.

    Raises:
        UserError: if the file is damaged, or is not an evaluation of this run's classes.
    """
    arrays = run.load_arrays(EVALUATION)
    if arrays is None:
        return None
    problem = _problem(arrays, len(run.config.model.classes))
    if problem:
        raise UserError(f"The {EVALUATION} of {run.name} does not match its classes: {problem}.")
    return Evaluation(**arrays, classes=run.config.model.classes)


_ARRAYS = tuple(field.name for field in fields(Evaluation) if field.name != "classes")


def _problem(arrays: dict[str, NDArray[Any]], classes: int) -> str:
    """Why arrays from a file, which may come from anyone, are not an evaluation; nothing if they are."""
    n, k = arrays["labels"].size if "labels" in arrays else 0, min(TOP, classes)
    shapes = {"labels": (n,), "top": (n, k), "probabilities": (n, k), "losses": (n,), "rows": (n,)}
    floats = ("probabilities", "losses")
    expected = {name: ("float32" if name in floats else "int32", shape) for name, shape in shapes.items()}
    if problem := array_problem(arrays, expected):
        return problem
    if not n:
        return "it has no images"
    # Written so that NaN fails too.
    for name, limit in (("labels", classes - 1), ("top", classes - 1), ("rows", 2**31 - 1), ("probabilities", 1)):
        if not (arrays[name].min() >= 0 and arrays[name].max() <= limit):
            return f"{name} must be from 0 to {limit}"
    if not (arrays["losses"].min() >= 0 and np.isfinite(arrays["losses"]).all()):
        return "losses must be finite and not below 0"
    return ""


# Metrics and views


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson confidence interval for the accuracy, if `correct` of `n` images are right.

    It stays within 0..1 and is wide enough for few images (Wilson 1927, doi:10.1080/01621459.1927.10502953). No images
    give (0, 1).
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = correct + z**2 / 2
    half = z * (correct * (n - correct) / max(n, 1) + z**2 / 4) ** 0.5
    return max((centre - half) / (n + z**2), 0.0), min((centre + half) / (n + z**2), 1.0)


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval for the difference of two accuracies on the same `n` images: the adjusted Wald
    interval for paired data of Bonett & Price (2012, doi:10.3102/1076998611411915).

    Only the second is right for `gained` of them, only the first for `lost`.
    """
    z = NormalDist().inv_cdf(0.975)
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = z * ((up + down - (up - down) ** 2) / (n + 2)) ** 0.5
    return max(up - down - half, -1.0), min(up - down + half, 1.0)


def confusion_matrix(evaluation: Evaluation) -> NDArray[np.int64]:
    """Counts of images by true class (row) and predicted class (column): [C, C]."""
    c = len(evaluation.classes)
    return np.bincount(_cells(evaluation), minlength=c * c).reshape(c, c)


def per_class(evaluation: Evaluation) -> list[ClassScore]:
    """The scores of every class, in the classes' order."""
    # Counted without the confusion matrix, which has gigabytes for tens of thousands of classes.
    images, predictions, hits = (
        np.bincount(classes, minlength=len(evaluation.classes))
        for classes in (evaluation.labels, evaluation.predicted, evaluation.labels[evaluation.correct])
    )
    shares = (
        hits / np.maximum(predictions, 1),
        hits / np.maximum(images, 1),
        2 * hits / np.maximum(images + predictions, 1),
    )
    return [
        ClassScore(*score)
        for score in zip(evaluation.classes, images.tolist(), *(share.tolist() for share in shares), strict=True)
    ]


def most_confused(evaluation: Evaluation, most: int = 20) -> list[tuple[int, int, int]]:
    """The most frequent errors: (true class, predicted class, images), most images first, then by class."""
    cells, counts = np.unique(_cells(evaluation)[~evaluation.correct], return_counts=True)
    chosen = np.argsort(-counts, kind="stable")[:most]
    true, predicted = np.divmod(cells[chosen], len(evaluation.classes))
    return list(zip(true.tolist(), predicted.tolist(), counts[chosen].tolist(), strict=True))


def most_mistaken(matrix: NDArray[np.int64], most: int) -> list[int]:
    """The classes of a confusion matrix [C, C], or of too many those with the most errors, in their order."""
    if len(matrix) <= most:
        return list(range(len(matrix)))
    errors = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
    worst: list[int] = sorted(np.argsort(-errors, kind="stable")[:most].tolist())
    return worst


def images_behind(evaluation: Evaluation, true: int, predicted: int) -> NDArray[np.intp]:
    """The images of class `true` predicted as `predicted`: positions [n], the most confident first."""
    members = np.flatnonzero((evaluation.labels == true) & (evaluation.predicted == predicted))
    return members[np.argsort(-evaluation.confidence[members], kind="stable")]


def highest_losses(evaluation: Evaluation, most: int = 24) -> NDArray[np.intp]:
    """The images with the highest losses: positions [n], the highest first."""
    return np.argsort(-evaluation.losses, kind="stable")[:most]


def reliability(evaluation: Evaluation, bins: int = BINS) -> list[tuple[float, float, int]]:
    """The reliability diagram: (mean confidence, accuracy, images) of each bin.

    The bins have equal width in 0..1, each with its lower edge and the last with both; empty ones are left out. `ece`
    is the mean distance of the first two, weighted by the third.
    """
    return _binned(evaluation.confidence, evaluation.correct, bins)


def calibration_error(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> float:
    """The expected calibration error, 0..1, of N predictions [N]: see `summary`."""
    gaps = [abs(accuracy - sure) * count for sure, accuracy, count in _binned(confidence, correct, BINS)]
    return sum(gaps) / len(confidence)


def _binned(confidence: NDArray[np.float32], correct: NDArray[np.bool_], bins: int) -> list[tuple[float, float, int]]:
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)[1:-1]
    numbers = np.searchsorted(edges, confidence, side="right")
    counts, sums, hits = (np.bincount(numbers, weights, minlength=bins) for weights in (None, confidence, correct))
    return [(float(sums[i] / counts[i]), float(hits[i] / counts[i]), int(counts[i])) for i in np.flatnonzero(counts)]


def _cells(evaluation: Evaluation) -> NDArray[np.int64]:
    """Each image's position in the flat confusion matrix: [N]."""
    return evaluation.labels.astype(np.int64) * len(evaluation.classes) + evaluation.predicted
