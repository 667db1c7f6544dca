import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from resnet_space.common.errors import UserError
from resnet_space.explain.ood import (
    FeatureStatistics,
    fit_feature_statistics,
    load_feature_statistics,
    recorded_means,
    save_feature_statistics,
)
from resnet_space.inference import Classifier
from resnet_space.models import create_model
from resnet_space.runs import FEATURE_STATISTICS, Run

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "resnet20-cbam-cifar10"
EXAMPLES = Path(__file__).parents[2] / "resnet_space" / "datasets" / "examples"


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return Classifier(Run.open(SHIPPED))


def correlated(count: int, seed: int) -> np.ndarray:
    """Ten channels that vary along three directions, and a little in all others."""
    mixing = np.random.default_rng(0).normal(size=(3, 10)) * [[3], [2], [1]]
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(count, 3)) @ mixing + 0.1 * generator.normal(size=(count, 10)) + 5).astype(
        np.float32
    )


def test_the_distance_is_mahalanobis_with_all_directions_free() -> None:
    training, new = correlated(500, 1), correlated(50, 2)
    statistics = fit_feature_statistics(training, training, directions=9)
    assert statistics is not None
    scaled = (training - training.mean(0)) / training.std(0)
    inverse = np.linalg.inv(np.cov(scaled.T))
    difference = (new - training.mean(0)) / training.std(0)
    expected = np.einsum("ni,ij,nj->n", difference, inverse, difference)
    np.testing.assert_allclose(statistics.ood_score(new) * statistics.limit, expected, rtol=0.02)


def test_a_twentieth_of_what_is_like_the_validation_images_is_unusual() -> None:
    statistics = fit_feature_statistics(correlated(2000, 1), correlated(1000, 2), directions=3)
    assert statistics is not None
    assert 0.03 < (statistics.ood_score(correlated(4000, 3)) > 1).mean() < 0.07
    # Each channel as it often is, but not together as they are.
    shuffled = np.random.default_rng(0).permuted(correlated(500, 4), axis=0)
    assert (statistics.ood_score(shuffled) > 1).mean() > 0.95


@pytest.mark.parametrize(("training", "validation"), [(2, 5), (0, 5), (30, 0)])
def test_too_few_images_tell_nothing(training: int, validation: int) -> None:
    assert fit_feature_statistics(correlated(training, 1), correlated(validation, 2)) is None


def test_of_few_validation_images_the_strangest_is_the_limit() -> None:
    validation = correlated(10, 2)
    statistics = fit_feature_statistics(correlated(30, 1), validation)
    assert statistics is not None
    assert statistics.ood_score(validation).max() == pytest.approx(1)


def test_a_channel_that_is_always_the_same_does_no_harm() -> None:
    training = correlated(100, 1)
    training[:, 4] = 0
    statistics = fit_feature_statistics(training, training)
    assert statistics is not None
    assert np.isfinite(statistics.ood_score(training)).all()


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50"])
def test_what_is_looked_at_is_the_mean_of_each_channel_after_the_stem_and_every_stage(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, 3, stem="cifar", cbam="stage").eval()
    image = torch.randn(2, 3, 16, 16)
    with torch.inference_mode(), recorded_means(model) as means:
        model(image)
        model(image[:1])
    with torch.inference_mode():
        x = model.maxpool(model.relu(model.bn1(model.conv1(image))))
        expected = [x.mean((2, 3))]
        for stage, cbam in model.stages().items():
            x = model.get_submodule(cbam)(model.get_submodule(stage)(x))
            expected.append(x.mean((2, 3)))
    torch.testing.assert_close(means[0], torch.cat(expected, 1))
    assert [len(m) for m in means] == [2, 1]
    assert len(model.observed()) == len(expected)


# The shipped model


def blank_and_noise() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    normal = random.standard_normal((32, 32, 3))
    board = np.indices((32, 32)).sum(0) % 2 * 255
    return {
        "black": np.zeros((32, 32, 3)),
        "white": np.full((32, 32, 3), 255),
        "grey": np.full((32, 32, 3), 128),
        "large and grey": np.full((300, 400, 3), 90),
        "uniform noise": random.integers(0, 256, (32, 32, 3)),
        "large uniform noise": random.integers(0, 256, (256, 256, 3)),
        "Gaussian noise": np.clip(128 + 64 * normal, 0, 255),
        "grey noise": np.repeat(random.integers(0, 256, (32, 32, 1)), 3, 2),
        "checkerboard": np.repeat(board[..., None], 3, 2),
        "coarse checkerboard": np.repeat(np.kron(board[:4, :4], np.ones((8, 8)))[..., None], 3, 2),
    }


