"""A disk cache of features, so that no forward pass is repeated.

One SQLite file beside the runs. The key of a row is its extractor (the weights before the head, and the preprocessing)
and the picture's pixels, so that another head, a second training or the same picture uploaded again finds it, in
whatever dataset it is. At most `MAX_BYTES` are kept; the oldest rows go first.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resnet_space.common.background import tell_once

FOLDER = ".features"  # below the folder of the runs; hidden, so that it is none of them
FILE = "features.sqlite"
MAX_BYTES = 500_000_000  # some 90,000 photographs' features of EfficientNet-Lite0
WAIT_SECONDS = 5.0  # for another process that writes
AT_ONCE = 500  # rows of a query

_TABLE = """
PRAGMA auto_vacuum = FULL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS features (
    id INTEGER PRIMARY KEY, extractor BLOB NOT NULL, picture BLOB NOT NULL, features BLOB NOT NULL,
    UNIQUE (extractor, picture)
);
"""

Floats = NDArray[np.float32]
T = TypeVar("T")


class FeatureStore:
    """Feature vectors by (extractor, picture), both digests. If the disk fails, it is empty and prints a message.

    Args:
        folder: created with the first row.
        max_bytes: of the file.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    @classmethod
    def beside(cls, runs: Path) -> "FeatureStore":
        """The shared store of all runs below a folder."""
        return cls(runs / FOLDER)

    def get(self, extractor: bytes, pictures: Sequence[bytes]) -> dict[bytes, Floats]:
        """The stored features of these pictures: picture -> float32 [D]."""

        def read(database: sqlite3.Connection) -> dict[bytes, Floats]:
            found: dict[bytes, Floats] = {}
            for first in range(0, len(pictures), AT_ONCE):
                some = pictures[first : first + AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = database.execute(
                    f"SELECT picture, features FROM features WHERE extractor = ? AND picture IN ({marks})",
                    (extractor, *some),
                )
                found |= {picture: np.frombuffer(features, np.float32) for picture, features in rows}
            return found

        return self._done(read, {}) if (self.folder / FILE).exists() else {}

    def put(self, extractor: bytes, features: Mapping[bytes, Floats]) -> None:
        """Store float32 [D] for each picture."""

        def write(database: sqlite3.Connection) -> None:
            with database:  # a transaction
                database.executemany(
                    "INSERT OR IGNORE INTO features (extractor, picture, features) VALUES (?, ?, ?)",
                    ((extractor, picture, np.ascontiguousarray(row).tobytes()) for picture, row in features.items()),
                )
                if (self.folder / FILE).stat().st_size > self.max_bytes:
                    _forget_oldest(database, self.max_bytes)

        if features:
            self._done(write, None)

    def _done(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """By a connection of its own for every use, as threads and processes share the file."""
        file = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file, timeout=WAIT_SECONDS)) as database:
                database.executescript(_TABLE)
                return work(database)
        except (OSError, sqlite3.Error) as error:
            tell_once(f"Features are not cached on disk: {type(error).__name__}: {error}")
            if type(error) is sqlite3.DatabaseError:  # the file is none, or damaged; the next use makes a new one
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            return otherwise


def _forget_oldest(database: sqlite3.Connection, max_bytes: int) -> None:
    """Somewhat more than has to be, so that it is not done each time."""
    rows, size = database.execute("SELECT COUNT(*), TOTAL(LENGTH(features)) FROM features").fetchone()
    gone = max(int(rows * (1 - 0.7 * max_bytes / max(size, 1))), 1)
    database.execute("DELETE FROM features WHERE id IN (SELECT id FROM features ORDER BY id LIMIT ?)", (gone,))
