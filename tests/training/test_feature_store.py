import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from resnet_space.training.feature_store import FILE, FeatureStore

ONE, OTHER = b"one extractor", b"other extractor"


def rows(first: int, count: int, width: int = 4) -> dict[bytes, np.ndarray]:
    return {f"picture {i}".encode(): np.full(width, i, np.float32) for i in range(first, first + count)}


def test_what_was_kept_is_found_by_the_picture_and_by_what_computed_it(tmp_path: Path) -> None:
    store = FeatureStore.beside(tmp_path)
    assert store.get(ONE, [b"picture 1"]) == {}
    assert list(tmp_path.iterdir()) == []  # looking makes nothing
    store.put(ONE, rows(0, 1_200))
    found = FeatureStore.beside(tmp_path).get(ONE, [*rows(700, 600), b"unknown"])
    assert set(found) == set(rows(700, 500))
    assert all((found[name] == row).all() for name, row in rows(700, 500).items())
    assert store.get(OTHER, list(rows(0, 3))) == {}
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())  # no run


def test_the_file_stays_within_its_bound_and_forgets_the_oldest(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, max_bytes=400_000)
    for first in range(0, 1_000, 50):
        store.put(ONE, rows(first, 50, width=500))  # 100 kB
        assert (tmp_path / FILE).stat().st_size < 600_000
    assert store.get(ONE, list(rows(0, 50))) == {}
    assert len(store.get(ONE, list(rows(950, 50)))) == 50


def test_many_threads_write_and_read_at_once(tmp_path: Path) -> None:
    def work(i: int) -> int:
        store = FeatureStore(tmp_path)
        store.put(ONE, rows(10 * i, 20))  # of which others write half
        return len(store.get(ONE, list(rows(10 * i, 20))))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [20] * 16


@pytest.mark.parametrize("broken", ["a damaged file", "a folder that is none"])
def test_where_the_disk_fails_nothing_is_kept_and_nothing_fails(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if broken == "a damaged file":
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / FILE).write_bytes(b"this is no database" * 1_000)
    else:
        (tmp_path / "store").write_text("a file")
    store = FeatureStore(tmp_path / "store")
    store.put(ONE, rows(0, 3))
    assert store.get(ONE, list(rows(0, 3))) == {}
    assert "Features are not cached on disk" in capsys.readouterr().out
    store.put(ONE, rows(0, 3))  # a damaged file was removed
    assert len(store.get(ONE, list(rows(0, 3)))) == (3 if broken == "a damaged file" else 0)


def test_it_is_one_sqlite_file_that_any_tool_reads(tmp_path: Path) -> None:
    FeatureStore(tmp_path).put(ONE, rows(0, 3))
    database = sqlite3.connect(tmp_path / FILE)
    assert database.execute("SELECT COUNT(*) FROM features").fetchone() == (3,)
    database.close()
