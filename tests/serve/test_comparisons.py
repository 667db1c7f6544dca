"""Which networks a comparison judges, and its process: one at a time, for whom it is, and what stays of it."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, imagenet_config
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.summary import DatasetSummary
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE, Run
from resnet_space.serve import fitting, visitors, works
from resnet_space.serve.context import AppContext
from resnet_space.serve.fitting import SEEN, Fit, fit, start_comparison
from resnet_space.serve.inventory import DAY
from resnet_space.serve.limits import Limits
from resnet_space.serve.works import Works
from resnet_space.training.choosing import Row
from resnet_space.training.comparison import Candidate, Comparison
from resnet_space.training.speeds import Speeds, machine_words
from resnet_space.training.work import LOCK
from tests.conftest import WriteSplit
from tests.networks import alive
from tests.trainings import GREYS, write_greys

SPEEDS = Speeds(
    "cpu",
    5.0,
    {("resnet20", 32): 1_000.0, ("tf_efficientnet_lite0", 224): 50.0},
    {},
    {("resnet20", 32): 1e6},
)
KNOWING = "knowing"


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """With networks for small images and for photographs, and one that knows the classes of `cifar10-mini`."""
    context = AppContext(tmp_path / "checkpoints")
    context.speeds.remember(SPEEDS)
    classes = context.datasets.summary(DatasetRef("cifar10-mini")).classes
    for name, model in (
        (BACKBONE, ModelConfig("resnet20", ("a", "b"), {"cbam": "stage"})),
        (PHOTO_BACKBONE, imagenet_config("tf_efficientnet_lite0", resize=256)),
        (KNOWING, ModelConfig("resnet32", classes)),
    ):
        Run.create(context.library.root / name, RunConfig(model)).save_weights({"x": torch.zeros(1)})
    return context


def mini(context: AppContext) -> DatasetSummary:
    return context.datasets.summary(DatasetRef("cifar10-mini"))


def names(found: Fit) -> list[str]:
    return [candidate.name for candidate in found.networks]


def reasons(found: Fit) -> dict[str, str]:
    return {one.name: one.reason for one in found.left_out}


def test_the_networks_that_suit_the_images_come_first_and_as_many_as_fit_the_time(context: AppContext) -> None:
    both = fit(context, mini(context), None, minutes=5)
    assert names(both) == [BACKBONE, PHOTO_BACKBONE]
    seconds = {candidate.name: candidate.seconds or 0.0 for candidate in both.networks}
    assert seconds[PHOTO_BACKBONE] > 2_000 / 50 > seconds[BACKBONE]
    fitting_alone = fit(context, mini(context), None, minutes=0.5)
    assert names(fitting_alone) == [BACKBONE]
    assert "it would take about" in reasons(fitting_alone)[PHOTO_BACKBONE]
    photographs = replace(mini(context), side=300)
    assert names(fit(context, photographs, None))[0] == PHOTO_BACKBONE


def test_what_is_left_out_has_a_reason(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = reasons(fit(context, mini(context), None))
    assert left_out[KNOWING] == SEEN
    assert left_out["resnet18.tv_in1k"] == "its weights are not downloaded (47 MB)"
    monkeypatch.setattr(fitting, "memory_bytes", lambda: 1_510_000_000)
    crowded = fit(context, mini(context), None)
    assert names(crowded) == [BACKBONE]
    assert reasons(crowded)[PHOTO_BACKBONE] == "it needs about 1.6 GB of memory"


def test_named_networks_are_judged_whatever_they_take_and_unknown_ones_are_refused(context: AppContext) -> None:
    asked = ["resnet50.tv_in1k", KNOWING, KNOWING]
    found = fit(context, mini(context), None, names=asked, minutes=0.5)
    assert names(found) == ["resnet50.tv_in1k", KNOWING]
    assert found.left_out == ()
    hub, knowing = found.networks
    assert (hub.licence, hub.download, hub.seen) == ("bsd-3-clause", 4 * 25_557_032, False)
    assert (knowing.licence, knowing.download, knowing.seen) == ("mit", 0, True)
    with pytest.raises(UserError, match="There is no run named gone"):
        fit(context, mini(context), None, names=["gone"])
    Run.create(context.library.root / "new", RunConfig(ModelConfig("resnet20", ("a", "b"))))
    with pytest.raises(UserError, match="new has no weights yet"):
        fit(context, mini(context), None, names=["new"])
    for minutes in (0, 1e9, float("nan"), "5", None):
        with pytest.raises(UserError, match=r"The minutes must be from 0\.5 to 600"):
            fit(context, mini(context), None, minutes=minutes)
    with pytest.raises(UserError, match="at most 40 networks"):
        fit(context, mini(context), None, names=[str(i) for i in range(41)])


def test_without_measured_speeds_no_network_is_left_out_for_its_time(context: AppContext) -> None:
    context.speeds.remember(Speeds())
    found = fit(context, mini(context), None, minutes=0.5)
    assert set(names(found)) == {BACKBONE, PHOTO_BACKBONE}
    assert found.networks[0].seconds is None


def test_what_a_comparison_measured_tells_how_long_the_next_one_takes(context: AppContext) -> None:
    before = fit(context, mini(context), None, names=[KNOWING]).networks[0].seconds or 0.0
    folder = context.comparisons.folder / "earlier"
    folder.mkdir(parents=True)
    row = Row(KNOWING, "resnet32", "ResNet-32", 32, images=10, images_per_second=10.0)
    Comparison("x", (), machine=machine_words(), rows=(row,), state="finished").write(folder)
    assert (fit(context, mini(context), None, names=[KNOWING]).networks[0].seconds or 0.0) > before + 100
    Comparison("x", (), machine=machine_words(), rows=(row,), state="finished", busy=True).write(folder)
    assert fit(context, mini(context), None, names=[KNOWING]).networks[0].seconds == before


def asked_for(*networks: str) -> Comparison:
    return Comparison("cifar10-mini", tuple(map(Candidate, networks)))


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Works[Comparison]]:
    """Comparisons whose processes end at once and judge nothing."""

    class Ended:
        def poll(self) -> int:
            return 0

    monkeypatch.setattr(works, "_process", lambda path, module: Ended())
    return lambda **options: Works(Comparison, tmp_path, **{"public": False, **options})


def test_one_comparison_runs_at_a_time_and_one_whose_process_died_was_interrupted(
    idle: Callable[..., Works[Comparison]],
) -> None:
    kept = idle()
    name = kept.start(asked_for("a"), lambda owners: None)
    assert name == "cifar10-mini-1"
    with FileLock(kept.folder / name / LOCK):
        assert kept.open(name).state == "running"
        with pytest.raises(UserError, match="already running on this machine"):
            kept.start(asked_for("a"), lambda owners: None)
    assert (kept.open(name).state, kept.open(name).reason) == ("stopped", "It was interrupted.")
    with pytest.raises(UserError, match="has ended, so there is nothing to stop"):
        kept.stop(name, None)
    with FileLock(kept.folder / name / LOCK):  # its process is about to end
        replace(kept.open(name), state="finished").write(kept.folder / name)
        assert kept.start(asked_for("a"), lambda owners: None) == "cifar10-mini-2"


def test_a_comparison_that_cannot_be_started_leaves_nothing(
    idle: Callable[..., Works[Comparison]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = idle()

    def refuse(path: Path, module: str) -> None:
        raise OSError(11, "no more processes")

    monkeypatch.setattr(works, "_process", refuse)
    with pytest.raises(UserError, match="The comparison cannot be started: the machine is running too many processes"):
        kept.start(asked_for("a"), lambda owners: None)
    assert list(kept.folder.iterdir()) == []


def test_a_visitor_of_a_public_app_stops_only_their_own_and_names_cannot_be_guessed(
    idle: Callable[..., Works[Comparison]],
) -> None:
    kept = idle(public=True)
    name = kept.start(asked_for("a"), lambda owners: visitors.claim(owners, "ann"))
    assert len(name) > len("cifar10-mini-") + 9
    assert (kept.newest("ann"), kept.newest("ben"), kept.newest(None)) == (name, None, None)
    with FileLock(kept.folder / name / LOCK):
        with pytest.raises(UserError, match="not yours"):
            kept.stop(name, "ben")
        kept.stop(name, "ann")
        assert (kept.folder / name / "stop").exists()
    for wrong in ("", None, "../..", "gone", ["x"]):
        with pytest.raises(UserError, match="There is no"):
            kept.open(wrong)


@pytest.mark.parametrize(
    ("dataset", "begins"), [("_my--Käfer..", "my-K-fer-"), ("日本", "comparison-"), ("owner/name@abc", "owner-name-")]
)
def test_a_comparison_of_any_dataset_is_found_by_its_name(
    idle: Callable[..., Works[Comparison]], dataset: str, begins: str
) -> None:
    for public in (False, True):
        kept = idle(public=public)
        name = kept.start(replace(asked_for("a"), dataset=dataset), lambda owners: None)
        assert name.startswith(begins)
        assert kept.open(name).dataset == dataset
        assert name in kept.names()


def test_old_comparisons_go(idle: Callable[..., Works[Comparison]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "MOST_KEPT", 2)
    kept = idle()
    made = []
    for i in range(4):
        made.append(kept.start(asked_for("a"), lambda owners: None))
        written = kept.folder / made[-1] / Comparison.FILE
        stamp = time.time() - 100 + i
        os.utime(written, (stamp, stamp))
    assert sorted(kept.names()) == sorted(made[-2:])


def test_a_visitors_comparison_expires_but_not_while_it_runs(
    tmp_path: Path, idle: Callable[..., Works[Comparison]]
) -> None:
    context = AppContext(tmp_path / "checkpoints", public=True, limits=Limits(days=7))
    name = context.comparisons.start(asked_for("a"), lambda owners: context.claim(owners, "ann"))
    folder = context.comparisons.folder / name
    assert context.storage.usage()["comparisons"] > 0

    def age() -> None:
        for path in (*folder.iterdir(), folder):
            os.utime(path, (time.time() - 8 * DAY,) * 2)

    with FileLock(folder / LOCK):
        age()
        context.storage.tidy()
        assert folder.exists()
    age()
    context.storage.tidy()
    assert not folder.exists()


def test_a_read_only_or_a_limited_app_refuses(tmp_path: Path, context: AppContext) -> None:
    with pytest.raises(UserError, match="read-only"):
        start_comparison(AppContext(context.library.root, readonly=True), "cifar10-mini", None)
    limited = AppContext(context.library.root, limits=Limits(images=100))
    with pytest.raises(UserError, match="above this app's limit of 100"):
        start_comparison(limited, "cifar10-mini", None)
    for most in (0, 3.5, True, "all"):
        with pytest.raises(UserError, match="The number of images must be a whole number from 10 to 100,000"):
            start_comparison(context, "cifar10-mini", None, most=most)
    with pytest.raises(UserError, match="There is no dataset named 'gone'"):
        start_comparison(context, "gone", None)


def test_a_process_of_its_own_judges_and_what_it_found_is_read_by_another_app(
    tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    write_greys(write_split, tmp_path / "data", train=40, test=10)
    context = AppContext(tmp_path / "checkpoints")
    config = ModelConfig("resnet20", ("x", "y"))
    run = Run.create(context.library.root / "grey", RunConfig(config))
    run.save_weights(alive(config.build(seed=0)).state_dict())
    name = start_comparison(context, GREYS, None, names=["grey"])
    other = AppContext(context.library.root)
    deadline = time.monotonic() + 120
    while context.comparisons.is_alive(name):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found = other.comparisons.open(name)
    assert found.state == "finished", (other.comparisons.folder / name / "log").read_text()
    (row,) = found.rows
    assert (row.name, row.images, found.images) == ("grey", 40, 40)
    assert row.correct > 25
    assert found.choice.take == "grey"
