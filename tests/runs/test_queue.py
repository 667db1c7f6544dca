import io
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_space.common import forking
from resnet_space.common.forking import start_fork_server, wait_for_fork_server
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import CONFIG, LOG, QUEUED, RESUME, TRAINER, Library, Metric, Run
from resnet_space.runs.process import IMPORTED, last_log_lines
from resnet_space.runs.queue import LAPSE_SECONDS, BusyError, Status, Trainer, status_of
from tests.conftest import WriteSplit

# 9 steps of 4 images of 8 pixels an epoch.
SHORT = RunConfig(
    ModelConfig("resnet20", ("dark", "bright"), image_size=8),
    TrainConfig(
        dataset="noise", epochs=1, batch_size=4, backbone_lr=0.01, head_lr=0.01, crop_padding=0, precision="float32"
    ),
)
# Minutes, so that it never ends by itself in a test; it writes its loss once an epoch.
LONG = replace(SHORT, training=replace(SHORT.training, epochs=1_000))
PATIENCE = 300  # seconds; a start takes some 5 on a quiet machine

START: Metric = {"event": "start", "epochs": 2, "steps_per_epoch": 3}
STEP: Metric = {"event": "step", "step": 1, "loss": 2.3}
EPOCH: Metric = {"event": "epoch", "epoch": 1}
TEST: Metric = {"event": "test", "accuracy": 0.5}


def ended(status: str, **more: str) -> Metric:
    return {"event": "end", "status": status, **more}


# How a training stands: a pure function


def judged(metrics: list[Metric], **known: Any) -> Status:
    silent: dict[str, Any] = {"alive": False, "stopping": False, "exit_code": None, "last_log_line": ""}
    return status_of(metrics, **silent | known)


@pytest.mark.parametrize(
    ("metrics", "known", "state"),
    [
        ([], {}, "new"),
        ([], {"stopping": True}, "new"),
        ([], {"alive": True}, "starting"),
        ([START], {"alive": True}, "starting"),
        ([START, STEP], {"alive": True}, "training"),
        ([START, STEP, EPOCH], {"alive": True}, "training"),
        ([START, STEP, EPOCH, TEST], {"alive": True}, "training"),
        ([], {"alive": True, "stopping": True}, "stopping"),
        ([START, STEP], {"alive": True, "stopping": True}, "stopping"),
        ([START, STEP, EPOCH, TEST, ended("finished")], {}, "finished"),
        ([START, STEP, EPOCH, TEST, ended("finished")], {"exit_code": 0}, "finished"),
        ([START, STEP, ended("stopped")], {"exit_code": 0, "stopping": True}, "stopped"),
        ([START, STEP, ended("stopped")], {"exit_code": None}, "stopped"),
        ([START, STEP, ended("stopped")], {"alive": True, "place": 1}, "training"),
    ],
)
def test_the_state_follows_from_metrics_and_process(metrics: list[Metric], known: dict[str, Any], state: str) -> None:
    status = judged(metrics, **known)
    assert status == Status(state)
    assert status.is_active == (state in ("starting", "training", "stopping"))


def test_a_failed_training_gives_the_reason_that_it_wrote() -> None:
    metrics = [START, STEP, ended("failed", reason="The loss is no longer a number.")]
    expected = Status("failed", "The loss is no longer a number.")
    assert judged(metrics) == judged(metrics, exit_code=1, last_log_line="something else") == expected
    assert not expected.is_active


def test_a_run_that_waits_has_a_place_whatever_it_did_before() -> None:
    for metrics in ([], [START, STEP, ended("stopped")], [START, STEP, EPOCH]):
        assert judged(metrics, place=3) == Status("queued", place=3)


def test_a_failed_training_tells_what_a_new_try_should_change() -> None:
    metrics = [START, STEP, ended("failed", reason="Memory ran out.", cause="memory")]
    assert judged(metrics) == Status("failed", "Memory ran out.", "memory")


def test_what_a_training_wrote_at_its_end_counts_more_than_how_its_process_ended() -> None:
    assert judged([START, STEP, TEST, ended("finished")], exit_code=-9) == Status("finished")


