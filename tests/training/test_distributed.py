import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import mixed, training_batches
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import ImageSet
from resnet_space.runs import DECODED, LOG, Library, Run, process
from resnet_space.runs.process import gpus_for, last_log_lines, training_command
from resnet_space.runs.queue import Status, Trainer
from resnet_space.training import distributed
from resnet_space.training.loop import train
from tests import shared_step
from tests.conftest import WriteSplit
from tests.trainings import GREYS, write_greys

ROOT = Path(__file__).parents[2]
PATIENCE = 300  # seconds; a start takes some 8 on a quiet machine

# Everything that several processes have to agree on. 5 steps an epoch of 15 images: 7 for the first process, 8 for the
# second; in the middle phases BatchNorm trains in some stages only.
EVERYTHING = RunConfig(
    ModelConfig("resnet20", ("dark", "bright"), options={"cbam": "stage"}, image_size=8),
    TrainConfig(
        dataset=GREYS,
        strategy="three-stage",
        epochs=4,
        batch_size=15,
        backbone_lr=1e-3,
        head_lr=1e-3,
        schedule="plateau",
        ema=0.5,
        mixup=0.4,
        cutmix=1.0,
        clip_norm=0.5,
        label_smoothing=0.1,
        crop_padding=1,
        precision="float32",
    ),
)
# Minutes, so that it never ends by itself; its features are known after the first epoch.
LONG = replace(
    EVERYTHING,
    training=TrainConfig(
        dataset=GREYS, strategy="linear-probe", epochs=1_000, batch_size=15, crop_padding=0, flip=False
    ),
)


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Iterator[None]:
    """`greys`: 88 training images, of which 11 are held out, and 10 test images."""
    folder = tmp_path_factory.mktemp("data")
    write_greys(write_split, folder, train=88, test=10, noise=90)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_FOLDER_VARIABLE, str(folder))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def test_two_processes_give_the_loss_curve_of_one_and_go_on_where_one_was_stopped(tmp_path: Path) -> None:
    """To rounding while every batch norm is frozen; after that each normalises by its part of the batch."""
    device = torch.device("cpu")
    whole = Run.create(tmp_path / "whole", EVERYTHING)
    expected = list(train(whole, device=device))
    run = Run.create(tmp_path / "run", EVERYTHING)
    with closing(train(run, device=device)) as metrics:
        for _ in range(3):  # the start and 2 of the first phase's steps
            next(metrics)
    command = training_command(run, resume=True, processes=2)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("event=epoch") == 4  # each once: the second process says nothing
    *found, end = run.metrics()
    assert end["status"] == "finished"
    assert [metric["event"] for metric in found] == [metric["event"] for metric in expected]
    for ours, theirs in zip(found, expected, strict=True):
        frozen = ours.get("step", math.inf) <= 5
        for name in theirs:
            if "loss" in name or "accuracy" in name or name in ("ece", "macro_f1"):
                assert ours[name] == pytest.approx(theirs[name], abs=2e-5 if frozen else 0.2), (name, ours, theirs)
            elif name in ("rates", "phase", "step", "images", "validation_images") or (name == "best" and frozen):
                assert ours[name] == theirs[name]
    assert not (run.path / DECODED).exists()


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["torch.distributed.run", "--standalone", "--nproc-per-node", "2"], marks=pytest.mark.long),
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"],
    ],
    ids=["torchrun", "accelerate launch"],
)
def test_in_double_precision_two_processes_come_to_the_weights_of_one(
    alone: dict[str, Tensor], launcher: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "together"
    command = [sys.executable, "-m", *launcher, "-m", "tests.shared_step", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE)
    both = torch.load(file, weights_only=True)
    assert both.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.allclose(both[name], value, rtol=0, atol=1e-12), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What one process comes to."""
    file = tmp_path_factory.mktemp("alone") / "weights"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shared_step.main(file)
    weights: dict[str, Tensor] = torch.load(file, weights_only=True)
    assert (weights["layer3.0.bn1.weight"] - 1).abs().max() > 1e-4  # it did train
    return weights


@pytest.mark.long
def test_a_process_that_fails_ends_the_other_which_tells_its_reason(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", EVERYTHING)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, "-m", "tests.failing_step", str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 1
    end = run.metrics()[-1]
    assert (end["event"], end["status"]) == ("end", "failed")
    assert end["reason"].startswith("The disk is full: ")


@pytest.mark.long
def test_two_processes_learn_from_a_target_and_test_on_it_together(tmp_path: Path, write_split: WriteSplit) -> None:
    folder = tmp_path / "data"
    write_greys(write_split, folder, train=88, test=10, noise=60)
    (folder / GREYS).rename(folder / "others")
    write_greys(write_split, folder, train=88, test=10, noise=90)
    settings = {"strategy": "full", "objective": "dann", "target": "others", "epochs": 1}
    run = Run.create(tmp_path / "run", replace(EVERYTHING, training=replace(EVERYTHING.training, **settings)))
    command = training_command(run, resume=False, processes=2)
    environment = os.environ | {DATA_FOLDER_VARIABLE: str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    found = {metric["event"]: metric for metric in run.metrics()}
    assert set(found["epoch"]["losses"]) == {"task", "domain"}
    assert found["epoch"]["measures"].keys() == {"domain-accuracy"}
    assert 0 <= found["epoch"]["target_accuracy"] <= 1
    assert (found["test"]["target_images"], found["end"]["status"]) == (10, "finished")


@pytest.mark.parametrize("settings", [{"mixup": 0.4, "cutmix": 1.0}, {"crop": "resized"}, {"crop_padding": 2}])
def test_each_image_is_augmented_in_the_same_way_however_many_processes_share_the_batch(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    data = ImageSet(
        torch.randint(256, (20, 8, 8, 3), dtype=torch.uint8, generator=generator),
        torch.arange(20) % 2,
        ("dark", "bright"),
    )
    training = TrainConfig(dataset="-", batch_size=10, **settings)
    mixes = "mixup" in settings

    def batch(rows: Tensor | None) -> tuple[Tensor, ...]:
        _, images_and_labels = training_batches(data, EVERYTHING.model, training, 3, rows=rows)
        return mixed(*images_and_labels, 2, training, 3, 1) if mixes else images_and_labels

    whole = batch(None)
    for processes in (2, 3):
        monkeypatch.setattr(distributed, "count", lambda processes=processes: processes)
        parts = []
        for rank in range(processes):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            images, labels = batch(distributed.own_rows(10, with_neighbour=mixes))
            parts.append((images[1:], labels[1:]) if mixes else (images, labels))
        assert {len(images) for images, _ in parts} in ({5}, {3, 4})
        for ours, theirs in zip(map(torch.cat, zip(*parts, strict=True)), whole, strict=True):
            assert torch.equal(ours, theirs)


# As the app starts it


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    """On a machine that looks as if it had two GPUs. Ends what it started, also when a test fails."""
    monkeypatch.setattr(process, "gpus_for", lambda batch_size: 2)
    trainer = Trainer(Library(tmp_path / "checkpoints"))
    yield trainer
    for child in trainer._children.values():
        if child.poll() is None:
            for one in psutil.Process(child.pid).children(recursive=True):
                one.kill()
        child.kill()
        child.wait()


def wait_for(condition: Callable[[], Any], run: Run) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, (run.path / LOG).read_text(encoding="utf-8")
        time.sleep(0.02)


def epochs(run: Run) -> list[int]:
    return [metric["epoch"] for metric in run.metrics() if metric["event"] == "epoch"]


@pytest.mark.long
def test_what_trains_on_several_gpus_is_stopped_resumed_and_told_of_when_a_process_dies(trainer: Trainer) -> None:
    run = trainer.start_new(lambda: Run.create(trainer.library.root / "a-run", LONG))
    wait_for(lambda: epochs(run) or not trainer.status(run).is_active, run)
    assert trainer.status(run) == Status("training")
    assert trainer.active() == "a-run"
    trainer.stop(run)
    wait_for(lambda: not trainer.status(run).is_active, run)
    assert trainer.status(run) == Status("stopped"), (run.path / LOG).read_text(encoding="utf-8")
    assert run.load_model()

    stopped_after = len(epochs(run))
    trainer.start(run, resume=True)
    wait_for(lambda: len(epochs(run)) > stopped_after or not trainer.status(run).is_active, run)
    assert epochs(run) == list(range(1, len(epochs(run)) + 1))
    torchrun = psutil.Process(trainer._children["a-run"].pid)
    (second,) = (child for child in torchrun.children() if child.environ().get("RANK") == "1")
    second.send_signal(signal.SIGKILL)
    wait_for(lambda: not trainer.status(run).is_active, run)
    assert trainer.status(run) == Status(
        "failed", "One of the 2 training processes was killed: Resume continues the training."
    )
    assert run.load_model()


REPORT = """\
event=epoch epoch=1
{last}
W1125 18:48:12.226000 16575 /x/torch/distributed/elastic/multiprocessing/api.py:1012] Sending process 2 closing signal
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
=======================================================
resnet_space.train FAILED
Failures:
[1]:
  rank      : 1 (local_rank: 1)
  exitcode  : -15 (pid: 16649)
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : {exit_code} (pid: 16650)
  error_file: <N/A>
=======================================================
"""


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (-9, "The training process was killed by SIGKILL, possibly because memory ran out."),
        (3, "The training process failed with exit status 3: no such module"),
    ],
)
def test_how_the_first_process_ended_is_told_from_what_torchrun_says(
    exit_code: int, reason: str, trainer: Trainer
) -> None:
    run = Run.create(trainer.library.root / "a-run", LONG)
    (run.path / LOG).write_text(REPORT.format(exit_code=exit_code, last="no such module"), encoding="utf-8")
    with subprocess.Popen(["false"]) as child:
        child.wait()
    trainer._children[run.name] = child
    assert trainer.status(run) == Status("failed", reason)
    assert last_log_lines(run) == ["event=epoch epoch=1", "no such module"]


def test_a_machine_without_several_gpus_trains_in_one_process(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", LONG)
    assert gpus_for(4_096) == 1
    assert training_command(run)[1:] == ["-m", "resnet_space.train", str(run.path)]
