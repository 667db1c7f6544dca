"""Whatever the machine lacks for a moment, afterwards the app serves as before, and no run is lost."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.requests import Request

from resnet_space.common import background
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.archives import import_folder
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_folders
from resnet_space.hub import follower
from resnet_space.hub.card import write_card
from resnet_space.hub.jobs import Job
from resnet_space.hub.push import push_run
from resnet_space.runs import CONFIG, LOCK, METRICS, OWNER, QUEUED, TRAINER, WEIGHTS, Library, Metric, Run
from resnet_space.runs import process as process_module
from resnet_space.runs import queue as queue_module
from resnet_space.runs.process import trainer_process
from resnet_space.runs.queue import Trainer
from resnet_space.serve import visitors
from resnet_space.serve.context import AppContext
from resnet_space.serve.datasets import HUB_DATASETS
from resnet_space.serve.limits import Limits
from resnet_space.training.host import host
from resnet_space.ui.finetune import live
from resnet_space.ui.finetune.api import training_status
from resnet_space.ui.finetune.live import LiveFeed
from resnet_space.ui.finetune.run_list import run_rows
from tests.conftest import WriteSplit
from tests.faults import FOR_EVER, KINDS, clock, fault
from tests.hub_stub import HubStub, isolate_client, without_waiting
from tests.trainings import GREYS, png, without_times, write_greys

CONFIGURED = RunConfig(
    ModelConfig("resnet20", ("dark", "bright"), image_size=8),
    TrainConfig(dataset=GREYS, epochs=2, batch_size=16, crop_padding=0, precision="float32"),
)
TOKEN = "hf_annswritetoken"
SENTENCES = (UserError,)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    write_greys(write_split, folder, train=60, test=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_FOLDER_VARIABLE, str(folder))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was trained to its end, undisturbed."""
    with _signals():
        run = Run.create(tmp_path_factory.mktemp("trained") / "trained", CONFIGURED)
        assert host(run, write_card, report=lambda _: None) == 0
    return run


class _signals:  # noqa: N801
    """`host` takes over two signals."""

    def __enter__(self) -> None:
        self.before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


@dataclass
class World:
    """An app with one run that was trained; and its folder."""

    root: Path
    context: AppContext
    trained: Run

    def serves(self) -> None:
        """All that visitors look at answers, and what was trained is there as it was."""
        for context in (self.context, AppContext(self.root / "runs")):  # as it goes on, and as it starts anew
            runs = context.library.runs()
            assert "trained" in [run.name for run in runs]
            names = tuple(run.name for run in runs)[-5:]
            message = json.loads(asyncio.run(LiveFeed(context).latest(names)))
            assert set(message["figures"]) == {"loss", "accuracy", "rates", "speed", "memory"}
            assert len(run_rows(context, None)) == len(context.runs())
            for run in runs:
                assert training_status(context, run.name)["state"]
            context.datasets.choices()
        mine = Run.open(self.root / "runs" / "trained")
        assert mine.metrics() == self.trained.metrics()
        assert (mine.path / WEIGHTS).read_bytes() == (self.trained.path / WEIGHTS).read_bytes()
        shown = [path for path in (self.root / "runs").iterdir() if not path.name.startswith(".")]
        assert [path.name for path in shown if not (path / CONFIG).is_file()] == []