@pytest.mark.parametrize(
    ("number", "name", "memory"), [(9, "SIGKILL", True), (15, "SIGTERM", False), (11, "SIGSEGV", False)]
)
def test_a_trainer_ended_by_a_signal_failed_and_the_signal_is_named(number: int, name: str, memory: bool) -> None:
    status = judged([START, STEP], exit_code=-number, last_log_line="a line that is not its fault")
    assert status.state == "failed"
    assert name in status.reason
    assert ("memory" in status.reason) == memory  # only the kernel's out-of-memory killer sends SIGKILL by itself
    assert "a line that" not in status.reason


def test_a_trainer_that_exits_without_a_word_in_its_metrics_failed_with_its_last_log_line() -> None:
    status = judged([], exit_code=1, last_log_line="ModuleNotFoundError: No module named 'torch'")
    assert status.state == "failed"
    assert "exit status 1" in status.reason
    assert "No module named 'torch'" in status.reason


def test_a_trainer_that_said_nothing_at_all_failed_with_its_exit_status() -> None:
    status = judged([START, STEP], exit_code=0)
    assert status.state == "failed"
    assert "exit status 0" in status.reason
    assert status.reason.rstrip(".")[-1].isalpha()  # no colon with nothing behind it


def test_an_interrupted_training_whose_process_is_not_known_failed() -> None:
    status = judged([START, STEP, EPOCH])
    assert status.state == "failed"
    assert status.reason == "The training process was killed; its best weights are kept."
    assert not status.is_active


def test_no_weights_are_promised_of_a_training_that_was_killed_in_its_first_epoch() -> None:
    for exit_code in (None, -signal.SIGTERM):
        status = judged([START, STEP], exit_code=exit_code)
        assert status.state == "failed"
        assert "weights" not in status.reason


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    number = signal.SIGRTMIN + 1
    assert f"by signal {number}." in judged([START, STEP], exit_code=-number).reason


# Without a process: what the trainer makes of a run's folder


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "checkpoints")


@pytest.fixture
def trainer(library: Library) -> Iterator[Trainer]:
    """Ends the processes that it started, also when a test fails."""
    trainer = Trainer(library)
    yield trainer
    for child in trainer._children.values():
        child.kill()  # does nothing to one that has ended already
        child.wait()


def created(library: Library, name: str, config: RunConfig = SHORT) -> Run:
    return Run.create(library.root / name, config)


def test_a_run_that_some_process_trains_is_seen_by_its_lock(library: Library, trainer: Trainer) -> None:
    run = created(library, "a-run")
    assert trainer.status(run) == Status("new")
    assert trainer.active() is None
    with run.training_lock():
        assert trainer.status(run) == Status("starting")
        assert trainer.active() == "a-run"
        run.append_metric(START)
        assert trainer.status(run) == Status("starting")
        run.append_metric(STEP)
        assert trainer.status(run) == Status("training")
        trainer.stop(run)
        assert run.stop_requested()
        assert trainer.status(run) == Status("stopping")
        run.append_metric(ended("stopped"))
    assert trainer.status(run) == Status("stopped")
    assert trainer.active() is None


