"""What a review is worth that takes what is suggested: `python benchmarks/data_review.py HYMENOPTERA_ZIP [--save]`.

Five seeds: 5 % of the training labels of ants and bees, and of `cifar10-mini`, flipped to another class at random. Of
the first pictures in the queue, every suggestion is taken, also where it is mistaken. How many training labels are
those that were there before the flips, before and after; the accuracy of a head on frozen features, on the same test
pictures, before and after, with the paired interval of each seed, and of all seeds' test pictures together.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.data_checks import SEEDS, SHARE, flipped
from benchmarks.machine import save
from resnet_space.check import check_data
from resnet_space.data import apply_decisions, import_archive
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import BUNDLED, DATA_FOLDER_VARIABLE, open_dataset
from resnet_space.data.versions import labels_of
from resnet_space.review import before_and_after
from resnet_space.training.evaluation import paired_interval
from resnet_space.training.review import review_queue

FIRST = {"hymenoptera": 20, "cifar10-mini": 100}  # of the queue
BACKBONES = {"hymenoptera": "efficientnet-lite0-imagenet", "cifar10-mini": "resnet20-cbam-imagenet32"}


def training_labels(name: str) -> "np.ndarray[Any, np.dtype[np.int64]]":
    dataset = open_dataset(DatasetRef(name))
    return labels_of(dataset.files["train"], dataset.columns)


def reviewed(source: Path, data: Path, runs: Path, name: str, seed: int) -> dict[str, Any]:
    flips = f"{name}-{seed}"
    flipped(source, data / flips, seed, SHARE)
    report = check_data(flips, backbone=BACKBONES[name], runs=runs)
    suggestions = [item.suggestion() for item in review_queue(report)[: FIRST[name]]]
    manifest = apply_decisions(flips, [one for one in suggestions if one], f"{flips}-v2")
    found = before_and_after(f"{flips}-v2", backbone=BACKBONES[name], runs=runs)
    truth, noisy, cleaned = (training_labels(one) for one in (name, flips, f"{flips}-v2"))
    # Of two copies one may be dropped: as many labels are right as are still there and right.
    kept = np.array([row not in manifest.dropped("train") for row in range(len(truth))])
    row = {
        "training pictures": len(truth),
        "right before": int((noisy == truth).sum()),
        "right after": int((cleaned == truth[kept]).sum()),
        "what was done": manifest.words,
        "test pictures": found.images,
        "accuracy before": found.before / found.images,
        "accuracy after": found.after / found.images,
        "gained": found.gained,
        "lost": found.lost,
        "interval": found.interval,
    }
    print(flips, row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hymenoptera", type=Path, help="zip of ants and bees")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data, runs = Path(folder) / "data", Path(folder) / "runs"
        runs.mkdir()
        for name in BACKBONES.values():
            (runs / name).symlink_to(ROOT / "checkpoints" / name)
        os.environ[DATA_FOLDER_VARIABLE] = str(data)
        import_archive(arguments.hymenoptera, data / "hymenoptera")
        sources = {"hymenoptera": data / "hymenoptera", "cifar10-mini": BUNDLED / "cifar10-mini"}
        for name, source in sources.items():
            seeds = [reviewed(source, data, runs, name, seed) for seed in SEEDS]
            sums = [sum(row[key] for row in seeds) for key in ("gained", "lost", "test pictures")]
            results[name] = {
                "seeds": seeds,
                "all": {"gained": sums[0], "lost": sums[1], "interval": paired_interval(*sums)},
            }
            print(name, results[name]["all"], flush=True)
    if arguments.save:
        save("data_review", results)


if __name__ == "__main__":
    main()
