"""Training throughput on cifar10-mini, in training images a second: `python benchmarks/throughput.py [--save NAME]`.

Three ways to train the same model at the same batch size and thread count, in interleaved rounds:

- plain: a loop in the manner of tutorials (see plain_loop.py), with 0 or more workers: the better of the two counts.
- bare: forward, backward and SGD step in channels_last on one batch that is there already.
- trainer: `train` of `training/loop.py` with all it does: augmentation, metrics, validation, a checkpoint every epoch.
  Timed from its first step to its last epoch; start and decoding are told apart, and validation images do not count.

The last two compute in bf16 where the trainer would, and with its allocator settings (huge pages, kept memory). Beside
them stand two limits. The rate of large matrix products here, and the share of it that the trainer's model computations
reach (the model FLOPs utilisation): 3 x 2 x multiplications of the forward pass an image. And on a CPU the images/s if
the library's convolutions, forward and backward, were all that takes time, by PyTorch's profiler in the bare step.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.machine import save
from resnet_space.common.hardware import keep_freed_memory
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.batches import normalise, steps_per_epoch
from resnet_space.data.sources import dataset_classes
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.models import list_models
from resnet_space.runs import Run
from resnet_space.training.device import autocast_dtype, choose_device
from resnet_space.training.loop import train

import torch  # isort: skip  # after the trainer, whose allocator setting has to come first
import torch.nn.functional as F  # isort: skip

DATASET = "cifar10-mini"
ALLOCATOR = "THP_MEM_ALLOC_ENABLE"
Cbam = Literal["stage", "block"] | None


class PlainLoop:
    """`plain_loop.py` in a process of its own, without the trainer's allocator settings."""

    def __init__(self, model: ModelConfig, training: TrainConfig, workers: int) -> None:
        script = Path(__file__).with_name("plain_loop.py")
        arguments = [
            training.dataset,
            model.architecture,
            model.options["cbam"] or "none",
            training.batch_size,
            workers,
        ]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments), str(training.seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != ALLOCATOR},
        )

    def epoch(self) -> float:
        """Train one epoch: images/s."""
        return self._ask("epoch")

    def test(self) -> float:
        """The share of correct test images."""
        return self._ask("test")

    def _ask(self, what: str) -> float:
        assert self.process.stdin
        assert self.process.stdout
        print(what, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


def bare_step(config: RunConfig, data: ImageSet, steps: int) -> Callable[[], float]:
    """A function that makes `steps` steps on one fixed batch and returns images/s."""
    device, training = choose_device(), config.training
    dtype = autocast_dtype(training, device)
    batch = data.subset(torch.arange(training.batch_size)).to(device)
    images, labels = normalise(batch.images, config.model), batch.labels
    model = config.model.build().to(device, memory_format=torch.channels_last).train()  # pyrefly: ignore[no-matching-overload]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=training.backbone_lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        fused=True,
    )

    def several() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # pyrefly: ignore[unbound-name]  # waits for a GPU
        return steps * training.batch_size / (time.perf_counter() - started)

    return several


def convolutions_alone(several: Callable[[], float], images: int) -> float | None:
    """Images/s if nothing but the convolutions of `several`, which trains on so many images, took time; on a CPU."""
    if torch.cuda.is_available():
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiled:
        several()
    spent = sum(event.self_cpu_time_total for event in profiled.key_averages() if "convolution" in event.key)
    return float(1e6 * images / spent)  # from microseconds


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
                if not first and torch.cuda.is_available():
                    torch.cuda.synchronize()  # the first step is only under way
                first = first or time.perf_counter()
                steps = metric["step"]
            elif metric["event"] == "epoch":
                last = now
    return (steps - 1) * config.training.batch_size / (last - first), start - called


def matrix_rate(dtype: torch.dtype, size: int) -> float:
    """Operations (multiplications and additions) a second of square matrix products here; the fastest of ten."""
    device = choose_device()
    matrices = torch.randn(2, size, size, device=device).to(dtype)
    fastest = math.inf
    for _ in range(12):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        product = matrices[0] @ matrices[1]
        product[0, 0].item()  # waits for a GPU
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * size**3 / fastest


def operations_per_image(config: ModelConfig) -> int:
    """Of a training step: the backward pass has twice those of the forward pass, which is counted."""
    from torch.utils.flop_counter import FlopCounterMode

    model = config.build().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, config.image_size, config.image_size))
    return 3 * int(counter.get_total_flops())


@dataclass(frozen=True)
class Round:
    """Images/s of each way to train in one round."""

    plain_0_workers: float
    plain_more_workers: float
    bare: float
    trainer: float

    @property
    def trainer_over_plain(self) -> float:
        return self.trainer / max(self.plain_0_workers, self.plain_more_workers)

    @property
    def trainer_over_bare(self) -> float:
        return self.trainer / self.bare


