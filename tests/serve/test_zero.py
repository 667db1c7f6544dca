"""Slices of ZeroGPU's time. The package `spaces` is the real one: it asks a stand-in for its API, forks and trains."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import is_zero_gpu
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import CARD, DECODED, EVALUATION, WEIGHTS, Metric, Run, last_metric
from resnet_space.serve.limits import VARIABLES
from resnet_space.serve.zero.host import ABORTED, LEFT, train_in_slices, train_slice
from resnet_space.serve.zero.quota import (
    FIRST_SECONDS,
    LEAVING_SECONDS,
    MOST_SECONDS,
    Refusal,
    expected_steps_per_second,
    needed_seconds,
    quota_words,
    refusal,
    seconds_to_ask,
    steps_per_second,
)
from resnet_space.training.device import choose_device
from tests.conftest import WriteSplit
from tests.trainings import with_everything, without_times, write_greys
from tests.zero_stub import REPOSITORY, SPACE, ZeroGPUStub, visitor_request, visitor_token

END_SECONDS = 120
CONFIG = with_everything(epochs=16)


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    write_greys(write_split, folder, train=180, test=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_FOLDER_VARIABLE, str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")  # so that sums are made in the same order everywhere
        yield folder


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Run:
    run = Run.create(tmp_path_factory.mktemp("runs") / "one", CONFIG)
    command = [sys.executable, "-m", "resnet_space.train", str(run.path)]
    subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=True)
    return run


@pytest.fixture
def zero() -> Iterator[ZeroGPUStub]:
    with ZeroGPUStub() as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", CONFIG)


class Page:
    """A process like a ZeroGPU Space's, in which a page trains a run."""

    def __init__(self, zero: ZeroGPUStub, run: Run, *options: str, **environment: str) -> None:
        self.run = run
        self.log = run.path.with_name("page.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*SPACE, "train", str(run.path), *options],
                cwd=REPOSITORY,
                env=os.environ | zero.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self) -> Metric:
        """How the run ended, when the process has."""
        try:
            assert self.process.wait(END_SECONDS) == 0, self.log.read_text()
        finally:
            self.process.kill()
        assert not self.run.is_training
        assert not (self.run.path / DECODED).exists()
        said = self.log.read_text()
        assert "Traceback" not in said, said
        end = last_metric(self.run.metrics(), "end")
        assert end is not None, said
        return {name: value for name, value in end.items() if name != "time"}

    def wait_for(self, event: str, count: int = 1) -> None:
        """Until its metrics have so many of a kind."""
        deadline = time.monotonic() + END_SECONDS
        while sum(metric["event"] == event for metric in self.run.metrics()) < count:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)


def assert_same_training(run: Run, other: Run) -> None:
    assert without_times(run.metrics()) == without_times(other.metrics())
    for file in (WEIGHTS, EVALUATION):
        assert (run.path / file).read_bytes() == (other.path / file).read_bytes()


# Off a Space


def test_off_a_space_the_package_leaves_functions_as_they_are() -> None:
    import spaces

    assert not is_zero_gpu()
    assert spaces.GPU(duration=5)(train_slice.__call__) == train_slice.__call__
    assert not hasattr(train_slice, "zerogpu")


def test_on_a_zero_gpu_space_the_main_process_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as the package makes it say there
    assert choose_device().type == "cuda"
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert is_zero_gpu()
    assert choose_device().type == "cpu"


def test_slices_in_this_process_write_what_one_training_writes(run: Run, in_one_go: Run) -> None:
    made = list(train_in_slices(run, most=3))
    assert made[-1].number >= 2
    assert_same_training(run, in_one_go)
    assert (run.path / CARD).exists()


def test_a_run_that_trains_is_refused_and_left_alone(run: Run) -> None:
    with run.training_lock(), pytest.raises(UserError, match="already being trained"):
        next(train_in_slices(run))
    assert run.metrics() == []


def test_what_cannot_be_trained_is_refused_before_a_gpu_is_asked_for(run: Run, tmp_path: Path) -> None:
    gone = Run.create(tmp_path / "gone", replace(CONFIG, training=replace(CONFIG.training, dataset="no-such")))
    assert list(train_in_slices(gone)) == []
    end = gone.metrics()[-1]
    assert end["status"] == "failed"
    assert "no-such" in end["reason"]


