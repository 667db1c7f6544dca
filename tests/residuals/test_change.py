"""What training changed: CKA against HSIC computed by hand, and what it must not depend on."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.models.contract import Backbone
from resnet_space.models.hooks import recorded
from resnet_space.residuals import changes, last, rank_trend
from resnet_space.residuals.change import hsic, layers_of
from tests.networks import alive

CONFIG = ModelConfig("resnet20", ("a", "b"), {"cbam": "stage"}, image_size=16)


def model(seed: int) -> Backbone:
    return alive(CONFIG.build(seed=seed)).eval()


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 3, 16, 16, generator=generator), torch.zeros(n).long()) for n in sizes]


def hsic_by_hand(k: Tensor, l: Tensor) -> float:  # noqa: E741
    """As Song et al. 2012, equation 4: means over all tuples of different images."""
    n = len(k)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    pairs = mean([float(k[i, j] * l[i, j]) for i, j in itertools.permutations(range(n), 2)])
    fours = mean([float(k[i, j] * l[q, r]) for i, j, q, r in itertools.permutations(range(n), 4)])
    threes = mean([float(k[i, j] * l[i, q]) for i, j, q in itertools.permutations(range(n), 3)])
    return pairs + fours - 2 * threes


def gram(features: Tensor) -> Tensor:
    return features.double() @ features.double().T


def test_the_unbiased_hsic_is_the_mean_over_all_tuples() -> None:
    generator = torch.Generator().manual_seed(1)
    k, l = (gram(torch.randn(7, 3, generator=generator)) for _ in range(2))  # noqa: E741
    assert float(hsic(k, l)) == pytest.approx(hsic_by_hand(k, l), rel=1e-9)
    assert float(hsic(k, k)) == pytest.approx(hsic_by_hand(k, k), rel=1e-9)


def test_the_unbiased_hsic_of_unrelated_features_is_zero_on_average() -> None:
    generator = torch.Generator().manual_seed(2)
    values = [float(hsic(*(gram(torch.randn(8, 4, generator=generator)) for _ in range(2)))) for _ in range(1_000)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 1_000**0.5


def test_cka_does_not_depend_on_a_rotation_a_shift_or_the_scale() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(20, 6, generator=generator).double()
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator).double())
    other = 3 * features @ rotation + 5

    def cka(one: Tensor, two: Tensor) -> float:
        k, l = gram(one), gram(two)  # noqa: E741
        return float(hsic(k, l) / (hsic(k, k) * hsic(l, l)).sqrt())

    assert cka(features, other) == pytest.approx(1, abs=1e-9)
    stretched = features * torch.tensor([10.0, 1, 1, 1, 1, 1])
    assert cka(features, stretched) < 0.95


def test_a_network_has_not_changed_from_itself_and_a_known_change_is_measured() -> None:
    before, after = model(0), model(0)
    same = last(changes(before, after, batches(8, 6)))
    assert same.cka.tolist() == pytest.approx([1.0] * len(same.layers))
    assert set(same.weights) == {0.0}
    assert same.images == 14
    with torch.no_grad():
        for name, parameter in after.named_parameters():
            if name.startswith("layer3.2."):
                parameter.mul_(1.5)
    found = last(changes(before, after, batches(8, 6)))
    moved = dict(zip(found.parts, found.weights, strict=True))
    assert moved.pop("layer3.2") == pytest.approx(0.5)
    assert set(moved.values()) == {0.0}
    features = dict(zip(found.layers, found.cka.tolist(), strict=True))
    assert features.pop("layer3.2") < 1 - 1e-4
    assert list(features.values()) == pytest.approx([1.0] * len(features))


def test_cka_is_summed_over_batches_and_the_networks_are_left_as_they_were() -> None:
    before, after = model(0), model(1)
    data = batches(6, 3, 5)  # the second is too small
    found = last(changes(before, after, data))
    assert found.images == 11
    sums = torch.zeros(3, dtype=torch.float64)
    for images, _ in (data[0], data[2]):
        outputs = []
        for network in (before, after):
            with torch.inference_mode(), recorded(network, {"layer3.2": lambda _, output: output.clone()}) as seen:
                network(images)
            outputs.append(gram(seen["layer3.2"][0].flatten(1)))
        k, l = outputs  # noqa: E741
        sums += torch.stack([hsic(k, l), hsic(k, k), hsic(l, l)])
    assert found.layers == ["stem", *(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3))]
    assert float(found.cka[-1]) == pytest.approx(float(sums[0] / (sums[1] * sums[2]).sqrt()), rel=1e-4)
    with pytest.raises(UserError, match="at least 4 images"):
        last(changes(before, after, batches(3)))
    other = ModelConfig("resnet32", ("a", "b"), image_size=16).build(seed=0)
    with pytest.raises(UserError, match="differ in their parameters"):
        last(changes(other, after, data))


def test_a_network_of_timm_has_layers_none_of_which_contains_another() -> None:
    network = ModelConfig("mobilenetv2_100", ("a", "b"), image_size=32).build(seed=0)
    modules = list(layers_of(network).values())
    assert len(modules) > 5
    assert not any(one.startswith(f"{other}.") for one in modules for other in modules)


def test_the_trend_is_spearmans_and_its_p_value_that_of_all_orders() -> None:
    values = [0.1, 0.3, 0.2, 0.5, 0.4, 0.9]
    found = rank_trend(values)
    assert found.correlation == pytest.approx(spearmanr(range(6), values).statistic)
    every = [spearmanr(range(6), order).statistic for order in itertools.permutations(range(6))]
    exact = np.mean([abs(one) >= abs(found.correlation) - 1e-12 for one in every])
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert rank_trend(list(range(12))).is_clear
    assert rank_trend(list(range(12))[::-1]).correlation == -1
    assert not rank_trend([1.0, 2.0]).is_clear