def measure(
    config: RunConfig, rounds: int, workers: int, matrix_size: int, loop_batch_size: int | None = None
) -> dict[str, object]:
    """Print the table of one model; return it, with all rounds, for the results file.

    Args:
        config: of the trainer.
        rounds: that count.
        workers: of the second plain loop; 0 leaves it out.
        matrix_size: of the matrix products.
        loop_batch_size: of the plain loops, where it is another one.
    """
    model, training = config.model, config.training
    started = time.perf_counter()
    data = load_splits(training, model.stored_size).train
    decode_seconds = time.perf_counter() - started

    in_loop = replace(training, batch_size=loop_batch_size or training.batch_size)
    plain_0 = PlainLoop(model, in_loop, 0)
    plain_more = PlainLoop(model, in_loop, workers) if workers else plain_0
    steps = training.epochs * steps_per_epoch(len(data), training.batch_size)
    bare = bare_step(config, data, steps)
    measured: list[Round] = []
    start_seconds, rates = list[float](), list[float]()
    dtype = autocast_dtype(training, choose_device()) or torch.float32
    for number in range(rounds + 1):
        in_plain_0 = plain_0.epoch()
        in_plain_more = plain_more.epoch() if workers else in_plain_0
        in_bare = bare()
        in_trainer, seconds = trainer(config)
        if number > 0:  # the first only warms up
            rates.append(matrix_rate(dtype, matrix_size))
            measured.append(Round(in_plain_0, in_plain_more, in_bare, in_trainer))
            start_seconds.append(seconds)
    limit = convolutions_alone(bare, steps * training.batch_size)
    plain_0.end()
    if workers:
        plain_more.end()

    medians = {
        name: statistics.median(getattr(each, name) for each in measured)
        for name in (*(field.name for field in fields(Round)), "trainer_over_plain", "trainer_over_bare")
    }
    utilisation = medians["trainer"] * operations_per_image(model) / max(rates)
    title = f"{model.architecture}, cbam {model.options['cbam']}, batch size {training.batch_size}"
    print(f"\n{title}; median (least to most) of {rounds} rounds, images/s")
    for field in fields(Round):
        values = [getattr(each, field.name) for each in measured]
        print(f"  {field.name:<18} {medians[field.name]:7.0f}   ({min(values):.0f} to {max(values):.0f})")
    print(f"  trainer / plain    {medians['trainer_over_plain']:7.2f}   (the median of the rounds' ratios)")
    print(f"  trainer / bare     {medians['trainer_over_bare']:7.2f}")
    print(f"  {str(dtype).removeprefix('torch.')} matrix products: {max(rates) / 1e9:,.0f} GFLOP/s", end=", ")
    print(f"of which the trainer's model computations reach {utilisation:.0%}")
    if limit is not None:
        loop = max(medians["plain_0_workers"], medians["plain_more_workers"])
        print(f"  the convolutions alone: {limit:.0f} images/s, {limit / loop:.2f} times the loop")
    print(f"  the trainer's start {statistics.median(start_seconds):.2f} s, of which decoding {decode_seconds:.2f} s")
    return {
        "architecture": model.architecture,
        "cbam": model.options["cbam"],
        "batch_size": training.batch_size,
        "loop_batch_size": in_loop.batch_size,
        "precision": str(dtype).removeprefix("torch."),
        "medians": {name: round(value, 3) for name, value in medians.items()},
        "convolutions_alone": None if limit is None else round(limit, 1),
        "matrix_gflops_per_second": round(max(rates) / 1e9, 1),
        "model_flops_utilisation": round(utilisation, 3),
        "start_seconds": round(statistics.median(start_seconds), 3),
        "decode_seconds": round(decode_seconds, 3),
        "rounds": [{field.name: round(getattr(each, field.name), 1) for field in fields(Round)} for each in measured],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", choices=list_models(), nargs="+", default=["resnet20"])
    parser.add_argument("--cbam", choices=["none", "stage", "block"], nargs="+", default=["none", "stage"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of the trainer in each round; the plain loop makes one")
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop, beside none")
    parser.add_argument("--matrix-size", type=int, default=2_048, help="of the matrix products")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()

    keep_freed_memory()
    print(f"{choose_device().type}, {torch.get_num_threads()} threads")
    models = []
    for architecture in arguments.architectures:
        for name in arguments.cbam:
            cbam = cast(Cbam, None if name == "none" else name)
            model = ModelConfig(architecture, dataset_classes(DATASET), options={"cbam": cbam})
            training = TrainConfig(dataset=DATASET, batch_size=arguments.batch_size, epochs=arguments.epochs)
            config = RunConfig(model, training)
            models.append(measure(config, arguments.rounds, arguments.workers, arguments.matrix_size))
    if arguments.save:
        save(arguments.save, {"dataset": DATASET, "threads": torch.get_num_threads(), "models": models})


if __name__ == "__main__":
    main()
