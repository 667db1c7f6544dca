import io
import itertools
import json
import math
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resnet_space.common.errors import UserError
from resnet_space.config import STRATEGIES, ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import split_files
from resnet_space.data.splits import ImageSet, load_split
from resnet_space.models.registry import HEAD
from resnet_space.runs import Run
from resnet_space.training import range_test as range_module
from resnet_space.training.optim import trained_at
from resnet_space.training.range_test import (
    DIVERGED,
    HIGHEST,
    LOWEST,
    STEPS,
    Point,
    Suggestion,
    points_apart,
    points_here,
    range_test,
    suggested_rate,
    suggestion,
)
from resnet_space.training.strategies import CBAM_RATES, plan, recipe

CLASSES = {"airplane": 0, "automobile": 1, "frog": 6}  # names -> labels in CIFAR-10
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PATIENCE = 300  # seconds; a process takes some 5 on a quiet machine
CONFIG = RunConfig(
    ModelConfig("resnet20", tuple(CLASSES), options={"cbam": "stage"}, image_size=8),
    TrainConfig(dataset="slice", batch_size=32, precision="float32", crop_padding=1),
)


@pytest.fixture(scope="module")
def data() -> ImageSet:
    """The training images of three of cifar10-mini's classes, 600 at 8 pixels."""
    everything = load_split(split_files("cifar10-mini")["train"], 8)
    chosen = torch.isin(everything.labels, torch.tensor(list(CLASSES.values())))
    labels = torch.tensor([list(CLASSES.values()).index(int(label)) for label in everything.labels[chosen]])
    return ImageSet(everything.images[chosen], labels, tuple(CLASSES))


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_module, "choose_device", lambda: torch.device("cpu"))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(range_module, "STEPS", 6)
    return 6


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The training loss of every step."""
    losses: list[float] = []

    def recorded(*arguments: Any, **options: Any) -> Tensor:
        loss = original(*arguments, **options)
        losses.append(loss.item())
        return loss

    original = torch.nn.functional.cross_entropy
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "cross_entropy", recorded)
        yield losses


def trained_by(strategy: str, **settings: Any) -> RunConfig:
    """CONFIG with a strategy and its own rates."""
    own = {"batch_size": 32, "precision": "float32", "crop_padding": 1}
    return replace(CONFIG, training=recipe(strategy, "slice", **(own | settings)))


def weights_for(model: ModelConfig, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = model.build().state_dict()
    return {name: value.clone() for name, value in state.items() if not any(part in name for part in without)}


def to_the_end(test: Generator[Point, None, list[Point]]) -> list[Point]:
    """What it yields, which must be what it returns."""
    returned: list[list[Point]] = []

    def delegate() -> Generator[Point, None, None]:
        returned.append((yield from test))

    yielded = list(delegate())
    assert returned == [yielded]
    return yielded


# The test


@pytest.fixture(scope="module")
def learned(data: ImageSet) -> list[Point]:
    """Of a network with random weights, all steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(range_module, "choose_device", lambda: torch.device("cpu"))
        return to_the_end(range_test(CONFIG, None, data))


def test_the_rates_rise_geometrically_over_the_whole_range(learned: list[Point]) -> None:
    expected = np.geomspace(LOWEST["sgd"], HIGHEST["sgd"], STEPS)
    assert STEPS / 2 < len(learned) <= STEPS
    assert [point.rate for point in learned] == pytest.approx(expected[: len(learned)])


def test_a_network_learns_at_rates_in_between(learned: list[Point]) -> None:
    losses = [point.loss for point in learned]
    assert losses[0] == pytest.approx(math.log(3), abs=0.5)
    assert min(losses) < 0.9 * losses[0]
    lowest = learned[losses.index(min(losses))]
    assert 10 * LOWEST["sgd"] < lowest.rate < HIGHEST["sgd"]


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_the_suggestion_is_not_far_below_the_rates_at_which_the_network_learns_best(data: ImageSet, seed: int) -> None:
    # BUG: a random head's loss falls to ln 3 in the first steps whatever the rate is, and that may be the steepest
    # place. With the seeds 0 and 3 it suggests 0.0004 and 0.0005, where the loss is lowest at 0.046.
    config = replace(CONFIG, training=replace(CONFIG.training, seed=seed))
    points = to_the_end(range_test(config, None, data))
    found = suggestion(config, points)
    assert found is not None
    lowest = min(point.loss for point in points)
    nearly = lowest + 0.05 * (points[0].loss - lowest)  # where it is lowest to the last digit is chance
    best = [point.rate for point in points if point.loss <= nearly]
    assert best[0] / 50 < found.head_lr < best[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_each_optimizer_has_a_range_of_its_own_however_few_images_there_are(
    data: ImageSet, few_steps: int, optimizer: Any
) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, optimizer=optimizer))
    points = to_the_end(range_test(config, None, data.subset(torch.arange(0, 600, 15))))  # a step an epoch
    expected = np.geomspace(LOWEST[optimizer], HIGHEST[optimizer], few_steps)
    assert [point.rate for point in points] == pytest.approx(expected)


