from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.reference import DatasetRef
from resnet_space.data.splits import load_learnable, load_splits
from resnet_space.runs import Run
from resnet_space.training import comparing, cross_validation
from resnet_space.training.comparing import NEIGHBOURS, Comparing, judge
from resnet_space.training.comparison import Candidate, Comparison
from resnet_space.training.cross_validation import Examples, folds_of, held_out_logits
from resnet_space.training.feature_store import FeatureStore
from tests.conftest import WriteSplit
from tests.networks import alive
from tests.trainings import GREYS, write_greys


def clouds(n: int, classes: int, width: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes: features [n, width] and labels [n]."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.arange(n) % classes
    return centres[labels] + spread * torch.randn(n, width, generator=generator), labels


def test_neighbours_vote_as_scikit_learn_has_them_vote() -> None:
    features, labels = clouds(240, 4, 6, 1.5)
    folds, _ = folds_of(labels.tolist(), [None] * 240, 5)
    reference = KNeighborsClassifier(NEIGHBOURS, metric="cosine")
    expected = cross_val_predict(reference, features.numpy(), labels.numpy(), cv=PredefinedSplit(folds))
    found = comparing.neighbours(Examples(features, labels, 4))
    assert found.numpy().tolist() == expected.tolist()
    assert 0.4 < (expected == labels.numpy()).mean() < 0.95  # so that there is something to agree on


def test_a_head_is_as_accurate_as_scikit_learns_on_images_that_it_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(300, 3, 8, 2.0)
    monkeypatch.setattr(cross_validation, "TRIED", (0.1,))  # a penalty for features of unit mean square
    folds, _ = folds_of(labels.tolist(), [None] * 300, 5)
    predicted = np.empty(300, dtype=np.int64)
    for train, test in PredefinedSplit(folds).split():
        mean = features[train].mean(0)
        scale = (features[train] - mean).square().mean().sqrt()
        model = LogisticRegression(C=1 / (0.1 * len(train)), tol=1e-8, max_iter=1_000)
        model.fit(((features[train] - mean) / scale).numpy(), labels[train].numpy())
        predicted[test] = model.predict(((features[test] - mean) / scale).numpy())
    right = predicted == labels.numpy()
    judged = judge(Examples(features, labels, 3))
    assert (judged.correct, judged.images) == (right.sum(), 300)
    assert judged.right == f"{int(''.join(str(int(one)) for one in right), 2):x}"
    assert 0.4 < right.mean() < 0.95


def test_heads_on_fewer_images_than_features_are_those_that_all_features_give() -> None:
    features, labels = clouds(60, 3, 100, 3.0)
    folds, _ = folds_of(labels.tolist(), [None] * 60, 5)
    small, penalties = cross_validation.in_few_numbers(features)
    assert small.shape[1] < features.shape[1]
    found = held_out_logits(small, labels, 3, folds, penalties)
    expected = held_out_logits(features, labels, 3, folds, cross_validation.TRIED)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * expected.abs().max().item())


def test_labels_that_mean_nothing_are_judged_as_chance() -> None:
    features, labels = clouds(600, 2, 40, 1.0)
    shuffled = labels[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    judged = judge(Examples(features, shuffled, 2))
    assert abs(judged.correct / 600 - 0.5) < 0.09  # four standard errors
    assert judged.calibration_error < 0.1  # whose temperature no image has set for itself


def test_copies_of_an_image_do_not_give_one_another_away() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(100, 200, generator=generator).repeat_interleave(2, 0)  # nothing to learn but the copies
    labels = (torch.arange(100) % 2).repeat_interleave(2)
    copies = [i // 2 for i in range(200)]
    apart, together = judge(Examples(features, labels, 2)), judge(Examples(features, labels, 2, copies))
    assert apart.correct > 130
    assert abs(together.correct - 100) < 30


def test_too_few_images_are_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="at least two classes with two images each"):
        judge(Examples(torch.randn(3, 2), torch.tensor([0, 0, 1]), 2))


@pytest.fixture
def made(tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs with weights, and `made(names, ...)`: their comparison on dark and bright pictures."""
    monkeypatch.setenv("RESNET_SPACE_DATA", str(tmp_path / "data"))
    write_greys(write_split, tmp_path / "data", train=60, test=20)
    runs = {}
    for name, seed in (("one", 0), ("two", 1)):
        run = Run.create(
            tmp_path / name, RunConfig(ModelConfig("resnet20", ("x", "y"), image_size=32), TrainConfig("-"))
        )
        run.save_weights(alive(run.config.model.build(seed=seed)).state_dict())
        runs[name] = run

    def compared(names: list[str], **options: Any) -> Comparison:
        def fetch(name: str, _: object) -> Run:
            if name not in runs:
                raise UserError(f"There is no run named {name}.")
            return runs[name]

        asked = Comparison(GREYS, tuple(Candidate(name, "mit", seen=name == "two") for name in names))
        return Comparing(asked, fetch, FeatureStore(tmp_path / "features")).done(**options)

    return compared


def test_every_network_has_a_row_and_one_that_fails_says_why(made: Callable[..., Comparison]) -> None:
    told: list[Comparison] = []
    done = made(["one", "gone", "two"], tell=told.append)
    assert [row.name for row in done.rows] == ["one", "gone", "two"]
    one, gone, two = done.rows
    assert gone.problem == "There is no run named gone."
    assert (one.images, done.images, done.classes, done.folds, done.largest) == (60, 60, 2, 5, 30)
    assert one.correct >= 45  # grey levels are all that there is to see
    assert one.images_per_second > 0
    assert (one.parameters, one.title, one.licence) == (
        334_072 - 65 * 998,
        "ResNet-20",
        "mit",
    )  # with a head for two classes
    assert (one.seen, two.seen) == (False, True)
    assert done.state == "finished"
    assert {now.doing.phase for now in told} >= {"decoding", "features", "solving"}
    shares = [now.doing.share for now in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_stop_keeps_what_is_done(made: Callable[..., Comparison]) -> None:
    told: list[Comparison] = []
    stopped = made(["one", "two"], tell=told.append, stop=lambda: "Enough." if told[-1].rows else None)
    assert (stopped.state, stopped.reason) == ("stopped", "Enough.")
    assert [row.name for row in stopped.rows] == ["one"]


def test_only_images_that_a_training_may_learn_from_are_judged_on(
    tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNET_SPACE_DATA", str(tmp_path))
    write_greys(write_split, tmp_path, train=60, test=20)
    for own_test in (True, False):
        if not own_test:
            next((tmp_path / GREYS).glob("test*")).unlink()
        splits = load_splits(TrainConfig(GREYS), 8)
        assert splits.train.digests is not None
        assert splits.validation.digests is not None
        learned = torch.cat([splits.train.digests, splits.validation.digests]).sort().values
        found = load_learnable(DatasetRef(GREYS), 8, 1_000)
        assert found.digests is not None
        assert found.digests.sort().values.equal(learned)
        few = load_learnable(DatasetRef(GREYS), 8, 20)
        assert few.labels.bincount().tolist() == [10, 10]
        assert few.digests is not None
        assert set(few.digests.tolist()) <= set(learned.tolist())


def test_a_network_whose_head_is_no_linear_layer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "run", RunConfig(ModelConfig("resnet20", ("x", "y")), TrainConfig("-")))
    run.save_weights(run.config.model.build(seed=0).state_dict())
    monkeypatch.setattr("resnet_space.models.resnet.ResNet.get_classifier", lambda self: self.conv1)
    with pytest.raises(UserError, match="is not a linear layer"):
        comparing.loaded(run, replace(run.config.model, classes=("a", "b", "c")))
