import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from resnet_space.training.solver import PENALTIES, best_head, solve


def blobs(count: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping clouds of points around fixed centres, far from the origin and in no nice unit: [n, 12], [n]."""
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return 30 * (centres[labels] + 1.5 * torch.randn(count, 12, generator=generator)) + 100, labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("penalty", [1.0, 1e-2])
def test_a_solved_head_is_that_of_scikit_learn(classes: int, penalty: float) -> None:
    features, labels = blobs(200, classes, 1)
    (head,) = solve(features, labels, classes, [penalty])
    scaled = (features - features.mean(0)) / (features - features.mean(0)).square().mean().sqrt()
    halves = 2 if classes == 2 else 1  # its two classes share one weight, of which each of ours has a half
    reference = LogisticRegression(C=halves / (penalty * len(labels)), tol=1e-8, max_iter=10_000).fit(scaled, labels)
    other, _ = blobs(60, classes, 2)
    theirs = reference.predict_proba((other - features.mean(0)) / (features - features.mean(0)).square().mean().sqrt())
    assert head.logits(other).softmax(1).numpy() == pytest.approx(theirs, abs=2e-3)
    assert head.loss == pytest.approx(F.cross_entropy(head.logits(features), labels).item(), abs=1e-4)
    assert head.accuracy == pytest.approx((head.logits(features).argmax(1) == labels).float().mean().item())


def test_the_path_goes_from_the_strongest_penalty_to_the_weakest_and_fits_better_and_better() -> None:
    heads = list(solve(*blobs(200, 3, 1), 3))
    assert [head.penalty for head in heads] == list(PENALTIES) == sorted(PENALTIES, reverse=True)
    losses = [head.loss for head in heads]
    assert losses == sorted(losses, reverse=True)
    norms = [head.weight.norm().item() for head in heads]
    assert norms == sorted(norms)


def test_the_head_of_the_least_loss_on_other_images_is_chosen() -> None:
    heads = list(solve(*blobs(60, 3, 1), 3))
    features, labels = blobs(300, 3, 2)
    chosen = best_head(heads, features, labels)
    losses = [F.cross_entropy(head.logits(features), labels).item() for head in heads]
    assert heads.index(chosen) == int(np.argmin(losses))
    assert 0 < heads.index(chosen) < len(heads) - 1  # neither nothing nor everything is learned of so few images


def test_a_class_without_images_and_features_that_are_all_the_same_are_no_trouble() -> None:
    features, labels = blobs(40, 2, 1)
    *_, head = solve(features, labels, 3)
    assert not (head.logits(features).argmax(1) == 2).any()
    for head in solve(torch.ones(10, 4), torch.arange(10) % 2, 2):
        assert head.logits(torch.ones(1, 4)).softmax(1).tolist() == [pytest.approx([0.5, 0.5], abs=1e-3)]


def test_smoothed_labels_make_a_head_less_sure() -> None:
    features, labels = blobs(200, 3, 1)
    plain, smoothed = (next(solve(features, labels, 3, [1e-3], smoothing=share)) for share in (0.0, 0.2))
    sure = [head.logits(features).softmax(1).amax(1).mean().item() for head in (plain, smoothed)]
    assert sure[1] < sure[0] - 0.05