def test_the_loss_is_the_mean_over_the_steps_so_far_the_recent_ones_counting_more(
    data: ImageSet, few_steps: int, steps: list[float]
) -> None:
    points = to_the_end(range_test(CONFIG, None, data))
    assert len(points) == len(steps) == few_steps
    for last, point in enumerate(points):
        weights = [0.9 ** (last - i) for i in range(last + 1)]
        assert point.loss == pytest.approx(np.average(steps[: last + 1], weights=weights))


def test_every_step_is_yielded_when_it_is_done(data: ImageSet, steps: list[float]) -> None:
    for number, _ in enumerate(itertools.islice(range_test(CONFIG, None, data), 3), 1):
        assert len(steps) == number


def test_the_same_configuration_gives_the_same_points_whatever_was_drawn_before(data: ImageSet, few_steps: int) -> None:
    first = to_the_end(range_test(CONFIG, None, data))
    torch.manual_seed(123)
    torch.rand(7)
    assert to_the_end(range_test(CONFIG, None, data)) == first
    other = replace(CONFIG, training=replace(CONFIG.training, seed=1))
    assert [point.loss for point in to_the_end(range_test(other, None, data))] != [point.loss for point in first]


def test_a_loss_that_explodes_ends_it_and_is_never_a_point(
    data: ImageSet, monkeypatch: pytest.MonkeyPatch, steps: list[float]
) -> None:
    monkeypatch.setitem(range_module.HIGHEST, "sgd", 1e30)
    points = to_the_end(range_test(CONFIG, None, data))
    assert 0 < len(points) < STEPS
    assert all(math.isfinite(point.loss) for point in points)
    lowest = min(point.loss for point in points)
    assert all(point.loss <= DIVERGED * lowest for point in points[:-1])
    assert len(steps) == len(points) + (points[-1].loss <= DIVERGED * lowest)  # it ends by the last point or after it


def test_a_loss_that_is_no_number_from_the_start_gives_no_points(
    data: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda logits, *_, **__: logits.sum() * math.nan)
    assert to_the_end(range_test(CONFIG, None, data)) == []


# What trains in it