@pytest.fixture
def world(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(background, "_told", {})
    (tmp_path / "runs").mkdir()
    shutil.copytree(trained.path, tmp_path / "runs" / "trained")
    # A trainer that does nothing, but looks like one: what is meant here is how it is started.
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(60)", process_module.MODULE]
    monkeypatch.setattr(process_module, "training_command", lambda run, **_: [*sleeper, str(run.path)])
    context = AppContext(tmp_path / "runs")
    yield World(tmp_path, context, trained)
    for child in context.trainer._children.values():
        child.kill()
        child.wait()


def start(world: World) -> None:
    context = world.context
    library = context.library
    config = replace(CONFIGURED, training=replace(CONFIGURED.training, start="trained"))
    context.trainer.start_new(lambda: Run.create(library.root / "new", config, start=library.open("trained")))


def go_on(world: World) -> None:
    world.context.trainer.start(world.context.library.open("trained"), resume=True, more_epochs=2)


def enqueue(world: World) -> None:
    with world.context.library.open("trained").training_lock():
        start(world)


def advance(world: World) -> None:
    world.context.trainer.advance()


def stop(world: World) -> None:
    world.context.trainer.stop(world.context.library.open("waiting"))


def bring(world: World) -> None:
    import_folder(world.root / "pictures", world.root / "data" / "brought")


def remember(world: World) -> None:
    world.context.datasets.remember(queue_ref())


def queue_ref() -> DatasetRef:
    return DatasetRef("ann/bees", None, "0" * 40)


def tidy(world: World) -> None:
    background.keep_doing("Tidying up", lambda: world.context.storage.tidy() is not None, 0.0)


ACTIONS: dict[str, Callable[[World], None]] = {
    action.__name__: action for action in (start, go_on, enqueue, advance, stop, bring, remember, tidy)
}


def prepare(world: World, action: str) -> None:
    """What an action needs."""
    if action in ("advance", "stop"):
        run = Run.create(world.root / "runs" / "waiting", CONFIGURED)
        (run.path / QUEUED).write_text('{"time": 1, "resume": false}')
    if action == "tidy":
        world.context = AppContext(world.root / "runs", public=True, limits=Limits(days=7))
        old = Run.create(world.root / "runs" / "old", CONFIGURED)
        world.context.claim(old.path / OWNER, visitors.new_key())
        for path in old.path.rglob("*"):
            os.utime(path, (1, 1))
    if action == "bring":
        for name in ("dark", "bright"):
            (world.root / "pictures" / name).mkdir(parents=True)
            for i in range(6):
                (world.root / "pictures" / name / f"{i}.png").write_bytes(png(20 * i + 100 * (name == "bright")))


def operations(action: str, kind: str) -> range:
    """Which of an action's operations is to fail: some of those that there are."""
    return range(1, 13) if action != "bring" else range(1, 30)


SHORT_MATRIX = [
    ("start", "ENOSPC", 3, 1),
    ("start", "EMFILE", 12, FOR_EVER),
    ("start", "ENOMEM", 1, FOR_EVER),
    ("start", "EROFS", 1, FOR_EVER),
    ("go_on", "ENOSPC", 4, 1),
    ("enqueue", "ENOSPC", 7, 1),
    ("advance", "EMFILE", 5, FOR_EVER),
    ("advance", "ENOSPC", 2, 1),
    ("stop", "EROFS", 1, FOR_EVER),
    ("bring", "ENOSPC", 2, 1),
    ("remember", "ENOSPC", 2, 1),
    ("tidy", "EMFILE", 2, 3),
]
LONG_MATRIX = [
    (action, kind, at, lasts)
    for action in ACTIONS
    for kind in KINDS
    for at in operations(action, kind)
    for lasts in (1, FOR_EVER)
    # A disk that becomes read-only in the middle cannot be cleaned up; and tidying goes on until it has its way.
    if lasts == 1 or not (action == "tidy" or (kind == "EROFS" and at > 1))
]


@pytest.mark.parametrize(
    ("action", "kind", "at", "lasts"),
    [*SHORT_MATRIX, *(pytest.param(*case, marks=pytest.mark.long) for case in LONG_MATRIX if case not in SHORT_MATRIX)],
)
def test_what_is_refused_for_a_moment_ends_in_a_sentence_and_can_be_done_afterwards(
    action: str, kind: str, at: int, lasts: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(world.root / "data"))
    prepare(world, action)
    with fault(kind, below=world.root, at=at, lasts=lasts):
        refused = sentence(lambda: ACTIONS[action](world))
    assert str(world.root) not in refused
    world.serves()
    if refused or action in ("advance", "tidy"):  # which are done again and again
        ACTIONS[action](world)
        world.serves()
    if action in ("start", "go_on", "advance"):
        assert len([child for child in world.context.trainer._children.values() if child.poll() is None]) == 1
        assert world.context.trainer.active() is not None
    if action == "go_on":
        assert world.context.library.open("trained").config.training.more_epochs == (2,)
    if action == "tidy":
        assert not (world.root / "runs" / "old").exists()
    if action == "bring":
        assert "brought" in dataset_folders()


def sentence(action: Callable[[], object]) -> str:
    """The sentence with which something was refused; nothing where it was not."""
    try:
        action()
    except SENTENCES as error:
        said = str(error)
    else:
        return ""
    assert said.endswith(".")
    assert "\n" not in said
    return said


# Training itself

TRAINING = [
    ("SHORT", 2, 1),
    *(pytest.param("SHORT", at, 1, marks=pytest.mark.long) for at in range(1, 16)),
    *(
        pytest.param(kind, at, lasts, marks=pytest.mark.long)
        for kind in ("ENOSPC", "EROFS", "EMFILE")
        for at in range(1, 60, 2)
        for lasts in (1, FOR_EVER)
    ),
]


@pytest.mark.parametrize(("kind", "at", "lasts"), TRAINING)
def test_a_training_that_a_fault_ends_goes_on_to_the_same_weights(
    kind: str, at: int, lasts: int, world: World, data: Path
) -> None:
    run = Run.create(world.root / "runs" / "run", CONFIGURED)
    with _signals():
        with fault(kind, below=world.root, at=at, lasts=lasts) as seen:
            refused = sentence(lambda: host(run, write_card, report=lambda _: None))
        world.serves()
        finished = [metric for metric in run.metrics() if metric.get("status") == "finished"]
        if refused or not finished:
            told = run.metrics()[-1:]
            if told and told[0]["event"] == "end":
                assert "unforeseen" not in told[0]["reason"], (told, seen)
            for line in (run.path / METRICS).read_bytes().splitlines() if (run.path / METRICS).exists() else ():
                json.loads(line)  # no two lines are glued
            has_begun = (run.path / "resume" / "state.pt").exists()
            if not has_begun and not run.has_weights:
                shutil.rmtree(run.path)
                run = Run.create(run.path, CONFIGURED)
            assert host(run, write_card, resume=has_begun, report=lambda _: None) == 0
    metrics = [
        {name: value for name, value in metric.items() if name != "test_evaluations"} for metric in run.metrics()
    ]
    assert without_times(metrics) == without_times(world.trained.metrics())  # a fault after the test is told in it
    assert (run.path / WEIGHTS).read_bytes() == (world.trained.path / WEIGHTS).read_bytes()
    world.serves()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["KILL", "STOP"])
