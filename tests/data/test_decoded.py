from pathlib import Path

import pytest
import torch

from resnet_space.config import TrainConfig
from resnet_space.data import room as room_module
from resnet_space.data.decoded import load_decoded, save_decoded
from resnet_space.data.sources import DATA_FOLDER_VARIABLE
from resnet_space.data.splits import load_splits
from tests.conftest import WriteSplit
from tests.trainings import png

CLASSES = ("dark", "bright")


@pytest.mark.parametrize("memory_share", [0.25, 0.0], ids=["in memory", "on disk"])
def test_splits_come_back_as_they_were(
    memory_share: float, tmp_path: Path, write_split: WriteSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(room_module, "MEMORY_SHARE", memory_share)
    for split, count in (("train", 40), ("test", 10)):
        labels = [i % 2 for i in range(count)]
        write_split(tmp_path / "greys", split, [png(5 * i) for i in range(count)], labels, CLASSES)
    splits = load_splits(TrainConfig(dataset="greys", validation_fraction=0.25), 16)
    folder = tmp_path / "decoded"
    folder.mkdir()
    (folder / "of-another-time.npy").touch()

    save_decoded(splits, folder)
    read = load_decoded(folder)
    assert read.test_name == splits.test_name
    for name in ("train", "validation", "test"):
        before, after = getattr(splits, name), getattr(read, name)
        everything = torch.arange(len(before))
        assert len(after) == len(before)
        assert torch.equal(after.pixels(everything), before.pixels(everything))
        assert torch.equal(after.labels, before.labels)
        assert after.source is not None
        assert before.source is not None
        assert torch.equal(after.source, before.source)
        assert after.classes == before.classes
        assert (after.rows is None) == (before.rows is None)
    (file,) = folder.iterdir()
    assert file.stat().st_size < 50 * 16 * 16 * 3 + 20_000  # what two sets share is there once
