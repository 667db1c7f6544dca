import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from resnet_space.training.cross_validation import BLOCKS, LEAVE_ONE_OUT, MOST_FOLDS, folds_of
from resnet_space.training.extraction import Extracted
from resnet_space.training.solver import solve
from resnet_space.training.taught import STATISTICS_LEAST, learn

CLASSES = ("cup", "pen", "book")
WIDTH = 40


def shown(counts: tuple[int, ...], *, apart: float = 1.5, seed: int = 0) -> tuple[Extracted, list[int]]:
    """Pictures of each class around a direction of its own."""
    random = torch.Generator().manual_seed(seed)
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    features = torch.randn(len(labels), WIDTH, generator=random)
    features[torch.arange(len(labels)), torch.tensor(labels)] += apart * 4
    return Extracted(features, features[:, :12].clone()), labels


def alone(labels: list[int]) -> list[int | None]:
    return [None] * len(labels)


def by_sklearn(x: Tensor, y: Tensor, penalty: float) -> LogisticRegression:
    """The same head: sklearn minimises C * sum of losses + |w|^2 / 2, ours the mean + penalty / 2 |w|^2."""
    return LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=5_000).fit(x.numpy(), y.numpy())


def test_what_is_said_of_a_picture_comes_from_a_head_that_had_not_seen_it() -> None:
    known, labels = shown((6, 5, 7), apart=0.4)
    lesson = learn(known, labels, alone(labels), CLASSES)
    truth = torch.tensor(labels)
    expected = []
    for i in range(len(labels)):
        others = torch.arange(len(labels)) != i
        x = known.features[others]
        scale = float((x - x.mean(0)).square().mean().sqrt())
        head = by_sklearn((x - x.mean(0)) / scale, truth[others], lesson.head.penalty)
        expected.append(head.decision_function(((known.features[i : i + 1] - x.mean(0)) / scale).numpy())[0])
    ours = lesson.logits - lesson.logits.mean(1, keepdim=True)
    theirs = torch.tensor(np.array(expected)) - torch.tensor(np.array(expected)).mean(1, keepdim=True)
    torch.testing.assert_close(ours.double(), theirs.double(), atol=0.02, rtol=0.02)
    assert lesson.right == int((ours.argmax(1) == truth).sum())
    assert lesson.held_out.rows.tolist() == list(range(len(labels)))


def test_the_head_is_the_one_of_all_pictures_in_all_dimensions() -> None:
    known, labels = shown((9, 12, 10))
    lesson = learn(known, labels, alone(labels), CLASSES)
    (whole,) = solve(known.features, torch.tensor(labels), 3, [lesson.head.penalty])
    torch.testing.assert_close(
        lesson.head.logits(known.features).softmax(1), whole.logits(known.features).softmax(1), atol=2e-3, rtol=0
    )


def test_pictures_without_a_difference_are_not_said_to_be_recognised() -> None:
    """Although the head is right for most of what it learned from."""
    shares, own = [], []
    for seed in range(5):
        known, _ = shown((40,), seed=seed)
        labels = [i % 2 for i in range(40)]
        lesson = learn(known, labels, alone(labels), CLASSES[:2])
        own.append(lesson.accuracy)
        shares.append(lesson.right / 40)
    assert np.mean(own) > 0.8
    assert np.mean(shares) < 0.65


def test_confidence_is_what_pictures_that_were_left_out_allow() -> None:
    known, labels = shown((15, 15), apart=0.35, seed=3)
    lesson = learn(known, labels, alone(labels), CLASSES[:2])
    accuracy = lesson.right / len(labels)
    assert abs(float(lesson.held_out.confidence.mean()) - accuracy) < 0.15


def test_a_recording_is_left_out_as_a_whole() -> None:
    labels = [0, 0, 0, 0, 1, 1, 1]
    folds, alike = folds_of(labels, [7, 7, None, None, 8, 9, 8])
    assert folds[0] == folds[1]
    assert folds[4] == folds[6] != folds[5]
    assert len(set(folds.tolist())) == 5
    assert alike == ()


def test_frames_of_one_recording_do_not_vouch_for_one_another() -> None:
    """Each class has two recordings that look different: one says nothing of the other, all of its own frames."""
    random = torch.Generator().manual_seed(1)
    centres = 5 * torch.randn(4, WIDTH, generator=random)
    which = torch.arange(24) // 6
    features = centres[which] + 0.1 * torch.randn(24, WIDTH, generator=random)
    known, labels = Extracted(features, features), (which // 2).tolist()
    honest = learn(known, labels, which.tolist(), CLASSES[:2])
    naive = learn(known, labels, alone(labels), CLASSES[:2])
    assert naive.right == 24
    assert honest.right < 18


def test_the_only_recording_of_a_class_is_left_out_in_parts_and_named() -> None:
    labels = [0] * 8 + [1] * 4
    folds, alike = folds_of(labels, [5] * 8 + [None] * 4)
    assert alike == (0,)
    assert len(set(folds[:8].tolist())) == BLOCKS
    assert folds[:8].tolist() == sorted(folds[:8].tolist())


def test_the_only_picture_of_a_class_is_learned_from_and_not_judged() -> None:
    known, labels = shown((5, 5, 1))
    lesson = learn(known, labels, alone(labels), CLASSES)
    assert len(lesson.held_out) == 10
    assert lesson.head.weight.shape == (3, WIDTH)
    assert int(torch.tensor(lesson.look(known.features[10:]).probabilities).argmax()) == 2


@pytest.mark.parametrize(("count", "folds"), [(LEAVE_ONE_OUT, LEAVE_ONE_OUT), (LEAVE_ONE_OUT + 2, MOST_FOLDS)])
def test_few_pictures_are_left_out_one_by_one_and_more_in_equal_parts(count: int, folds: int) -> None:
    labels = [i // (count // 2) for i in range(count)]
    found, _ = folds_of(labels, alone(labels))
    assert len(set(found.tolist())) == folds
    for label in (0, 1):
        sizes = np.bincount(found[np.array(labels) == label], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_a_picture_that_is_like_none_is_called_so_and_the_nearest_is_named() -> None:
    known, labels = shown((20, 20), apart=3.0)
    lesson = learn(known, labels, alone(labels), CLASSES[:2])
    again = lesson.look(known.features[3:4] * 2)
    assert again.nearest == 3
    assert again.unlike < 1e-4
    stranger = torch.zeros(1, WIDTH)
    stranger[0, 30:] = -5.0
    assert lesson.look(stranger).unlike > 1
    others, _ = shown((50, 50), apart=3.0, seed=9)
    shares = [lesson.look(others.features[i : i + 1]).unlike > 1 for i in range(100)]
    assert np.mean(shares) < 0.2


def test_a_look_has_the_calibrated_probabilities() -> None:
    known, labels = shown((8, 8))
    lesson = learn(known, labels, alone(labels), CLASSES[:2])
    logits = known.features[:1] @ lesson.head.weight.T + lesson.head.bias
    expected = F.softmax(logits / lesson.temperature, 1)[0]
    torch.testing.assert_close(torch.tensor(lesson.look(known.features[:1]).probabilities), expected)


def test_feature_statistics_are_of_many_pictures_only() -> None:
    few, labels = shown((10, 10))
    assert learn(few, labels, alone(labels), CLASSES[:2]).statistics is None
    half = STATISTICS_LEAST // 2
    many, labels = shown((half, half))
    statistics = learn(many, labels, alone(labels), CLASSES[:2]).statistics
    assert statistics is not None
    others, _ = shown((200, 200), seed=5)
    assert np.mean(statistics.ood_score(others.means.numpy()) > 1) < 0.2
