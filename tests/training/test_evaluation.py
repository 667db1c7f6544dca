import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.batches import normalise
from resnet_space.data.splits import ImageSet
from resnet_space.models import create_model
from resnet_space.runs import EVALUATION, WEIGHTS, Run
from resnet_space.training.evaluation import (
    ClassScore,
    Evaluation,
    confusion_matrix,
    evaluate_test,
    highest_losses,
    images_behind,
    load_evaluation,
    most_confused,
    most_probable,
    per_class,
    reliability,
    save,
    summary,
    wilson_interval,
)
from tests.networks import alive

SIZE = 8  # pixels
SEVEN = tuple("abcdefg")


class Reader(nn.Module):
    """Its logits stand in the image: the red values 0..255 of the first C pixels, times `scale`."""

    def __init__(self, classes: int, scale: float = 1 / 32) -> None:
        super().__init__()
        self.classes = classes
        self.scale = nn.Parameter(torch.tensor(scale))
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images[:, 0].flatten(1)[:, : self.classes] * self.scale


def plain_config(classes: Sequence[str]) -> ModelConfig:
    """With it the model sees the pixels as they are, 0..255."""
    return ModelConfig("resnet20", tuple(classes), image_size=SIZE, mean=(0, 0, 0), std=(1 / 255,) * 3)


def planted_images(
    n: int, classes: Sequence[str] = SEVEN, missing: Sequence[int] = (), dark: Sequence[int] = ()
) -> ImageSet:
    """Noise with labels, for `Reader`: right more often than by chance; no two logits of an image are equal.

    Classes in `missing` have no image, those in `dark` are never predicted.
    """
    random = np.random.default_rng(0)
    labels = random.choice([c for c in range(len(classes)) if c not in missing], n)
    images = random.integers(256, size=(n, SIZE, SIZE, 3), dtype=np.uint8)
    red = random.integers(1, 21, (n, len(classes)))
    red[np.arange(n), labels] += random.integers(0, 16, n)
    red[:, list(dark)] = 0
    images.reshape(n, SIZE * SIZE, 3)[:, : len(classes), 0] = 7 * red + np.arange(len(classes))
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), tuple(classes))


def logits_of(data: ImageSet, scale: float = 1 / 32) -> NDArray[np.float64]:
    """What `Reader` says to each image: [N, C]."""
    pixels = data.images[:, :, :, 0].flatten(1)[:, : len(data.classes)]
    return pixels.double().numpy() * scale


def evaluation_of(
    labels: Sequence[int],
    predicted: Sequence[int],
    confidences: Sequence[float] | None = None,
    losses: Sequence[float] | None = None,
    classes: int = 3,
) -> Evaluation:
    """By hand; the classes after the first are the others in order, the probabilities are nobody's concern."""
    n, k = len(labels), min(5, classes)
    top = np.array([[p, *(c for c in range(classes) if c != p)][:k] for p in predicted], dtype=np.int32)
    probabilities = np.zeros((n, k), dtype=np.float32)
    probabilities[:, 0] = 0.5 if confidences is None else confidences
    return Evaluation(
        np.array(labels, dtype=np.int32),
        top,
        probabilities,
        np.array(losses if losses is not None else [1.0] * n, dtype=np.float32),
        np.arange(n, dtype=np.int32),
        tuple(f"class {c}" for c in range(classes)),
    )


@pytest.fixture(scope="module")
def planted() -> Evaluation:
    """1,203 images: more than two batches. Class d is never predicted, f has no image, g has neither."""
    data = planted_images(1_203, missing=(5, 6), dark=(3, 6))
    return evaluate_test(Reader(7), data, plain_config(SEVEN))[0]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "a-run", RunConfig(plain_config(SEVEN)))


# From a model to what is kept


