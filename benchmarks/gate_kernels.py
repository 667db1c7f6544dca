"""What should a spatial gate see of a photograph's last maps? `python benchmarks/gate_kernels.py ZIP [--save]`.

The photograph backbone's last features (7 x 7 positions) of hymenoptera's photographs are computed once. On them a CBAM
and a head are trained for ants and bees, without the trainer around them, at the rates of the strategy `attention`,
with several kernels and paddings of the spatial gate and without CBAM. Reports for each seed the accuracy on the 153
photographs of `val` after the last epoch, and the mean rank correlation, over these photographs, of the gate with what
each position adds to the named class's logit.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.config import TrainConfig
from resnet_space.data import import_archive
from resnet_space.data.batches import evaluation_batches
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import load_splits
from resnet_space.models import CBAM
from resnet_space.runs import PHOTO_BACKBONE, Run
from resnet_space.training.strategies import CBAM_RATES, rate_at

DATASET = "hymenoptera"
EPOCHS, BATCH, HEAD_RATE, WARMUP = 8, 16, 0.01, 0.1
KINDS: dict[str, tuple[int, Any] | None] = {  # kernel size and padding
    "head only": None,
    "7 x 7, zeros": (7, "zeros"),
    "3 x 3, replicate": (3, "replicate"),
    "1 x 1": (1, "zeros"),
}


@torch.inference_mode()
def features(archive: Path, folder: str) -> list[tuple[Tensor, Tensor]]:
    """(features [N, C, h, w], labels [N]) of the training and the test photographs."""
    os.environ[DATA_FOLDER_VARIABLE] = folder
    import_archive(archive, Path(folder) / DATASET)
    run = Run.open(ROOT / "checkpoints" / PHOTO_BACKBONE)
    model, config = run.load_model(), run.config.model
    splits = load_splits(TrainConfig(dataset=DATASET), config.stored_size)
    found = []
    for data in (splits.train, splits.test):
        batches = [(model.forward_features(x).contiguous(), y) for x, y in evaluation_batches(data, config)]
        found.append((torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])))
    return found


def trained(x: Tensor, y: Tensor, kind: tuple[int, Any] | None, seed: int) -> tuple[nn.Module, nn.Linear]:
    torch.manual_seed(seed)
    head = nn.Linear(x.shape[1], 2)
    groups = [{"params": list(head.parameters()), "lr": HEAD_RATE}]
    cbam: nn.Module = nn.Identity()
    if kind is not None:
        cbam = made = CBAM(x.shape[1], kernel_size=kind[0], padding=kind[1])
        parts = zip((made.channel, made.spatial), CBAM_RATES.values(), strict=True)
        groups += [{"params": list(part.parameters()), "lr": HEAD_RATE * share} for part, share in parts]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = EPOCHS * (len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps, WARMUP))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(BATCH)[: len(y) // BATCH]:
            loss = F.cross_entropy(head(cbam(x[rows]).mean((2, 3))), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return cbam, head


@torch.inference_mode()
def judged(x: Tensor, y: Tensor, cbam: nn.Module, head: nn.Linear) -> dict[str, float]:
    named = head(cbam(x).mean((2, 3))).argmax(1)
    result = {"accuracy": round(float((named == y).float().mean()), 4)}
    if isinstance(cbam, CBAM):
        seen = x * cbam.channel(x)
        gate = cbam.spatial(seen)[:, 0]
        evidence = torch.einsum("nc,nchw->nhw", head.weight[named] - head.weight[1 - named], seen)
        pairs = zip(gate.flatten(1), evidence.flatten(1), strict=True)
        result["rank_correlation"] = round(statistics.fmean(spearmanr(*pair).statistic for pair in pairs), 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, metavar="ZIP", help="hymenoptera.zip")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/gate_kernels.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        train, test = features(arguments.archive, folder)
    found: dict[str, list[dict[str, float]]] = {}
    for name, kind in KINDS.items():
        for seed in range(arguments.seeds):
            found.setdefault(name, []).append(judged(*test, *trained(*train, kind, seed)))
            print(f"{name:18} seed {seed}: {found[name][-1]}", flush=True)
    if arguments.save:
        save("gate_kernels", {"epochs": EPOCHS, "head_rate": HEAD_RATE, "kinds": found})


if __name__ == "__main__":
    main()