# On a Space


@pytest.mark.long
def test_slices_in_forked_processes_end_with_the_same_bits_as_one_training(
    zero: ZeroGPUStub, run: Run, in_one_go: Run
) -> None:
    page = Page(zero, run, "--most=3")
    page.wait_for("step")
    assert run.is_training
    assert page.end() == {"event": "end", "status": "finished"}
    assert len(zero.asked) >= 2
    assert {asked.seconds for asked in zero.asked} == {3}
    assert {asked.token for asked in zero.asked} == {visitor_token("reader")}
    assert page.process.pid not in zero.workers
    assert zero.released == [False] * len(zero.asked)
    assert_same_training(run, in_one_go)
    assert (run.path / CARD).exists()


@pytest.mark.long
def test_a_quota_that_ends_in_the_middle_stops_the_run_and_another_day_resumes_it(
    zero: ZeroGPUStub, run: Run, in_one_go: Run
) -> None:
    zero.give()
    zero.refuse(left=2)
    end = Page(zero, run, "--most=3").end()
    assert end["status"] == "stopped"
    assert end["reason"] == (
        "Only 2 s of your ZeroGPU quota are left, too few to continue: resume in 3 h 0 min, when it is renewed."
    )
    assert len(zero.asked) == 2
    list(train_in_slices(run, resume=True))
    assert last_metric(run.metrics(), "end")["status"] == "finished"
    assert_same_training(run, in_one_go)


@pytest.mark.long
def test_what_is_left_of_a_quota_is_asked_for_where_it_is_of_use(zero: ZeroGPUStub, run: Run) -> None:
    zero.refuse(left=16)
    assert Page(zero, run).end()["status"] == "finished"
    assert zero.asked[0].seconds > 16
    assert zero.asked[1].seconds == 16


@pytest.mark.long
def test_a_training_that_is_stopped_goes_on_from_the_same_step(zero: ZeroGPUStub, run: Run, in_one_go: Run) -> None:
    page = Page(zero, run)
    page.wait_for("epoch", 2)
    run.request_stop()
    assert page.end() == {"event": "end", "status": "stopped"}
    assert zero.released == [False]
    assert Page(zero, run, "--resume").end()["status"] == "finished"
    assert_same_training(run, in_one_go)


@pytest.mark.long
def test_a_page_that_is_closed_stops_its_run_which_can_be_resumed(zero: ZeroGPUStub, run: Run, in_one_go: Run) -> None:
    end = Page(zero, run, "--leave-at=12").end()
    assert end == {"event": "end", "status": "stopped", "reason": LEFT}
    assert zero.released == [False]
    step = max(metric["step"] for metric in run.metrics() if metric["event"] == "step")
    page = Page(zero, run, "--resume")
    page.wait_for("test")
    assert page.end()["status"] == "finished"
    assert 12 <= step < 160
    assert_same_training(run, in_one_go)


@pytest.mark.long
def test_a_slice_that_is_killed_fails_in_one_sentence_and_can_be_resumed(
    zero: ZeroGPUStub, run: Run, in_one_go: Run
) -> None:
    page = Page(zero, run)
    page.wait_for("epoch", 2)
    os.kill(zero.workers[0], signal.SIGKILL)
    end = page.end()
    assert end["status"] == "failed"
    assert end["reason"] == ABORTED
    assert zero.released == [True]
    assert Page(zero, run, "--resume").end()["status"] == "finished"
    assert_same_training(run, in_one_go)


def test_an_error_within_a_slice_is_told_as_any_host_tells_it(zero: ZeroGPUStub, tmp_path: Path) -> None:
    start = Run.create(tmp_path / "start", CONFIG)
    model = CONFIG.model.build()
    torch.nn.init.constant_(model.conv1.weight, math.nan)
    start.save_weights(model.state_dict())
    training = replace(CONFIG.training, start="start")
    end = Page(zero, Run.create(tmp_path / "run", replace(CONFIG, training=training), start=start)).end()
    assert end["status"] == "failed"
    assert end["reason"].startswith("The loss became NaN or infinite in epoch 1")
    assert end["cause"] == "loss"
    assert zero.released == [False]