class Watched:
    """The model of a range test and its optimizer, from the moment they are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        make_model, make_optimizer = range_module.model_with, range_module.create_optimizer

        def model_with(*arguments: Any) -> Any:
            self.model, new_cbam = make_model(*arguments)
            self.before = {name: value.clone() for name, value in self.model.state_dict().items()}
            return self.model, new_cbam

        def create_optimizer(*arguments: Any) -> Any:
            self.optimizer = make_optimizer(*arguments)
            return self.optimizer

        monkeypatch.setattr(range_module, "model_with", model_with)
        monkeypatch.setattr(range_module, "create_optimizer", create_optimizer)

    def changed(self) -> set[str]:
        now = self.model.state_dict()
        return {name for name, value in self.before.items() if not torch.equal(value, now[name])}

    def rates(self) -> dict[str, float]:
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("new_cbam", [True, False])
def test_only_the_last_phases_parts_change_and_in_the_proportion_of_its_rates(
    data: ImageSet, watched: Watched, monkeypatch: pytest.MonkeyPatch, strategy: str, new_cbam: bool
) -> None:
    for optimizer in LOWEST:  # so high that no step is lost in float32
        monkeypatch.setitem(range_module.LOWEST, optimizer, 0.05)
    stepped = {"optimizer": "adamw"} if strategy == "linear-probe" else {}
    config = trained_by(strategy, **stepped)
    weights = weights_for(config.model, ("cbam",) if new_cbam else ())
    phase = plan(config.training, config.model, new_cbam=new_cbam)[-1]
    for point in itertools.islice(range_test(config, weights, data), 3):
        rates = watched.rates()
        assert set(rates) == set(phase.rates)
        assert rates["head"] == pytest.approx(point.rate)
        for part, rate in phase.rates.items():
            assert rates[part] / rates["head"] == pytest.approx(rate / phase.rates["head"])
    trains = set(trained_at(watched.model, phase.rates))
    norms = [name for name in watched.before if name.endswith(".running_mean")]
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    moves = {  # a norm layer's statistics go with its weights
        norm.replace("running_mean", kind)
        for norm in norms
        if norm.replace("running_mean", "weight") in trains
        for kind in kinds
    }
    assert watched.changed() == trains | moves


def test_a_head_that_is_solved_has_no_rate_to_be_tested(data: ImageSet) -> None:
    config = trained_by("linear-probe")
    with pytest.raises(UserError, match="The head is solved, so it has no learning rate"):
        next(range_test(config, weights_for(config.model), data))


def test_with_layer_decay_every_block_has_its_share(data: ImageSet, watched: Watched) -> None:
    config = trained_by("discriminative", layer_decay=0.5)
    (point,) = itertools.islice(range_test(config, weights_for(config.model), data), 1)
    rates = watched.rates()
    assert [rates[part] / point.rate for part in ("layer3.2", "layer3.1", "layer1.0", "stem")] == pytest.approx(
        [1 / 2, 1 / 4, 1 / 2**9, 1 / 2**10]
    )
    assert {part: rates[part] / point.rate for part in CBAM_RATES} == pytest.approx(CBAM_RATES)


# What is left of it


def test_weights_and_images_are_as_before_and_nothing_is_written(
    data: ImageSet, few_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    weights = weights_for(CONFIG.model)
    copies = {name: value.clone() for name, value in weights.items()}
    images, labels = data.images.clone(), data.labels.clone()
    to_the_end(range_test(CONFIG, weights, data))
    assert all(torch.equal(value, weights[name]) for name, value in copies.items())
    assert torch.equal(images, data.images)
    assert torch.equal(labels, data.labels)
    assert not any(value.requires_grad for value in weights.values())
    assert list(tmp_path.iterdir()) == []


def test_a_start_without_its_head_gets_a_random_one_and_other_weights_are_refused(
    data: ImageSet, watched: Watched
) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, start="a-start"))
    weights = weights_for(config.model, ("fc.",))
    next(range_test(config, weights, data))
    assert torch.equal(watched.before["conv1.weight"], weights["conv1.weight"])
    assert watched.before["fc.weight"].std() > 0
    with pytest.raises(UserError, match=r"^The weights of a-start do not fit the configuration: "):
        next(range_test(config, weights_for(config.model, ("layer2.",)), data))


# The suggestion, on curves whose steepest place is known


def curve(losses: list[float], low: float = 1e-4, high: float = 3.0) -> list[Point]:
    rates = np.geomspace(low, high, len(losses)) if len(losses) > 1 else [low] * len(losses)
    return [Point(float(rate), loss) for rate, loss in zip(rates, losses, strict=True)]


def falling(at: int, steepness: float = 6, count: int = STEPS) -> list[float]:
    """From 2 to 0.5 nats, steepest at a step: a logistic curve."""
    return [2 - 1.5 / (1 + math.exp((at - i) / steepness)) for i in range(count)]


@pytest.mark.parametrize("at", [20, 37, 55])
@pytest.mark.parametrize("steepness", [2, 6])
def test_the_rate_where_a_curve_falls_fastest_is_found(at: int, steepness: float) -> None:
    points = curve(falling(at, steepness))
    assert suggested_rate(points) == points[at].rate


def test_what_comes_after_the_lowest_loss_does_not_count() -> None:
    # It diverges at step 60, and falls again, faster than ever.
    losses = falling(30)[:60] + [0.6 + 0.5 * i for i in range(10)] + [5 - 0.4 * i for i in range(10)]
    points = curve(losses)
    assert suggested_rate(points) == points[30].rate


def test_a_curve_that_ended_early_is_judged_by_what_there_is() -> None:
    points = curve([*falling(12, 2, 30), 1, 2, 4])
    assert suggested_rate(points) == points[12].rate


def test_a_rate_is_found_on_a_curve_of_three_points() -> None:
    assert suggested_rate(curve([2.0, 1.5, 1.4], 0.01, 1.0)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [2.0],
        [2.0, 1.0],  # no slope has neighbours on both sides
        [1.0] * STEPS,
        [1.0 + 0.01 * i for i in range(STEPS)],
        [1.0 + 2 ** (i - 10) for i in range(15)],  # it diverges from the start
        [1.0, 0.99] + [1.0 + 0.05 * i for i in range(40)],
    ],
)
def test_without_a_falling_stretch_there_is_no_suggestion(losses: list[float]) -> None:
    points = curve(losses)
    assert suggested_rate(points) is None
    assert suggestion(CONFIG, points) is None


def test_the_suggestion_has_two_digits_and_the_proportion_of_the_configured_rates() -> None:
    points = curve(falling(40))
    training = replace(CONFIG.training, head_lr=0.02, backbone_lr=0.001)
    assert points[40].rate == pytest.approx(0.018488, rel=1e-3)
    assert suggestion(replace(CONFIG, training=training), points) == Suggestion(0.00092, 0.018, points[40].rate)


@pytest.mark.parametrize("strategy", ["full", "scratch", "linear-probe", "last-stage", "discriminative"])
def test_a_training_at_the_suggested_rates_has_the_rates_that_were_tested(strategy: str) -> None:
    points = curve(falling(40))
    assert head_rate_at_the_suggestion(strategy, points) == pytest.approx(points[40].rate, rel=0.05)


@pytest.mark.parametrize("strategy", ["freeze-unfreeze", "three-stage", "one-cycle"])
def test_so_has_a_training_whose_last_phase_has_other_rates_than_the_configured(strategy: str) -> None:
    points = curve(falling(40))
    assert head_rate_at_the_suggestion(strategy, points) == pytest.approx(points[40].rate, rel=0.05)


def head_rate_at_the_suggestion(strategy: str, points: list[Point]) -> float:
    """The head's peak rate in the last phase of a training at the suggested rates."""
    config = trained_by(strategy)
    found = suggestion(config, points)
    assert found is not None
    training = replace(config.training, backbone_lr=found.backbone_lr, head_lr=found.head_lr)
    return plan(training, config.model)[-1].rates[HEAD]


