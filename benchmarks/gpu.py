"""What a GPU gives: `python benchmarks/gpu.py [--dataset NAME] [--save NAME]`, where there is one.

For resnet18 with the CIFAR stem, with and without CBAM:

- images/s of the trainer, the bare step and the tutorials' loop with its best number of workers, and the share of the
  card's measured matrix rate that the model's computations reach: `measure` of throughput.py.
- time to accuracy: the loop trains `--loop-epochs`; then the trainer, with its own recipe at `--batch-size`, until its
  validation accuracy is what the loop has on the test images. Both without their starts.

It runs on a CPU too, where only the tiny settings of its test make sense.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.machine import save
from benchmarks.throughput import DATASET, Cbam, PlainLoop, measure
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.models import list_models
from resnet_space.runs import Run
from resnet_space.training.device import choose_device
from resnet_space.training.loop import train

import torch  # isort: skip  # after the trainer, whose allocator setting has to come first


@dataclass(frozen=True)
class TimeToAccuracy:
    """Seconds of training, without start and decoding; the trainer's are None where it did not get there."""

    loop_accuracy: float  # on the test images
    loop_seconds: float
    trainer_seconds: float | None
    trainer_epochs: int  # that it took, or that it had
    trainer_accuracy: float  # on the validation images, the best
    trainer_test_accuracy: float  # of its whole training
    trainer_whole_seconds: float


def time_to_accuracy(config: RunConfig, loop_epochs: int, loop_batch_size: int, workers: int) -> TimeToAccuracy:
    loop = PlainLoop(config.model, replace(config.training, batch_size=loop_batch_size), workers)
    loop.test()  # until it is up
    started = time.perf_counter()
    for _ in range(loop_epochs):
        loop.epoch()
    loop_seconds = time.perf_counter() - started
    goal = loop.test()
    loop.end()

    reached: float | None = None
    begun = seconds = best = test_accuracy = 0.0
    epochs = 0
    with tempfile.TemporaryDirectory() as folder:
        for metric in train(Run.create(Path(folder) / "run", config)):
            if metric["event"] == "start":
                begun = time.perf_counter()
            elif metric["event"] == "epoch":
                seconds = time.perf_counter() - begun
                best = max(best, metric["validation_accuracy"])
                if reached is None:
                    epochs += 1
                    reached = seconds if best >= goal else None
            elif metric["event"] == "test":
                test_accuracy = metric["accuracy"]
    return TimeToAccuracy(goal, loop_seconds, reached, epochs, best, test_accuracy, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=list_models(), default="resnet18")
    parser.add_argument("--cbam", choices=["none", "stage", "block"], nargs="+", default=["none", "stage"])
    parser.add_argument("--dataset", default=DATASET, help="as the trainer knows it; CIFAR-10 where it is there")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=0.2, help="the peak, of backbone and head")
    parser.add_argument("--epochs", type=int, default=20, help="of the trainer")
    parser.add_argument("--loop-epochs", type=int, default=20)
    parser.add_argument("--loop-batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16), help="of the loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--matrix-size", type=int, default=8_192)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else choose_device().type
    print(device, flush=True)
    results = []
    for name in arguments.cbam:
        cbam = cast(Cbam, None if name == "none" else name)
        model = ModelConfig(arguments.architecture, dataset_classes(arguments.dataset), options={"cbam": cbam})
        settings = TrainConfig(
            dataset=arguments.dataset,
            batch_size=arguments.batch_size,
            backbone_lr=arguments.learning_rate,
            head_lr=arguments.learning_rate,
            epochs=arguments.epochs,
        )
        config = RunConfig(model, settings)
        speed = measure(
            RunConfig(model, replace(settings, epochs=min(3, arguments.epochs))),
            arguments.rounds,
            arguments.workers,
            arguments.matrix_size,
            loop_batch_size=arguments.loop_batch_size,
        )
        found = time_to_accuracy(config, arguments.loop_epochs, arguments.loop_batch_size, arguments.workers)
        print(
            f"  the loop: {found.loop_accuracy:.1%} in {found.loop_seconds:.1f} s; the trainer: "
            f"{'not reached' if found.trainer_seconds is None else f'{found.trainer_seconds:.1f} s'}, "
            f"at its end {found.trainer_test_accuracy:.1%} in {found.trainer_whole_seconds:.1f} s",
            flush=True,
        )
        results.append(speed | {"time_to_accuracy": vars(found)})
    if arguments.save:
        save(arguments.save, {"device": device, "dataset": arguments.dataset, "models": results})


if __name__ == "__main__":
    main()
