"""Which pictures to label next: `python benchmarks/which_next.py HYMENOPTERA_ZIP [--save]`.

Simulated on labelled pictures whose labels are hidden: 5 or 10 pictures of a class are known, and 10, 20 or 40 more are
chosen among the training pictures, at once, by features of the frozen backbone that ships and the head that is solved
on those that are known. Each choice is judged by the accuracy on the test pictures of the head that is solved on all,
with the penalty that suits the start, less the mean accuracy of `RANDOM` random choices of as many pictures from the
same start. 95 % intervals of the mean difference are Student's, over seeds, each of which draws another start.

The choices:

- margin: the smallest differences of the two largest probabilities (Scheffer et al. 2001);
- clusters: of the `WIDER` times as many pictures with the smallest margins, those nearest the centres of k-means
  clusters, weighted by the margin (Zhdanov 2019, arXiv:1901.05954);
- badge: k-means++ on the gradients of the last layer (Ash et al. 2020, arXiv:1906.03671);
- far: each the farthest from all that are known or chosen (k-center greedy; Sener & Savarese 2018, arXiv:1708.00489);
- typical: the densest picture of each of the largest clusters in which none is known yet (TypiClust; Hacohen et al.
  2022, arXiv:2202.02794).

The choice that does best on the first `TUNING` seeds, which are not counted, is judged on the others.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from benchmarks.machine import save
from resnet_space.common.steps import Steps
from resnet_space.data import import_archive
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, open_dataset
from resnet_space.data.splits import load_split
from resnet_space.data.summary import image_settings, summarise
from resnet_space.runs import Run
from resnet_space.training.calibration import fit_temperature
from resnet_space.training.comparing import loaded
from resnet_space.training.cross_validation import folds_of, held_out_logits, in_their_span
from resnet_space.training.extraction import Extractor
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.solver import solve
from resnet_space.training.taught import PENALTIES

BACKBONES = {
    "cifar10-mini": ("resnet20-cbam-imagenet32",),
    "hymenoptera": ("efficientnet-lite0-imagenet",),
}
STARTS, ASKED = (5, 10), (10, 20, 40)
TUNING, SEEDS, RANDOM = 5, 20, 5
WIDER = 5
Numbers = NDArray[np.float64]


def suited(features: Tensor, labels: Tensor, classes: int) -> tuple[float, float]:
    """(penalty, temperature) that suit pictures which are held out in turn."""
    folds, _ = folds_of(labels.tolist(), [None] * len(labels))
    small, _ = in_their_span(features)
    penalties = [penalty * small.shape[1] / features.shape[1] for penalty in PENALTIES]
    logits = held_out_logits(small, labels, classes, folds, penalties)
    judged = torch.from_numpy(folds >= 0)
    best = min(range(len(PENALTIES)), key=lambda i: float(F.cross_entropy(logits[i, judged], labels[judged])))
    return PENALTIES[best], fit_temperature(logits[best, judged], labels[judged])


def head_of(features: Tensor, labels: Tensor, classes: int, penalty: float) -> Callable[[Tensor], Tensor]:
    """features -> logits of the solved head."""
    small, back = in_their_span(features)
    (head,) = solve(small, labels, classes, [penalty * small.shape[1] / features.shape[1]])
    mean = features.mean(0)
    return lambda some: head.logits((some - mean) @ back.T)


def margins(probabilities: Tensor) -> Tensor:
    two = probabilities.topk(2, dim=1).values
    return two[:, 0] - two[:, 1]


def by_margin(known: Tensor, pool: Tensor, probabilities: Tensor, count: int, seed: int) -> Tensor:
    return margins(probabilities).argsort(stable=True)[:count]


def by_clusters(known: Tensor, pool: Tensor, probabilities: Tensor, count: int, seed: int) -> Tensor:
    margin = margins(probabilities)
    unsure = margin.argsort(stable=True)[: WIDER * count]
    return unsure[nearest_centres(F.normalize(pool[unsure], dim=1), 1 - margin[unsure], count, seed)]


def nearest_centres(points: Tensor, weights: Tensor, count: int, seed: int) -> Tensor:
    """The point nearest to each centre of weighted k-means; the heaviest others where two centres share one."""
    generator = torch.Generator().manual_seed(seed)
    centres = points[plus_plus(points, count, generator, weights)]
    for _ in range(20):
        own = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, own, points * weights[:, None])
        mass = torch.zeros(len(centres)).index_add_(0, own, weights)
        centres = torch.where(mass[:, None] > 0, sums / mass[:, None].clamp_min(1e-9), centres)
    chosen = list(dict.fromkeys(torch.cdist(centres, points).argmin(1).tolist()))
    for i in weights.argsort(descending=True).tolist():
        if len(chosen) >= count:
            break
        if i not in chosen:
            chosen.append(i)
    return torch.tensor(chosen[:count])


def plus_plus(points: Tensor, count: int, generator: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """k-means++ (Arthur & Vassilvitskii 2007): each with a probability of its squared distance to those before."""
    weights = torch.ones(len(points)) if weights is None else weights
    chosen = [int(torch.multinomial(weights.clamp_min(1e-12), 1, generator=generator))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        odds = (nearest * weights).clone()
        odds[chosen] = 0
        if float(odds.sum()) <= 0:
            odds = torch.ones(len(points))
            odds[chosen] = 0
        chosen.append(int(torch.multinomial(odds, 1, generator=generator)))
        nearest = torch.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return torch.tensor(chosen)


def by_badge(known: Tensor, pool: Tensor, probabilities: Tensor, count: int, seed: int) -> Tensor:
    """Distances of outer products (p - onehot) x feature follow from those of the factors; here they are made."""
    error = probabilities.clone()
    error[torch.arange(len(error)), probabilities.argmax(1)] -= 1
    small, _ = in_their_span(pool)
    gradients = (error[:, :, None] * small[:, None, :]).flatten(1)
    first = gradients.norm(dim=1).argmax()
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(first)]
    nearest = ((gradients - gradients[first]) ** 2).sum(1)
    while len(chosen) < count:
        odds = nearest.clone()
        odds[chosen] = 0
        chosen.append(int(torch.multinomial(odds.clamp_min(1e-12), 1, generator=generator)))
        nearest = torch.minimum(nearest, ((gradients - gradients[chosen[-1]]) ** 2).sum(1))
    return torch.tensor(chosen)


def by_distance(known: Tensor, pool: Tensor, probabilities: Tensor, count: int, seed: int) -> Tensor:
    own = F.normalize(pool, dim=1)
    nearest = (1 - own @ F.normalize(known, dim=1).T).min(1).values
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, 1 - own @ own[chosen[-1]])
        nearest[chosen] = -1
    return torch.tensor(chosen)


def by_typicality(known: Tensor, pool: Tensor, probabilities: Tensor, count: int, seed: int) -> Tensor:
    every = F.normalize(torch.cat([known, pool]), dim=1)
    centres = every[plus_plus(every, len(known) + count, torch.Generator().manual_seed(seed))]
    for _ in range(20):
        own = torch.cdist(every, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, own, every)
        mass = torch.bincount(own, minlength=len(centres))
        centres = torch.where(mass[:, None] > 0, sums / mass[:, None].clamp_min(1), centres)
    covered = set(own[: len(known)].tolist())
    chosen: list[int] = []
    for cluster in mass.argsort(descending=True, stable=True).tolist():
        members = (own[len(known) :] == cluster).nonzero().flatten()
        if cluster in covered or not len(members):
            continue
        points = every[len(known) + members]
        near = torch.cdist(points, points).topk(min(21, len(points)), largest=False, dim=1).values.mean(1)
        chosen.append(int(members[near.argmin()]))
        if len(chosen) == count:
            break
    rest = [i for i in margins(probabilities).argsort().tolist() if i not in chosen]
    return torch.tensor((chosen + rest)[:count])


CHOICES: dict[str, Callable[[Tensor, Tensor, Tensor, int, int], Tensor]] = {
    "margin": by_margin,
    "clusters": by_clusters,
    "badge": by_badge,
    "far": by_distance,
    "typical": by_typicality,
}


def features_of(name: str, runs: Path, backbone: str) -> dict[str, tuple[Tensor, Tensor]]:
    """(features, labels) of each split."""
    ref = DatasetRef(name)
    dataset, run = open_dataset(ref), Run.open(runs / backbone)
    config, _ = image_settings(summarise(ref).side, run.config.model)
    model = loaded(run, config)
    found = {}
    for split, files in dataset.files.items():
        data = load_split(files, config.stored_size, dataset.columns, split=split)
        steps = Steps(Extractor(model, config, FeatureStore.beside(runs)).steps(len(data), data.pixels))
        for _ in steps:
            pass
        found[split] = steps.result.features, data.labels
    return found


def trial(sets: dict[str, tuple[Tensor, Tensor]], start: int, seed: int) -> dict[int, dict[str, float]]:
    """Of each number that is asked for, the accuracy after each choice; "none" is that of the start."""
    features, labels = sets["train"]
    tests, truth = next(sets[split] for split in ("test", "validation") if split in sets)
    classes = int(labels.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    known = torch.cat([order[labels[order] == label][:start] for label in range(classes)])
    pool = order[~torch.isin(order, known)]

    penalty, temperature = suited(features[known], labels[known], classes)

    def accuracy(rows: Tensor) -> float:
        head = head_of(features[rows], labels[rows], classes, penalty)
        return float((head(tests).argmax(1) == truth).float().mean())

    head = head_of(features[known], labels[known], classes, penalty)
    probabilities = (head(features[pool]) / temperature).softmax(1)
    found: dict[int, dict[str, float]] = {}
    for asked in ASKED:
        now = {"none": accuracy(known)}
        now["random"] = float(
            np.mean(
                [
                    accuracy(torch.cat([known, pool[torch.randperm(len(pool), generator=generator)[:asked]]]))
                    for _ in range(RANDOM)
                ]
            )
        )
        for name, choose in CHOICES.items():
            chosen = pool[choose(features[known], features[pool], probabilities, asked, seed)]
            assert len(chosen.unique()) == asked
            now[name] = accuracy(torch.cat([known, chosen]))
        found[asked] = now
    return found


def interval(values: Numbers) -> tuple[float, float, float]:
    """(low, mean, high)"""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    low, mean, high = (round(100 * float(values.mean() + side), 2) for side in (-half, 0, half))
    return low, mean, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("zip", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="that are counted")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        os.environ[DATA_FOLDER_VARIABLE] = str(data)
        import_archive(arguments.zip, data / "hymenoptera")
        for dataset, backbones in BACKBONES.items():
            for backbone in backbones:
                sets = features_of(dataset, ROOT / "checkpoints", backbone)
                for start in STARTS:
                    trials = [trial(sets, start, seed) for seed in range(TUNING + arguments.seeds)]
                    for asked in ASKED:
                        rows = [one[asked] for one in trials]
                        title = f"{dataset}, {start} a class, {asked} more"
                        gains = {name: np.array([row[name] - row["random"] for row in rows]) for name in CHOICES}
                        results[title] = {
                            "start": round(100 * float(np.mean([row["none"] for row in rows])), 2),
                            "random": round(100 * float(np.mean([row["random"] for row in rows])), 2),
                            "tuning": {name: round(100 * float(g[:TUNING].mean()), 2) for name, g in gains.items()},
                            "gain": {name: interval(g[TUNING:]) for name, g in gains.items()},
                        }
                        print(
                            f"{dataset}, {start} a class, {asked} more",
                            results[f"{dataset}, {start} a class, {asked} more"],
                            flush=True,
                        )
    if arguments.save:
        save("which_next", results)


if __name__ == "__main__":
    main()
