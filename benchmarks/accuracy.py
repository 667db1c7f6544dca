"""Fast and as good: `python benchmarks/accuracy.py [--epochs N] [--seeds N] [--save NAME]`.

Trains one model from the same random weights, on the same images, with the same seeds and the same rule (SGD with
momentum at a constant rate) in three ways, and compares their test accuracies after the last epoch:

- plain: the tutorials' loop (see plain_loop.py): float32, PIL images one at a time.
- float32: the trainer's whole path in float32.
- bfloat16: the same with bfloat16 autocast, also where this machine is faster without.

The seconds are those of each way's epochs, not its start.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.machine import save
from benchmarks.throughput import PlainLoop
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.data.splits import load_splits
from resnet_space.models import list_models
from resnet_space.runs import STATE, Run
from resnet_space.training.loop import train
from resnet_space.training.state import evaluate

import torch  # isort: skip  # after the trainer, whose allocator setting has to come first

DATASET = "cifar10-mini"
WAYS = ("plain", "float32", "bfloat16")


def plain(config: RunConfig) -> tuple[float, float]:
    """(test accuracy after the last epoch, seconds) of the tutorials' loop."""
    loop = PlainLoop(config.model, config.training, workers=2)
    loop.test()  # until it is up
    started = time.perf_counter()
    for _ in range(config.training.epochs):
        loop.epoch()
    seconds = time.perf_counter() - started
    accuracy = loop.test()
    loop.end()
    return accuracy, seconds


def trainer(config: RunConfig) -> tuple[float, float]:
    """(test accuracy after the last epoch, seconds) of the trainer; not of its best epoch, as the loop keeps none."""
    splits = load_splits(config.training, config.model.stored_size)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", config)
        started = ended = 0.0
        for metric in train(run, splits=splits):
            if metric["event"] == "start":
                started = time.perf_counter()
            elif metric["event"] == "epoch":
                ended = time.perf_counter()
        model = config.model.build()
        model.load_state_dict(torch.load(run.path / STATE, map_location="cpu", weights_only=True)["model"])
    return evaluate(model, splits.test, config.model)[1], ended - started


def measure(config: RunConfig, seeds: int) -> dict[str, object]:
    """All ways with all seeds, in interleaved rounds; prints a line for each way."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        for way in WAYS:
            training = replace(config.training, seed=seed)
            if way == "plain":
                found[way].append(plain(replace(config, training=training)))
            else:
                training = replace(training, precision="float32" if way == "float32" else "bfloat16")
                found[way].append(trainer(replace(config, training=training)))
    results: dict[str, object] = {}
    for way, pairs in found.items():
        accuracies, seconds = [a for a, _ in pairs], statistics.median(s for _, s in pairs)
        mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies)
        print(f"{way:<10} {mean:.1%} ± {deviation:.1%} (mean ± sd of {seeds} seeds), {seconds:.1f} s", flush=True)
        results[way] = {
            "mean_accuracy": round(mean, 4),
            "standard_deviation": round(deviation, 4),
            "accuracies": [round(accuracy, 4) for accuracy in accuracies],
            "median_seconds": round(seconds, 2),
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=list_models(), default="resnet20")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on; at least 2")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("a standard deviation needs at least 2 seeds")
    training = TrainConfig(
        dataset=DATASET, batch_size=arguments.batch_size, epochs=arguments.epochs, schedule="constant"
    )
    model = ModelConfig(arguments.architecture, dataset_classes(DATASET))
    results = measure(RunConfig(model, training), arguments.seeds)
    if arguments.save:
        conditions = {"architecture": arguments.architecture, "dataset": DATASET, "epochs": arguments.epochs}
        save(arguments.save, conditions | {"batch_size": arguments.batch_size} | results)


if __name__ == "__main__":
    main()
