"""A learning curve is measured on pictures that were held out, and extended to twice as many."""

import numpy as np
import pytest
import torch
from torch import Tensor

from resnet_space.training import enough
from resnet_space.training.cross_validation import Examples, solved_out_of_fold
from resnet_space.training.enough import learning_curve


def drawn(count: int, seed: int = 0, width: int = 12, apart: float = 0.45) -> tuple[Tensor, Tensor]:
    """Features of three overlapping classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = apart * torch.randn(3, width, generator=torch.Generator().manual_seed(100))
    return centres[labels] + torch.randn(count, width, generator=generator), labels


def test_an_inverse_power_law_with_a_floor_is_found_and_extended() -> None:
    counts = np.array([25.0, 50, 100, 200, 400])
    errors = 0.1 + 2.0 * counts**-0.5
    assert enough._fitted(counts, errors, 800.0) == pytest.approx(0.1 + 2.0 * 800**-0.5, abs=1e-6)
    assert enough._fitted(counts, np.full(5, 0.3), 800.0) == pytest.approx(0.3)


@pytest.mark.long
def test_twice_as_many_pictures_do_as_well_as_was_predicted() -> None:
    inside = 0
    for seed in range(4):
        features, labels = drawn(200, seed)
        curve = learning_curve(Examples(features[:100], labels[:100], 3))
        assert curve is not None
        twice = learning_curve(Examples(features, labels, 3))
        assert twice is not None
        assert curve.predicted.pictures == twice.points[-1].pictures
        inside += curve.predicted.low <= twice.points[-1].accuracy <= curve.predicted.high
    assert inside >= 3


def test_accuracy_grows_and_the_sizes_double() -> None:
    features, labels = drawn(300)
    told: list[tuple[int, int]] = []
    curve = learning_curve(Examples(features, labels, 3), lambda done, total: told.append((done, total)))
    assert curve is not None
    assert [point.pictures for point in curve.points] == [15, 30, 60, 120, 240]
    assert curve.points[-1].accuracy > curve.points[0].accuracy
    assert all(point.low <= point.accuracy <= point.high for point in (*curve.points, curve.predicted))
    assert told[-1] == (told[-1][1], told[-1][1])
    solved = solved_out_of_fold(Examples(features, labels, 3))
    known = learning_curve(Examples(features, labels, 3), solved=solved)
    assert known is not None
    assert known.points == curve.points


def test_a_smaller_subset_is_part_of_a_larger_one_and_has_every_class() -> None:
    labels = torch.arange(90) % 3
    rows = torch.arange(90)
    small, large = (set(enough._nested(rows, labels, size, seed=1).tolist()) for size in (9, 40))
    assert small < large
    assert {int(labels[i]) for i in small} == {0, 1, 2}


def test_too_few_pictures_have_no_curve() -> None:
    features, labels = drawn(20)
    assert learning_curve(Examples(features, labels, 3)) is None