@pytest.mark.parametrize("at", [5, 14, 23])
def test_a_trainer_that_is_killed_or_halted_anywhere_goes_on_to_the_same_weights(
    kind: str, at: int, world: World, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(world.root / "runs" / "run", CONFIGURED)
    faulty = [sys.executable, "-m", "tests.faults", kind, str(at), "1", str(run.path), process_module.MODULE]
    monkeypatch.setattr(process_module, "training_command", lambda run, **_: [*faulty, str(run.path)])
    monkeypatch.setattr(queue_module, "WAKE_SECONDS", 0.0)
    trainer = world.context.trainer
    trainer.start(run)
    child = trainer._children["run"]
    while child.poll() is None and psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.1)
    if kind == "STOP":
        assert trainer.status(run).is_active
        Trainer(Library(world.root / "runs")).stop(run)
        while child.poll() is None:
            trainer.advance()
            time.sleep(0.1)
    world.serves()
    with _signals():
        assert host(run, write_card, resume=True, report=lambda _: None) == 0
    assert without_times(run.metrics()) == without_times(world.trained.metrics())
    assert (run.path / WEIGHTS).read_bytes() == (world.trained.path / WEIGHTS).read_bytes()


# Odd files, each of which is one run's matter

STEP = {"event": "step", "step": 1, "loss": 0.5, "images_per_second": 9.0, "seconds": 1.0}
TORN = b'{"event": "step", "st'


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppContext:
    """With a run that has a step, and one that will be odd."""
    monkeypatch.setattr(background, "_told", {})
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    for name in ("sound", "odd"):
        Run.create(tmp_path / "runs" / name, CONFIGURED).append_metric(STEP)
    return AppContext(tmp_path / "runs")


