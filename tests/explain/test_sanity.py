import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from resnet_space.explain.attention import attention_maps
from resnet_space.explain.saliency import class_maps
from resnet_space.explain.sanity import (
    GATES,
    SanityCheck,
    _maps,
    _rank_correlation,
    sanity_check,
    sanity_checks,
    sanity_metric,
)
from resnet_space.models import Backbone, ResNet, create_model
from tests.networks import alive

PARTS = ("head", "layer3", "layer2", "layer1", "stem")


@pytest.fixture(scope="module")
def model() -> Backbone:
    torch.manual_seed(0)
    return alive(create_model("resnet20", 6, cbam="stage"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("method", ["grad-cam", "ablation-cam", GATES])
def test_parts_become_random_from_the_head_down_and_the_model_stays(
    model: ResNet, images: torch.Tensor, method: str
) -> None:
    before = copy.deepcopy(model.state_dict())
    (check,) = sanity_check(model, images, [method])
    assert check.parts == PARTS
    assert check.images == 4
    assert all(-1 <= correlation <= 1 for correlation in check.correlations)
    assert check in sanity_check(model, images, [GATES, method])  # the same again, beside another
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_gate_does_not_depend_on_the_head_and_a_class_map_does(model: ResNet, images: torch.Tensor) -> None:
    of_gates, of_classes = sanity_check(model, images, [GATES, "grad-cam"])
    assert of_gates.correlations[0] == 1
    assert of_classes.correlations[0] < 0.9
    assert abs(of_classes.correlations[-1]) < 0.5


def test_the_maps_are_those_that_are_shown(model: ResNet, images: torch.Tensor) -> None:
    classes = [3, 0, 5, 1]
    found = _maps(model, images, classes, "grad-cam")
    for image, c, raw in zip(images, classes, found, strict=True):
        np.testing.assert_allclose(raw, class_maps(model, image[None], [c]).raw[0], rtol=1e-4, atol=1e-6)
    gates = attention_maps(model, images).spatial["cbam3"].numpy()
    np.testing.assert_array_equal(_maps(model, images, classes, GATES), gates)


def test_equal_values_share_their_rank_and_a_map_without_contrast_correlates_with_nothing() -> None:
    a, b = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 0], [1, 2]])  # the ranks of b are 1.5, 1.5, 3 and 4
    assert _rank_correlation(a, b) == pytest.approx(4.5 / (5 * 4.5) ** 0.5)
    assert _rank_correlation(a, np.zeros((2, 2))) == 0


def test_the_correlation_is_that_of_scipy() -> None:
    a, b = np.random.default_rng(0).integers(0, 9, (2, 4, 7, 7)).astype(np.float32)  # many are equal
    assert _rank_correlation(a, a + b) == pytest.approx(spearmanr(a, a + b, axis=None).statistic)


def test_the_words_say_what_the_number_means() -> None:
    learned = SanityCheck("grad-cam", PARTS, (0.4, 0.3, 0.2, 0.1, 0.08), 16)
    assert learned.passed
    assert "0.08" in learned.words
    assert "depend on what the model learned" in learned.words
    edges = SanityCheck(GATES, PARTS, (1.0, 0.9, 0.9, 0.8, 0.71), 16)
    assert not edges.passed
    assert "show the picture, not the model" in edges.words
    assert "the same for every class" in edges.words


def test_the_last_check_of_each_method_is_read_back_from_the_metrics() -> None:
    old, new, gates = (
        SanityCheck(method, PARTS, (0.5,) * 4 + (last,), 16)
        for method, last in (("grad-cam", 0.9), ("grad-cam", 0.1), (GATES, 0.2))
    )
    metrics = [{"event": "start"}, *map(sanity_metric, (old, new, gates))]
    assert sanity_checks(metrics) == [new, gates]
    assert sanity_checks([{"event": "start"}]) == []
