"""A check of made-up pictures in three groups, as if it had been done, to draw a map of."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnet_space.data.checks.items import LabelIssue, NearDuplicate, Outlier
from resnet_space.data.checks.tiles import tile
from resnet_space.training.data_map import UNKNOWN, Mapped
from resnet_space.training.data_report import DataReport
from resnet_space.training.plane import principal_components

GROUPS, EACH = 3, 40
CLASSES = ["a", "b", "<i>c"]
NAME = "done"


def features() -> torch.Tensor:
    """Three groups of pictures in 64 dimensions."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(GROUPS, 64, generator=generator)
    return centres.repeat_interleave(EACH, 0) + 0.3 * torch.randn(GROUPS * EACH, 64, generator=generator)


def colour(i: int) -> tuple[int, int, int]:
    """Of a picture, which has no other."""
    return (2 * i % 256, 60, 255 - 2 * i % 256)


def write_check(runs: Path) -> Path:
    """In the folder of the checks of these runs; odd rows are training pictures, and the sixth has no prediction."""
    folder = runs / DataReport.FOLDER / NAME
    folder.mkdir(parents=True)
    count = GROUPS * EACH
    where = [("train" if i % 2 else "test", i, f"{i}.png") for i in range(count)]
    tiles = [tile(Image.new("RGB", (40, 40), colour(i)), 96) for i in range(count)]
    labels = np.repeat(np.arange(GROUPS), EACH)
    predicted = np.where(np.arange(count) == 5, UNKNOWN, labels)
    Mapped(where, labels, predicted, CLASSES, principal_components(features()), tiles).write(folder)
    DataReport(
        dataset="d",
        counts={"train": 60, "test": 60},
        expected=1.0,
        interval=(0.0, 2.0),
        state="finished",
        label_issues=(LabelIssue("train", 7, "7.png", "a", 0.9, "b"),),
        near_duplicates=(NearDuplicate("test", 8, "8.png", "a", 0.99, False, "train", 9, "9.png", "a"),),
        outliers=(Outlier("train", 7, "7.png", "a", 1.4, "dark"),),
    ).write(folder)
    return folder
