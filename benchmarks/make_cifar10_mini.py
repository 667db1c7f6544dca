"""Draw the bundled `cifar10-mini` from CIFAR-10: `python benchmarks/make_cifar10_mini.py CIFAR10_FOLDER`.

2,000 training and 1,000 test images, stratified and seeded; the images' bytes, the schema and its metadata stay as they
are.
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from resnet_space.data.held_out import stratified_indices
from resnet_space.data.sources import BUNDLED

COUNTS = {"train": 2_000, "test": 1_000}
SEED = 0


def main(source: Path) -> None:
    target = BUNDLED / "cifar10-mini" / "plain_text"
    target.mkdir(parents=True, exist_ok=True)
    for split, count in COUNTS.items():
        name = f"{split}-00000-of-00001.parquet"
        table = pq.read_table(next(source.rglob(name)))
        chosen, _ = stratified_indices(torch.from_numpy(table["label"].to_numpy().copy()), count, SEED)
        pq.write_table(table.take(chosen.numpy()), target / name, compression="zstd")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
