"""Train the checkpoints that ship, with the product's own trainer: `python benchmarks/train_shipped.py NAME
DATA_FOLDER`.

DATA_FOLDER holds `tiny-imagenet-32/` and `cifar10/`, parquet files in the Hub's layout. An interrupted training goes on
where it was when the command is repeated.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_classes
from resnet_space.runs import Run

CHECKPOINTS = ROOT / "checkpoints"
RECIPES = {
    "resnet20-cbam-imagenet32": TrainConfig(
        dataset="tiny-imagenet-32",
        epochs=15,
        batch_size=128,
        backbone_lr=0.2,
        head_lr=0.2,
        weight_decay=2e-4,
    ),
    "resnet20-cbam-cifar10-once": TrainConfig(
        dataset="cifar10",
        start="resnet20-cbam-imagenet32",
        epochs=45,
        batch_size=128,
        backbone_lr=0.1,
        head_lr=0.1,
        weight_decay=5e-4,
        label_smoothing=0.1,
        validation_fraction=0.02,
    ),
    # A warm restart (Loshchilov 2017) of the one above, which does not ship: that overfits, so MixUp. The same seed, so
    # that the same images are held out.
    "resnet20-cbam-cifar10": TrainConfig(
        dataset="cifar10",
        start="resnet20-cbam-cifar10-once",
        epochs=16,
        batch_size=128,
        backbone_lr=0.05,
        head_lr=0.05,
        weight_decay=5e-4,
        label_smoothing=0.1,
        mixup=0.2,
        validation_fraction=0.02,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("data_folder", type=Path)
    arguments = parser.parse_args()
    os.environ[DATA_FOLDER_VARIABLE] = str(arguments.data_folder.resolve())

    path = CHECKPOINTS / arguments.name
    if not path.exists():
        training = RECIPES[arguments.name]
        start = Run.open(CHECKPOINTS / training.start) if training.start else None
        model = ModelConfig("resnet20", dataset_classes(training.dataset), options={"cbam": "stage"})
        Run.create(path, RunConfig(model, training), start=start)
    return subprocess.call([sys.executable, "-m", "resnet_space.train", str(path), "--resume"], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
