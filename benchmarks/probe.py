"""A linear probe of cifar10-mini, in training images a second: `python benchmarks/probe.py [--save NAME]`.

Three ways to train the head of a frozen backbone, with the same batch size and thread count, interleaved:

- plain: a loop in the manner of tutorials: a DataLoader (0 workers) makes tensors of PIL images one at a time and
  normalises them; float32, NCHW, the backbone's parameters need no gradient and its BatchNorm is in eval mode; AdamW
  of the head. No augmentation, no validation, no checkpoint.
- augmented: the trainer with crops and flips, so that the frozen layers are computed anew in every epoch; with all that
  it does: metrics, validation and a checkpoint every epoch.
- cached: the trainer without augmentation, which computes the frozen layers once.

The cached one counts as a whole, from its first step on, with the first epoch: the ratio grows with the epochs. In the
others every epoch is like the first, so that a few stand for all.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.machine import save
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.data.splits import ImageSet, load_splits
from resnet_space.runs import Run
from resnet_space.training.device import choose_device
from resnet_space.training.loop import train
from resnet_space.training.strategies import recipe

import torch  # isort: skip  # after the trainer, whose allocator setting has to come first
import torch.nn.functional as F  # isort: skip
from PIL import Image  # isort: skip
from torch.utils.data import DataLoader  # isort: skip
from torchvision import transforms  # isort: skip

DATASET = "cifar10-mini"
STEADY_EPOCHS = 3  # of the ways whose epochs are alike
START = Path(__file__).parent.parent / "checkpoints" / "resnet20-cbam-imagenet32"


def plain(start: Run, model_config: ModelConfig, data: ImageSet, epochs: int, batch_size: int) -> float:
    """Images/s of the tutorials' loop."""
    device = choose_device()
    model = start.load_model()
    model.reset_classifier(len(model_config.classes))
    model = model.to(device).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.get_classifier().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.get_classifier().parameters(), lr=1e-2)
    prepared = transforms.Compose([transforms.ToTensor(), transforms.Normalize(model_config.mean, model_config.std)])
    items = [
        (Image.fromarray(image), label) for image, label in zip(data.images.numpy(), data.labels.tolist(), strict=True)
    ]
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor]] = DataLoader(
        items,  # pyrefly: ignore[bad-argument-type]
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=lambda batch: (
            torch.stack([prepared(image) for image, _ in batch]),
            torch.tensor([y for _, y in batch]),
        ),
    )
    started = time.perf_counter()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            loss.item()
    return epochs * len(loader) * batch_size / (time.perf_counter() - started)


def trainer(start: Run, config: RunConfig) -> float:
    """Images/s of the trainer, from its first step's beginning to its last epoch's end."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "benchmark", config, start=start)
        began = ended = 0.0
        steps = 0
        for metric in train(run):
            if metric["event"] == "start":
                began = time.perf_counter()
            elif metric["event"] == "epoch":
                ended, steps = time.perf_counter(), metric["step"]
    return steps * config.training.batch_size / (ended - began)


@dataclass(frozen=True)
class Round:
    """Images/s of each way in one round."""

    plain: float
    augmented: float
    cached: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, default=START, help="the run whose backbone is probed")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()

    start = Run.open(arguments.start)
    model = replace(start.config.model, classes=dataset_classes(DATASET))
    settings = {"start": start.name, "epochs": arguments.epochs, "batch_size": arguments.batch_size}
    cached, augmented = (
        RunConfig(model, recipe("linear-probe", DATASET, **settings | changed))
        for changed in (dict[str, int](), {"crop_padding": 4, "flip": True, "epochs": STEADY_EPOCHS})
    )
    data = load_splits(cached.training, model.stored_size).train
    rounds = []
    for number in range(arguments.rounds + 1):
        found = Round(
            plain(start, model, data, STEADY_EPOCHS, arguments.batch_size),
            trainer(start, augmented),
            trainer(start, cached),
        )
        if number > 0:  # the first only warms up
            rounds.append(found)
    ratios = {
        "augmented_over_plain": statistics.median(each.augmented / each.plain for each in rounds),
        "cached_over_plain": statistics.median(each.cached / each.plain for each in rounds),
    }
    print(f"{start.name}, {arguments.epochs} epochs, batch size {arguments.batch_size}; images/s")
    for name in ("plain", "augmented", "cached"):
        values = [getattr(each, name) for each in rounds]
        print(f"  {name:<10} {statistics.median(values):9.0f}   ({min(values):.0f} to {max(values):.0f})")
    for name, ratio in ratios.items():
        print(f"  {name.replace('_over_', ' / '):<20} {ratio:7.2f}   (the median of the rounds' ratios)")
    if arguments.save:
        conditions = {"dataset": DATASET, **settings}
        found_rounds = [{name: round(value, 1) for name, value in asdict(each).items()} for each in rounds]
        save(arguments.save, {**conditions, **{k: round(v, 2) for k, v in ratios.items()}, "rounds": found_rounds})


if __name__ == "__main__":
    main()
