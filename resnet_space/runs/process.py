"""The process that trains a run: its command, its start, its signals, and what it has printed."""

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from resnet_space.common.forking import Child, start_detached
from resnet_space.common.hardware import nvidia_gpus
from resnet_space.common.tokens import masked
from resnet_space.runs import LOG, RESUME, TRAINER, Run

MODULE = "resnet_space.train"
# What a training imports, for the process that trainings are forked from.
IMPORTED = ("resnet_space.training.host", "resnet_space.hub.card", "resnet_space.plots.figures")
LOG_LINES = 20  # of a failed training, for the page

# Fewer images per GPU are not worth another GPU; Goyal et al. 2017 (arXiv:1706.02677) use 32 on each, too.
IMAGES_OF_A_GPU = 32

# torchrun's output when one of its processes fails: the first line, and the exit code of the first failure.
_TORCHRUN_FAILED = re.compile(r"^[EW]\d{4} .*/torch/distributed/elastic/")
_TORCHRUN_EXIT = re.compile(r"^ *exitcode *: (-?\d+) \(pid: \d+\)$")


def start_process(run: Run, *, resume: bool) -> Child:
    """Start a trainer, which outlives this process. Raises OSError; then there is none."""
    (run.path / RESUME).mkdir(exist_ok=True)
    command = training_command(run, resume=resume, processes=gpus_for(run.config.training.batch_size))
    with (run.path / LOG).open("wb") as log:
        child = start_detached(command, log)
    try:  # it takes seconds until it holds the run's lock, and another app must not start one meanwhile
        run.note_trainer(child.pid)
    except BaseException:
        child.kill()
        child.wait()
        raise
    return child


def trainer_process(run: Run) -> psutil.Process | None:
    """The process that trains a run, whoever started it; None if there is none or it is uncertain."""
    try:
        process = psutil.Process(int((run.path / TRAINER).read_text(encoding="ascii")))
        words, folder = process.cmdline(), process.cwd()
    except (OSError, ValueError, OverflowError, psutil.Error):
        return None
    # A number may be another process's by now.
    if MODULE not in words:
        return None
    paths = (os.path.join(folder, word) for word in words if Path(word).name == run.name)
    return process if any(os.path.realpath(path) == os.path.realpath(run.path) for path in paths) else None


def send_signal(run: Run, number: signal.Signals) -> bool:
    """Send a signal to a run's trainer and its child processes, and wake them. Returns whether there was one."""
    process = trainer_process(run)
    if process is None:
        return False
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                one.send_signal(number)
                one.send_signal(signal.SIGCONT)
    return True


def training_command(run: Run, *, resume: bool = False, processes: int = 1) -> list[str]:
    """The command that trains a run in this many processes."""
    module = ["-m", MODULE, str(run.path), *(["--resume"] if resume else [])]
    if processes == 1:
        return [sys.executable, *module]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *torchrun, *module]


def gpus_for(batch_size: int) -> int:
    """The number of this machine's CUDA GPUs to use for batches of this size; 1 if there is none."""
    most = batch_size // IMAGES_OF_A_GPU
    if most < 2 or (sys.platform == "linux" and nvidia_gpus() < 2):
        return 1
    import torch

    return max(min(torch.cuda.device_count(), most), 1)


def last_log_lines(run: Run, most: int = LOG_LINES) -> list[str]:
    """The last lines of a run's log, without tokens and torchrun's own output."""
    lines = _log_lines(run)
    end = next((i for i, line in enumerate(lines) if _TORCHRUN_FAILED.match(line)), len(lines))
    return [masked(line) for line in lines[:end][-most:]]


def _log_lines(run: Run) -> list[str]:
    try:
        return (run.path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return []


def first_exit_code(run: Run) -> int | None:
    """The exit code of the first of several processes that failed, according to torchrun."""
    found = [match for line in _log_lines(run) if (match := _TORCHRUN_EXIT.match(line))]
    return int(found[-1].group(1)) if found else None
