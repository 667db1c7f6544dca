"""What a review is worth that takes what is suggested: `python benchmarks/data_review.py HYMENOPTERA_ZIP [--save]`.

Five seeds: 5 % of the training labels of ants and bees, and of `cifar10-mini`, flipped to another class at random. Of
the first pictures in the queue, one reviewer takes every suggestion, also a mistaken one; another looks, and takes
those only that are right. How many training labels are those that were there before the flips, before and after; the
accuracy of a head on frozen features, on the same test pictures, before and after, with the paired interval of each
seed, and the mean difference over the seeds.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from scipy import stats

from benchmarks.data_checks import SEEDS, SHARE, flipped, made_folder
from benchmarks.machine import save
from resnet_space.check import check_data
from resnet_space.data import apply_decisions, import_archive
from resnet_space.data.columns import labels_of
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import BUNDLED, open_dataset
from resnet_space.review import before_and_after
from resnet_space.training.review import review_queue

FIRST = {"hymenoptera": 20, "cifar10-mini": 100}  # of the queue
POLICIES = ("all", "looks")
BACKBONES = {"hymenoptera": "efficientnet-lite0-imagenet", "cifar10-mini": "resnet20-cbam-imagenet32"}


def training_labels(name: str) -> "np.ndarray[Any, np.dtype[np.int64]]":
    dataset = open_dataset(DatasetRef(name))
    return labels_of(dataset.files["train"], dataset.columns)


def reviewed(flips: str, name: str, runs: Path, policy: str) -> dict[str, Any]:
    """What a reviewer makes of the first in the queue who takes "all", or who "looks" and is never wrong."""
    report = check_data(flips, backbone=BACKBONES[name], runs=runs)
    suggested = [one for item in review_queue(report)[: FIRST[name]] if (one := item.suggestion())]
    truth, classes = training_labels(name), open_dataset(DatasetRef(name)).columns.classes
    if policy == "looks":
        suggested = [one for one in suggested if one.split == "train" and one.label == classes[truth[one.index]]]
    version = f"{flips}-{policy}"
    manifest = apply_decisions(flips, suggested, version)
    found = before_and_after(version, backbone=BACKBONES[name], runs=runs)
    # Of two copies one may be dropped: as many labels are right as are still there and right.
    kept = np.array([row not in manifest.dropped("train") for row in range(len(truth))])
    row = {
        "policy": policy,
        "training pictures": len(truth),
        "right before": int((training_labels(flips) == truth).sum()),
        "right after": int((training_labels(version) == truth[kept]).sum()),
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


def over_seeds(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """The mean difference of the accuracies over the seeds, and its 95 % interval by Student's t."""
    differences = np.array([row["accuracy after"] - row["accuracy before"] for row in rows])
    half = stats.t.ppf(0.975, len(rows) - 1) * differences.std(ddof=1) / len(rows) ** 0.5
    return float(differences.mean()), float(differences.mean() - half), float(differences.mean() + half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hymenoptera", type=Path, help="zip of ants and bees")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with made_folder(BACKBONES.values()) as folder:
        data, runs = folder / "data", folder / "runs"
        import_archive(arguments.hymenoptera, data / "hymenoptera")
        sources = {"hymenoptera": data / "hymenoptera", "cifar10-mini": BUNDLED / "cifar10-mini"}
        for name, source in sources.items():
            results[name] = {policy: {"seeds": []} for policy in POLICIES}
            for seed in SEEDS:
                flipped(source, data / f"{name}-{seed}", seed, SHARE)
                for policy in POLICIES:
                    results[name][policy]["seeds"].append(reviewed(f"{name}-{seed}", name, runs, policy))
            for policy, found in results[name].items():
                found["mean difference"] = over_seeds(found["seeds"])
                print(name, policy, found["mean difference"], flush=True)
    if arguments.save:
        save("data_review", results)


if __name__ == "__main__":
    main()
