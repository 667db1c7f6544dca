"""Small trainings: of grey pictures, dark and bright; and what two equal ones have in common."""

import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.splits import Splits
from resnet_space.runs import Metric, Run
from resnet_space.training.loop import train
from resnet_space.training.strategies import Phase, plan, recipe
from tests.conftest import WriteSplit

GREYS = "greys"  # the dataset
VARYING = ("seconds", "time", "images_per_second", "memory")  # what two equal trainings have differently


def without_times(metrics: Sequence[Metric]) -> list[Metric]:
    return [{name: value for name, value in metric.items() if name not in VARYING} for metric in metrics]


def phases(strategy: str, epochs: int, model: ModelConfig, *, new_cbam: bool = False, **settings: Any) -> list[Phase]:
    """What a strategy plans with its own settings, or others."""
    return plan(recipe(strategy, "-", epochs=epochs, **settings), model, new_cbam=new_cbam)


def png(grey: int) -> bytes:
    """A picture of 4 x 4 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (grey,) * 3).save(file, "PNG")
    return file.getvalue()


def write_greys(write_split: WriteSplit, folder: Path, *, train: int, test: int, noise: int = 60) -> None:
    """So many pictures of each split; above a noise of 60 grey levels some bright ones are darker than some dark."""
    for split, count in (("train", train), ("test", test)):
        labels = [i % 2 for i in range(count)]
        levels = np.random.default_rng(count).integers(0, noise, count)
        images = [png(int(60 * label + level)) for label, level in zip(labels, levels, strict=True)]
        write_split(folder / GREYS, split, images, labels, ("dark", "bright"))


def with_everything(epochs: int) -> RunConfig:
    """All that a training can have a state of: phases, a moving average, mixing, momentum; 10 steps an epoch."""
    return RunConfig(
        ModelConfig("resnet20", ("dark", "bright"), options={"cbam": "stage"}, image_size=8),
        TrainConfig(
            dataset=GREYS,
            strategy="three-stage",
            epochs=epochs,
            batch_size=16,
            optimizer="adamw",
            ema=0.9,
            mixup=0.2,
            crop_padding=2,
        ),
    )


def train_to_the_end(run: Run, splits: Splits, interval: int | None = None) -> Run:
    """Train a run on the CPU, interrupted and resumed after every so many metrics."""
    begun = over = False
    while not over:
        with closing(train(run, resume=begun, device=torch.device("cpu"), splits=splits)) as metrics:
            begun = True
            for count, _ in enumerate(metrics, 1):
                if count == interval:
                    break
            else:
                over = True
    return run