def message(context: AppContext, *names: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(asyncio.run(LiveFeed(context).latest(names)))
    return told


def curves(context: AppContext, *names: str) -> list[str]:
    return [curve["name"] for curve in message(context, *names)["figures"]["loss"]["data"] if curve["x"]]


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"{}",
        b"[" * 100_000,
        b"not JSON",
        b"\xff\xfe",
        b'{"event": ["step"]}',
        b'{"event": "end", "status": "finished", "time": 1e300}',
        b'{"event": "step", "step": 2, "loss": NaN}',
        b'{"event": "step", "step": 2, "other": Infinity}',
        b'{"event": "step", "step": 2, "other": "\\ud800"}',
        b'{"event": "step", "step": "2"}',
        b'{"event": "epoch", "validation_accuracy": null}',
        TORN + b'{"event": "step", "step": 2}',
    ],
    ids=lambda line: line[:30].decode("latin-1"),
)
def test_an_odd_line_is_left_out_and_named_and_everything_else_is_shown(line: bytes, context: AppContext) -> None:
    run = context.library.open("odd")
    with (run.path / METRICS).open("ab") as file:
        file.write(line + b"\n" + json.dumps({**STEP, "step": 3}).encode() + b"\n")
    assert curves(context, "sound", "odd") == ["sound", "odd"]
    assert "Line 2 of its metrics cannot be read" in message(context, "odd", "sound")["status"]
    assert "Line 2 of its metrics cannot be read" in training_status(context, "odd")["reason"]
    assert "metrics" not in training_status(context, "sound")["reason"]
    assert [row[0] for row in run_rows(context, None)] != []
    assert [metric["step"] for metric in run.metrics()] == [1, 3]
    context.trainer.stop(run)


def test_metrics_that_lack_what_pages_read_and_files_that_are_folders_are_one_runs_matter(context: AppContext) -> None:
    run = context.library.open("odd")
    run.append_metric({"event": "epoch"})
    run.append_metric({"event": "start"})
    assert curves(context, "odd", "sound") == ["odd", "sound"]
    assert "2 of its metrics are incomplete and not shown" in message(context, "odd")["status"]
    assert len(run_rows(context, None)) == 2
    (run.path / METRICS).unlink()
    (run.path / METRICS).mkdir()
    assert curves(context, "odd", "sound") == ["sound"]
    assert "a folder is in the way of a file" in training_status(context, "odd")["reason"]
    with pytest.raises(UserError, match=r"^The metrics.jsonl of odd cannot be read: a folder is in the way"):
        run.metrics()


