"""The pictures of a check as a map: what the check keeps for it, and what the page draws it from.

A map is work of its own, as it takes about as long as the check itself. It reads no dataset: a check keeps of each
picture its label, the class predicted without having learned from it, its features' first components, and a small
version.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_space.common.errors import UserError
from resnet_space.common.files import replaced_atomically
from resnet_space.data.checks.items import MapPoint
from resnet_space.data.checks.tiles import ON_A_SHEET, ON_A_SIDE, largest, sheet
from resnet_space.training.data_report import DataReport
from resnet_space.training.work import Underway, Work

MOST = 10_000  # pictures on a map; of more, so many drawn at random
PICTURES, POINTS, SHEET = "pictures.npz", "points.json.gz", "sheet-{}.jpg"
KINDS = ("label", "copy", "odd")  # of findings, by the bits of a picture's number
GRID = 10_000  # steps of a map's longer side
NEAREST = 10  # neighbours of a picture, of which is counted how many it has on the map, too
UNKNOWN = -1  # the predicted class of a picture that was not held out


@dataclass(frozen=True, kw_only=True)
class DataMap(Work):
    """A map of a check's pictures.

    Attributes:
        check: whose pictures they are.
        pictures: how many are on the map.
        kept: of a picture's ten nearest neighbours by features, how many are among its ten nearest on the map, in the
            mean; None where that is not known yet.
    """

    NOUN = "map"
    FILE = "map.json"
    FOLDER = ".maps"
    MODULE = "resnet_space.check"
    AT_ONCE = 2

    check: str = ""
    pictures: int = 0
    kept: float | None = None

    @property
    def results(self) -> int:
        return int(self.kept is not None)


@dataclass(frozen=True)
class Mapped:
    """What a map is drawn from, of n pictures.

    Attributes:
        where: of each its split, its row there, and its file's name.
        labels, predicted: int64 [n], classes; the predicted one may be `UNKNOWN`.
        classes: their names.
        components: float32 [n, c], as `plane.principal_components` gives them.
        tiles: small versions, as JPEG.
    """

    where: Sequence[tuple[str, int, str]]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: Sequence[str]
    components: NDArray[np.float32]
    tiles: Sequence[bytes]

    def write(self, folder: Path) -> None:
        splits, rows, files = zip(*self.where, strict=True)
        with replaced_atomically(folder / PICTURES) as beside, beside.open("wb") as file:
            np.savez(
                file,
                texts=np.frombuffer(json.dumps([splits, files, list(self.classes)]).encode(), np.uint8),
                rows=np.array(rows),
                labels=self.labels,
                predicted=self.predicted,
                components=self.components,
                tiles=np.frombuffer(b"".join(self.tiles), np.uint8),
                lengths=np.array([len(tile) for tile in self.tiles]),
            )

    @classmethod
    def read(cls, folder: Path) -> "Mapped":
        """Raises UserError where a check has kept none."""
        try:
            with np.load(folder / PICTURES, allow_pickle=False) as found:
                splits, files, classes = json.loads(found["texts"].tobytes())
                ends = np.cumsum(found["lengths"])
                tiles = found["tiles"].tobytes()
                return cls(
                    list(zip(splits, found["rows"].tolist(), files, strict=True)),
                    found["labels"],
                    found["predicted"],
                    classes,
                    found["components"],
                    [tiles[end - length : end] for end, length in zip(ends, found["lengths"], strict=True)],
                )
        except (OSError, ValueError, KeyError):
            raise UserError("This check has kept no pictures for a map: check the pictures again.") from None

    def points(self, places: NDArray[np.float32]) -> tuple[MapPoint, ...]:
        """The map's points, at float32 [n, 2]."""
        names = [*self.classes, ""]  # of `UNKNOWN`
        return tuple(
            MapPoint(*where, names[label], names[predicted], round(x, 3), round(y, 3))
            for where, label, predicted, (x, y) in zip(
                self.where, self.labels.tolist(), self.predicted.tolist(), places.tolist(), strict=True
            )
        )