@pytest.mark.parametrize("kind", blank_and_noise())
def test_blank_images_and_noise_are_unusual(shipped: Classifier, kind: str) -> None:
    prediction = shipped.predict(Image.fromarray(blank_and_noise()[kind].astype(np.uint8)))
    assert prediction.unusual
    (warning,) = prediction.warnings
    assert warning.startswith("This picture is unlike")
    assert f"{prediction.ood_score:.1f} times" in warning


def test_the_examples_are_photographs_as_the_model_knows_them(shipped: Classifier) -> None:
    predictions = list(shipped.predict_many(Image.open(path) for path in sorted(EXAMPLES.glob("*.jpg"))))
    assert sum(bool(prediction.unusual) for prediction in predictions) <= 1  # of ten
    assert all(bool(prediction.warnings) == prediction.unusual for prediction in predictions)


# The file


@pytest.fixture
def run(tmp_path: Path) -> Run:
    shutil.copytree(SHIPPED, tmp_path / "run", ignore=shutil.ignore_patterns("resume", "figures"))
    return Run.open(tmp_path / "run")


def test_a_run_without_the_file_does_not_know(run: Run) -> None:
    (run.path / FEATURE_STATISTICS).unlink()
    classifier = Classifier(run)
    prediction = classifier.predict(Image.new("RGB", (32, 32)))
    assert classifier.config.temperature != 1
    assert (prediction.unusual, prediction.ood_score, prediction.warnings) == (None, None, [])


def test_a_run_without_temperature_and_statistics_says_that_it_is_not_calibrated(run: Run) -> None:
    (run.path / FEATURE_STATISTICS).unlink()
    config = replace(run.config, model=replace(run.config.model, temperature=1.0))
    classifier = Classifier(replace(run, config=config))
    picture = Image.new("RGB", (32, 32))
    (warning,) = classifier.predict(picture).warnings
    assert warning.startswith("The probabilities are not calibrated")
    (many,) = classifier.predict_many([picture])
    assert many.warnings == classifier.predict(picture).warnings


def test_what_is_saved_is_what_is_loaded(run: Run) -> None:
    statistics = load_feature_statistics(run)
    assert statistics is not None
    doubled = replace(statistics, limit=2 * statistics.limit)
    save_feature_statistics(doubled, run)
    again = load_feature_statistics(run)
    assert isinstance(again, FeatureStatistics)
    assert all(np.array_equal(getattr(again, name), getattr(doubled, name)) for name in vars(statistics))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mean": np.zeros(7, np.float32)}, r"mean is float32 \[7\]"),
        ({"directions": np.zeros((64, 128))}, "directions is float64"),
        ({"variances": np.zeros(64, np.float32)}, "variances must be above 0"),
        ({"limit": np.array([np.nan], np.float32)}, "not finite"),
        ({"more": np.zeros(1, np.float32)}, "instead of"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(run: Run, changes: dict[str, np.ndarray], reason: str) -> None:
    save_file(load_file(run.path / FEATURE_STATISTICS) | changes, run.path / FEATURE_STATISTICS)
    with pytest.raises(
        UserError, match=f"^The feature_statistics.safetensors of run does not fit its model: .*{reason}"
    ):
        load_feature_statistics(run)


def test_a_damaged_file_is_refused(run: Run) -> None:
    (run.path / FEATURE_STATISTICS).write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        Classifier(run)


def test_a_file_of_before_is_read_by_its_name_and_replaced_by_one_of_the_present_name(run: Run) -> None:
    (run.path / FEATURE_STATISTICS).rename(run.path / "usual.safetensors")
    statistics = load_feature_statistics(run)
    assert statistics is not None
    save_feature_statistics(statistics, run)
    assert [file.name for file in run.path.glob("*us*l.safetensors")] == []
    assert (run.path / FEATURE_STATISTICS).exists()
