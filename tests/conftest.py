"""What several test modules need: data sets in the Hub's layout, made on the spot."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

# Several workers test at once, and PyTorch's threads spin while they wait for one another. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# What takes longest, in tests/ui and elsewhere, begins first: then no process has a long file to itself at the end.
LONGEST = (
    "test_train",
    "test_zero",
    "test_export",
    "test_pull",
    "test_jobs",
    "test_kill",
    "test_pretrained",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        if item.path.parent.name == "ui":
            return 0
        return LONGEST.index(item.path.stem) + 1 if item.path.stem in LONGEST else len(LONGEST) + 1

    items.sort(key=turn)  # which leaves all else in its order


WriteSplit = Callable[[Path, str, Sequence[bytes], Sequence[int], Sequence[str]], None]


@pytest.fixture(scope="session")
def write_split() -> WriteSplit:
    """Write one split of a data set: `write_split(folder, split, encoded images, labels, class names)`."""

    def write(
        folder: Path, split: str, encoded: Sequence[bytes], labels: Sequence[int], classes: Sequence[str]
    ) -> None:
        features = {"img": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
        table = pa.table(
            {
                "img": pa.array(
                    [{"bytes": image, "path": None} for image in encoded],
                    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
                ),
                "label": pa.array(labels, pa.int64()),
            }
        ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")

    return write
