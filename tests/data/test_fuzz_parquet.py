"""Damaged parquet files: whatever is in them, they are read, or refused with a UserError, and no process dies.

Each seed makes one file from a good one: bytes changed, cut out, doubled or cut off, mostly in the footer, which says
what all else is. `make test` runs the first few, `pytest -m long tests/data/test_fuzz_parquet.py` all of them.
"""

import io
import json
import random
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnet_space.common.errors import UserError
from resnet_space.config import TrainConfig
from resnet_space.data.columns import columns_of_files
from resnet_space.data.mistakes import add_mistake, classes_of, mistakes_file
from resnet_space.data.reference import DatasetRef
from resnet_space.data.rows import read_images
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_classes, split_files
from resnet_space.data.splits import load_splits
from resnet_space.data.summary import summarise

SEEDS = 500
SHORT = 40
MOST_MEMORY = 1_000  # MB more than before, of a file of some 5 kB


def good_files() -> list[bytes]:
    """Small datasets of every schema that is read, by several compressions."""
    encoded = []
    for i in range(12):
        file = io.BytesIO()
        Image.new("RGB", (4, 4), (i * 20, 0, 0)).save(file, "PNG")
        encoded.append(file.getvalue())
    structs = pa.array(
        [{"bytes": data, "path": None} for data in encoded],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    named = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    tables = [
        (pa.table({"img": structs, "label": [0, 1] * 6}), named),
        (pa.table({"img": structs, "label": ["cat", "dog"] * 6}), None),
        (pa.table({"jpg": encoded, "target": [3, 1, None] * 4}), None),
        (pa.table({"img": structs, "label": pa.array(["x", "y"] * 6).dictionary_encode()}), None),
    ]
    files = []
    for (table, features), compression in zip(tables, ("zstd", "snappy", "none", "gzip"), strict=True):
        if features is not None:
            metadata = {"huggingface": json.dumps({"info": {"features": features}})}
            table = table.replace_schema_metadata(metadata)
        file = io.BytesIO()
        pq.write_table(table, file, compression=compression, row_group_size=5)
        files.append(file.getvalue())
    return files


def mutated(good: Sequence[bytes], seed: int) -> bytes:
    draw = random.Random(seed)
    data = bytearray(draw.choice(good))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(footer if draw.random() < 0.3 else 0, len(data) - 8)
        match draw.choices(("byte", "bit", "extreme", "cut", "double"), (6, 6, 3, 1, 1))[0]:
            case "byte":
                data[at] = draw.randrange(256)
            case "bit":
                data[at] ^= 1 << draw.randrange(8)
            case "extreme":
                extreme = draw.choice((b"\xff" * 8, b"\x7f" * 4, b"\0" * 8, b"\xfe\xff\xff\xff\x0f"))
                data[at : at + len(extreme)] = extreme
            case "cut":
                del data[at : at + draw.randrange(1, 9)]
            case "double":
                data[at:at] = data[at : at + draw.randrange(1, 9)]
    if draw.random() < 0.05:
        del data[draw.randrange(len(data) + 1) :]
    return bytes(data)


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


def read_everything(folder: Path) -> int:
    """Do all that is done with a dataset; how much of it was refused."""
    refused = 0

    def some_images() -> None:
        with suppress(IndexError):  # rows that are no more
            read_images(split_files(folder.name)["train"], [0, 7])

    training = TrainConfig(folder.name)
    for use in (
        lambda: dataset_classes(folder.name),
        lambda: columns_of_files(split_files(folder.name)["train"], label="label"),
        lambda: summarise(DatasetRef(folder.name)),
        lambda: load_splits(training, 8),
        some_images,
        lambda: add_mistake(folder, classes_of(folder) or ("a", "b"), picture(), "x.png", "a"),
    ):
        try:
            use()
        except UserError as error:
            sentence = str(error)
            assert sentence.endswith(".")
            assert "\n" not in sentence
            refused += 1
    return refused


def check(folder: Path, seeds: Sequence[int]) -> None:
    good = good_files()
    folder.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = []
    for seed in seeds:
        (folder / "train-00000-of-00001.parquet").write_bytes(mutated(good, seed))
        refused.append(read_everything(folder))
    assert 0 < sum(refused) < 6 * len(refused)  # both happen
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY * 1_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    return tmp_path / "set"


def test_a_damaged_parquet_file_is_read_or_refused_in_a_sentence(folder: Path) -> None:
    check(folder, range(SHORT))


@pytest.mark.long
def test_all_damaged_parquet_files_are_read_or_refused_in_a_sentence(folder: Path) -> None:
    check(folder, range(SHORT, SEEDS))


def test_the_good_files_are_read(folder: Path) -> None:
    folder.mkdir()
    for good in good_files():
        (folder / "train-00000-of-00001.parquet").write_bytes(good)
        assert len(dataset_classes("set")) == 2
        assert sum(summarise(DatasetRef("set")).counts["train"]) in (8, 12)
        assert mistakes_file(folder).exists()
