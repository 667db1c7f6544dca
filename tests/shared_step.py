"""A training's first steps in float64: `python -m tests.shared_step FILE`, alone or as one of several processes.

Double precision leaves little to rounding, and norm layers of single images do not join those of a batch: what several
processes compute together is what one computes alone.
"""

import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.models import create_model
from resnet_space.runs import Run
from resnet_space.training import distributed
from resnet_space.training import state as training
from resnet_space.training.objectives import Batch
from resnet_space.training.optim import set_training_mode

CONFIG = RunConfig(
    ModelConfig("resnet20", ("a", "b"), options={"cbam": "stage"}, image_size=8),
    TrainConfig(dataset="-", strategy="last-stage", batch_size=15, clip_norm=0.5, label_smoothing=0.1),
)


def normalising_each_image(model: nn.Module) -> nn.Module:
    """The model with group norms in place of its batch norms."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features))
    return model


def main(file: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 15, 3, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (3, 15), generator=generator)
    model = normalising_each_image(create_model("resnet20", 2, cbam="stage")).double()
    with tempfile.TemporaryDirectory() as folder, patch.object(training, "initial_model", lambda run: (model, False)):
        both = training.Training(Run.create(Path(folder) / "run", CONFIG), torch.device("cpu"), 45)
        set_training_mode(both.model)
        part = distributed.own_part(15)
        for batch, truth in zip(images, labels, strict=True):
            both.step(Batch(both.features(batch[part], None), truth[part]), None)
        loss = both.window.flush_into(both.progress).loss
    if distributed.is_first():
        torch.save({"loss": torch.tensor(loss), **both.model.state_dict()}, file)
    both.leave()


if __name__ == "__main__":
    torch.manual_seed(0)
    with distributed.joined():
        main(Path(sys.argv[1]))