@dataclass(frozen=True)
class Points:
    """A map that is drawn, of n pictures, in the order of the sheets.

    Attributes:
        classes: their names.
        where: of each picture its split, its row there, and its file's name.
        labels, predicted: classes; the predicted one may be `UNKNOWN`.
        findings: their kinds, such as "label, odd"; "" for none.
        x, y: from 0 to `GRID`, y upwards.
    """

    classes: Sequence[str]
    where: Sequence[tuple[str, int, str]]
    labels: Sequence[int]
    predicted: Sequence[int]
    findings: Sequence[str]
    x: Sequence[int]
    y: Sequence[int]

    @classmethod
    def read(cls, folder: Path) -> "Points":
        """Raises UserError where there are none."""
        try:
            found = json.loads(gzip.decompress((folder / POINTS).read_bytes()))
        except (OSError, ValueError):
            raise UserError("There is no map yet: draw it first.") from None
        splits = [found["splits"][split] for split in found["split"]]
        kinds = [", ".join(kind for bit, kind in enumerate(KINDS) if bits >> bit & 1) for bits in found["found"]]
        where = list(zip(splits, found["row"], found["file"], strict=True))
        top = max(found["y"])
        y = [top - down for down in found["y"]]
        return cls(found["classes"], where, found["label"], found["predicted"], kinds, found["x"], y)


class Drawing(Underway[DataMap]):
    """Draws a map into its folder, beside which the folder of the checks is.

    Args:
        asked: names the check.
        folder: gets `POINTS` and the sheets of small pictures.
        features: the folder in which positions are kept.
    """

    def __init__(self, asked: DataMap, folder: Path, features: Path) -> None:
        super().__init__(asked)
        self.folder, self.features = folder, features

    def work(self) -> None:
        from resnet_space.training.plane import kept_neighbours, on_a_plane  # late: torch

        checked = self.folder.parent.parent / DataReport.FOLDER / self.now.check
        mapped, report = Mapped.read(checked), DataReport.read(checked)
        places = on_a_plane(mapped.components, self.features, self.teller("plane"))
        kept = round(kept_neighbours(mapped.components, places, NEAREST), 2)
        _write(self.folder, mapped, report, places)
        self.now = replace(self.now, kept=kept, pictures=len(places))


def _write(folder: Path, mapped: Mapped, report: DataReport, places: NDArray[np.float32]) -> None:
    """The points and the sheets. Those that are near one another on the map are on one sheet."""
    span = float(np.ptp(places, axis=0).max()) or 1.0
    grid = np.round((places - places.min(0)) / span * GRID).astype(int)
    order = sorted(range(len(grid)), key=lambda i: _along_a_curve(*grid[i].tolist()))
    side = largest(mapped.tiles)
    for first in range(0, len(order), ON_A_SHEET):
        tiles = [mapped.tiles[i] for i in order[first : first + ON_A_SHEET]]
        with replaced_atomically(folder / SHEET.format(first // ON_A_SHEET)) as beside:
            beside.write_bytes(sheet(tiles, side))
    bits, words = _findings(report)
    splits = list(dict.fromkeys(split for split, *_ in mapped.where))
    found: dict[str, Any] = {
        "classes": list(mapped.classes),
        "splits": splits,
        "side": side,
        "columns": ON_A_SIDE,
        "grid": GRID,
        "x": grid[order, 0].tolist(),
        "y": (grid[:, 1].max() - grid[order, 1]).tolist(),  # downwards, as on a screen
        "split": [splits.index(mapped.where[i][0]) for i in order],
        "row": [mapped.where[i][1] for i in order],
        "file": [mapped.where[i][2] for i in order],
        "label": mapped.labels[order].tolist(),
        "predicted": mapped.predicted[order].tolist(),
        "found": [bits.get(mapped.where[i][:2], 0) for i in order],
        "words": {at: words[place] for at, i in enumerate(order) if (place := mapped.where[i][:2]) in words},
    }
    with replaced_atomically(folder / POINTS) as beside:
        beside.write_bytes(gzip.compress(json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode(), 6))


def _findings(report: DataReport) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], list[str]]]:
    """By split and row: the kinds of its findings as bits, and their sentences."""
    bits: dict[tuple[str, int], int] = {}
    words: dict[tuple[str, int], list[str]] = {}
    found = [(0, one.split, one.index, one.words) for one in report.label_issues]
    for one in report.near_duplicates:
        found += [(1, one.split, one.index, one.words), (1, one.of_split, one.of_index, one.words)]
    found += [(2, one.split, one.index, one.words) for one in report.outliers]
    for kind, split, index, sentence in found:
        bits[split, index] = bits.get((split, index), 0) | 1 << kind
        words.setdefault((split, index), []).append(sentence)
    return bits, words


def _along_a_curve(x: int, y: int) -> int:
    """The bits of both in turn (Morton 1966): what is near in this order is near on the map."""
    return sum((x >> bit & 1) << 2 * bit | (y >> bit & 1) << 2 * bit + 1 for bit in range(GRID.bit_length()))
