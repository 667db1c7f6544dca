import itertools

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, neighbors_weights
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor, nn

from resnet_space.explain.faithfulness import MEASURES, RANDOM_MAPS, ROAD_SHARES, Evidence, Measure, evidence
from resnet_space.explain.imputation import imputed

SIZE = 24
UNKNOWING = 12  # maps of a kind
PATCH = np.s_[3:9, 12:18]  # rows, columns: 1/16 of the image


class Planted(nn.Module):
    """Its first logit depends on nothing but how bright a known patch is."""

    def forward(self, images: Tensor) -> Tensor:
        brightness = images[:, :, PATCH[0], PATCH[1]].mean((1, 2, 3))
        return torch.stack([6 * brightness - 3, torch.zeros_like(brightness)], 1)


def planted_image() -> Tensor:
    image = 0.3 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) - 0.5
    image[:, :, PATCH[0], PATCH[1]] += 1.6
    return image


def true_map() -> np.ndarray:
    found = np.zeros((SIZE, SIZE), np.float32)
    found[PATCH] = 1
    return found


@pytest.fixture(scope="module")
def planted() -> dict[str, Evidence]:
    maps = {"true": true_map(), "inverted": 1 - true_map()}
    generator = np.random.default_rng(5)
    maps |= {f"unknowing {i}": generator.random((SIZE, SIZE), np.float32) for i in range(UNKNOWING)}
    maps |= {f"constant {i}": np.full((SIZE, SIZE), 0.5, np.float32) for i in range(UNKNOWING)}
    return evidence(Planted(), planted_image(), 0, maps)


@pytest.mark.parametrize("measure", MEASURES)
def test_where_the_truth_is_known_the_true_map_is_best_and_its_inverse_worst(
    planted: dict[str, Evidence], measure: str
) -> None:
    true, inverted = (planted[name].measures[measure] for name in ("true", "inverted"))
    assert true.verdict == "better"
    assert inverted.verdict == "worse"
    assert true.beats_centre
    assert true.value > inverted.value if true.higher_is_better else true.value < inverted.value


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", ["unknowing", "constant"])
def test_maps_that_know_nothing_are_as_good_as_chance(planted: dict[str, Evidence], kind: str, measure: str) -> None:
    beaten = [planted[f"{kind} {i}"].measures[measure].beaten for i in range(UNKNOWING)]
    # Ranks among 19 are uniform on 0..19: their mean over 12 has a standard deviation of 1.7 and more, as all are
    # compared with the same 19.
    assert 4 < np.mean(beaten) < 15
    assert sum(planted[f"{kind} {i}"].measures[measure].verdict == "chance" for i in range(UNKNOWING)) >= 8


def test_the_true_map_scores_almost_the_best_that_is_possible(planted: dict[str, Evidence]) -> None:
    whole = torch.sigmoid(6 * planted_image()[:, :, PATCH[0], PATCH[1]].mean() - 3).item()
    found = planted["true"]
    assert found.start == pytest.approx(whole, abs=1e-6)
    # The patch is a 16th of the image: all of it is there after the first of ten steps.
    assert found.insertion_curve[1:] == pytest.approx([whole] * 10, abs=1e-6)
    assert found.deletion_curve[1:] == pytest.approx([torch.sigmoid(torch.tensor(-3.0)).item()] * 10, abs=1e-6)
    assert found.measures["road"].value > 0.4  # of at most half of the probability
    assert planted["inverted"].measures["road"].value < -0.3


def test_the_words_say_when_a_map_is_no_better_than_chance(planted: dict[str, Evidence]) -> None:
    assert planted["true"].verdict == "better"
    assert planted["true"].words.startswith("Faithful for this picture")
    assert "3 of 3" in planted["true"].words
    assert planted["inverted"].words.startswith("Misleading")
    unknowing = next(found for name, found in planted.items() if " " in name and found.verdict == "chance")
    assert unknowing.words.startswith("No better than chance")
    road = next(m for f in planted.values() if (m := f.measures["road"]).verdict == "chance")
    assert f"beats {road.beaten} of {RANDOM_MAPS} random maps" in road.words
    assert f"{road.value:.2f}" in road.words


def test_maps_of_two_classes_are_judged_together_as_each_alone() -> None:
    maps = {"patch": true_map(), "rest": 1 - true_map()}
    together = evidence(Planted(), planted_image(), {"patch": 0, "rest": 1}, maps)
    for name, index in (("patch", 0), ("rest", 1)):
        alone = evidence(Planted(), planted_image(), index, maps)[name]
        assert together[name].class_index == index
        assert together[name].start == pytest.approx(alone.start)
        for measure in MEASURES:
            assert together[name].measures[measure].value == pytest.approx(alone.measures[measure].value)
            assert together[name].measures[measure].random == pytest.approx(alone.measures[measure].random)