def test_of_every_image_the_best_classes_and_the_loss_are_kept() -> None:
    data = planted_images(1_203)
    model = Reader(7)
    evaluation, _ = evaluate_test(model, data, plain_config(SEVEN))
    logits = logits_of(data)
    labels = data.labels.numpy()
    probabilities = softmax(logits, axis=1)
    assert evaluation.labels.tolist() == labels.tolist()
    best = np.sort(probabilities, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(evaluation.probabilities, best, rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(probabilities, evaluation.top, axis=1), best, rtol=1e-5)
    assert all(len(set(classes)) == 5 for classes in evaluation.top.tolist())
    np.testing.assert_allclose(
        evaluation.losses, -log_softmax(logits, axis=1)[np.arange(1_203), labels], rtol=1e-5, atol=1e-6
    )
    assert evaluation.rows.tolist() == list(range(1_203))
    assert evaluation.classes == SEVEN
    assert len(evaluation) == 1_203
    assert [array.dtype for array in vars(evaluation).values() if isinstance(array, np.ndarray)] == [
        np.int32,
        np.int32,
        np.float32,
        np.float32,
        np.int32,
    ]
    assert sum(model.batches) == 1_203  # one pass
    assert max(model.batches) <= 500


def test_the_most_probable_are_in_order_also_where_their_probabilities_are_too_small_to_differ() -> None:
    logits = torch.tensor([[-900.0, 0.0, -1_600.0, -800.0, 1_000.0, -700.0, -850.0]])
    probabilities, indices = most_probable(logits)
    assert indices.tolist() == [[4, 1, 5, 3, 6]]
    assert probabilities.tolist() == [[1, 0, 0, 0, 0]]
    assert most_probable(logits[:, :3])[1].tolist() == [[1, 0, 2]]


def test_the_summary_agrees_with_references_that_see_all_probabilities() -> None:
    data = planted_images(1_203, missing=(5, 6), dark=(3, 6))
    _, numbers = evaluate_test(Reader(7), data, plain_config(SEVEN))
    logits = logits_of(data)
    labels = data.labels.numpy()
    probabilities = torch.from_numpy(softmax(logits, axis=1)).float()
    from torchmetrics.classification import MulticlassCalibrationError, MulticlassF1Score  # which takes 1 s

    calibration = MulticlassCalibrationError(7, n_bins=15, norm="l1")(probabilities, data.labels)
    f1 = MulticlassF1Score(7, average="macro")(probabilities, data.labels)
    assert numbers == pytest.approx(
        {
            "loss": -log_softmax(logits, axis=1)[np.arange(1_203), labels].mean(),
            "accuracy": (logits.argmax(1) == labels).mean(),
            "top5_accuracy": sklearn_metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(7)),
            "ece": calibration.item(),
            "macro_f1": f1.item(),
        },
        rel=1e-4,
    )
    assert 0.2 < numbers["accuracy"] < numbers["top5_accuracy"] < 1
    # Of the six classes with an image or a prediction, not of all seven.
    assert numbers["macro_f1"] == pytest.approx(
        sklearn_metrics.f1_score(labels, logits.argmax(1), average="macro"), abs=1e-6
    )
    assert all(type(value) is float for value in numbers.values())  # they go into JSON