def test_a_suggestion_is_allowed_by_the_form_that_it_is_written_to() -> None:
    training = replace(CONFIG.training, backbone_lr=0.5, head_lr=1e-4)
    found = suggestion(replace(CONFIG, training=training), curve(falling(40)))
    assert found is None or found.backbone_lr <= 10


# In a process of its own


def saying(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Another program in the place of the test's process; `say(i)` is its i-th point."""
    say = (
        "import json, os, signal, sys, time\ndef say(i): print(json.dumps({'rate': i / 8, 'loss': 1.5}), flush=True)\n"
    )
    monkeypatch.setattr(range_module, "_command", lambda _start, _steps: [sys.executable, "-c", say + program])


def apart(seconds: float = 60) -> Generator[Point | None, None, None]:
    return points_apart(CONFIG, None, seconds=seconds)


def test_a_process_of_its_own_gives_the_same_points(tmp_path: Path) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, dataset="cifar10-mini"))
    config = replace(config, model=replace(config.model, classes=CIFAR10))
    start = Run.create(tmp_path / "start", config)
    start.save_weights(weights_for(config.model))
    points = [*filter(None, points_apart(config, start.path, seconds=PATIENCE, steps=3))]
    here = [*points_here(config, start.path, 3)]
    assert [point.rate for point in points] == [point.rate for point in here]
    assert [point.loss for point in points] == pytest.approx([point.loss for point in here], rel=1e-3)


def test_the_points_come_one_by_one_whatever_else_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, "say(1); print('a warning'); print('5'); say(2)")
    assert [*filter(None, apart())] == [Point(1 / 8, 1.5), Point(2 / 8, 1.5)]


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"^The range test was killed by signal 9, possibly because memory ran out:",
        ),
        ("os.kill(os.getpid(), signal.SIGTERM)", r"^The range test was killed by signal 15\.$"),
        ("sys.exit(3)", r"^The range test failed with exit status 3\.$"),
        ("print('A long story', file=sys.stderr); sys.exit('The disk is full.')", r"^The disk is full\.$"),
        (
            "say(1); time.sleep(600)",
            r"^The range test timed out after 1 s, at step 1 of 80: choose a smaller batch size, ",
        ),
    ],
)
def test_a_process_that_fails_or_takes_too_long_is_one_sentence(
    program: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(monkeypatch, program)
    with pytest.raises(UserError, match=sentence):
        list(apart(seconds=1 if "sleep" in program else 60))


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ([], "The machine ran out of memory: halve the batch size."),
        (["nothing"], "nothing is not a run: it has no config.json."),
    ],
)
def test_what_the_process_lacks_is_the_last_line_that_it_says(
    start: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def too_much(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(range_module, "load_splits", too_much)
    monkeypatch.setattr(sys, "argv", ["range_test", *start])
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(CONFIG.to_json())))
    assert range_module.main() == 1
    assert capsys.readouterr().err.splitlines()[-1] == sentence


def test_whoever_leaves_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Popen(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(range_module.subprocess, "Popen", Popen)
    saying(monkeypatch, "time.sleep(600)")
    left = apart()
    assert next(left) is None
    left.close()
    assert started[0].returncode == -signal.SIGKILL
