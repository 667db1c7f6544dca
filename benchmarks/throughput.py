"""Training throughput on cifar10-mini, in training images a second: `python benchmarks/throughput.py [--save NAME]`.

Three ways to train the same model at the same batch size and thread count, in interleaved rounds:

- plain: a loop in the manner of tutorials (see plain_loop.py), with 0 or 2 workers: the better of the two counts.
- bare: forward, backward and SGD step in bf16 autocast and channels_last on one batch that is there already.
- trainer: `resnet_space.train.train` with all it does: augmentation, metrics, validation and a checkpoint every epoch.
  Timed from its first step to its last epoch; start and decoding are told apart, and validation images do not count.

bf16 is used where the trainer would use it. The trainer's allocator setting (huge pages) applies to the last two.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.machine import save
from resnet_space.config import ARCHITECTURES, ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import normalise, steps_per_epoch
from resnet_space.data.sources import dataset_classes
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.models import model_from_config
from resnet_space.runs import Run
from resnet_space.train import train
from resnet_space.training import autocast_dtype, choose_device

import torch  # isort: skip  # after the trainer, whose allocator setting has to come first
import torch.nn.functional as F  # isort: skip

DATASET = "cifar10-mini"
ALLOCATOR = "THP_MEM_ALLOC_ENABLE"
Cbam = Literal["stage", "block"] | None


class PlainLoop:
    """`plain_loop.py` in a process of its own, without the trainer's allocator setting."""

    def __init__(self, model: ModelConfig, batch_size: int, workers: int) -> None:
        script = Path(__file__).with_name("plain_loop.py")
        arguments = [DATASET, model.architecture, model.cbam or "none", str(batch_size), str(workers)]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != ALLOCATOR},
        )

    def epoch(self) -> float:
        """Train one epoch: images/s."""
        assert self.process.stdin
        assert self.process.stdout
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


def bare_step(config: RunConfig, data: ImageSet, steps: int) -> Callable[[], float]:
    """A function that makes `steps` steps on one fixed batch and returns images/s."""
    device, training = choose_device(), config.training
    dtype = autocast_dtype(training, device)
    batch = data.subset(torch.arange(training.batch_size)).to(device)
    images, labels = normalise(batch.images, config.model), batch.labels
    model = model_from_config(config.model).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=training.backbone_lr, momentum=training.momentum, weight_decay=training.weight_decay
    )

    def several() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for a GPU
        return steps * training.batch_size / (time.perf_counter() - started)

    return several


def trainer(config: RunConfig) -> tuple[float, float]:
    """Train a temporary run: (images/s from the first step to the last epoch, seconds before the first metric)."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "benchmark", config)
        called = time.perf_counter()
        start = first = last = 0.0
        steps = 0
        for metric in train(run):
            now = time.perf_counter()
            if metric["event"] == "start":
                start = now
            elif metric["event"] in ("tick", "step"):
                first = first or now
                steps = metric["step"]
            elif metric["event"] == "epoch":
                last = now
    return (steps - 1) * config.training.batch_size / (last - first), start - called


@dataclass(frozen=True)
class Round:
    """Images/s of each way to train in one round."""

    plain_0_workers: float
    plain_2_workers: float
    bare: float
    trainer: float

    @property
    def trainer_over_plain(self) -> float:
        return self.trainer / max(self.plain_0_workers, self.plain_2_workers)

    @property
    def trainer_over_bare(self) -> float:
        return self.trainer / self.bare


def measure(architecture: str, cbam: Cbam, batch_size: int, rounds: int, epochs: int) -> dict[str, object]:
    """Print the table of one model; return it, with all rounds, for the results file."""
    model = ModelConfig(architecture, dataset_classes(DATASET), cbam=cbam)
    training = TrainConfig(dataset=DATASET, batch_size=batch_size, epochs=epochs)
    config = RunConfig(model, training)
    started = time.perf_counter()
    data = load_splits(training, model.image_size).train
    decode_seconds = time.perf_counter() - started

    plain_0, plain_2 = PlainLoop(model, batch_size, workers=0), PlainLoop(model, batch_size, workers=2)
    bare = bare_step(config, data, steps=epochs * steps_per_epoch(len(data), batch_size))
    measured: list[Round] = []
    start_seconds = []
    for number in range(rounds + 1):
        in_plain_0, in_plain_2, in_bare = plain_0.epoch(), plain_2.epoch(), bare()
        in_trainer, seconds = trainer(config)
        if number > 0:  # the first only warms up
            measured.append(Round(in_plain_0, in_plain_2, in_bare, in_trainer))
            start_seconds.append(seconds)
    plain_0.end()
    plain_2.end()

    medians = {
        name: statistics.median(getattr(each, name) for each in measured)
        for name in (*(field.name for field in fields(Round)), "trainer_over_plain", "trainer_over_bare")
    }
    print(
        f"\n{architecture}, cbam {cbam}, batch size {batch_size}; median (least to most) of {rounds} rounds, images/s"
    )
    for field in fields(Round):
        values = [getattr(each, field.name) for each in measured]
        print(f"  {field.name:<16} {medians[field.name]:7.0f}   ({min(values):.0f} to {max(values):.0f})")
    print(f"  trainer / plain  {medians['trainer_over_plain']:7.2f}   (the median of the rounds' ratios)")
    print(f"  trainer / bare   {medians['trainer_over_bare']:7.2f}")
    print(f"  the trainer's start {statistics.median(start_seconds):.2f} s, of which decoding {decode_seconds:.2f} s")
    return {
        "architecture": architecture,
        "cbam": cbam,
        "batch_size": batch_size,
        "medians": {name: round(value, 3) for name, value in medians.items()},
        "start_seconds": round(statistics.median(start_seconds), 3),
        "decode_seconds": round(decode_seconds, 3),
        "rounds": [{field.name: round(getattr(each, field.name), 1) for field in fields(Round)} for each in measured],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="resnet20")
    parser.add_argument("--cbam", choices=["none", "stage", "block"], nargs="+", default=["none", "stage"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of the trainer in each round; the plain loop makes one")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()

    print(f"{choose_device().type}, {torch.get_num_threads()} threads")
    models = []
    for name in arguments.cbam:
        cbam = cast(Cbam, None if name == "none" else name)
        models.append(measure(arguments.architecture, cbam, arguments.batch_size, arguments.rounds, arguments.epochs))
    if arguments.save:
        save(arguments.save, {"dataset": DATASET, "threads": torch.get_num_threads(), "models": models})


if __name__ == "__main__":
    main()
