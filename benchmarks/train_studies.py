"""Train what docs/residuals.md compares, with the product's trainer: `python benchmarks/train_studies.py [NAME ...]`.

From random initialisation on the bundled cifar10-mini, all with one recipe, one after the other, into checkpoints/. An
interrupted training goes on where it was when the command is repeated.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.runs import Run, last_metric

CHECKPOINTS = ROOT / "checkpoints"
DATASET = "cifar10-mini"
TRAINING = TrainConfig(
    dataset=DATASET,
    strategy="scratch",
    epochs=40,
    batch_size=64,
    backbone_lr=0.1,
    head_lr=0.1,
    weight_decay=1e-4,  # as He et al. 2015, section 4.2
)
# Name -> architecture, shortcut.
NETWORKS = {
    "resnet20-mini": ("resnet20", "pad"),
    "resnet56-mini": ("resnet56", "pad"),
    "plain56-mini": ("resnet56", "none"),
    "plain20-mini": ("resnet20", "none"),
}
UNLESS_NAMED = ("resnet20-mini", "resnet56-mini", "plain56-mini")


def train(name: str) -> int:
    """To the end of the recipe, unless it is there already. Returns the trainer's exit status."""
    path = CHECKPOINTS / name
    architecture, shortcut = NETWORKS[name]
    if not path.exists():
        model = ModelConfig(architecture, dataset_classes(DATASET), shortcut=shortcut)  # type: ignore[arg-type]
        Run.create(path, RunConfig(model, TRAINING))
    if last_metric(Run.open(path).metrics(), "test"):
        return 0
    return subprocess.call([sys.executable, "-m", "resnet_space.train", str(path), "--resume"], cwd=ROOT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []], default=[], metavar="NAME")
    arguments = parser.parse_args()
    return max(train(name) for name in arguments.names or UNLESS_NAMED)


if __name__ == "__main__":
    sys.exit(main())
