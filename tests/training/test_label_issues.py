"""The share of wrong labels is estimated well, however sure or unsure the network is."""

import numpy as np
import pytest
import torch
from torch import Tensor

from resnet_space.training.label_issues import LabelNoise, find_label_noise


def simulated(share: float, sharpness: float, count: int = 3_000, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Logits twice too sure, labels drawn from what they should be, of which a share is replaced by another class; and
    which.
    """
    generator = torch.Generator().manual_seed(0)
    logits = sharpness * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    wrong = torch.rand(count, generator=generator) < share
    other = torch.randint(1, classes, (count,), generator=generator)
    return 2 * logits, torch.where(wrong, (labels + other) % classes, labels), wrong


@pytest.mark.parametrize("sharpness", [2.0, 5.0])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_the_share_lies_in_its_interval(share: float, sharpness: float) -> None:
    logits, labels, _ = simulated(share, sharpness)
    noise = find_label_noise(logits, labels)
    low, high = noise.interval
    assert low <= max(share, 1e-3) <= high
    assert low <= noise.share <= high
    assert high - low < 0.1


def test_the_probabilities_are_calibrated_and_the_other_class_is_suggested() -> None:
    logits, labels, wrong = simulated(0.1, 5.0)
    noise = find_label_noise(logits, labels)
    assert np.isclose(noise.wrong.sum(), int(wrong.sum()), rtol=0.15)
    sure = noise.wrong > 0.9
    assert float(wrong.numpy()[sure].mean()) > 0.85
    assert not (noise.suggested == labels.numpy()).any()
    likeliest = logits.argmax(1)
    differs = likeliest != labels
    assert (noise.suggested[differs.numpy()] == likeliest[differs].numpy()).all()


def test_the_order_is_that_of_self_confidence() -> None:
    """Northcutt et al. 2021, section 4.2: the probability of the given label, the smallest first."""
    logits, labels, _ = simulated(0.05, 3.0, count=500)
    noise = find_label_noise(logits, labels)
    ours = np.argsort(-noise.wrong, kind="stable")

    def confidence(temperature: float) -> np.ndarray:
        return (logits / temperature).softmax(1)[torch.arange(500), labels].double().numpy()

    assert (np.diff(confidence(noise.temperature)[ours]) >= -1e-6).all()


def test_labels_that_fit_perfectly_are_not_suspected() -> None:
    labels = torch.arange(300) % 3
    noise = find_label_noise(20.0 * torch.eye(3)[labels], labels)
    assert noise.share < 1e-3
    assert noise.wrong.max() < 0.01
    assert isinstance(noise, LabelNoise)