def test_a_run_whose_figures_cannot_be_made_is_named_beside_the_others(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    *about, loss_chart = live.CURVES["loss"]

    def refusing(histories: dict[str, Any]) -> Any:
        assert "odd" not in histories
        return loss_chart(histories)

    monkeypatch.setitem(live.CURVES, "loss", (*about, refusing))
    assert curves(context, "odd", "sound") == ["sound"]
    assert "odd cannot be shown" in message(context, "odd", "sound")["status"]
    assert "odd cannot be shown" in message(context, "odd")["status"]


def test_where_the_runs_cannot_be_read_a_page_is_told_and_the_next_look_goes_well(context: AppContext) -> None:
    feed = LiveFeed(context)
    with fault("EMFILE", below=context.library.root, lasts=FOR_EVER):
        told = json.loads(asyncio.run(feed.latest(("sound",))))
    assert "too many files are open" in told["status"]
    feed._messages.clear()
    feed._shown.clear()
    assert json.loads(asyncio.run(feed.latest(("sound",))))["figures"]["loss"]["data"][0]["x"] == [1]


@pytest.mark.parametrize("content", [b"nonsense", b"[]", b"5", b'{"time": NaN}', b'{"time": "x"}', b"\xff", None])
def test_a_place_in_the_queue_that_cannot_be_read_is_told_and_taken_anew(
    content: bytes | None, context: AppContext
) -> None:
    run = context.library.open("odd")
    if content is None:
        (run.path / QUEUED).mkdir()
        (run.path / OWNER).mkdir()
    else:
        (run.path / QUEUED).write_bytes(content)
        (run.path / OWNER).write_bytes(content)
    assert context.trainer.queue() == []
    assert "Its queue entry cannot be read: start the training again." in training_status(context, "odd")["reason"]
    assert not visitors.owns(run.path / OWNER, "key")
    with context.library.open("sound").training_lock():
        context.trainer.start(run)
        assert [waiting.name for waiting in context.trainer.queue()] == ["odd"]
        context.trainer.stop(run)
    assert not (run.path / QUEUED).exists()


def test_names_that_nobody_can_read_and_nonsense_in_lists_are_left_out(
    context: AppContext, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for root in (context.library.root, context.datasets.folder):
        shutil.copytree(data / GREYS, root / os.fsdecode(b"caf\xe9"))
    shutil.copytree(data / GREYS, context.datasets.folder / GREYS)
    sound = ["cifar10-mini", GREYS]
    for content in ("{}", "[{}]", '[["a/b"], 5, "\\ud800/b", "a"]', "[" * 100_000, "5"):
        (context.datasets.folder / HUB_DATASETS).write_text(content)
        assert [ref for _, ref in context.datasets.choices()] == sound
    (context.datasets.folder / HUB_DATASETS).write_text('[{}, "ann/bees@main", "\\ud800/b"]')
    assert [ref for _, ref in context.datasets.choices()] == [*sound, "ann/bees@main"]
    context.datasets.remember(DatasetRef("bob/ants"))
    assert json.loads((context.datasets.folder / HUB_DATASETS).read_text()) == ["ann/bees@main", "bob/ants"]
    assert {run.name for run in context.library.runs()} == {"odd", "sound"}
    (context.library.root / "odd" / CONFIG).write_text("{")
    for _ in range(3):
        assert [run.name for run in context.library.runs()] == ["sound"]
    said = capsys.readouterr().out
    assert said.count("Skipped: The config.json of odd cannot be read") == 1
    assert said.count("has a name that is not UTF-8") == 1


def test_a_lock_that_was_left_on_a_disk_that_is_read_only_stops_nothing(context: AppContext) -> None:
    run = context.library.open("odd")
    (run.path / LOCK).touch()
    with fault("EROFS", below=context.library.root, lasts=FOR_EVER):
        assert not run.is_training
        assert training_status(context, "odd")["state"]
        assert context.trainer.active() is None
        assert "cannot be trained: the folder is not writable" in sentence(lambda: run.training_lock().__enter__())


# Writing metrics


def test_a_short_write_is_finished_or_taken_back(context: AppContext) -> None:
    run = context.library.open("odd")
    before = (run.path / METRICS).read_bytes()
    with fault("SHORT", below=run.path), pytest.raises(OSError, match="No space left"):
        run.append_metric({**STEP, "step": 2})
    assert (run.path / METRICS).read_bytes() == before
    real = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: real(file, bytes(data)[:7]))
        run.append_metric({**STEP, "step": 2})
    assert [metric["step"] for metric in run.metrics()] == [1, 2]


@pytest.mark.parametrize(
    ("tail", "steps"), [(TORN, [1, 3]), (json.dumps({**STEP, "step": 2}).encode(), [1, 2, 3]), (b"\0" * 9, [1, 3])]
)
def test_a_line_after_a_torn_one_stands_on_its_own(tail: bytes, steps: list[int], context: AppContext) -> None:
    run = context.library.open("odd")
    with (run.path / METRICS).open("ab") as file:
        file.write(tail)
    assert [metric["step"] for metric in context.library.metrics(run)] == [1]
    run.append_metric({**STEP, "step": 3})
    assert [metric["step"] for metric in context.library.metrics(run)] == steps
    assert context.library.unreadable(run) == ""
    run.forget_metrics_after(10_000)
    assert [metric["step"] for metric in run.metrics()] == steps
    run.forget_metrics_after((run.path / METRICS).read_bytes().index(b"\n") + 5)
    assert [metric["step"] for metric in run.metrics()] == [1]


# What would be written, and what is sent


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("model", "classes", ("cat", "\ud800")),
        ("training", "dataset", "\udcff"),
        ("training", "dataset_config", "a\ud800"),
        ("training", "dataset_revision", "\udfff"),
        ("training", "start", "\ud800"),
        ("model", "\ud800", 1),
        ("model", "architecture", "\ud800"),
    ],
)
def test_half_a_character_anywhere_in_a_configuration_is_refused_in_a_sentence_that_can_be_sent(
    part: str, name: str, value: object
) -> None:
    data = CONFIGURED.to_json()
    data[part][name] = value
    with pytest.raises(UserError, match=r"\.$") as caught:
        RunConfig.from_json(data)
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    ("kind", "at"),
    [("EMFILE", 2), *(pytest.param(kind, at, marks=pytest.mark.long) for kind in KINDS for at in range(1, 25))],
)
def test_a_push_that_a_fault_ends_can_be_done_afterwards(
    kind: str, at: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate_client(monkeypatch, world.root / "client")
    without_waiting(monkeypatch)
    with HubStub() as hub:
        hub.add_user(TOKEN, "ann")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        run = world.context.library.open("trained")
        with fault(kind, below=world.root, at=at):
            sentence(lambda: push_run(run, "ann/greys", token=TOKEN))
        world.serves()
        assert push_run(run, "ann/greys", token=TOKEN).startswith(hub.url)
    world.serves()


# Threads in the background


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError(), RuntimeError("anything")])
def test_work_in_the_background_outlives_what_goes_wrong_and_tells_it_once(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[int] = []

    def work() -> bool:
        done.append(1)
        if len(done) not in (3, 6):
            raise error
        return len(done) == 6

    background.keep_doing("Some work", work, 0.0)
    assert len(done) == 6
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2  # it went well in between
    assert all(line.startswith(f"Some work failed and will be retried: {type(error).__name__}") for line in said)


def test_a_job_is_followed_on_after_the_machine_lacked_something(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "AGAIN_SECONDS", (0.01,))
    tries: list[int] = []

    def follow(_: Any) -> Metric:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(24, "Too many open files")
        return {"status": "finished"}

    monkeypatch.setattr(follower.Follower, "_follow", follow)
    run = context.library.open("odd")
    thread = follower.Follower(run, Job("1", "ann", "ann/odd", "cpu"), None)
    thread.start()
    thread.join(30)
    assert run.metrics()[-1]["status"] == "finished"


# Two apps, clocks, and trainers that do not answer


def test_two_apps_on_one_folder_train_one_run_and_keep_the_order_of_the_starts(world: World) -> None:
    root = world.root / "runs"
    apps = [Trainer(Library(root)) for _ in range(4)]
    runs = [Run.create(root / f"run-{i}", CONFIGURED) for i in range(4)]
    threads = [threading.Thread(target=app.start, args=(run,)) for app, run in zip(apps, runs, strict=True)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        children = [child for app in apps for child in app._children.values()]
        assert len(children) == 1
        assert len(apps[0].queue()) == 3
        for app in apps:
            app.advance()
            assert app.active() is not None  # also where another app has started it
        assert [child for app in apps for child in app._children.values()] == children
    finally:
        for app in apps:
            for child in app._children.values():
                child.kill()
                child.wait()


def test_another_app_that_hangs_at_a_start_is_told_and_one_that_was_killed_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "TURN_SECONDS", 0.1)
    held = (
        "import fcntl, os, sys, time; f = os.open(sys.argv[1], 0); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", held, str(world.root / "runs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert sentence(lambda: start(world)).endswith("another app is using this folder: try again in a moment.")
        other.kill()
    start(world)
    assert world.context.trainer.active() == "new"


def test_a_clock_that_is_set_back_lets_no_run_overtake(world: World) -> None:
    library, trainer = world.context.library, world.context.trainer
    old = Run.create(library.root / "of-an-earlier-version", CONFIGURED)
    (old.path / QUEUED).write_text(json.dumps({"time": time.time(), "resume": False}))
    with library.open("trained").training_lock():
        for name, seconds in (("b", 0), ("c", -7_200), ("a", 100_000)):
            with clock(seconds):
                trainer.start(Run.create(library.root / name, CONFIGURED))
    assert [run.name for run in trainer.queue()] == ["of-an-earlier-version", "b", "c", "a"]


@pytest.mark.parametrize("ignores", [False, True], ids=["woken by SIGTERM", "killed"])
def test_a_halted_trainer_that_another_app_has_started_does_not_hold_the_queue_after_stop(
    ignores: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world.root / "runs"
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    if ignores:
        command = [sys.executable, "-S", "-c", stubborn, process_module.MODULE]
        monkeypatch.setattr(process_module, "training_command", lambda run, **_: [*command, str(run.path)])
    other = Trainer(Library(root))
    run, waiting = (Run.create(root / name, CONFIGURED) for name in ("run", "waiting"))
    other.start(run)
    child = other._children["run"]
    while ignores and (run.path / "resume" / "trainer.log").read_bytes() == b"":
        time.sleep(0.01)
    child.send_signal(signal.SIGSTOP)
    trainer = world.context.trainer
    trainer.start(waiting)
    trainer.stop(run)
    trainer.advance()
    assert child.poll() is None  # it may still answer
    monkeypatch.setattr(queue_module, "WAKE_SECONDS", 0.0)
    monkeypatch.setattr(queue_module, "KILL_SECONDS", 0.0 if ignores else 300.0)
    until = time.monotonic() + 60
    while trainer.active() != "waiting":
        assert time.monotonic() < until
        trainer.advance()
        child.poll()
        time.sleep(0.02)
    assert child.wait() == -(signal.SIGKILL if ignores else signal.SIGTERM)
    if ignores:
        assert "did not respond to Stop" in trainer.status(run).reason
        assert trainer.status(run).state == "stopped"


def test_no_process_but_the_runs_trainer_is_ever_signalled(world: World) -> None:
    run = world.context.library.open("trained")
    words = [sys.executable, "-S", "-c", "import time; time.sleep(60)", process_module.MODULE, "/elsewhere/trained"]
    with subprocess.Popen(words) as stranger:
        try:
            for number in (os.getpid(), stranger.pid, 10**30, -1, "x"):
                (run.path / TRAINER).write_text(f"{number}\n")
                assert trainer_process(run) is None
                assert world.context.trainer.active() is None
        finally:
            stranger.kill()


def test_a_run_that_cannot_be_started_does_not_hold_the_queue(world: World) -> None:
    root = world.root / "runs"
    for i, name in enumerate(("broken", "next")):
        run = Run.create(root / name, CONFIGURED)
        (run.path / QUEUED).write_text(json.dumps({"number": i, "time": 1, "resume": False}))
    (root / "broken" / "resume" / "trainer.log").mkdir()
    world.context.trainer.advance()
    assert world.context.trainer.active() == "next"


# What all streams share


def test_one_look_serves_streams_of_different_runs_and_each_keeps_its_message(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "REFRESH_SECONDS", 1_000.0)
    feed, called = LiveFeed(context), Counter[str]()
    runs, content = Library.runs, LiveFeed._content

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            called[name] += 1
            return original(*given)

        return call

    monkeypatch.setattr(Library, "runs", counted("looks", runs))
    monkeypatch.setattr(LiveFeed, "_content", counted("made", content))
    count = 2 * live.MAX_MESSAGES
    sets = [(f"gone-{i}", "sound") for i in range(count)]

    async def watch() -> None:
        streams = [feed._events(names) for names in sets]
        for stream in streams:
            await anext(stream)
            await anext(stream)
        for message in list(feed._shown.values()):
            message.looked = -1e9  # as after some time in which nothing happened
        for names in sets:
            await feed.latest(names)
        for stream in streams:
            await stream.aclose()

    asyncio.run(watch())
    assert called == {"looks": 1, "made": count}


@pytest.mark.parametrize(
    "asked", ["../x,sound", "a" * 10_000 + ",sound", "%00,sound", "%ff%fe,sound", ",,<b>,sound,sound"]
)
def test_odd_names_in_the_address_of_a_stream_are_left_out(asked: str, context: AppContext) -> None:
    feed = LiveFeed(context)
    context.library._renamed["x" * 5] = "y"
    request = Request({"type": "http", "query_string": f"runs={asked}".encode(), "headers": []})

    async def first() -> str:
        response = await feed._stream(request)
        parts = response.body_iterator
        await anext(parts)
        return str(await anext(parts))

    told = json.loads(asyncio.run(first())[6:])
    assert [curve["name"] for curve in told["figures"]["loss"]["data"]] == ["sound"]
    assert list(feed._messages) == [("sound",)]
