"""A run whose data set, with its test pictures, is on this machine, as those are that were trained here."""

import json
import shutil
from pathlib import Path

from resnet_space.data.sources import split_files
from resnet_space.data.splits import load_split
from resnet_space.runs import EVALUATION, RESUME, Run
from resnet_space.training.evaluation import Evaluation, evaluate_test, save

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "resnet20-cifar10"  # tested on all of CIFAR-10
DATASET = "cifar10-mini"


def with_test_pictures(path: Path) -> Evaluation:
    """Write a shipped run as if it had been trained with the bundled data set; returns what its test says."""
    shutil.copytree(SHIPPED, path, ignore=shutil.ignore_patterns(RESUME))
    config = json.loads((path / "config.json").read_text())
    config["training"]["dataset"] = DATASET
    (path / "config.json").write_text(json.dumps(config))
    run = Run.open(path)
    data = load_split(split_files(DATASET)["test"], run.config.model.stored_size)
    evaluation, _ = evaluate_test(run.load_model(), data, run.config.model)
    save(evaluation, path / EVALUATION)
    return evaluation
