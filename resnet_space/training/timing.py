"""Measure this machine's training speed: `python -m resnet_space.training.timing RUN_DIR ...` computes like a trainer.

It prints "ready" when a trainer would begin to decode, and at the end the `Speeds` as JSON. `measured` runs it.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import IO, TYPE_CHECKING

from resnet_space.common.forking import start_detached, wait_for_fork_server
from resnet_space.common.hardware import keep_threads_apart
from resnet_space.data.summary import SMALL_IMAGE

if __name__ == "__main__":
    keep_threads_apart()  # which is read when torch is imported

from resnet_space.runs import Run
from resnet_space.training.speeds import Speeds

if TYPE_CHECKING:
    import torch

READY = "ready"
MOST_SECONDS = 300.0  # that a measurement may take
LOOK_SECONDS = 0.01
FORK_SERVER_SECONDS = 60.0  # until it has imported what trainers are forked with
TIMED_STEPS = 8
SOLVED_IMAGES, SOLVED_CLASSES = 2_000, 10


def measured(runs: Sequence[Run]) -> Speeds:
    """The speeds of this machine with these trained networks, measured in a process that starts like a trainer.

    Raises:
        OSError: if it cannot be started.
        RuntimeError: if it failed or took too long.
    """
    command = [sys.executable, "-m", "resnet_space.training.timing", *(str(run.path) for run in runs)]
    launch = None
    wait_for_fork_server(FORK_SERVER_SECONDS)
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        child = start_detached(command, log)
        try:
            while child.poll() is None and time.monotonic() - started < MOST_SECONDS:
                if launch is None and READY in _said(log):
                    launch = round(time.monotonic() - started, 2)
                time.sleep(LOOK_SECONDS)
        finally:
            child.kill()
            child.wait()
        if launch is None:
            raise RuntimeError("the timing process did not start")
        try:
            return replace(Speeds.from_json(json.loads(_said(log)[-1])), launch=launch)
        except (ValueError, IndexError) as error:
            raise RuntimeError("the timing process reported nothing") from error


def _said(log: IO[bytes]) -> list[str]:
    """Its lines; the place in the file is the process's, and stays."""
    return os.pread(log.fileno(), 100_000, 0).decode(errors="replace").splitlines()


def time_here(runs: Sequence[Run]) -> Speeds:
    """Measure in this process, except the launch: prints "ready" when the first network is loaded."""
    import torch

    from resnet_space.data.batches import evaluation_batch
    from resnet_space.training import host  # noqa: F401  # all that a trainer imports
    from resnet_space.training.device import choose_device
    from resnet_space.training.extraction import Extractor
    from resnet_space.training.feature_store import FeatureStore

    device = choose_device()
    speeds = Speeds(device.type)
    for i, run in enumerate(runs):
        config = run.config.model
        model = run.load_model().to(device, memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
        if i == 0:
            print(READY, flush=True)
        size = config.stored_size
        pixels = torch.randint(0, 256, (evaluation_batch(config), size, size, 3), dtype=torch.uint8)
        extractor = Extractor(model, config, FeatureStore.beside(run.path.parent))
        network = (config.architecture, config.image_size)
        speeds = replace(speeds, features={**speeds.features, network: extractor.images_per_second(pixels)})
        speeds = replace(speeds, solving={**speeds.solving, network: _solved_per_second(extractor.width)})
        if config.input_size <= SMALL_IMAGE:  # others are proposed with all but the head frozen
            speeds = replace(speeds, steps={**speeds.steps, network: _steps_per_second(run, device)})
    return speeds


def _steps_per_second(run: Run, device: "torch.device") -> float:
    """Images a second of training steps in which everything trains, with the moving average that is proposed."""
    import torch
    import torch.nn.functional as F

    from resnet_space.data.batches import augmented, normalise
    from resnet_space.training.device import autocast_dtype
    from resnet_space.training.optim import SGD, moving_average, set_training_mode
    from resnet_space.training.strategies import recipe

    config, training = run.config.model, recipe("full", "-")
    model = run.load_model().to(device, memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    model.requires_grad_(True)
    set_training_mode(model)
    average = moving_average(model, 0.98)
    optimizer = SGD(model.parameters(), lr=1e-6, momentum=training.momentum)
    dtype, size = autocast_dtype(training, device), config.stored_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (training.batch_size, size, size, 3), dtype=torch.uint8, device=device)
    targets = torch.arange(training.batch_size, device=device) % len(config.classes)

    def step() -> float:
        started = time.perf_counter()
        seen = normalise(augmented(images, config, training, generator), config)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(seen), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        loss.item()  # waits for a GPU
        return time.perf_counter() - started

    step()
    return training.batch_size / median(step() for _ in range(TIMED_STEPS))


def _solved_per_second(width: int) -> float:
    """Images x classes per second while a head is solved on features [n, width] of overlapping classes."""
    import torch

    from resnet_space.training.solver import solve

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(SOLVED_CLASSES, width, generator=generator)
    labels = torch.arange(SOLVED_IMAGES) % SOLVED_CLASSES
    features = (centres[labels] + 6 * torch.randn(SOLVED_IMAGES, width, generator=generator)).relu()
    started = time.perf_counter()
    list(solve(features, labels, SOLVED_CLASSES))
    return SOLVED_IMAGES * SOLVED_CLASSES / (time.perf_counter() - started)


def main() -> int:
    print(json.dumps(time_here([Run.open(path) for path in sys.argv[1:]]).to_json()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
