"""A training that is killed again and again ends as if nothing had happened."""

import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from resnet_space.common import forking
from resnet_space.common.forking import Child, Forked, ForkServer, start_detached
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import EVALUATION, METRICS, WEIGHTS, Run, last_metric
from resnet_space.runs.process import IMPORTED
from tests.conftest import WriteSplit
from tests.trainings import with_everything, without_times, write_greys

EVERYTHING = with_everything(epochs=12)
# MixUp would have each process import torchvision, for seconds; interruptions with it are those of test_train.py.
CONFIG = replace(EVERYTHING, training=replace(EVERYTHING.training, mixup=0.0))


def trainer(run: Run, *options: str) -> Child:
    with open(os.devnull, "wb") as log:
        return start_detached([sys.executable, "-m", "resnet_space.train", str(run.path), *options], log)


def kill_at_a_random_moment(run: Run, process: Child, seconds: float) -> bool:
    """Wait until it trains, and up to so many seconds more; whether it was still there to be killed."""
    before = (run.path / METRICS).stat().st_mtime_ns if (run.path / METRICS).exists() else 0
    while process.poll() is None and (
        not (run.path / METRICS).exists() or (run.path / METRICS).stat().st_mtime_ns == before
    ):
        time.sleep(0.005)
    time.sleep(random.random() * seconds)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_forked_training_that_is_killed_at_random_moments_ends_with_the_same_bits(
    kills: int, tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_greys(write_split, tmp_path, train=180, test=40)
    for name, value in ((DATA_FOLDER_VARIABLE, str(tmp_path)), ("CUDA_VISIBLE_DEVICES", ""), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    undisturbed, run = (Run.create(tmp_path / name, CONFIG) for name in ("undisturbed", "killed"))
    started = time.monotonic()
    assert trainer(undisturbed).wait() == 0  # by its command
    last = last_metric(undisturbed.metrics(), "epoch")
    assert last
    training = last["seconds"]  # without those of the start, and of what follows the last epoch
    assert time.monotonic() - started > training

    server = ForkServer(IMPORTED)
    monkeypatch.setattr(forking, "_server", server)
    assert server.is_ready(120)
    done = 0
    while done < kills:
        # A resumed training loses at most an epoch to each kill, so that on the whole it comes on.
        process = trainer(run, "--resume")
        assert isinstance(process, Forked)
        done += kill_at_a_random_moment(run, process, 0.6 * training / kills)
        if run.metrics() and run.metrics()[-1]["event"] == "end":
            break
    epochs = max((metric["epoch"] for metric in run.metrics() if metric["event"] == "epoch"), default=0)
    print(f"{done} kills, the last after {epochs} of {CONFIG.training.epochs} epochs")
    assert done == kills, "it ended before it was killed often enough"
    assert trainer(run, "--resume").wait() == 0
    server.close()

    assert without_times(run.metrics()) == without_times(undisturbed.metrics())
    for file in (WEIGHTS, EVALUATION):
        assert (run.path / file).read_bytes() == (undisturbed.path / file).read_bytes()