def test_a_trainer_that_has_written_its_stop_is_stopping_until_its_process_has_ended(
    library: Library, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(library.root / "a-run", LONG)
    (run.path / RESUME).mkdir(exist_ok=True)
    run.note_trainer(1)
    monkeypatch.setattr(Trainer, "_is_alive", lambda *_: True)
    written = (run.path / TRAINER).stat().st_mtime
    for metric in (START, STEP, ended("stopped") | {"time": round(written, 1)}):
        run.append_metric(metric | {"seconds": 1.0})
    assert trainer.status(run).state == "stopping"
    os.utime(run.path / TRAINER, (written + 5, written + 5))  # it was resumed since
    assert trainer.status(run).state == "training"
    (run.path / TRAINER).unlink()  # it has let the run go
    assert trainer.status(run).state == "stopping"


def test_a_stop_reaches_only_a_run_that_trains(library: Library, trainer: Trainer) -> None:
    run = created(library, "a-run")
    trainer.stop(run)
    assert not run.stop_requested()


def test_while_a_run_trains_the_others_wait_in_the_order_of_their_start(library: Library, trainer: Trainer) -> None:
    run, second = created(library, "a-run"), created(library, "z-second")
    with run.training_lock():
        trainer.start(second)
        third = trainer.start_new(lambda: created(library, "b-third"))
        assert [one.name for one in trainer.queue()] == ["z-second", "b-third"]
        assert trainer.status(second) == Status("queued", place=1)
        assert trainer.status(third) == Status("queued", place=2)
        assert not trainer.status(third).is_active
        trainer.advance()
        assert trainer.active() == "a-run"
        assert [one.name for one in Trainer(Library(library.root)).queue()] == [
            "z-second",
            "b-third",
        ]  # after a restart
        trainer.stop(second)
        assert trainer.status(second) == Status("new")
        assert trainer.status(third) == Status("queued", place=1)
        assert not second.stop_requested()
    for waiting in (second, third):
        assert not (waiting.path / LOG).exists()


def test_a_run_that_trains_or_waits_is_not_started_again(library: Library, trainer: Trainer) -> None:
    run, other = created(library, "a-run"), created(library, "another")
    with run.training_lock():
        trainer.start(other)
        for one in (run, other):
            with pytest.raises(BusyError, match=rf"^{one.name} is already training or queued\.$"):
                trainer.start(one)
    assert [one.name for one in trainer.queue()] == ["another"]


def test_when_as_many_wait_as_may_the_next_is_not_even_created(library: Library) -> None:
    trainer = Trainer(library, longest_queue=2)
    run = created(library, "a-run")
    with run.training_lock():
        for name in ("second", "third"):
            trainer.start(created(library, name))
        with pytest.raises(BusyError, match=r"^The queue is full \(2 trainings\): try again later\.$"):
            trainer.start_new(lambda: created(library, "fourth"))
    assert sorted(run.name for run in library.runs()) == ["a-run", "second", "third"]


def test_a_run_whose_page_never_came_to_host_it_does_not_wait_for_ever(library: Library) -> None:
    trainer = Trainer(library, longest_queue=1, spawns=False)
    run = created(library, "left")
    trainer.start(run)
    assert trainer.status(run).state == "queued"
    long_ago = {"time": time.time() - LAPSE_SECONDS - 1, "resume": False}
    (run.path / QUEUED).write_text(json.dumps(long_ago))
    assert trainer.status(run).state == "new"
    assert not run.is_queued
    (run.path / QUEUED).write_text(json.dumps(long_ago))
    assert [waiting.name for waiting in Trainer(library).queue()] == [
        "left"
    ]  # where processes train, all have their turn


def test_a_trainer_that_makes_no_processes_lets_runs_wait_until_another_host_takes_them(library: Library) -> None:
    trainer = Trainer(library, spawns=False)
    first = trainer.start_new(lambda: created(library, "first"))
    trainer.start(second := created(library, "second"), resume=True)
    trainer.advance()
    assert [run.name for run in trainer.queue()] == ["first", "second"]
    assert trainer.active() is None
    assert (trainer.take(first), trainer.take(second)) == (False, True)
    assert trainer.queue() == []
    assert trainer.take(first) is None  # what is hosted already is not hosted twice


def test_a_damaged_ticket_keeps_nobody_else_from_the_queue(library: Library, trainer: Trainer) -> None:
    run, broken, other = (created(library, name) for name in ("a-run", "broken", "other"))
    with run.training_lock():
        trainer.start(other)
        (broken.path / QUEUED).write_text("{", encoding="utf-8")
        assert [one.name for one in trainer.queue()] == ["other"]


def test_the_log_is_shown_without_tokens_and_only_its_end(library: Library) -> None:
    run = created(library, "a-run")
    assert last_log_lines(run) == []
    lines = [f"line {i}" for i in range(50)] + ["Authorization: Bearer hf_AbCdEf123"]
    (run.path / LOG).write_text("\n".join(lines), encoding="utf-8")
    shown = last_log_lines(run, 3)
    assert shown == ["line 48", "line 49", "Authorization: Bearer hf_***"]


def test_a_new_run_that_cannot_be_created_starts_nothing(library: Library, trainer: Trainer) -> None:
    def refuse() -> Run:
        raise ValueError("no such start")

    with pytest.raises(ValueError, match="no such start"):
        trainer.start_new(refuse)
    assert trainer.active() is None


# With real processes


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Iterator[None]:
    """`noise`: 40 training and 10 test images of 8 pixels, for this process and those that it starts."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)

    def png(label: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(random.integers(100 * label, 100 * label + 100, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
        return file.getvalue()

    for split, count in (("train", 40), ("test", 10)):
        labels = [i % 2 for i in range(count)]
        write_split(folder / "noise", split, [png(label) for label in labels], labels, SHORT.model.classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_FOLDER_VARIABLE, str(folder))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(forking, "_server", None)
        start_fork_server(IMPORTED)  # where there is one, trainings are forked, as those of an app
        wait_for_fork_server(PATIENCE)
        yield
        if forking._server is not None:
            forking._server.close()


def wait_for_epochs(trainer: Trainer, run: Run, epochs: int) -> None:
    """Until it has done so many; fails at once if it ends before."""
    end = time.monotonic() + PATIENCE
    while count(run, "epoch") < epochs:
        assert trainer.status(run).is_active, (trainer.status(run), log_of(run))
        assert time.monotonic() < end, log_of(run)
        time.sleep(0.02)


def wait_for_end(trainer: Trainer, run: Run) -> None:
    end = time.monotonic() + PATIENCE
    while trainer.status(run).is_active:
        assert time.monotonic() < end, log_of(run)
        time.sleep(0.02)


def log_of(run: Run) -> str:
    return (run.path / LOG).read_text(encoding="utf-8")


def count(run: Run, event: str) -> int:
    return sum(metric["event"] == event for metric in run.metrics())


def test_a_training_that_is_let_run_is_finished(library: Library, trainer: Trainer) -> None:
    run = trainer.start_new(lambda: created(library, "a-run"))
    assert trainer.status(run) == Status("starting")
    assert trainer.active() == "a-run"
    wait_for_end(trainer, run)
    assert trainer.status(run) == Status("finished")
    assert Trainer(library).status(run) == Status("finished")
    assert trainer.active() is None
    assert (count(run, "step"), count(run, "epoch"), count(run, "test")) == (9, 1, 1)
    assert run.load_model()
    assert "event=epoch" in log_of(run)


def test_a_running_training_is_seen_and_kept_alone_and_stopped_by_a_trainer_that_did_not_start_it(
    library: Library, trainer: Trainer
) -> None:
    run, other = created(library, "a-run", LONG), created(library, "another")
    trainer.start(run)
    wait_for_epochs(trainer, run, 1)

    restarted = Trainer(Library(library.root))  # as after a restart of the app
    for one in (trainer, restarted):
        assert one.status(run) == Status("training")
        assert one.status(other) == Status("new")
        assert one.active() == "a-run"
    restarted.start(other)
    assert trainer.status(other) == restarted.status(other) == Status("queued", place=1)

    restarted.stop(run)
    wait_for_end(trainer, run)
    assert trainer.status(run) == restarted.status(run) == Status("stopped")
    restarted.advance()
    assert restarted.active() == "another"
    assert trainer.queue() == []
    wait_for_end(restarted, other)
    assert trainer.status(other) == Status("finished")
    assert 0 < count(run, "epoch") < 1_000
    assert count(run, "test") == 0
    assert run.load_model()


def test_a_killed_trainer_is_reported_as_failed_with_the_signal_and_the_next_start_works(
    library: Library, trainer: Trainer
) -> None:
    run = created(library, "a-run", LONG)
    trainer.start(run)
    wait_for_epochs(trainer, run, 2)
    child = trainer._children["a-run"]
    assert os.getpgid(child.pid) != os.getpgid(0)  # a Ctrl-C in the app's shell does not reach it
    child.kill()
    wait_for_end(trainer, run)
    status = trainer.status(run)
    assert status.state == "failed"
    assert "SIGKILL" in status.reason
    assert Trainer(library).status(run).state == "failed"  # one that did not start it cannot know the signal
    assert trainer.active() is None
    assert run.has_weights
    assert run.load_model()

    run.request_stop()  # as if somebody had pressed Stop before the trainer was killed: it must not stop the next one
    trainer.start(run, resume=True)
    assert trainer.status(run).is_active
    epochs = count(run, "epoch")
    wait_for_epochs(trainer, run, epochs + 2)
    assert trainer.status(run) == Status("training")
    steps = [metric["step"] for metric in run.metrics() if metric["event"] == "step"]
    assert steps == [9 * (i + 1) for i in range(len(steps))]  # it went on where the saved state was
    assert count(run, "start") == 1


def test_a_trainer_that_cannot_even_open_its_run_is_reported_with_what_it_said(
    library: Library, trainer: Trainer
) -> None:
    run = created(library, "a-run")
    (run.path / CONFIG).write_text("{", encoding="utf-8")
    trainer.start(run)
    wait_for_end(trainer, run)
    status = trainer.status(run)
    assert status.state == "failed"
    assert "exit status 1" in status.reason
    assert f"The {CONFIG} of a-run cannot be read" in status.reason
    assert run.metrics() == []
