"""Train the networks that docs/studies.md compares, with the product's own trainer: `python
benchmarks/train_studies.py DATA_FOLDER [NAME ...]`.

Deep and shallow, with shortcuts and without, from random initialisation on CIFAR-10, all with one recipe, one after the
other, into checkpoints/: they ship, so that these can be compared at once. DATA_FOLDER holds `cifar10/`, parquet files
in the Hub's layout. An interrupted training goes on where it was when the command is repeated.
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
from resnet_space.runs import DEEP, PLAIN, SHALLOW, Run, last_metric

CHECKPOINTS = ROOT / "checkpoints"
DATASET = "cifar10"
TRAINING = TrainConfig(
    dataset=DATASET,
    strategy="scratch",
    epochs=4,
    batch_size=128,
    backbone_lr=0.1,
    head_lr=0.1,
    weight_decay=1e-4,  # as He et al. 2015, section 4.2
)
# Name -> architecture, shortcut.
NETWORKS = {SHALLOW: ("resnet20", "pad"), DEEP: ("resnet56", "pad"), PLAIN: ("resnet56", "none")}


def train(name: str) -> int:
    """To the end of the recipe, unless it is there already. Returns the trainer's exit status."""
    path = CHECKPOINTS / name
    architecture, shortcut = NETWORKS[name]
    if not path.exists():
        model = ModelConfig(architecture, dataset_classes(DATASET), options={"shortcut": shortcut})
        Run.create(path, RunConfig(model, TRAINING))
    if last_metric(Run.open(path).metrics(), "test"):
        return 0
    return subprocess.call([sys.executable, "-m", "resnet_space.train", str(path), "--resume"], cwd=ROOT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []], default=[], metavar="NAME")
    arguments = parser.parse_args()
    os.environ[DATA_FOLDER_VARIABLE] = str(arguments.data_folder.resolve())
    return max(train(name) for name in arguments.names or NETWORKS)


if __name__ == "__main__":
    sys.exit(main())