@pytest.mark.long
def test_the_limit_of_minutes_ends_it(zero: ZeroGPUStub, run: Run) -> None:
    # Not a whole minute of training: the run says that it has had one already.
    with closing(train_in_slices(run)) as progress:
        while next(progress).step < 12:
            pass
    state = torch.load(run.path / "resume" / "state.pt", weights_only=True)
    state["progress"]["seconds"] = 60.0
    torch.save(state, run.path / "resume" / "state.pt")
    end = Page(zero, run, "--resume", **{VARIABLES["minutes"]: "1"}).end()
    assert end == {"event": "end", "status": "stopped", "reason": "It reached this app's limit of 1 minutes."}


# How much is asked for


def test_no_more_is_asked_for_than_is_needed_nor_than_a_slice_may_have() -> None:
    assert needed_seconds(100, 10, setup=5) == pytest.approx(5 + 1.2 * 10 + LEAVING_SECONDS)
    assert seconds_to_ask(12.1, measured=True) == 13
    assert seconds_to_ask(500, measured=True) == MOST_SECONDS
    assert seconds_to_ask(500, measured=False) == FIRST_SECONDS
    assert seconds_to_ask(500, measured=True, most=7) == seconds_to_ask(500, measured=False, most=7) == 7


def test_the_pace_is_that_of_all_steps_so_far() -> None:
    assert steps_per_second([]) is None
    assert steps_per_second([{"event": "start", "seconds": 1}]) is None
    metrics = [{"event": "step", "step": 40, "seconds": 8.0}, {"event": "epoch", "step": 40, "seconds": 9.0}]
    assert steps_per_second(metrics) == 5
    shallow, deep = (replace(CONFIG, model=replace(CONFIG.model, architecture=f"resnet{n}")) for n in (20, 110))
    assert expected_steps_per_second(shallow) == pytest.approx(5.5 * expected_steps_per_second(deep))


@pytest.fixture
def asking(zero: ZeroGPUStub, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Exception]:
    """The package's own error when it is refused."""
    from spaces.config import Config
    from spaces.zero.client import schedule

    monkeypatch.setattr(Config, "zero_device_api_url", zero.environment["SPACES_ZERO_DEVICE_API_URL"])

    def ask() -> Exception:
        with pytest.raises(Exception) as raised:  # noqa: PT011  # gradio.Error, which this module has no need of
            schedule(task_id=1, request=visitor_request(), duration=timedelta(seconds=60))
        return raised.value

    return ask


@pytest.mark.filterwarnings("ignore:Error while reading infos from Nvidia driver FS")
def test_each_refusal_of_the_package_is_understood(zero: ZeroGPUStub, asking: Callable[[], Exception]) -> None:
    def answer(refuse: Callable[..., None], *arguments: Any) -> Refusal:
        refuse(*arguments)
        understood = refusal(asking())
        assert understood is not None
        return understood

    assert answer(zero.refuse, 12, 26 * 3600) == Refusal(
        "Only 12 s of your ZeroGPU quota are left, too few to continue: resume in 26 h 0 min, when it is renewed.",
        12,
    )
    assert answer(zero.refuse, 0, 3600) == Refusal(
        "Your ZeroGPU quota is used up: resume in 1 h 0 min, when it is renewed.", 0
    )
    assert answer(zero.refuse, 30, -1).left == 30  # longer than is allowed: half of the 60 s
    assert answer(zero.no_gpu) == Refusal("No GPU was available: resume later.")
    assert refusal(ValueError("no answer of the package")) is None


def test_the_quota_is_told_in_words_without_a_number_that_nobody_knows() -> None:
    assert quota_words(31) == (
        "It will need about 40 s of GPU time. ZeroGPU gives each visitor a few minutes per day: "
        "2 without an account, 5 with a free account, 40 with PRO."
    )
    assert quota_words(31, 40.7) == "It will need about 40 s of GPU time. 40 s of your free ZeroGPU quota are left."
    assert quota_words(31, 30).endswith(" When yours are used up, the training stops; you can resume it later.")
    assert quota_words(181).startswith("It will need about 4 min of GPU time.")
    assert quota_words(181).endswith("When yours are used up, the training stops; you can resume it later.")