def test_a_real_network_is_judged_in_eval_mode_and_left_in_it() -> None:
    model = alive(create_model("resnet20", 3)).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (9, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    config = ModelConfig("resnet20", ("a", "b", "c"), image_size=SIZE)
    data = ImageSet(images, torch.arange(9) % 3, config.classes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluation, numbers = evaluate_test(model, data, config)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # BatchNorm's too
    with torch.inference_mode():
        probabilities = model(normalise(images, config)).softmax(1)
    np.testing.assert_allclose(evaluation.confidence, probabilities.amax(1), rtol=1e-4)
    truth = probabilities[torch.arange(9), data.labels]
    np.testing.assert_allclose(evaluation.losses, -truth.log(), rtol=1e-4, atol=1e-5)
    assert numbers["loss"] == pytest.approx(-truth.log().mean().item(), rel=1e-4)


def test_equal_logits_give_one_prediction_everywhere() -> None:
    """Ties are common in bfloat16: the numbers must count the prediction that the page shows."""
    data = planted_images(60)
    data.images[:] = 0
    evaluation, numbers = evaluate_test(Reader(7), data, plain_config(SEVEN))
    right = (evaluation.predicted == data.labels.numpy()).mean()
    assert numbers["accuracy"] == pytest.approx(right)
    assert confusion_matrix(evaluation).trace() == round(right * 60)
    assert numbers["ece"] == pytest.approx(abs(right - 1 / 7), abs=1e-6)
    assert numbers["loss"] == pytest.approx(math.log(7))


@pytest.mark.parametrize("count", [2, 4, 5, 6])
def test_with_five_classes_or_fewer_all_are_kept_and_top_5_is_always_right(count: int) -> None:
    classes = SEVEN[:count]
    data = planted_images(200, classes)
    evaluation, numbers = evaluate_test(Reader(count), data, plain_config(classes))
    assert evaluation.top.shape == evaluation.probabilities.shape == (200, min(count, 5))
    expected = np.any(np.argsort(-logits_of(data), axis=1, kind="stable")[:, :5] == data.labels.numpy()[:, None], 1)
    assert numbers["top5_accuracy"] == pytest.approx(expected.mean())
    assert (numbers["top5_accuracy"] == 1) == (count <= 5)
    assert numbers["accuracy"] < 1
    if count <= 5:
        np.testing.assert_allclose(evaluation.probabilities.sum(1), 1, rtol=1e-5)


def test_images_on_disk_are_judged_as_those_in_memory(tmp_path: Path) -> None:
    whole = planted_images(1_100)
    file = np.memmap(tmp_path / "images", dtype=np.uint8, mode="w+", shape=tuple(whole.images.shape))
    file[:] = whole.images.numpy()
    chosen = torch.randperm(1_100, generator=torch.Generator().manual_seed(0))[:700]
    on_disk = ImageSet(torch.from_numpy(file), whole.labels, SEVEN, torch.arange(1_100)).subset(chosen)
    assert on_disk.rows is not None
    evaluation, numbers = evaluate_test(Reader(7), on_disk, plain_config(SEVEN))
    expected, expected_numbers = evaluate_test(Reader(7), whole.subset(chosen), plain_config(SEVEN))
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(evaluation, name), value, name)
    assert numbers == expected_numbers
    worst = highest_losses(evaluation, 1)
    (image,) = on_disk.pixels(torch.from_numpy(evaluation.rows[worst]).long())
    logits = image[:, :, 0].flatten()[:7].double().numpy() / 32
    label = evaluation.labels[worst[0]]
    assert evaluation.losses[worst[0]] == pytest.approx(-log_softmax(logits)[label], rel=1e-5)


def test_a_large_test_set_takes_52_bytes_an_image() -> None:
    random = np.random.default_rng(0)
    data = planted_images(100)
    evaluation, _ = evaluate_test(
        Reader(7), data.subset(torch.from_numpy(random.integers(0, 100, 5_000))), plain_config(SEVEN)
    )
    assert sum(value.nbytes for value in vars(evaluation).values() if isinstance(value, np.ndarray)) == 52 * 5_000


# Calibration


def ece_by_hand(confidences: Sequence[float], correct: Sequence[bool], bins: int) -> float:
    """Guo et al. 2017, equation 3, image by image."""
    total = 0.0
    for b in range(bins):
        members = [i for i, c in enumerate(confidences) if b / bins <= c < (b + 1) / bins or (c == 1 and b == bins - 1)]
        if members:
            accuracy = sum(correct[i] for i in members) / len(members)
            confidence = sum(confidences[i] for i in members) / len(members)
            total += len(members) / len(confidences) * abs(accuracy - confidence)
    return total


def test_the_calibration_error_is_the_one_computed_by_hand(planted: Evaluation) -> None:
    expected = ece_by_hand(planted.confidence.tolist(), planted.correct.tolist(), 15)
    assert expected > 0.02
    assert summary(planted)["ece"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_weighted_gaps_of_the_reliability_diagram_are_the_calibration_error(planted: Evaluation, bins: int) -> None:
    points = reliability(planted, bins)
    assert sum(count for _, _, count in points) == len(planted)
    assert all(count > 0 for _, _, count in points)
    gap = sum(abs(confidence - accuracy) * count for confidence, accuracy, count in points) / len(planted)
    assert gap == pytest.approx(ece_by_hand(planted.confidence.tolist(), planted.correct.tolist(), bins), abs=1e-6)
    if bins == 15:
        assert gap == pytest.approx(summary(planted)["ece"], abs=1e-5)


def test_a_model_that_is_right_as_often_as_it_is_sure_is_calibrated() -> None:
    evaluation = evaluation_of([0, 0, 0, 1, 2, 0], [0, 0, 0, 0, 2, 2], [0.75] * 4 + [0.5] * 2)
    assert summary(evaluation)["ece"] == pytest.approx(0, abs=1e-6)
    assert reliability(evaluation) == [(0.5, 0.5, 2), (0.75, 0.75, 4)]


def test_an_overconfident_model_is_off_by_its_overconfidence() -> None:
    evaluation = evaluation_of([0, 1] * 5, [0] * 10, [0.9] * 10)
    assert summary(evaluation)["ece"] == pytest.approx(0.4, abs=1e-6)
    (point,) = reliability(evaluation)
    assert point == pytest.approx((0.9, 0.5, 10))


def test_overconfidence_here_and_doubt_there_do_not_make_up_for_each_other() -> None:
    """3 images sure by 0.9 of which 1 is right, 1 image sure by 0.4 that is right."""
    evaluation = evaluation_of([0, 1, 1, 2], [0, 0, 0, 2], [0.9, 0.9, 0.9, 0.4])
    assert summary(evaluation)["ece"] == pytest.approx(3 / 4 * (0.9 - 1 / 3) + 1 / 4 * 0.6, abs=1e-6)


def test_full_confidence_shares_the_last_bin() -> None:
    evaluation = evaluation_of([0, 1], [0, 0], [0.96, 1])
    (point,) = reliability(evaluation)
    assert point == pytest.approx((0.98, 0.5, 2))
    assert summary(evaluation)["ece"] == pytest.approx(0.48, abs=1e-6)  # with a bin for 1 alone it would be 0.52


def test_a_confidence_on_an_edge_belongs_to_the_bin_above() -> None:
    evaluation = evaluation_of([0, 1, 0], [0, 0, 0], [0.25, 0.5, 0.75])
    assert reliability(evaluation, 2) == [(0.25, 1, 1), (0.625, 0.5, 2)]


# The interval of an accuracy


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 7), (95, 100), (9_312, 10_000)])
def test_the_interval_is_scipys_wilson_interval(correct: int, n: int, confidence: float) -> None:
    expected = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(correct, n, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1
    assert low < high


def test_without_images_any_accuracy_is_possible() -> None:
    assert wilson_interval(0, 0) == pytest.approx((0, 1))


# Which classes are confused


def test_the_confusion_matrix_is_scikit_learns(planted: Evaluation) -> None:
    matrix = confusion_matrix(planted)
    expected = sklearn_metrics.confusion_matrix(planted.labels, planted.predicted, labels=range(7))
    assert matrix.tolist() == expected.tolist()
    assert matrix[:, 3].sum() == matrix[5].sum() == 0  # d is never predicted, f has no image
    assert matrix[5].sum() == matrix[6].sum() == matrix[:, 6].sum() == 0
    assert matrix[:, 5].sum() > 0


def test_rows_of_the_confusion_matrix_are_true_and_columns_predicted() -> None:
    evaluation = evaluation_of([0, 0, 0, 2], [1, 1, 0, 1])
    assert confusion_matrix(evaluation).tolist() == [[1, 2, 0], [0, 0, 0], [0, 1, 0]]


def test_precision_recall_and_f1_are_scikit_learns(planted: Evaluation) -> None:
    expected = sklearn_metrics.precision_recall_fscore_support(
        planted.labels, planted.predicted, labels=range(7), zero_division=0
    )
    scores = per_class(planted)
    assert [score.name for score in scores] == list(SEVEN)
    for attribute, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        assert [getattr(score, attribute) for score in scores] == pytest.approx(values.tolist()), attribute
    assert scores[3].precision == scores[3].recall == 0 < scores[3].images
    assert scores[5].images == scores[5].f1 == 0
    assert scores[6] == ClassScore("g", 0, 0, 0, 0)


def test_scores_of_one_class_by_hand() -> None:
    """Class 1: 3 images, 2 of them found, 4 predictions."""
    scores = per_class(evaluation_of([1, 1, 1, 0, 2], [1, 1, 0, 1, 1]))
    assert scores[1] == ClassScore("class 1", 3, 0.5, pytest.approx(2 / 3), pytest.approx(4 / 7))


def test_tens_of_thousands_of_classes_need_no_matrix() -> None:
    c = 60_000  # their matrix would have 29 GB
    evaluation = evaluation_of([c - 1, c - 1, 7], [c - 2, c - 2, 7], classes=c)
    assert most_confused(evaluation) == [(c - 1, c - 2, 2)]
    assert per_class(evaluation)[7].f1 == 1
    assert summary(evaluation_of([0, 1], [0, 0], classes=1_000))["accuracy"] == 0.5


def test_the_most_frequent_errors_come_first_and_equal_ones_by_class(planted: Evaluation) -> None:
    matrix = sklearn_metrics.confusion_matrix(planted.labels, planted.predicted, labels=range(7))
    errors = [(t, p, int(matrix[t, p])) for t in range(7) for p in range(7) if t != p and matrix[t, p]]
    errors.sort(key=lambda error: -error[2])
    assert len(errors) > 20
    assert most_confused(planted) == errors[:20]
    assert most_confused(planted, 3) == errors[:3]
    assert most_confused(planted, 1_000) == errors
    assert all(type(value) is int for error in most_confused(planted) for value in error)


def test_a_model_without_errors_confuses_nothing() -> None:
    assert most_confused(evaluation_of([0, 1, 2], [0, 1, 2])) == []


# The images behind the numbers


def test_the_images_behind_an_error_are_all_of_it_the_surest_first(planted: Evaluation) -> None:
    true, predicted, count = most_confused(planted)[0]
    found = images_behind(planted, true, predicted).tolist()
    assert len(found) == len(set(found)) == count
    assert all(planted.labels[i] == true and planted.top[i, 0] == predicted for i in found)
    confidences = [planted.probabilities[i, 0] for i in found]
    assert confidences == sorted(confidences, reverse=True)


def test_images_behind_a_cell_by_hand() -> None:
    evaluation = evaluation_of([0, 0, 1, 0, 0], [1, 1, 1, 2, 1], [0.5, 0.9, 0.99, 0.8, 0.7])
    assert images_behind(evaluation, 0, 1).tolist() == [1, 4, 0]
    assert images_behind(evaluation, 1, 1).tolist() == [2]
    assert images_behind(evaluation, 2, 0).tolist() == []


def test_the_highest_losses_come_first() -> None:
    evaluation = evaluation_of([0] * 5, [0] * 5, losses=[0.1, 3, 0.2, 7, 3])
    assert highest_losses(evaluation).tolist() == [3, 1, 4, 2, 0]
    assert highest_losses(evaluation, 2).tolist() == [3, 1]


# The file


def test_an_evaluation_comes_back_from_the_runs_folder(planted: Evaluation, run: Run) -> None:
    assert load_evaluation(run) is None
    save(planted, run.path / EVALUATION)
    loaded = load_evaluation(run)
    assert loaded is not None
    for name, value in vars(planted).items():
        np.testing.assert_array_equal(getattr(loaded, name), value, name)
    assert (run.path / EVALUATION).stat().st_size < 53 * len(planted) + 1_000
    assert (run.path / EVALUATION).stat().st_mode & 0o777 == 0o644
    save(evaluation_of([0, 1], [0, 0], classes=7), run.path / EVALUATION)
    again = load_evaluation(run)
    assert again is not None
    assert len(again) == 2
    assert sorted(file.name for file in run.path.iterdir()) == ["config.json", "resume", EVALUATION]


def test_views_are_saved_as_the_numbers_they_show(run: Run) -> None:
    evaluation = evaluation_of([0, 1, 2, 3], [1, 1, 2, 0], [0.1, 0.2, 0.3, 0.4], classes=7)
    turned = replace(evaluation, top=np.asfortranarray(evaluation.top), labels=evaluation.labels[::-1])
    save(turned, run.path / EVALUATION)
    loaded = load_evaluation(run)
    assert loaded is not None
    assert loaded.top.tolist() == evaluation.top.tolist()
    assert loaded.labels.tolist() == [3, 2, 1, 0]


def refusal(run: Run) -> str:
    """The sentence with which a run's evaluation is refused."""
    with pytest.raises(UserError) as caught:
        load_evaluation(run)
    sentence = str(caught.value)
    assert sentence.startswith(f"The {EVALUATION} of a-run ")
    assert sentence.endswith(".")
    assert not sentence.endswith("..")
    assert "\n" not in sentence
    assert caught.value.__suppress_context__ or not caught.value.__context__  # nothing is shown of what was behind it
    return sentence


def test_a_damaged_file_is_refused_in_one_sentence(planted: Evaluation, run: Run) -> None:
    file = run.path / EVALUATION
    save(planted, file)
    content = file.read_bytes()
    damaged = (b"", content[:4], content[:100], content[:-1], b"\xff" * 8 + content[8:], b"no safetensors" * 10)
    for wrong in damaged:
        file.write_bytes(wrong)
        assert " cannot be read: " in refusal(run)
    file.unlink()
    file.mkdir()
    assert " cannot be read: " in refusal(run)


WRONG: dict[str, tuple[str, Any, str]] = {
    "a label that no class has": ("labels", [0, 7, 1], "labels must be from 0 to 6"),
    "a negative label": ("labels", [0, -1, 1], "labels must be from 0 to 6"),
    "a predicted class that does not exist": ("top", [[0, 1, 2, 3, 7]] * 3, "top must be from 0 to 6"),
    "a row before the first": ("rows", [0, 1, -1], "rows must be from 0 to 2147483647"),
    "probabilities above 1": ("probabilities", [[1.5, 0, 0, 0, 0]] * 3, "probabilities must be from 0 to 1"),
    "a probability that is no number": ("probabilities", [[math.nan] * 5] * 3, "probabilities must be from 0 to 1"),
    "a loss that is no number": ("losses", [1, math.nan, 1], "losses must be finite and not below 0"),
    "an infinite loss": ("losses", [1, math.inf, 1], "losses must be finite and not below 0"),
    "a negative loss": ("losses", [1, -0.5, 1], "losses must be finite and not below 0"),
    "fewer losses than images": ("losses", [1, 1], "losses is float32 [2] instead of float32 [3]"),
    "too few classes an image": ("top", [[0, 1, 2]] * 3, "top is int32 [3, 3] instead of int32 [3, 5]"),
    "labels of one image too many dimensions": ("labels", [[0, 1, 2]], "labels is int32 [1, 3] instead of int32 [3]"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_with_wrong_numbers_is_refused_with_what_is_wrong(run: Run, what: str) -> None:
    name, values, problem = WRONG[what]
    evaluation = evaluation_of([0, 1, 2], [0, 0, 0], classes=7)
    dtype = getattr(evaluation, name).dtype
    save(replace(evaluation, **{name: np.array(values, dtype=dtype)}), run.path / EVALUATION)
    assert refusal(run).endswith(f" does not match its classes: {problem}.")


def test_a_foreign_file_is_refused_with_what_is_wrong(planted: Evaluation, run: Run) -> None:
    file = run.path / EVALUATION
    run.save_weights({"conv1.weight": torch.zeros(3)})
    (run.path / WEIGHTS).rename(file)
    assert refusal(run).endswith(": it has conv1.weight instead of labels, top, probabilities, losses, rows.")

    save(planted, file)
    arrays = load_file(file)
    save_file(arrays | {"conv1.weight": np.zeros(3)}, file)
    assert refusal(run).endswith("instead of labels, top, probabilities, losses, rows.")
    save_file(arrays | {"labels": arrays["labels"].astype(np.float32)}, file)
    assert refusal(run).endswith(": labels is float32 [1203] instead of int32 [1203].")
    save_file(arrays | {"losses": arrays["losses"].astype(np.float16)}, file)
    assert refusal(run).endswith(": losses is float16 [1203] instead of float32 [1203].")
    save_file({name: array[:0] for name, array in arrays.items()}, file)
    assert refusal(run).endswith(": it has no images.")
    save_file(arrays | {"labels": np.array(1, dtype=np.int32)}, file)
    assert refusal(run).endswith(": labels is int32 [] instead of int32 [1].")


def test_a_file_in_a_precision_that_numpy_lacks_is_refused(planted: Evaluation, run: Run) -> None:
    from safetensors.torch import save_file as save_tensors

    save(planted, run.path / EVALUATION)
    tensors = {name: torch.from_numpy(array) for name, array in load_file(run.path / EVALUATION).items()}
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        save_tensors(tensors | {"losses": tensors["losses"].to(dtype)}, run.path / EVALUATION)
        refusal(run)


def test_an_evaluation_of_other_classes_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a-run", RunConfig(plain_config(("a", "b", "c"))))
    save(evaluation_of([0, 1, 2], [0, 0, 0], classes=7), run.path / EVALUATION)
    assert refusal(run).endswith(": top is int32 [3, 5] instead of int32 [3, 3].")


def test_what_was_kept_is_read_and_understood_without_torch() -> None:
    program = (
        "import sys, resnet_space.training.evaluation; print({'torch', 'torchmetrics', 'scipy'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout == "set()\n", result.stderr
