"""A training that is killed again and again ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.runs import EVALUATION, METRICS, WEIGHTS, Run, last_metric
from tests.conftest import WriteSplit
from tests.trainings import with_everything, without_times, write_greys

CONFIG = with_everything(epochs=12)


def trainer(run: Run, folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "resnet_space.train", str(run.path), *options],
        cwd=Path(__file__).parents[2],
        env=os.environ | {DATA_FOLDER_VARIABLE: str(folder), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def kill_at_a_random_moment(run: Run, process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait until it trains, and up to so many seconds more; whether it was still there to be killed."""
    before = (run.path / METRICS).stat().st_mtime_ns if (run.path / METRICS).exists() else 0
    while process.poll() is None and (
        not (run.path / METRICS).exists() or (run.path / METRICS).stat().st_mtime_ns == before
    ):
        time.sleep(0.005)
    time.sleep(random.random() * seconds)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_training_that_is_killed_at_random_moments_ends_with_the_same_bits(
    kills: int, tmp_path: Path, write_split: WriteSplit
) -> None:
    write_greys(write_split, tmp_path, train=180, test=40)
    undisturbed, run = (Run.create(tmp_path / name, CONFIG) for name in ("undisturbed", "killed"))
    started = time.monotonic()
    assert trainer(undisturbed, tmp_path).wait() == 0
    last = last_metric(undisturbed.metrics(), "epoch")
    assert last
    training = last["seconds"]  # without those of the start, and of what follows the last epoch
    assert time.monotonic() - started > training

    done = 0
    while done < kills:
        # A resumed training loses at most an epoch to each kill, so that on the whole it comes on.
        process = trainer(run, tmp_path, "--resume")
        done += kill_at_a_random_moment(run, process, 0.6 * training / kills)
        if run.metrics() and run.metrics()[-1]["event"] == "end":
            break
    epochs = max((metric["epoch"] for metric in run.metrics() if metric["event"] == "epoch"), default=0)
    print(f"{done} kills, the last after {epochs} of {CONFIG.training.epochs} epochs")
    assert done == kills, "it ended before it was killed often enough"
    assert trainer(run, tmp_path, "--resume").wait() == 0

    assert without_times(run.metrics()) == without_times(undisturbed.metrics())
    for file in (WEIGHTS, EVALUATION):
        assert (run.path / file).read_bytes() == (undisturbed.path / file).read_bytes()