def test_a_blob_in_the_centre_that_does_as_well_is_mentioned() -> None:
    random = tuple(i / 100 for i in range(19))
    measures = {name: Measure(name, 0.5, random, 0.6) for name in ("insertion", "road")}
    measures["deletion"] = Measure("deletion", 0.5, tuple(0.6 + r for r in random), 0.4)
    found = Evidence(0, 0.9, measures, (0, 1), (0, 1), (1, 0))
    assert found.words.endswith("However, a blob in the centre does equally well.")


def small_network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5)
    ).eval()


def test_insertion_and_deletion_are_those_of_a_naive_loop() -> None:
    model, image = small_network(), torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(2))
    values = np.random.default_rng(0).permutation(400).reshape(20, 20).astype(np.float32)
    found = evidence(model, image, 3, {"a": values}, temperature=0.5, random_maps=2)["a"]

    def probability(picture: Tensor) -> float:
        with torch.no_grad():
            return (model(picture) / 0.5).softmax(1)[0, 3].item()

    places = sorted(itertools.product(range(20), range(20)), key=lambda place: -values[place])
    deleted, curve = image.clone(), [probability(image)]
    for i, (row, column) in enumerate(places, 1):
        deleted[0, :, row, column] = 0
        if i % 40 == 0:
            curve.append(probability(deleted))
    assert found.deletion_curve == pytest.approx(curve, abs=1e-5)
    area = sum((a + b) / 2 / 10 for a, b in itertools.pairwise(curve))
    assert found.measures["deletion"].value == pytest.approx(area, abs=1e-5)
    # From the other end insertion knows nothing: a blurred image.
    assert found.insertion_curve[-1] == pytest.approx(curve[0], abs=1e-5)
    assert found.insertion_curve[0] != pytest.approx(curve[0], abs=1e-3)


def test_inserted_pixels_are_the_images_own_and_the_rest_are_blurred() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.extend(images)
            return images.mean((2, 3))

    image = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(2))
    values = np.arange(400, dtype=np.float32).reshape(20, 20)  # the lowest rows come first
    evidence(Spy(), image, 0, {"a": values}, steps=2, random_maps=2)
    _, blurred, grey, half = seen[:4]
    assert blurred.std() < image.std() / 3
    assert blurred.mean() == pytest.approx(image.mean().item(), abs=0.05)
    assert not grey.any()
    assert torch.equal(half[:, 10:], image[0, :, 10:])
    assert torch.equal(half[:, :10], blurred[:, :10])


@pytest.mark.parametrize("share", ROAD_SHARES)
def test_imputed_pixels_are_those_of_the_librarys_own_solver(share: float) -> None:
    generator = np.random.default_rng(0)
    image = torch.from_numpy(generator.standard_normal((3, 18, 25), np.float32))
    missing = generator.permutation(18 * 25)[: round(share * 450)]
    mask = np.ones(18 * 25, np.float32)
    mask[missing] = 0
    # Not its `__call__`, which numpy 2.4 warns of.
    system, right = NoisyLinearImputer.setup_sparse_system(mask.reshape(18, 25), image.numpy(), neighbors_weights)
    expected = image.clone().flatten(1)
    expected[:, np.flatnonzero(mask == 0)] = torch.from_numpy(spsolve(csc_matrix(system), right).T).float()
    torch.testing.assert_close(imputed(image, missing), expected.view_as(image), rtol=1e-4, atol=1e-5)


def test_a_large_image_is_imputed_from_what_surrounds_the_hole_and_kept_elsewhere() -> None:
    ramp = torch.linspace(-1, 1, 96).expand(3, 96, 96).contiguous()
    rows, columns = np.mgrid[30:60, 36:72]
    missing = (rows * 96 + columns).ravel()
    hidden = ramp.clone()
    hidden[:, 30:60, 36:72] = 9  # what is missing must not shine through
    found = imputed(hidden, missing)
    # A plane is its own mean everywhere, so the solution is the plane, but for the rounding of a third of a cell.
    torch.testing.assert_close(found[:, 33:57, 39:69], ramp[:, 33:57, 39:69], rtol=0, atol=0.05)
    outside = torch.ones(96, 96, dtype=torch.bool)
    outside[30:60, 36:72] = False
    assert torch.equal(found[:, outside], ramp[:, outside])


def test_progress_is_told_to_its_end_and_the_same_seed_gives_the_same_evidence() -> None:
    told: list[float] = []
    arguments = small_network(), planted_image(), 1, {"a": true_map()}
    first = evidence(*arguments, random_maps=3, seed=4, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    assert first == evidence(*arguments, random_maps=3, seed=4)
    assert first != evidence(*arguments, random_maps=3, seed=5)
